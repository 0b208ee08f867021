//! bench: what it reports, and that it cleans up.

use crate::support::{Server, run, sira};

fn check(records: &[serde_json::Value], operations: &[&str]) {
    assert_eq!(records.len(), 1, "{records:?}");
    let record = &records[0];
    assert_eq!((&record["verb"], &record["runs"]), (&"bench".into(), &2.into()));
    let found: Vec<&str> = record["operations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|operation| {
            assert!(operation["count"].as_u64().unwrap() > 0, "{operation}");
            assert!(operation["per_second"].as_f64().unwrap() > 0.0, "{operation}");
            let us = |name: &str| operation[name].as_f64().unwrap();
            assert!(us("p50_us") <= us("p95_us") && us("p95_us") <= us("p99_us"), "{operation}");
            assert!(us("p99_us") <= us("max_us"), "{operation}");
            operation["operation"].as_str().unwrap()
        })
        .collect();
    assert_eq!(found, operations);
}

const SHORT: [&str; 13] = [
    "bench",
    "--json",
    "--keys",
    "100",
    "--duration",
    "100ms",
    "--runs",
    "2",
    "--clients",
    "4",
    "--mix",
    "get=60,put=30,delete=10",
    "--value-size=300",
];
const ALL: [&str; 4] = ["get", "put", "delete", "all"];

#[test]
fn on_a_folder() {
    let root = tempfile::tempdir().unwrap();
    let ran = run(sira().args(SHORT).args(["--pipeline", "4", "--root"]).arg(root.path())).exits(0);
    check(&ran.json(), &ALL);
    let ls = run(sira().args(["ls", "-r", "sira://sira-bench", "--root"]).arg(root.path()));
    assert_eq!(ls.exits(0).text(), "");
}

#[test]
fn against_a_server_over_http() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    let ran = run(sira().args(SHORT).args(["--server", &server.http])).exits(0);
    check(&ran.json(), &ALL);
    let ran = run(sira().args(SHORT).args(["--durability", "none", "--server", &server.http]));
    check(&ran.exits(0).json(), &ALL);
    let ls = run(sira().args(["ls", "-r", "sira://sira-bench", "--server", &server.http]));
    assert_eq!(ls.exits(0).text(), "");
}

#[test]
fn against_a_server_over_resp() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    let ran = run(sira().args(SHORT).args(["--pipeline", "16", "--resp", &server.resp])).exits(0);
    check(&ran.json(), &ALL);
    let ls = run(sira().args(["ls", "-r", "sira://db0", "--server", &server.http])).exits(0);
    assert_eq!(ls.text(), "");
}

#[test]
fn text_and_refusals() {
    let root = tempfile::tempdir().unwrap();
    let ran = run(sira()
        .args(["bench", "--keys", "10", "--duration", "20ms", "--runs", "1", "--mix", "put=1"])
        .arg("--root")
        .arg(root.path()))
    .exits(0);
    assert!(ran.text().contains("p99") && ran.text().contains("put"), "{}", ran.text());
    run(sira().args(["bench", "--server", "http://127.0.0.1:1"])).exits(5);
    run(sira().args(["bench", "--resp", "x:1", "--root", "x"])).exits(2);
    run(sira().args(["bench", "--mix", "get=0"])).exits(2);
}
