//! Behaviour of the server beyond single replies.

#![allow(clippy::expect_used, clippy::panic, reason = "these are helpers of tests")]

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sira_server::resp::OnShutdown;
use sira_store::Durability;
use sira_store::env::SimEnv;

use super::wire::{Client, Door, request, words};

fn pipeline(lines: &[&str]) -> Vec<u8> {
    lines.iter().flat_map(|line| request(&words(line))).collect()
}

const LINES: &[&str] = &[
    "SET a \"x\\x0d\\x0ay\"",
    "GET a",
    "MULTI",
    "INCR n",
    "GET n",
    "EXEC",
    "GET missing",
    "ECHO \"\"",
    "FOO",
    "STRLEN a",
];

const REPLIES: &str = "+OK\r\n$4\r\nx\r\ny\r\n+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n:1\r\n$1\r\n1\r\n\
    $-1\r\n$0\r\n\r\n-ERR unknown command 'FOO', with args beginning with: \r\n:4\r\n";

fn replies(client: &mut Client, count: usize) -> String {
    let all: Vec<u8> = (0..count).flat_map(|_| client.reply()).collect();
    String::from_utf8_lossy(&all).into_owned()
}

#[test]
fn pipelines_are_answered_in_order_however_they_arrive() {
    for durability in [Durability::None, Durability::Sync, Durability::Interval(5)] {
        let door = Door::open(|config| config.durability = durability);
        let stream = pipeline(LINES);
        for cut in 0..=stream.len() {
            let mut client = door.client();
            client.run("FLUSHALL");
            client.send(&stream[..cut]);
            // The first part has arrived and been dealt with once another client is served.
            door.client().run("PING");
            client.send(&stream[cut..]);
            assert_eq!(replies(&mut client, LINES.len()), REPLIES, "cut {cut}");
        }
        let mut client = door.client();
        client.run("FLUSHALL");
        for byte in &stream {
            client.send(&[*byte]);
        }
        assert_eq!(replies(&mut client, LINES.len()), REPLIES);
    }
}

#[test]
fn large_values_come_back_whole() {
    for durability in [Durability::None, Durability::Sync] {
        let door = Door::open(|config| config.durability = durability);
        let mut client = door.client();
        for len in [16 * 1024 - 1, 16 * 1024, 70_000, 300_000, 5_000_000, 40_000_000] {
            let value: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
            client.send(&request(&[b"SET".to_vec(), b"big".to_vec(), value.clone()]));
            client.send(&pipeline(&["GET big", "GETRANGE big 5 -1", "STRLEN big"]));
            assert_eq!(client.reply(), b"+OK\r\n");
            let bulk = |value: &[u8]| {
                [format!("${}\r\n", value.len()).as_bytes(), value, b"\r\n"].concat()
            };
            assert!(client.reply() == bulk(&value), "{len}");
            assert!(client.reply() == bulk(&value[5..]), "{len}");
            assert_eq!(client.reply(), format!(":{len}\r\n").as_bytes());
        }
    }
}

#[test]
fn who_does_not_read_is_not_read_and_hurts_nobody() {
    let door = Door::open(|_| {});
    let mut other = door.client();
    other.send(&request(&[b"SET".to_vec(), b"v".to_vec(), vec![b'x'; 10_000]]));
    assert_eq!(other.reply(), b"+OK\r\n");
    let mut slow = door.client();
    let id = slow.text("CLIENT ID").trim_start_matches(':').trim().to_owned();
    // 200,000 replies of 10 kB would be 2 GB.
    let gets = pipeline(&["GET v"]).repeat(200_000);
    let mut sender = slow.stream.try_clone().expect("clone");
    let writer =
        std::thread::Builder::new().spawn(move || sender.write_all(&gets).is_ok()).expect("thread");
    // Its replies stop growing at the bound while others are served.
    for _ in 0..2_000 {
        assert_eq!(other.text("PING"), "+PONG\r\n");
        let info = other.text(&format!("CLIENT LIST ID {id}"));
        for field in ["obl=", "qbuf="] {
            let value = info.split(field).nth(1).and_then(|rest| rest.split(' ').next());
            let value: usize = value.expect("field").parse().expect("number");
            assert!(value < 2 * 1024 * 1024, "{info}");
        }
    }
    let expected = 200_000 * (10_000 + "$10000\r\n\r\n".len());
    let mut received = 0;
    let mut buffer = vec![0; 1 << 20];
    while received < expected {
        let read = slow.stream.read(&mut buffer).expect("replies");
        assert!(read > 0, "closed after {received} bytes");
        received += read;
    }
    assert_eq!(received, expected);
    assert!(writer.join().expect("writer"));
}

