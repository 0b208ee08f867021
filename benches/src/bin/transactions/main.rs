//! Transactions of the embedded engine beside those of fjall and redb: five keys of 100,000 are read,
//! changed and written as one step, without and with an fsync for each.

mod stores;

use sira_benches::args::Args;
use sira_benches::data::Random;
use sira_benches::report::{Report, Row};
use sira_benches::{order, timed_threads};
use stores::Store;

/// Keys that transactions choose from, and how many one of them changes.
const KEYS: u32 = 100_000;
const CHANGED: usize = 5;

/// What a key holds: a count, and bytes that stay.
const VALUE_BYTES: usize = 100;

fn main() {
    let args = Args::parse();
    let mut stores = stores::all();
    if let Some(only) = args.option("--stores") {
        stores.retain(|(name, _)| only.split(',').any(|wanted| wanted == *name));
    }
    let names: Vec<&str> = stores.iter().map(|(name, _)| *name).collect();
    let mut report = Report::new("Transactions of 5 keys, read and written", &stores::notes());
    for (sync, full) in [(false, 40_000), (true, 1_000)] {
        for threads in [1, 2, 4] {
            let durability = if sync { "an fsync each" } else { "no fsync" };
            let with = if threads == 1 { "thread" } else { "threads" };
            let name = format!("{threads} {with}, {durability}");
            if !args.wants(&name) {
                continue;
            }
            let count = args.count(full, 20);
            let mut row = Row::new(&name, "k transactions/s", true, &names);
            for round in 0..args.rounds {
                for at in order(stores.len(), round) {
                    let folder = args.folder();
                    let store = stores[at].1(folder.path(), sync);
                    row.add(at, run(&*store, count, threads));
                }
            }
            eprintln!("{name} done");
            report.rows.push(row);
        }
    }
    report.finish(args.json.as_deref());
}

/// Thousands of transactions a second; afterwards the counts must sum up to what was done.
fn run(store: &dyn Store, count: usize, threads: usize) -> f64 {
    store.fill(KEYS);
    let share = count.div_ceil(threads);
    let time = timed_threads(threads, |thread| {
        let mut random = Random(thread as u64 + 1);
        let chosen = (0..share).map(|_| {
            let mut ids = [0; CHANGED];
            for at in 0..CHANGED {
                ids[at] = loop {
                    let id = random.below(u64::from(KEYS)) as u32;
                    if !ids[..at].contains(&id) {
                        break id;
                    }
                };
            }
            ids
        });
        store.count_up(&mut chosen.into_iter());
    });
    let done = share * threads;
    assert_eq!(store.sum(KEYS), (done * CHANGED) as u64, "a transaction was lost or made twice");
    done as f64 / time.as_secs_f64() / 1e3
}

/// The value of a key that was counted up so often.
fn value(count: u64) -> [u8; VALUE_BYTES] {
    let mut value = [b'.'; VALUE_BYTES];
    value[..8].copy_from_slice(&count.to_le_bytes());
    value
}

/// How often a key was counted up.
fn count_of(value: &[u8]) -> u64 {
    assert_eq!(value.len(), VALUE_BYTES);
    u64::from_le_bytes(value[..8].try_into().expect("eight bytes"))
}
