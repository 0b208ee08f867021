//! The real binary, killed again and again while clients write through both doors.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::support::{Server, http, http_to, noise};

const ROUNDS: u64 = 6;
const WRITERS: u64 = 3;

/// What was acknowledged: the number is key and seed of the value.
type Acknowledged = Vec<u64>;

fn value(n: u64) -> Vec<u8> {
    // Most are small; some have blocks of their own.
    let len = if n.is_multiple_of(37) { 200_000 } else { 20 + n % 3000 };
    noise(len as usize, n + 1)
}

fn write_http(address: &str, first: u64, stop: &AtomicBool) -> Acknowledged {
    let mut acknowledged = Vec::new();
    for n in first.. {
        if stop.load(Ordering::Acquire) {
            break;
        }
        match http_to(address, "PUT", &format!("/v1/crash/{n}"), &value(n)) {
            Ok((201, _)) => acknowledged.push(n),
            Ok((status, body)) => panic!("{status}: {}", String::from_utf8_lossy(&body)),
            // The server is gone; whether this one was stored is unknown.
            Err(_) => break,
        }
    }
    acknowledged
}

fn write_resp(address: &str, first: u64, stop: &AtomicBool) -> Acknowledged {
    let mut acknowledged = Vec::new();
    let Ok(mut stream) = TcpStream::connect(address) else { return acknowledged };
    let mut replies = BufReader::new(stream.try_clone().unwrap());
    // Pipelines of four: a kill finds some of them answered and some not.
    for n in (first..).step_by(4) {
        if stop.load(Ordering::Acquire) {
            break;
        }
        let mut request = Vec::new();
        for n in n..n + 4 {
            let (key, value) = (n.to_string(), value(n));
            let head = format!("*3\r\n$3\r\nSET\r\n${}\r\n{key}\r\n", key.len());
            request.extend_from_slice(head.as_bytes());
            request.extend_from_slice(format!("${}\r\n", value.len()).as_bytes());
            request.extend_from_slice(&value);
            request.extend_from_slice(b"\r\n");
        }
        if stream.write_all(&request).is_err() {
            break;
        }
        for n in n..n + 4 {
            let mut reply = String::new();
            match replies.read_line(&mut reply) {
                Ok(count) if count > 0 && reply.ends_with('\n') => {
                    assert_eq!(reply, "+OK\r\n");
                    acknowledged.push(n);
                }
                _ => return acknowledged,
            }
        }
    }
    acknowledged
}

fn get_resp(stream: &mut BufReader<TcpStream>, key: u64) -> Option<Vec<u8>> {
    let key = key.to_string();
    let request = format!("*2\r\n$3\r\nGET\r\n${}\r\n{key}\r\n", key.len());
    stream.get_mut().write_all(request.as_bytes()).unwrap();
    let mut head = String::new();
    stream.read_line(&mut head).unwrap();
    let len: i64 = head.trim_start_matches('$').trim_end().parse().unwrap();
    let mut value = vec![0; usize::try_from(len).ok()? + 2];
    stream.read_exact(&mut value).unwrap();
    value.truncate(value.len() - 2);
    Some(value)
}

#[test]
#[allow(clippy::disallowed_methods, reason = "tests run on the system's own clock and threads")]
fn nothing_acknowledged_is_lost_when_the_server_is_killed() {
    let root = tempfile::tempdir().unwrap();
    let (mut by_http, mut by_resp): (Acknowledged, Acknowledged) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let server = Server::start(root.path());
        let mut stream = BufReader::new(TcpStream::connect(&server.resp).unwrap());
        // Everything at the end, the newest round's writes after each kill.
        let recent = |all: &[u64]| -> Vec<u64> {
            let from = if round == ROUNDS { 0 } else { (round.max(1) - 1) * 1_000_000 };
            all.iter().copied().filter(|n| *n >= from).collect()
        };
        for n in recent(&by_http) {
            let (status, body) = http(&server, "GET", &format!("/v1/crash/{n}"), b"");
            assert!(status == 200 && body == value(n), "round {round}: {n} over HTTP is {status}");
        }
        for n in recent(&by_resp) {
            let stored = get_resp(&mut stream, n);
            assert!(stored.as_deref() == Some(&value(n)), "round {round}: {n} over RESP");
        }
        if round == ROUNDS {
            break;
        }
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let first = |writer: u64| round * 1_000_000 + writer * 100_000;
            let (stop, server) = (&stop, &server);
            let address = server.http.trim_start_matches("http://");
            let http: Vec<_> = (0..WRITERS)
                .map(|writer| scope.spawn(move || write_http(address, first(writer), stop)))
                .collect();
            let resp: Vec<_> = (0..WRITERS)
                .map(|writer| scope.spawn(move || write_resp(&server.resp, first(writer), stop)))
                .collect();
            std::thread::sleep(Duration::from_millis(150 + 70 * round));
            server.signal(rustix::process::Signal::KILL);
            stop.store(true, Ordering::Release);
            http.into_iter().for_each(|writer| by_http.extend(writer.join().unwrap()));
            resp.into_iter().for_each(|writer| by_resp.extend(writer.join().unwrap()));
        });
    }
    assert!(by_http.len() > 50 && by_resp.len() > 50, "{} {}", by_http.len(), by_resp.len());
}

