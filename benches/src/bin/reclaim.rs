//! What reclaiming space does to latency: the same load with reclaim off and on, interleaved.

use std::time::{Duration, Instant};

use sira_benches::args::Args;
use sira_benches::data::{Random, Values, key, shuffled};
use sira_benches::order;
use sira_benches::report::{Report, Row};
use sira_store::embedded::{Engine, EngineOptions, WriteOptions};

const RATE: u32 = 20_000;
const FIGURES: [&str; 6] =
    ["read p50", "read p99", "read p99.9", "write p50", "write p99", "write p99.9"];

fn main() {
    let args = Args::parse();
    let keys = args.count(200_000, 20_000);
    let seconds = args.option("--seconds").map_or(10, |n| n.parse().expect("a number"));
    let notes = [
        format!(
            "{keys} keys of 1 KiB in segments of 16 MiB, {RATE} operations a second for {seconds} s \
             from one thread, half of them writes, latency from the intended start"
        ),
        "reclaim on: `EngineOptions::default()` but for the segments; off: `reclaim_dead_ratio` 1"
            .to_owned(),
    ];
    let mut report = Report::new("Latency while space is reclaimed", &notes);
    let mut rows: Vec<Row> =
        FIGURES.iter().map(|name| Row::new(name, "us", false, &["reclaiming", "calm"])).collect();
    let mut removed = Vec::new();
    for round in 0..args.rounds {
        for at in order(2, round) {
            let (figures, gone) = run(&args, keys, Duration::from_secs(seconds), at == 0);
            rows.iter_mut().zip(figures).for_each(|(row, figure)| row.add(at, figure));
            if at == 0 {
                assert!(gone > 0, "nothing was reclaimed");
                removed.push(gone);
            }
        }
    }
    report.notes.push(format!("MiB given back in each round: {removed:?}"));
    report.rows = rows;
    report.finish(args.json.as_deref());
}

/// Latencies in microseconds, and MiB that reclaiming gave back meanwhile.
fn run(args: &Args, keys: usize, length: Duration, reclaim: bool) -> ([f64; 6], u64) {
    let folder = args.folder();
    let defaults = EngineOptions::default();
    let options = EngineOptions {
        segment_bytes: 16 << 20,
        reclaim_dead_ratio: if reclaim { defaults.reclaim_dead_ratio } else { 1.0 },
        ..defaults
    };
    let engine = Engine::open(folder.path(), options).expect("sira opens");
    let namespace = engine.namespace("bench").expect("a namespace");
    let values = Values::new(1 << 10);
    let put = |id: u32| {
        engine.put(namespace, &key(id), values.of(id), WriteOptions::default()).expect("a write");
    };
    // Old segments end up just below the share of dead bytes from which they are rewritten.
    shuffled(keys, 1).into_iter().for_each(put);
    shuffled(keys, 2).into_iter().take(keys * 45 / 100).for_each(put);
    engine.flush().expect("a sync");

    let mut random = Random(3);
    let mut latencies = [Vec::new(), Vec::new()];
    let mut written = 0;
    let used_before = engine.stats().used_bytes;
    let start = Instant::now();
    for n in 0.. {
        let due = Duration::from_secs(1) * n / RATE;
        if due > length {
            break;
        }
        while let Some(left) = due.checked_sub(start.elapsed()) {
            if left > Duration::from_micros(200) {
                std::thread::sleep(left - Duration::from_micros(100));
            } else {
                std::hint::spin_loop();
            }
        }
        let id = random.below(keys as u64) as u32;
        let write = random.next_u64() % 2;
        if write == 1 {
            put(id);
            written += 1;
        } else {
            let found = engine.get(namespace, &key(id)).expect("a read");
            values.check_quickly(id, &found.expect("the key is there").value);
        }
        latencies[write as usize].push((start.elapsed() - due).as_secs_f64() * 1e6);
    }
    let used = engine.stats().used_bytes;
    let gone = (used_before + written * (1 << 10)).saturating_sub(used) >> 20;
    for id in 0..keys as u32 {
        let found = engine.get(namespace, &key(id)).expect("a read");
        values.check(id, &found.expect("the key is there").value);
    }
    let [mut reads, mut writes] = latencies;
    let at = |figures: &mut Vec<f64>, share: f64| {
        figures.sort_by(f64::total_cmp);
        figures[((figures.len() - 1) as f64 * share) as usize]
    };
    let figures = [
        at(&mut reads, 0.5),
        at(&mut reads, 0.99),
        at(&mut reads, 0.999),
        at(&mut writes, 0.5),
        at(&mut writes, 0.99),
        at(&mut writes, 0.999),
    ];
    (figures, gone)
}
