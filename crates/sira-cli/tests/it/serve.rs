//! serve: addresses, signals, the lock, refusals.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::support::{Server, run, sira};

fn request(http: &str, text: &str) -> String {
    let mut stream = TcpStream::connect(http.trim_start_matches("http://")).unwrap();
    stream.write_all(text.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn get(http: &str, path: &str) -> String {
    request(http, &format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n"))
}

#[test]
fn sigterm_and_sigint_drain_and_exit_with_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let root = tempfile::tempdir().unwrap();
        let server = Server::start(root.path());
        assert!(get(&server.http, "/readyz").starts_with("HTTP/1.1 200"));
        run(sira().args(["put", "k", "/dev/null", "--server", &server.http])).exits(0);
        server.signal(signal);
        let (code, rest) = server.wait();
        assert_eq!(code, Some(0));
        assert_eq!(rest, "{\"event\":\"draining\"}\n{\"event\":\"stopped\"}\n");
        run(sira().args(["get", "k", "--root"]).arg(root.path())).exits(0);
    }
}

#[test]
fn requests_under_way_finish_and_a_second_signal_exits_at_once() {
    let root = tempfile::tempdir().unwrap();
    let mut server = Server::start(root.path());
    let mut upload = TcpStream::connect(server.http.trim_start_matches("http://")).unwrap();
    upload
        .write_all(
            b"PUT /v1/ns/slow HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 10\r\n\r\nhello",
        )
        .unwrap();
    // The upload is under way once another request on a later connection is answered.
    assert!(get(&server.http, "/livez").starts_with("HTTP/1.1 200"));
    server.signal(Signal::TERM);
    let mut line = String::new();
    std::io::BufRead::read_line(&mut server.stdout, &mut line).unwrap();
    assert_eq!(line, "{\"event\":\"draining\"}\n");
    upload.write_all(b"world").unwrap();
    let mut answer = String::new();
    upload.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    assert_eq!(server.wait().0, Some(0));
    let ran = run(sira().args(["get", "sira://ns/slow", "--root"]).arg(root.path())).exits(0);
    assert_eq!(ran.text(), "helloworld");

    let mut server = Server::start(root.path());
    let mut upload = TcpStream::connect(server.http.trim_start_matches("http://")).unwrap();
    upload
        .write_all(
            b"PUT /v1/ns/never HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 10\r\n\r\nhello",
        )
        .unwrap();
    assert!(get(&server.http, "/livez").starts_with("HTTP/1.1 200"));
    server.signal(Signal::TERM);
    let mut line = String::new();
    std::io::BufRead::read_line(&mut server.stdout, &mut line).unwrap();
    server.signal(Signal::TERM);
    assert_eq!(server.wait().0, Some(143));
    run(sira().args(["get", "sira://ns/never", "--root"]).arg(root.path())).exits(3);
}

#[test]
fn a_second_server_on_the_folder_names_the_first() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    let ran = run(sira()
        .args(["serve", "--http-addr", "127.0.0.1:0", "--resp-addr", "127.0.0.1:0", "--root"])
        .arg(root.path()))
    .exits(4);
    assert!(ran.stderr.contains(&server.child.id().to_string()), "{}", ran.stderr);
    let ran = run(sira().args(["get", "k", "--json", "--root"]).arg(root.path())).exits(4);
    assert_eq!(ran.error()["code"], "locked");
    assert!(ran.error()["hint"].as_str().unwrap().contains("--server"));
    run(sira().args(["ls", "--server", &server.http])).exits(0);
}

#[test]
fn a_taken_port_exits_with_4_and_leaves_the_folder_usable() {
    let roots = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = Server::start(roots.0.path());
    let address = server.http.trim_start_matches("http://");
    let ran = run(sira()
        .args(["serve", "--http-addr", address, "--resp-addr", "127.0.0.1:0", "--root"])
        .arg(roots.1.path()))
    .exits(4);
    assert!(ran.stderr.contains(address) && ran.stderr.contains("--http-addr"), "{}", ran.stderr);
    run(sira().args(["ls", "--root"]).arg(roots.1.path())).exits(0);
}

