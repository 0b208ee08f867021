//! Backups by the real binary: on folders, by a server, and killed half way.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use sira_log::env::{Env, SystemEnv};

use crate::support::{Server, http, noise, run, sira};

fn on(root: &Path, target: &Path, args: &[&str]) -> Command {
    let mut command = sira();
    command.args(args).arg("--root").arg(root).arg("--target").arg(target).arg("--json");
    command
}

fn put(root: &Path, key: &str, value: &[u8]) {
    let mut command = sira();
    command.args(["put", key, "--root"]).arg(root);
    crate::support::run_with_input(&mut command, value).exits(0);
}

fn get(root: &Path, key: &str) -> Vec<u8> {
    let mut command = sira();
    run(command.args(["get", key, "--root"]).arg(root)).exits(0).stdout
}

#[test]
fn folders_are_saved_and_restored() {
    let dir = tempfile::tempdir().unwrap();
    let (root, other, target) =
        (dir.path().join("root"), dir.path().join("other"), dir.path().join("target"));
    let large = noise(3 << 20, 1);
    put(&root, "large", &large);
    put(&root, "small", b"v1");
    let missing = run(&mut on(&root, &target, &["backup", "verify"]));
    assert_eq!(missing.exits(3).error()["code"], "not_found");

    let report = run(&mut on(&root, &target, &["backup", "run"])).exits(0).json().remove(0);
    assert_eq!(report["report"]["objects"], 2);
    put(&root, "small", b"v2");
    let report = run(&mut on(&root, &target, &["backup", "run"])).exits(0).json().remove(0);
    assert_eq!((&report["report"]["objects"], &report["report"]["read"]), (&2.into(), &1.into()));
    let listed = run(&mut on(&root, &target, &["backup", "ls"])).exits(0).json();
    assert_eq!(listed.len(), 2);
    assert_eq!(listed[0]["namespaces"]["default"], true);
    run(&mut on(&root, &target, &["backup", "verify", "--full"])).exits(0);
    run(&mut on(&root, &target, &["backup", "drill"])).exits(0);

    let first = listed[0]["id"].as_str().unwrap();
    run(&mut on(&other, &target, &["restore", first])).exits(0);
    assert_eq!((get(&other, "small"), get(&other, "large")), (b"v1".to_vec(), large));
    let refused = run(&mut on(&other, &target, &["restore"])).exits(4);
    assert!(refused.stderr.contains("default/small"), "{}", refused.stderr);
    run(&mut on(&other, &target, &["restore", "--overwrite"])).exits(0);
    assert_eq!(get(&other, "small"), b"v2");

    let pruned = run(&mut on(&root, &target, &["backup", "prune", "--remove", first]));
    assert_eq!(pruned.exits(0).json()[0]["report"]["removed"][0], first);
    run(&mut on(&root, &target, &["backup", "verify", "--full"])).exits(0);
}

#[test]
fn a_run_and_a_restore_that_are_killed_harm_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (root, other, target) =
        (dir.path().join("root"), dir.path().join("other"), dir.path().join("target"));
    let values: Vec<Vec<u8>> = (0..24).map(|seed| noise(2 << 20, seed)).collect();
    for (number, value) in values.iter().enumerate() {
        put(&root, &format!("k{number}"), value);
    }
    let kill_after = |mut command: Command, ms: u64| {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        SystemEnv.sleep(Duration::from_millis(ms));
        let _ = child.kill();
        child.wait().unwrap();
    };
    for ms in [30, 80, 150, 250, 400] {
        kill_after(on(&root, &target, &["backup", "run"]), ms);
    }
    run(&mut on(&root, &target, &["backup", "run"])).exits(0);
    run(&mut on(&root, &target, &["backup", "prune"])).exits(0);
    run(&mut on(&root, &target, &["backup", "verify", "--full"])).exits(0);
    for ms in [30, 80, 150, 250, 400] {
        kill_after(on(&other, &target, &["restore"]), ms);
    }
    run(&mut on(&other, &target, &["restore"])).exits(0);
    for (number, value) in values.iter().enumerate() {
        assert_eq!(&get(&other, &format!("k{number}")), value);
    }
}

#[test]
fn a_server_saves_by_its_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("sira.toml");
    let target = dir.path().join("target");
    let text = format!(
        "[storage.backup]\ntarget = {target:?}\nschedule = \"0 3 * * *\"\narchive_interval = \"1s\"\n\
         [storage.backup.retention]\nlast = 5\n"
    );
    std::fs::write(&config, text).unwrap();
    let server = Server::start_with(&dir.path().join("root"), |command| {
        command.arg("--config").arg(&config);
    });
    let sira = |args: &[&str]| {
        let mut command = sira();
        command.args(args).args(["--json", "--server", &server.http]);
        command
    };
    let put = |value: &[u8]| {
        crate::support::run_with_input(&mut sira(&["put", "k"]), value).exits(0);
    };
    put(b"v1");
    // There is no snapshot yet, so one is due at once.
    let report = |args: &[&str]| -> Value { run(&mut sira(args)).exits(0).json().remove(0) };
    let made = report(&["backup", "run"]);
    assert_eq!(made["report"]["failed"].as_array().unwrap().len(), 0);
    put(b"v2");
    let (status, listed) = http(&server, "GET", "/backups", b"");
    assert_eq!(status, 200);
    let listed: Value = serde_json::from_slice(&listed).unwrap();
    let newest = listed["snapshots"].as_array().unwrap().last().unwrap().clone();
    let restored =
        report(&["restore", newest["id"].as_str().unwrap(), "--only", "default", "--to", "aside"]);
    assert_eq!(restored["report"]["failed"].as_array().unwrap().len(), 0);
    let (status, aside) = http(&server, "GET", "/v1/aside/k", b"");
    assert!(status == 200 && [&b"v1"[..], b"v2"].contains(&&aside[..]), "{status} {aside:?}");
    report(&["backup", "verify"]);
    report(&["backup", "drill"]);
    report(&["backup", "prune", "-n"]);
    let (_, metrics) = http(&server, "GET", "/metrics", b"");
    let metrics = String::from_utf8(metrics).unwrap();
    assert!(metrics.contains("sira_backup_last_success_timestamp_seconds"), "{metrics}");
    assert!(metrics.contains("sira_backup_runs_total{work=\"drill\",outcome=\"success\"} 1"));
    let (status, _) = http(&server, "DELETE", "/backups/jobs/1", b"");
    assert_eq!(status, 204);
    let (status, _) = http(&server, "GET", "/backups/jobs/99", b"");
    assert_eq!(status, 404);
}