#[test]
fn a_token_is_demanded() {
    let door = Door::open(|config| config.token = Some(b"secret"[..].into()));
    let mut client = door.client();
    let refused = "-NOAUTH Authentication required.\r\n";
    let wrong = "-WRONGPASS invalid username-password pair or user is disabled.\r\n";
    assert_eq!(client.text("GET a"), refused);
    assert_eq!(client.text("PING"), refused);
    assert!(client.text("HELLO 3").starts_with("-NOAUTH HELLO must be called"));
    assert_eq!(client.text("AUTH wrong"), wrong);
    assert_eq!(client.text("AUTH other secret"), wrong);
    assert_eq!(client.text("AUTH secre"), wrong);
    assert_eq!(client.text("AUTH secret"), "+OK\r\n");
    assert_eq!(client.text("GET a"), "$-1\r\n");
    assert_eq!(client.text("RESET"), "+RESET\r\n");
    assert_eq!(client.text("GET a"), refused);
    assert!(client.text("HELLO 3 AUTH default secret").starts_with("%7\r\n"));
    assert_eq!(client.text("GET a"), "_\r\n");

    let mut stranger = door.client();
    stranger.send(b"*2\r\n$4\r\nAUTH\r\n$100000\r\n");
    assert_eq!(stranger.rest(), b"-ERR Protocol error: unauthenticated bulk length\r\n");
    let mut stranger = door.client();
    stranger.send(b"*100\r\n");
    assert_eq!(stranger.rest(), b"-ERR Protocol error: unauthenticated multibulk length\r\n");
}

#[test]
fn too_many_clients_are_refused() {
    let door = Door::open(|config| config.max_connections = 2);
    let (mut first, mut second) = (door.client(), door.client());
    assert_eq!(first.text("PING"), "+PONG\r\n");
    assert_eq!(second.text("PING"), "+PONG\r\n");
    assert_eq!(door.client().rest(), b"-ERR max number of clients reached\r\n");
    drop(first);
    // The place is free once the server has noticed.
    while second.text("CLIENT LIST").matches("id=").count() > 1 {}
    assert_eq!(door.client().text("PING"), "+PONG\r\n");
    let stats = door.server.stats();
    assert_eq!(stats.connections_rejected, 1);
    assert_eq!(stats.connections_received, 4);
}