#[test]
fn addresses_beyond_loopback_want_a_token() {
    let root = tempfile::tempdir().unwrap();
    for (flag, other) in [("--http-addr", "--resp-addr"), ("--resp-addr", "--http-addr")] {
        let ran = run(sira()
            .args(["serve", flag, "0.0.0.0:0", other, "127.0.0.1:0", "--root"])
            .arg(root.path().join("never")))
        .exits(2);
        assert!(ran.stderr.contains("export SIRA_TOKEN="), "{}", ran.stderr);
    }
    assert!(!root.path().join("never").exists());
    let server = Server::start_with(root.path(), |command| {
        command.args(["--http-addr", "0.0.0.0:0"]).env("SIRA_TOKEN", "0123456789abcdef");
    });
    assert!(server.http.starts_with("http://0.0.0.0:"), "{}", server.http);
}

#[test]
fn the_banner_has_lines_to_copy() {
    let root = tempfile::tempdir().unwrap();
    let mut child = sira()
        .args(["serve", "--http-addr", "127.0.0.1:0", "--resp-addr", "127.0.0.1:0", "--root"])
        .arg(root.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdout = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut banner = String::new();
    while !banner.contains("sira get greeting") {
        assert_ne!(std::io::BufRead::read_line(&mut stdout, &mut banner).unwrap(), 0, "{banner}");
    }
    let version = env!("CARGO_PKG_VERSION");
    let root = root.path().canonicalize().unwrap().display().to_string();
    for part in [version, &root, "http://127.0.0.1:", "curl -X PUT", "redis-cli -h", "sira put"] {
        assert!(banner.contains(part), "{part}: {banner}");
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

/// The binary where a user without rights can run it, and set to run as one: the superuser may
/// write everywhere.
fn unprivileged(place: &Path) -> Command {
    fs::set_permissions(place, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = sira();
    if rustix::process::geteuid().is_root() {
        let copy = place.join("sira");
        fs::copy(command.get_program(), &copy).unwrap();
        command = Command::new(copy);
        command.env_clear().env("NO_COLOR", "1").uid(65_534).gid(65_534);
    }
    command
}

#[test]
fn a_read_only_folder_is_a_clear_error() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("read-only");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o555)).unwrap();
    for root in [folder.clone(), folder.join("data")] {
        let ran = run(unprivileged(place.path())
            .args(["serve", "--http-addr", "127.0.0.1:0", "--resp-addr", "127.0.0.1:0", "--root"])
            .arg(&root))
        .exits(7);
        assert!(ran.stderr.contains("cannot open the data folder"), "{}", ran.stderr);
        assert!(ran.stderr.contains(root.to_str().unwrap()), "{}", ran.stderr);
        assert!(ran.stderr.contains("Permission denied"), "{}", ran.stderr);
        assert!(ran.stderr.contains("try: ls -ld"), "{}", ran.stderr);
    }
    let ran = run(unprivileged(place.path()).args(["doctor", "--root"]).arg(&folder)).exits(1);
    assert!(ran.text().contains("cannot be written"), "{}", ran.text());
}

#[test]
fn locks_are_taken_in_turn_and_their_tokens_grow_over_restarts() {
    let root = tempfile::tempdir().unwrap();
    let mut newest = 0;
    for _ in 0..2 {
        let server = Server::start(root.path());
        let lock = |args: &[&str]| {
            run(sira().arg("lock").args(args).args(["--server", &server.http, "-N", "jobs"]))
        };
        let token = lock(&["acquire", "job:7", "--owner", "a b", "--lease", "1m"]).exits(0);
        let token: u64 = token.text().trim().parse().unwrap();
        assert!(token > newest, "{token} after {newest}");
        newest = token;
        let held = lock(&["acquire", "job:7", "--owner", "c", "--wait", "10ms"]).exits(4);
        assert!(held.stderr.contains("a b"), "{}", held.stderr);
        let listed = lock(&["ls", "--json"]).exits(0).json().remove(0);
        assert_eq!(listed["locks"][0]["token"], token);
        let table = lock(&["ls"]).exits(0).text();
        assert!(table.contains("job:7") && table.contains(&token.to_string()), "{table}");
        lock(&["release", "job:7", "--owner", "c"]).exits(3);
        lock(&["release", "job:7", "--owner", "a b"]).exits(0);
        let shared = ["acquire", "job:7", "--mode", "shared", "--json", "--owner"];
        for owner in ["c", "d"] {
            let given = lock(&[&shared[..], &[owner]].concat()).exits(0).json().remove(0);
            newest = given["token"].as_u64().unwrap();
        }
        let lost = newest.to_string();
        lock(&["acquire", "job:7", "--owner", "c", "--token", &lost]).exits(3);
        lock(&["acquire", "job:7", "--owner", "d", "--token", &lost]).exits(0);
    }
}
