//! The real binary on a disk that fills up: a tmpfs of 24 MiB in a mount namespace of its own.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::support::{Server, http, noise};

/// A process that keeps the mount namespace, and with it the small disk, alive.
struct SmallDisk {
    keeper: Child,
    mount: tempfile::TempDir,
}

impl SmallDisk {
    fn new() -> Self {
        let mount = tempfile::tempdir().unwrap();
        let script = "mount -t tmpfs -o size=24m tmpfs \"$1\" && echo ready && exec sleep 600";
        let mut keeper = Command::new("unshare")
            .args(["-rm", "sh", "-c", script, "sh"])
            .arg(mount.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("`unshare` of util-linux makes the small disk");
        let mut line = String::new();
        BufReader::new(keeper.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "the kernel must let users mount a tmpfs of their own");
        Self { keeper, mount }
    }

    /// The small disk as this process sees it.
    fn outside(&self) -> PathBuf {
        let seen = self.mount.path().strip_prefix("/").unwrap();
        Path::new("/proc").join(self.keeper.id().to_string()).join("root").join(seen)
    }

    fn serve(&self) -> Server {
        let mut command = Command::new("nsenter");
        command
            .args(["-t", &self.keeper.id().to_string(), "-U", "-m", "--preserve-credentials"])
            .arg(env!("CARGO_BIN_EXE_sira"));
        Server::launch(command, &self.mount.path().join("store"), |_| {})
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

fn value(n: u64) -> Vec<u8> {
    noise(150_000, n + 1)
}

fn assert_all_there(server: &Server, keys: &[u64]) {
    for n in keys {
        let (status, body) = http(server, "GET", &format!("/v1/full/k{n}"), b"");
        assert_eq!(status, 200, "k{n} was acknowledged");
        assert!(body == value(*n), "k{n} has other bytes");
    }
}

#[test]
fn a_full_disk_refuses_writes_and_loses_nothing() {
    let disk = SmallDisk::new();
    let filler = disk.outside().join("filler");
    std::fs::write(&filler, vec![1; 6 << 20]).unwrap();
    let server = disk.serve();
    let mut acknowledged = Vec::new();
    let mut refused = 0;
    for n in 0..400 {
        match http(&server, "PUT", &format!("/v1/full/k{n}"), &value(n)) {
            (200 | 201, _) => acknowledged.push(n),
            (507, problem) => {
                let problem: serde_json::Value = serde_json::from_slice(&problem).unwrap();
                assert_eq!(problem["code"], "out_of_space", "{problem}");
                refused += 1;
            }
            (status, body) => panic!("{status}: {}", String::from_utf8_lossy(&body)),
        }
        if refused > 20 {
            break;
        }
    }
    assert!(acknowledged.len() > 50 && refused > 20, "{} and {refused}", acknowledged.len());
    assert_all_there(&server, &acknowledged);

    // When space returns, writes go on.
    std::fs::remove_file(&filler).unwrap();
    for n in 1000..1010 {
        let (status, body) = http(&server, "PUT", &format!("/v1/full/k{n}"), &value(n));
        assert_eq!(status, 201, "{}", String::from_utf8_lossy(&body));
        acknowledged.push(n);
    }
    server.signal(rustix::process::Signal::KILL);
    drop(server);

    let server = disk.serve();
    assert_all_there(&server, &acknowledged);
    server.signal(rustix::process::Signal::TERM);
    assert_eq!(server.wait().0, Some(0));
}
