//! Two engines are kept level while they are written, and the process that does it is killed again
//! and again.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sira_store::env::{Env, SeededRandom, SystemEnv};
use sira_store::migration::{
    Ledger, Replication, ReplicationMark, ReplicationOptions, SyncOptions, TwoWaySync,
};
use sira_store::{FilesystemBackend, StorageBackend, StorageOptions};
use tokio::task::JoinSet;

use super::history::{History, Told, WRITERS, key, value, write_until};
use super::side::Side;
use super::{everything, sum, sums};

/// Environment of the process: both sides, where it keeps what it remembers, whether it follows, and
/// seed and number of keys of its writers.
const FROM: &str = "SIRA_TEST_LEVEL_FROM";
const TO: &str = "SIRA_TEST_LEVEL_TO";
const STATE: &str = "SIRA_TEST_LEVEL_STATE";
const FOLLOWS: &str = "SIRA_TEST_LEVEL_FOLLOWS";
const WRITES: &str = "SIRA_TEST_LEVEL_WRITES";

const OBJECTS: u64 = 400;

const KILLS: u64 = 5;

/// Not a test, but what the proofs start: it does nothing unless it is told what to keep level.
#[tokio::test(flavor = "multi_thread")]
async fn runs_in_a_process_of_its_own() {
    let Ok(from) = std::env::var(FROM) else { return };
    let var = |name| std::env::var(name).unwrap();
    // The harness leaves its first line open.
    println!();
    let source = Side::parse(&from).open().await;
    let target = Side::parse(&var(TO)).open().await;
    let state: Arc<dyn StorageBackend> =
        Arc::new(FilesystemBackend::new(PathBuf::from(var(STATE))).unwrap());
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = JoinSet::new();
    let seed = var(WRITES).parse();
    if let Ok(seed) = seed {
        for number in 0..WRITERS {
            let (source, stop) = (Arc::clone(&source), Arc::clone(&stop));
            let tell = |told: Told| println!("{told}");
            writers.spawn(write_until(source, number, OBJECTS, seed, stop, tell));
        }
    }
    if var(FOLLOWS).is_empty() {
        let ledger = Ledger::new(state, "pair");
        let sync = TwoWaySync::new(source, target, ledger, SyncOptions::default()).unwrap();
        let running = tokio::spawn({
            let sync = sync.clone();
            async move { sync.run().await }
        });
        while !running.is_finished() {
            println!("passed");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        println!("finished {:?}", running.await.unwrap().unwrap());
        return;
    }
    let mark = ReplicationMark::new(state, "mark");
    let options = ReplicationOptions::default();
    let follower = Replication::new(source, target, mark, options).unwrap();
    let running = tokio::spawn({
        let follower = follower.clone();
        async move { follower.run().await }
    });
    // With writers it goes on until it is killed.
    while seed.is_ok() || follower.progress().lag_records != Some(0) {
        assert!(!running.is_finished(), "{:?}", running.await);
        println!("passed");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    follower.stop();
    running.await.unwrap().unwrap();
    println!("finished {:?}", follower.progress());
}

/// Starts the process, kills it after so many of its lines, and says what it told at its end.
fn run(
    (from, to): (&Side, &Side),
    folder: &Path,
    follows: bool,
    writes: Option<u64>,
    kill_after: Option<u64>,
    history: &History,
) -> Option<String> {
    let mut process = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "migration::level::runs_in_a_process_of_its_own", "--nocapture"])
        .env(FROM, from.to_string())
        .env(TO, to.to_string())
        .env(STATE, folder.join("state"))
        .env(FOLLOWS, if follows { "1" } else { "" })
        .env(WRITES, writes.map(|seed| seed.to_string()).unwrap_or_default())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut passed, mut finished) = (0, None);
    for line in BufReader::new(process.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        if line == "passed" {
            passed += 1;
            if kill_after.is_some_and(|after| passed >= after) {
                process.kill().unwrap();
            }
        } else if let Some(report) = line.strip_prefix("finished ") {
            finished = Some(report.to_owned());
        } else if let Some(told) = Told::parse(&line) {
            history.note(told);
        }
    }
    let status = process.wait().unwrap();
    if finished.is_none() {
        use std::os::unix::process::ExitStatusExt as _;
        assert_eq!(status.signal(), Some(9), "the process failed: {status}");
    }
    finished
}

async fn fill(side: &Side, random: &mut SeededRandom, history: &History) {
    let store = side.open().await;
    for number in 0..OBJECTS {
        let (key, value) = (key(number), value(random));
        let sum = sum(&value);
        let version = store.put(&key, value, StorageOptions::default()).await.unwrap();
        history.note(Told::Put { key, version, sum });
    }
}

/// Both sides hold the same, and that is what the writers were told.
async fn check(from: &Side, to: &Side, history: &History) {
    let source = everything(from.open().await).await;
    let target = everything(to.open().await).await;
    assert_eq!(source.len(), target.len());
    for (key, here) in &source {
        let there = target.get(key).unwrap_or_else(|| panic!("{key} is lost on the way"));
        assert!(here == there, "{key} is another object: {} and {}", here.0, there.0);
    }
    history.check(&sums(source));
}

/// A writer on each side, with keys of its own.
#[tokio::test(flavor = "multi_thread")]
async fn sqlite_and_redis_stay_level_while_both_are_written() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (Side::new("sqlite", folder.path()), Side::new("redis", folder.path()));
    let mut random = SeededRandom::new(SystemEnv.random_u64());
    let history = Arc::new(History::default());
    fill(&from, &mut random, &history).await;
    let sides = (&from, &to);
    run(sides, folder.path(), false, None, None, &history).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = JoinSet::new();
    for (number, side) in [(0, &from), (1, &to)] {
        let (history, stop) = (Arc::clone(&history), Arc::clone(&stop));
        let tell = move |told: Told| history.note(told);
        let store = side.open().await;
        writers.spawn(write_until(store, number, OBJECTS, random.next_u64(), stop, tell));
    }
    let mut kills = 0;
    while kills < KILLS {
        let after = Some(1 + random.below(60));
        kills += u64::from(run(sides, folder.path(), false, None, after, &history).is_none());
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(writer) = writers.join_next().await {
        writer.unwrap();
    }
    let report = run(sides, folder.path(), false, None, None, &history).unwrap();
    println!("{} writes, killed {kills} times; the last run: {report}", history.writes());
    check(&from, &to, &history).await;
    to.drop().await;
}

/// The writers are in the process that is killed, since only one may have the engine open.
async fn followed_by(engine: &str) {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (Side::new("embedded", folder.path()), Side::new(engine, folder.path()));
    let mut random = SeededRandom::new(SystemEnv.random_u64());
    let history = History::default();
    fill(&from, &mut random, &history).await;
    let sides = (&from, &to);
    for _ in 0..KILLS {
        let (seed, after) = (random.next_u64(), Some(1 + random.below(200)));
        let ended = run(sides, folder.path(), true, Some(seed), after, &history);
        assert_eq!(ended, None);
    }
    let report = run(sides, folder.path(), true, None, None, &history).unwrap();
    println!("{} writes, killed {KILLS} times; the last run: {report}", history.writes());
    check(&from, &to, &history).await;
    to.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn embedded_is_followed_by_sqlite() {
    followed_by("sqlite").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn embedded_is_followed_by_postgres() {
    followed_by("postgres").await;
}
