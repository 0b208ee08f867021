//! Replies are Redis' replies, byte for byte.

mod bits;
mod expiry;
mod keys;
mod random;
mod scan;
mod server;
mod strings;
mod transactions;

use super::wire::{Client, Door, Redis, request, words};

/// Requests whose replies do not depend on the server's own state, by subject. They run in this
/// order on one connection: later ones work on the keys of earlier ones.
const SCRIPTS: [&str; 7] = [
    strings::SCRIPT,
    bits::SCRIPT,
    keys::SCRIPT,
    expiry::SCRIPT,
    transactions::SCRIPT,
    scan::SCRIPT,
    server::SCRIPT,
];

/// Whether a difference is one that has to be.
fn excused(line: &str, ours: &[u8], theirs: &[u8]) -> bool {
    let seconds = |reply: &[u8]| {
        let text = std::str::from_utf8(reply.strip_prefix(b":")?).ok()?;
        text.trim_end().parse::<u64>().ok()
    };
    // Seconds that are left may be counted on either side of a tick.
    let near = match (seconds(ours), seconds(theirs)) {
        (Some(ours), Some(theirs)) => ours.abs_diff(theirs) < 30,
        _ => false,
    };
    // Tests may ask for DEBUG here without a setting.
    line.starts_with("DEBUG SLEEP") || line.starts_with("TTL ") && near
}

/// What differs between the replies to a request.
fn difference(
    ours: &mut Client,
    theirs: &mut Client,
    args: &[Vec<u8>],
    line: &str,
) -> Option<String> {
    let bytes = request(args);
    ours.send(&bytes);
    theirs.send(&bytes);
    let (ours, theirs) = (ours.reply(), theirs.reply());
    (ours != theirs && !excused(line, &ours, &theirs)).then(|| {
        let (ours, theirs) = (String::from_utf8_lossy(&ours), String::from_utf8_lossy(&theirs));
        format!("{line}\n ours  {ours:?}\n redis {theirs:?}")
    })
}

#[test]
fn a_long_script_is_answered_as_by_redis() {
    let (door, redis) = (Door::open(|_| {}), Redis::start());
    let mut differences = Vec::new();
    for protocol in ["2", "3"] {
        let (mut ours, mut theirs) = (door.client(), Client::connect(redis.addr));
        for client in [&mut ours, &mut theirs] {
            client.run("FLUSHALL");
            client.run(&format!("HELLO {protocol}"));
        }
        for line in SCRIPTS.iter().flat_map(|script| script.lines()).filter(|line| !line.is_empty())
        {
            differences.extend(difference(&mut ours, &mut theirs, &words(line), line));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// What a database that is away cannot do, as it begins.
const NOT_AWAY: [&str; 4] = ["MOVE ", "SWAPDB ", "COPY r5 c1 DB 3", "GET c1"];

#[test]
fn databases_that_lie_elsewhere_are_answered_as_by_redis() {
    let (door, redis) = (Door::open(|_| {}), Redis::start());
    door.send_away(0..16, true);
    let mut differences = Vec::new();
    let (here, _) = transactions::SCRIPT.split_once("MULTI\nSELECT 5").expect("two databases");
    let scripts = SCRIPTS.iter().map(|script| match *script {
        transactions::SCRIPT => here,
        script => script,
    });
    let lines: Vec<&str> = scripts
        .flat_map(|script| script.lines().chain(["FLUSHALL"]))
        .filter(|line| !line.is_empty() && !NOT_AWAY.iter().any(|what| line.starts_with(what)))
        .collect();
    for protocol in ["2", "3"] {
        let (mut ours, mut theirs) = (door.client(), Client::connect(redis.addr));
        for client in [&mut ours, &mut theirs] {
            client.run("FLUSHALL");
            client.run(&format!("HELLO {protocol}"));
        }
        for line in &lines {
            differences.extend(difference(&mut ours, &mut theirs, &words(line), line));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    let engine = &door.storage.engine;
    let here = engine.namespaces().into_iter().filter(|(name, _)| name.starts_with("db"));
    assert_eq!(here.map(|(_, id)| engine.count(id)).sum::<u64>(), 0, "nothing lies on the engine");
}

#[test]
fn broken_requests_are_refused_as_by_redis() {
    let (door, redis) = (Door::open(|_| {}), Redis::start());
    let long = "A".repeat(70_000);
    let cases = [
        "\r\nPING\r\nQUIT\r\n".to_owned(),
        "*-10\r\nQUIT\r\n".to_owned(),
        "*20000000000\r\n".to_owned(),
        "*x\r\n".to_owned(),
        "*3\r\n$3\r\nSET\r\n$1\r\nx\r\nfooz\r\n".to_owned(),
        "*3\r\n$3\r\nSET\r\n$1\r\nx\r\n$-10\r\n".to_owned(),
        "*3\r\n$3\r\nSET\r\n$1\r\nx\r\n$2000000000\r\n".to_owned(),
        "*3\r\n$3\r\nSET\r\n$1\r\nx\r\n$blabla\r\n".to_owned(),
        "*2\r\nPING\r\n".to_owned(),
        "set \"\"\"test\"\"\" test\r\n".to_owned(),
        "set 'a\r\n".to_owned(),
        "PING\r\n*1\r\n$4\r\nPING\r\n*x\r\n".to_owned(),
        "set a \"\\x41\\n\\\"\" \r\nget a\r\nget 'a'\r\nquit\r\n".to_owned(),
        "quit\r\nping\r\n".to_owned(),
        format!("\0{long}"),
        format!("*\0{long}"),
        format!("*1\r\n$\0{long}"),
        long.clone(),
    ];
    for case in cases {
        let mut replies = Vec::new();
        for addr in [door.server.local_addr(), redis.addr] {
            let mut client = Client::connect(addr);
            client.send(case.as_bytes());
            replies.push(String::from_utf8_lossy(&client.rest()).into_owned());
        }
        let shown = case.get(..40).unwrap_or(&case);
        assert_eq!(replies[0], replies[1], "{shown:?}");
        assert!(!replies[0].is_empty(), "{shown:?}");
    }
}
