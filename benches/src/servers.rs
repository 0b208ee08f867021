//! Fresh servers: `sira serve` and `redis-server`, each in a folder of its own.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::args::Args;

/// A server on loopback that ends when it is dropped.
pub struct Running {
    child: Child,
    /// Port of its RESP door.
    pub port: u16,
    _folder: tempfile::TempDir,
}

impl Running {
    /// `sira serve` with this durability. `--sira PATH` names the program.
    pub fn sira(args: &Args, durability: &str) -> Self {
        let (port, http) = (free_port(), free_port());
        let folder = args.folder();
        let mut command = Command::new(args.option("--sira").unwrap_or("sira"));
        command.args(["serve", "--durability", durability]);
        command.arg("--http-addr").arg(format!("127.0.0.1:{http}"));
        command.arg("--resp-addr").arg(format!("127.0.0.1:{port}"));
        command.arg("--root").arg(folder.path());
        Self::start(command, port, folder)
    }

    /// `redis-server` with default settings, or with an append-only file synced at every write.
    pub fn redis(args: &Args, synced: bool) -> Self {
        let port = free_port();
        let folder = args.folder();
        let mut command = Command::new("redis-server");
        command.args(["--port", &port.to_string()]).arg("--dir").arg(folder.path());
        if synced {
            command.args(["--appendonly", "yes", "--appendfsync", "always"]);
        }
        Self::start(command, port, folder)
    }

    fn start(mut command: Command, port: u16, folder: tempfile::TempDir) -> Self {
        let log = std::fs::File::create(folder.path().join("bench.log")).expect("a log file");
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let running = Self { child, port, _folder: folder };
        let start = Instant::now();
        while !running.answers() {
            assert!(start.elapsed() < Duration::from_secs(10), "{command:?} does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        running
    }

    fn answers(&self) -> bool {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) else { return false };
        let mut answer = [0; 7];
        stream.write_all(b"PING\r\n").is_ok()
            && stream.read_exact(&mut answer).is_ok()
            && answer == *b"+PONG\r\n"
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The folder goes with it; there is nothing to save.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").port()
}

/// Lets this process, and those that it starts, open as many files as the system allows.
pub fn raise_file_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls only read or write the local `limit`.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        }
    }
}
