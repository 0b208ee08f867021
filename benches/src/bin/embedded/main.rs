//! The embedded engine beside fjall, redb and RocksDB: random writes and random reads, one thread
//! and two, without and with an fsync for every write.

mod stores;

use sira_benches::args::Args;
use sira_benches::data::{Values, shuffled};
use sira_benches::report::{Report, Row};
use sira_benches::{order, timed_threads};

/// Name of the size, bytes of a value, writes without fsync, writes with.
const SIZES: [(&str, usize, usize, usize); 4] = [
    ("100 B", 100, 400_000, 1_000),
    ("1 KiB", 1 << 10, 200_000, 1_000),
    ("64 KiB", 64 << 10, 6_000, 300),
    ("1 MiB", 1 << 20, 500, 60),
];

fn main() {
    let args = Args::parse();
    let mut engines = stores::all();
    if let Some(only) = args.option("--engines") {
        engines.retain(|(name, _)| only.split(',').any(|wanted| wanted == *name));
    }
    let names: Vec<&str> = engines.iter().map(|(name, _)| *name).collect();
    let mut free = Report::new("Embedded engines, no fsync for each write", &stores::notes());
    let mut synced = Report::new("Embedded engines, an fsync for each write", &stores::notes());
    for (name, size, plain_count, sync_count) in SIZES {
        let values = Values::new(size);
        for threads in [1, 2] {
            let with = if threads == 1 { "1 thread" } else { "2 threads" };
            let row = format!("{name}, {with}");
            if args.wants(&format!("{row}, no fsync")) {
                let count = args.count(plain_count, 50);
                let mut write = row_of(&format!("{row}: write"), size, &names);
                let mut read = row_of(&format!("{row}: read"), size, &names);
                for round in 0..args.rounds {
                    for at in order(engines.len(), round) {
                        let seconds = run(&args, engines[at].1, &values, count, threads, false);
                        write.add(at, rate(size, count, seconds.0));
                        read.add(at, rate(size, count, seconds.1));
                    }
                }
                eprintln!("{} done", row);
                free.rows.extend([write, read]);
            }
            if args.wants(&format!("{row}, fsync")) {
                let count = args.count(sync_count, 20);
                let mut write = row_of(&format!("{row}: write"), size, &names);
                for round in 0..args.rounds {
                    for at in order(engines.len(), round) {
                        let seconds = run(&args, engines[at].1, &values, count, threads, true);
                        write.add(at, rate(size, count, seconds.0));
                    }
                }
                eprintln!("{} with fsync done", row);
                synced.rows.push(write);
            }
        }
    }
    for (report, suffix) in [(&free, ""), (&synced, "-fsync")] {
        if !report.rows.is_empty() {
            let json = args.json.as_ref().map(|path| {
                let stem = path.file_stem().unwrap_or_default().to_string_lossy();
                path.with_file_name(format!("{stem}{suffix}.json"))
            });
            report.finish(json.as_deref());
        }
    }
}

fn row_of(name: &str, size: usize, engines: &[&str]) -> Row {
    Row::new(name, if size >= 64 << 10 { "MB/s" } else { "k ops/s" }, true, engines)
}

fn rate(size: usize, count: usize, seconds: f64) -> f64 {
    if size >= 64 << 10 {
        (size * count) as f64 / seconds / 1e6
    } else {
        count as f64 / seconds / 1e3
    }
}

/// Seconds of writing all values into a new store, and of reading them in another order.
fn run(
    args: &Args,
    open: stores::Open,
    values: &Values,
    count: usize,
    threads: usize,
    sync: bool,
) -> (f64, f64) {
    let folder = args.folder();
    let store = open(folder.path(), values.size(), sync);
    let ids = shuffled(count, 1);
    let share = count.div_ceil(threads);
    let write = timed_threads(threads, |thread| {
        store.write(ids.chunks(share).nth(thread).unwrap_or_default(), values, sync);
    });
    let reads = shuffled(count, 2);
    let read = timed_threads(threads, |thread| {
        let ids = reads.chunks(share).nth(thread).unwrap_or_default();
        store.read(ids, &mut |id, value| values.check_quickly(id, value));
    });
    store.read(&reads, &mut |id, value| values.check(id, value));
    (write.as_secs_f64(), read.as_secs_f64())
}