/// Two namespaces on different backends.
const APART: &str = r#"
[storage.backends.files]
type = "filesystem"
path = "FILES"
[namespaces.near]
backends = ["embedded"]
[namespaces.far]
backends = ["files"]
"#;

/// Commits transactions that write the same keys in both namespaces.
fn transact(address: &str, first: u64, stop: &AtomicBool) -> Acknowledged {
    let mut acknowledged = Vec::new();
    for n in first.. {
        if stop.load(Ordering::Acquire) {
            break;
        }
        let put = |key: String| {
            let value = format!("{n:0>width$}", width = 1 + (n % 997) as usize);
            serde_json::json!({ "op": "put", "key": key, "value": value })
        };
        let last = format!("last:{}", first % 1_000_000);
        let part = serde_json::json!({ "operations": [put(format!("{n:012}")), put(last)] });
        let body = serde_json::json!({ "namespaces": { "near": part, "far": part } }).to_string();
        match http_to(address, "POST", "/v1/_tx", body.as_bytes()) {
            Ok((200, _)) => acknowledged.push(n),
            Ok((status, body)) => panic!("{status}: {}", String::from_utf8_lossy(&body)),
            // The server is gone; whether this one was committed is unknown.
            Err(_) => break,
        }
    }
    acknowledged
}

#[test]
#[allow(clippy::disallowed_methods, reason = "tests run on the system's own clock and threads")]
fn transactions_over_two_backends_are_whole_when_the_server_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("sira.toml");
    let files = folder.path().join("files");
    std::fs::write(&config, APART.replace("FILES", files.to_str().unwrap())).unwrap();
    let mut acknowledged: Acknowledged = Vec::new();
    for round in 0..=ROUNDS {
        let server = Server::start_with(&folder.path().join("root"), |command| {
            command.arg("--config").arg(&config);
        });
        let get = |namespace: &str, key: &str| {
            let (status, body) = http(&server, "GET", &format!("/v1/{namespace}/{key}"), b"");
            (status == 200).then_some(body)
        };
        let keys = |namespace: &str| {
            let path = format!("/v1/{namespace}?limit=10000");
            let (status, body) = http(&server, "GET", &path, b"");
            assert_eq!(status, 200);
            let page: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(page["has_more"], false);
            let names = page["entries"].as_array().unwrap().iter();
            names.map(|entry| entry["key"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let (near, far) = (keys("near"), keys("far"));
        assert_eq!(near, far, "round {round}");
        let lasts = near.iter().filter(|key| key.starts_with("last:"));
        for key in lasts.chain(near.iter().rev().take(20)) {
            assert_eq!(get("near", key), get("far", key), "round {round}: {key}");
        }
        for n in &acknowledged {
            assert!(near.binary_search(&format!("{n:012}")).is_ok(), "round {round}: {n}");
        }
        if round == ROUNDS {
            break;
        }
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let (stop, server) = (&stop, &server);
            let address = server.http.trim_start_matches("http://");
            let writers: Vec<_> = (0..WRITERS)
                .map(|writer| round * 1_000_000 + writer * 100_000)
                .map(|first| scope.spawn(move || transact(address, first, stop)))
                .collect();
            std::thread::sleep(Duration::from_millis(150 + 70 * round));
            server.signal(rustix::process::Signal::KILL);
            stop.store(true, Ordering::Release);
            writers.into_iter().for_each(|writer| acknowledged.extend(writer.join().unwrap()));
        });
    }
    assert!(acknowledged.len() > 20, "{}", acknowledged.len());
}
