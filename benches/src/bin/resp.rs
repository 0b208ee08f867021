//! The RESP door beside Redis, under redis-benchmark.

use std::process::Command;

use sira_benches::args::Args;
use sira_benches::order;
use sira_benches::report::{Report, Row};
use sira_benches::servers::Running;

/// One setting of redis-benchmark; every command of it makes a row.
struct Work {
    name: &'static str,
    /// Whether a SET is answered after an fsync.
    synced: bool,
    requests: usize,
    keys: usize,
    bytes: usize,
    pipeline: usize,
    threads: usize,
    /// SET comes first, so that GET finds something.
    commands: &'static [&'static str],
}

const SMALL: Work = Work {
    name: "",
    synced: false,
    requests: 0,
    keys: 100_000,
    bytes: 100,
    pipeline: 1,
    threads: 1,
    commands: &["SET", "GET"],
};

const WORKS: [Work; 8] = [
    Work { name: "100 B, no pipeline", requests: 200_000, ..SMALL },
    Work { name: "100 B, pipeline 16", requests: 2_000_000, pipeline: 16, ..SMALL },
    Work { name: "100 B, pipeline 64", requests: 4_000_000, pipeline: 64, ..SMALL },
    Work {
        name: "100 B, pipeline 16, client with 2 threads",
        // With threads, redis-benchmark ends on a tick of 250 ms.
        requests: 4_000_000,
        pipeline: 16,
        threads: 2,
        ..SMALL
    },
    Work {
        name: "100 B, after fsync",
        requests: 40_000,
        synced: true,
        commands: &["SET"],
        ..SMALL
    },
    Work { name: "256 KiB", requests: 8_000, keys: 500, bytes: 256 << 10, ..SMALL },
    Work {
        name: "256 KiB, after fsync",
        requests: 1_000,
        keys: 500,
        bytes: 256 << 10,
        synced: true,
        commands: &["SET"],
        ..SMALL
    },
    Work {
        name: "100 B, after fsync, pipeline 16",
        requests: 200_000,
        pipeline: 16,
        synced: true,
        commands: &["SET"],
        ..SMALL
    },
];

fn main() {
    let args = Args::parse();
    let notes = [
        "redis-benchmark, 50 clients, random keys (100,000 of 100 B, 500 of 256 KiB), both servers \
         fresh for each row, rounds interleaved"
            .to_owned(),
        "without fsync: `sira serve --durability none` and Redis with default settings; after \
         fsync: `--durability sync` and `--appendonly yes --appendfsync always`"
            .to_owned(),
    ];
    let mut report = Report::new("RESP", &notes);
    for work in WORKS.iter().filter(|work| args.wants(work.name)) {
        let servers = [
            Running::sira(&args, if work.synced { "sync" } else { "none" }),
            Running::redis(&args, work.synced),
        ];
        let mut rows: Vec<Row> = work
            .commands
            .iter()
            .map(|command| {
                Row::new(&format!("{command} {}", work.name), "k ops/s", true, &["sira", "Redis"])
            })
            .collect();
        let requests = args.count(work.requests, 200);
        if work.commands.contains(&"GET") {
            for server in &servers {
                let fill = Work { pipeline: if work.bytes > 1000 { 1 } else { 64 }, ..*work };
                load(server.port, &fill, "SET", work.keys * 3);
            }
        }
        for round in 0..args.rounds {
            for (row, command) in rows.iter_mut().zip(work.commands) {
                for at in order(2, round) {
                    row.add(at, load(servers[at].port, work, command, requests) / 1e3);
                }
            }
        }
        eprintln!("{} done", work.name);
        report.rows.extend(rows);
    }
    report.finish(args.json.as_deref());
}

/// Requests a second.
fn load(port: u16, work: &Work, command: &str, requests: usize) -> f64 {
    let mut client = Command::new("redis-benchmark");
    client.args(["-c", "50", "--csv", "-t", &command.to_lowercase()]);
    for (flag, value) in [
        ("-p", usize::from(port)),
        ("-n", requests),
        ("-P", work.pipeline),
        ("-d", work.bytes),
        ("-r", work.keys),
    ] {
        client.args([flag, &value.to_string()]);
    }
    if work.threads > 1 {
        client.args(["--threads", &work.threads.to_string()]);
    }
    let output = client.output().expect("redis-benchmark runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find(|line| line.starts_with(&format!("\"{command}\"")));
    let field = line.and_then(|line| line.split(',').nth(1)).map(|field| field.trim_matches('"'));
    field.and_then(|rate| rate.parse().ok()).unwrap_or_else(|| {
        panic!("redis-benchmark: {text} {}", String::from_utf8_lossy(&output.stderr))
    })
}