#[test]
fn requests_that_wait_are_bounded_for_all_together() {
    let door = Door::open(|config| config.query_bytes_max = 4 * 1024 * 1024);
    let mut first = door.client();
    first.send(b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$100000000\r\n");
    let chunk = vec![b'x'; 1 << 20];
    let mut taken = 0;
    while taken < 64 && first.stream.write_all(&chunk).is_ok() {
        taken += 1;
    }
    assert!(taken < 64, "the server kept reading");
    assert_eq!(door.client().text("PING"), "+PONG\r\n");
}

#[test]
fn watched_keys_guard_transactions() {
    let door = Door::open(|_| {});
    let (mut one, mut two) = (door.client(), door.client());
    one.run("SET k 1");
    for (touch, expected) in [
        ("SET k 1", "*-1\r\n"),
        ("EXPIRE k 100", "*-1\r\n"),
        ("DEL k", "*-1\r\n"),
        ("FLUSHALL", "*-1\r\n"),
        ("SWAPDB 0 1", "*-1\r\n"),
        ("SET other 1", "*1\r\n$1\r\n1\r\n"),
        ("GET k", "*1\r\n$1\r\n1\r\n"),
    ] {
        one.run("SET k 1");
        one.run("WATCH k");
        two.run(touch);
        one.run("MULTI");
        one.run("GET k");
        assert_eq!(one.text("EXEC"), expected, "{touch}");
    }
}

#[test]
fn transactions_are_seen_whole() {
    let door = Door::open(|_| {});
    let stop = Arc::new(AtomicBool::new(false));
    let addr = door.server.local_addr();
    let writers: Vec<_> = (0..3)
        .map(|_| {
            let stop = Arc::clone(&stop);
            std::thread::Builder::new()
                .spawn(move || {
                    let mut client = Client::connect(addr);
                    let mut rounds = 0;
                    while !stop.load(Ordering::Relaxed) {
                        client.send(&pipeline(&["MULTI", "INCR a", "INCR b", "EXEC"]));
                        replies(&mut client, 4);
                        rounds += 1;
                    }
                    rounds
                })
                .expect("thread")
        })
        .collect();
    let mut reader = door.client();
    for _ in 0..500 {
        reader.send(&pipeline(&["MULTI", "GET a", "GET b", "EXEC"]));
        let seen = replies(&mut reader, 4);
        let values: Vec<&str> = seen.split("*2\r\n").nth(1).expect("two").split("\r\n").collect();
        let pairs = [values[0], *values.get(2).unwrap_or(&"")];
        assert!(values[0] == "$-1" || values[1] == values[3], "{seen} {pairs:?}");
    }
    stop.store(true, Ordering::Relaxed);
    let rounds: i64 = writers.into_iter().map(|writer| writer.join().expect("writer")).sum();
    assert_eq!(reader.text("INCRBY a 0"), format!(":{rounds}\r\n"));
    assert_eq!(reader.text("INCRBY b 0"), format!(":{rounds}\r\n"));
}

#[test]
fn clients_can_be_seen_held_up_and_killed() {
    let door = Door::open(|_| {});
    let (mut one, mut two) = (door.client(), door.client());
    one.run("CLIENT SETNAME first");
    let id = one.text("CLIENT ID");
    let id = id.trim_start_matches(':').trim();
    let list = two.text("CLIENT LIST");
    assert!(list.contains(&format!("id={id} ")) && list.contains("name=first"), "{list}");

    // A client that waits is released by another.
    one.send(&request(&words("WAIT 1 0")));
    while two.text(&format!("CLIENT UNBLOCK {id} ERROR")) != ":1\r\n" {}
    assert_eq!(one.reply(), b"-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n");
    assert_eq!(one.text("PING"), "+PONG\r\n");
    // What was sent behind it waits, and is then answered in order.
    one.send(&pipeline(&["WAIT 1 20", "PING"]));
    assert_eq!(replies(&mut one, 2), ":0\r\n+PONG\r\n");

    // A pause of writes lets reads through.
    assert_eq!(two.text("CLIENT PAUSE 600000 WRITE"), "+OK\r\n");
    one.send(&pipeline(&["GET x", "SET x 1", "GET x"]));
    assert_eq!(replies(&mut one, 1), "$-1\r\n");
    assert_eq!(two.text("GET x"), "$-1\r\n");
    assert_eq!(two.text("CLIENT UNPAUSE"), "+OK\r\n");
    assert_eq!(replies(&mut one, 2), "+OK\r\n$1\r\n1\r\n");
    assert_eq!(two.text("CLIENT PAUSE 20"), "+OK\r\n");
    assert_eq!(one.text("PING"), "+PONG\r\n");

    assert_eq!(two.text(&format!("CLIENT KILL ID {id}")), ":1\r\n");
    assert_eq!(one.rest(), b"");
    assert!(two.text("CLIENT KILL ID 999999").starts_with(":0"));
}

#[test]
fn replies_can_be_turned_off() {
    let door = Door::open(|_| {});
    let mut client = door.client();
    client.send(&pipeline(&[
        "CLIENT REPLY OFF",
        "PING",
        "FOO",
        "CLIENT REPLY ON",
        "CLIENT REPLY SKIP",
        "ECHO a",
        "ECHO b",
    ]));
    assert_eq!(replies(&mut client, 2), "+OK\r\n$1\r\nb\r\n");
}

#[test]
fn keys_have_a_limit_and_scans_find_all() {
    let door = Door::open(|_| {});
    let mut client = door.client();
    let (fits, long) = ("k".repeat(1024), "k".repeat(1025));
    assert_eq!(client.text(&format!("SET {fits} v")), "+OK\r\n");
    assert!(
        client.text(&format!("SET {long} v")).starts_with("-ERR key of 1025 bytes is too long")
    );
    assert!(client.text(&format!("INCR {long}")).starts_with("-ERR key of 1025 bytes"));
    assert_eq!(client.text(&format!("GET {long}")), "$-1\r\n");
    client.run("FLUSHALL");
    for key in 0..1000 {
        client.run(&format!("SET key:{key} v"));
    }
    let (mut cursor, mut found) = ("0".to_owned(), std::collections::BTreeSet::new());
    loop {
        let page = client.text(&format!("SCAN {cursor} COUNT 7"));
        let fields: Vec<&str> = page.split("\r\n").collect();
        cursor = fields[2].to_owned();
        found.extend(fields[5..].chunks(2).map(|pair| pair[0].to_owned()));
        if cursor == "0" {
            break;
        }
    }
    found.remove("");
    assert_eq!(found.len(), 1000);
    assert!(client.text("SCAN 12345").starts_with("-ERR invalid cursor"));
}

#[test]
fn expired_keys_that_a_command_meets_are_no_longer_counted() {
    let env = Arc::new(SimEnv::new(1, 1_795_000_000_000));
    let door = Door::open_at(&env);
    let mut client = door.client();
    for (command, reply, left) in [
        ("DEL k", ":0\r\n", 0),
        ("UNLINK k", ":0\r\n", 0),
        ("DEL k other", ":0\r\n", 0),
        ("SET k 2 XX", "$-1\r\n", 0),
        ("SET k 2 NX", "+OK\r\n", 1),
        ("SETNX k 2", ":1\r\n", 1),
        ("GETDEL k", "$-1\r\n", 0),
        ("PERSIST k", ":0\r\n", 0),
        ("RENAME k l", "-ERR no such key\r\n", 0),
        ("COPY k l", ":0\r\n", 0),
        ("INCR k", ":1\r\n", 1),
    ] {
        client.run("FLUSHALL");
        client.run("SET k 1 PX 1");
        env.advance_ms(1);
        assert_eq!(client.text("DBSIZE"), ":1\r\n", "{command}");
        assert_eq!(client.text(command), reply, "{command}");
        assert_eq!(client.text("DBSIZE"), format!(":{left}\r\n"), "{command}");
    }
}

#[test]
fn shutdown_answers_what_was_read_and_is_asked_for_by_clients() {
    let asked = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&asked);
    let door = Door::open(|config| {
        let stop = move || flag.store(true, Ordering::SeqCst);
        config.on_shutdown = Some(OnShutdown(Arc::new(stop)));
    });
    let mut client = door.client();
    client.send(&pipeline(&["SET a 1", "GET a", "SHUTDOWN"]));
    assert_eq!(client.rest(), b"+OK\r\n$1\r\n1\r\n");
    assert!(asked.load(Ordering::SeqCst));
    let mut idle = door.client();
    idle.run("PING");
    let addr = door.server.local_addr();
    door.server.shutdown(Duration::from_secs(10));
    assert_eq!(idle.rest(), b"");
    assert!(std::net::TcpStream::connect(addr).is_err());
}

#[test]
fn counters_count() {
    let door = Door::open(|_| {});
    let mut client = door.client();
    client.run("SET a 1");
    client.run("GET a");
    client.run("GET a");
    client.run("INCR nothing x");
    let stats = door.server.stats();
    let calls = |name: &str| {
        let found = stats.commands.iter().find(|command| command.name == name);
        found.map_or((0, 0), |command| (command.calls, command.rejected))
    };
    assert_eq!((calls("set"), calls("get"), calls("incr")), ((1, 0), (2, 0), (0, 1)));
    assert_eq!(stats.error_replies, 1);
    assert_eq!(stats.writes, 1);
    assert_eq!(stats.latency.iter().sum::<u64>(), 4);
    let info = client.text("INFO commandstats");
    assert!(info.contains("cmdstat_get:calls=2,"), "{info}");
    client.run("CONFIG RESETSTAT");
    assert_eq!(door.server.stats().writes, 0);
}
