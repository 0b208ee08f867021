//! The process that moves objects, and is killed.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sira_store::migration::{Cursor, Migration, MigrationOptions};
use sira_store::{FilesystemBackend, StorageBackend};
use tokio::task::JoinSet;

use super::history::{Told, WRITERS, write_until};
use super::side::Side;

/// Environment of the process: where objects come from and go to, the folder of its cursor, seed and
/// number of keys of its writers, and whether it brings both sides level for the last time.
pub(super) const FROM: &str = "SIRA_TEST_MOVER_FROM";
pub(super) const TO: &str = "SIRA_TEST_MOVER_TO";
pub(super) const CURSOR: &str = "SIRA_TEST_MOVER_CURSOR";
pub(super) const WRITES: &str = "SIRA_TEST_MOVER_WRITES";
pub(super) const LAST: &str = "SIRA_TEST_MOVER_LAST";

/// Time between two lines about how far it is.
const TICK: Duration = Duration::from_millis(1);

/// Not a test, but what the proofs start: it does nothing unless it is told where to move what.
#[tokio::test(flavor = "multi_thread")]
async fn runs_in_a_process_of_its_own() {
    let Ok(from) = std::env::var(FROM) else { return };
    let var = |name| std::env::var(name).unwrap();
    // The harness leaves its first line open.
    println!();
    let source = Side::parse(&from).open().await;
    let target = Side::parse(&var(TO)).open().await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = JoinSet::new();
    if let Some((seed, objects)) = var(WRITES).split_once(':') {
        let (seed, objects) = (seed.parse().unwrap(), objects.parse().unwrap());
        for number in 0..WRITERS {
            let (source, stop) = (Arc::clone(&source), Arc::clone(&stop));
            let tell = |told: Told| println!("{told}");
            writers.spawn(write_until(source, number, objects, seed, stop, tell));
        }
    }
    let cursor: Arc<dyn StorageBackend> =
        Arc::new(FilesystemBackend::new(PathBuf::from(var(CURSOR))).unwrap());
    let options =
        MigrationOptions { remove_extraneous: !var(LAST).is_empty(), ..Default::default() };
    let migration = Migration::new(source, target, options).unwrap();
    let migration = migration.with_cursor(Cursor::new(cursor, "pass"));
    let run = migration.run();
    tokio::pin!(run);
    let report = loop {
        tokio::select! {
            report = &mut run => break report.unwrap(),
            () = tokio::time::sleep(TICK) => {
                let report = migration.progress().report;
                println!("passed {}", report.copied + report.skipped);
            }
        }
    };
    stop.store(true, Ordering::Relaxed);
    while let Some(writer) = writers.join_next().await {
        writer.unwrap();
    }
    let took = migration.progress().elapsed_s;
    println!(
        "finished {} looked at, {} copied in {took:.2} s, {:.0} a second",
        report.scanned,
        report.copied,
        report.scanned as f64 / took
    );
}
