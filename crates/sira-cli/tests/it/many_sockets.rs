//! Ten thousand clients at once.

use std::io::{Read, Write};
use std::net::TcpStream;

use rustix::process::{Resource, getrlimit, setrlimit};

use crate::support::{Server, http};

const CLIENTS: usize = 10_000;

/// Most memory that the server may take with all of them connected.
const RESIDENT_KIB_MAX: u64 = 512 * 1024;

fn resident_kib(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.child.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn ten_thousand_clients_are_served_and_one_more_is_told_no() {
    let mut limit = getrlimit(Resource::Nofile);
    let enough = limit.maximum.is_none_or(|most| most >= CLIENTS as u64 + 200);
    assert!(enough, "the hard limit of open files is {limit:?}: raise it with `ulimit -Hn`");
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();

    let root = tempfile::tempdir().unwrap();
    let server = Server::start_with(root.path(), |command| {
        command.args(["--max-connections", &CLIENTS.to_string()]);
    });
    let mut clients: Vec<_> =
        (0..CLIENTS).map(|_| TcpStream::connect(&server.resp).unwrap()).collect();
    // Each has been accepted once it is answered.
    for client in &mut clients {
        client.write_all(b"PING\r\n").unwrap();
    }
    let mut reply = [0; 7];
    for client in &mut clients {
        client.read_exact(&mut reply).unwrap();
        assert_eq!(&reply, b"+PONG\r\n");
    }
    let mut text = String::new();
    TcpStream::connect(&server.resp).unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "-ERR max number of clients reached\r\n");
    // The other door has room of its own.
    assert_eq!(http(&server, "PUT", "/v1/many/k", b"v").0, 201);
    let resident = resident_kib(&server);
    assert!(resident < RESIDENT_KIB_MAX, "{resident} KiB are resident");
}
