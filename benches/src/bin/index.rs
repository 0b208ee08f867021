//! The packed index beside `BTreeMap` in 64 range shards and crossbeam-skiplist.
//!
//! Memory is only told by a fresh process: each measurement runs in one of its own.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::ops::{Bound, ControlFlow};
use std::time::Instant;

use sira_benches::args::Args;
use sira_benches::data::Random;
use sira_benches::order;
use sira_benches::report::{Report, Row};
use sira_store::embedded::index::{Index, Location};

const CONTENDERS: [&str; 3] = ["packed pages", "BTreeMap, 64 range shards", "crossbeam-skiplist"];
const FIGURES: [(&str, &str); 6] = [
    ("get", "ns"),
    ("get, 2 threads", "ns"),
    ("insert", "ns"),
    ("update, 2 threads", "ns"),
    ("scan of 100", "ns"),
    ("resident bytes a key, without the key", "B"),
];

fn main() {
    let args = Args::parse();
    match args.rest.first().map(String::as_str) {
        Some("one") => {
            let count = args.rest[2].parse().expect("a count");
            let keys = Keys::new(count);
            let figures = match args.rest[1].as_str() {
                "0" => measure(&Index::new(), &keys),
                "1" => measure(&Shards::new(&keys), &keys),
                _ => measure(&Skip(crossbeam_skiplist::SkipMap::new()), &keys),
            };
            println!("{}", serde_json::to_string(&figures).expect("figures encode"));
        }
        Some("open") => println!("{}", open(args.rest[1].parse().expect("a count"))),
        _ => compare(&args),
    }
}

fn compare(args: &Args) {
    let notes = [
        "keys `user:` and 16 hexadecimal digits of a random number behind a 4-byte namespace"
            .to_owned(),
        "resident bytes: what the process grew by while inserting, less the 25 bytes of each key"
            .to_owned(),
    ];
    let mut report = Report::new("Index in memory", &notes);
    for count in [1_000_000, 10_000_000] {
        let count = args.count(count, 10_000);
        let mut rows: Vec<Row> = FIGURES
            .iter()
            .map(|(name, unit)| {
                Row::new(&format!("{count} keys: {name}"), unit, false, &CONTENDERS)
            })
            .collect();
        if !args.wants(&count.to_string()) {
            continue;
        }
        for round in 0..args.rounds {
            for at in order(CONTENDERS.len(), round) {
                let figures: [f64; 6] = child(&["one", &at.to_string(), &count.to_string()]);
                rows.iter_mut().zip(figures).for_each(|(row, figure)| row.add(at, figure));
            }
        }
        eprintln!("{count} keys done");
        report.rows.extend(rows);
    }
    report.finish(args.json.as_deref());

    let count = args.count(10_000_000, 10_000);
    let notes =
        ["from its checkpoint, the log's tail empty; pages of the file in the page cache"
            .to_owned()];
    let mut opening = Report::new("Opening the embedded engine", &notes);
    let mut row = Row::new(&format!("{count} keys"), "s", false, &["sira"]);
    if args.wants("open") {
        for _ in 0..args.rounds.min(3) {
            row.add(0, child(&["open", &count.to_string()]));
        }
        opening.rows.push(row);
        let json = args.json.as_ref().map(|path| path.with_file_name("open.json"));
        opening.finish(json.as_deref());
    }
}

/// What this program prints when it runs with these words.
fn child<T: serde::de::DeserializeOwned>(words: &[&str]) -> T {
    let program = std::env::current_exe().expect("the program's own path");
    let output = std::process::Command::new(program).args(words).output().expect("a process");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("figures")
}

/// Seconds of opening an engine with this many keys of 100 B each.
fn open(count: usize) -> f64 {
    use sira_store::embedded::{Engine, EngineOptions, WriteOptions};
    let folder = tempfile::tempdir().expect("a folder");
    let open = || Engine::open(folder.path(), EngineOptions::default()).expect("sira opens");
    let engine = open();
    let namespace = engine.namespace("bench").expect("a namespace");
    let keys = Keys::new(count);
    for n in 0..count {
        let key = &keys.get(n)[4..];
        engine.put(namespace, key, &[n as u8; 100], WriteOptions::default()).expect("a write");
    }
    engine.close().expect("the engine closes");
    drop(engine);
    let start = Instant::now();
    let engine = open();
    let seconds = start.elapsed().as_secs_f64();
    assert_eq!(engine.count(namespace), count as u64);
    for n in (0..count).step_by(count / 1000) {
        let found = engine.get(namespace, &keys.get(n)[4..]).expect("a read");
        assert_eq!(&*found.expect("the key is there").value, &[n as u8; 100]);
    }
    seconds
}

fn location(n: usize) -> Location {
    Location { segment: n as u32, offset: (n >> 3) as u32, item: 48, size: 100, expiry: 0 }
}

/// One ordered map under test.
trait Map: Sync {
    fn get(&self, key: &[u8]) -> Option<Location>;
    fn insert(&self, key: &[u8], location: Location);
    /// Visits up to `limit` entries from `from` on; a sum over them.
    fn scan(&self, from: &[u8], limit: usize) -> u64;
}

impl Map for Index {
    fn get(&self, key: &[u8]) -> Option<Location> {
        Index::get(self, key)
    }

    fn insert(&self, key: &[u8], location: Location) {
        Index::insert(self, key, location).expect("there is memory");
    }

    fn scan(&self, from: &[u8], limit: usize) -> u64 {
        let (mut sum, mut left) = (0, limit);
        Index::scan(self, Bound::Included(from), &mut |key, location| {
            sum += key.len() as u64 + u64::from(location.segment);
            left -= 1;
            if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        sum
    }
}

/// Maps over ranges of keys, a lock each.
struct Shards {
    fences: Vec<Vec<u8>>,
    maps: Vec<parking_lot::RwLock<BTreeMap<Box<[u8]>, Location>>>,
}

impl Shards {
    fn new(keys: &Keys) -> Self {
        let mut sample: Vec<_> = (0..6400.min(keys.len())).map(|n| keys.get(n).to_vec()).collect();
        sample.sort();
        let fences = (1..64).map(|n| sample[n * sample.len() / 64].clone()).collect();
        Self { fences, maps: (0..64).map(|_| Default::default()).collect() }
    }

    fn at(&self, key: &[u8]) -> usize {
        self.fences.partition_point(|fence| fence.as_slice() <= key)
    }
}

impl Map for Shards {
    fn get(&self, key: &[u8]) -> Option<Location> {
        self.maps[self.at(key)].read().get(key).copied()
    }

    fn insert(&self, key: &[u8], location: Location) {
        let mut map = self.maps[self.at(key)].write();
        match map.get_mut(key) {
            Some(old) => *old = location,
            None => drop(map.insert(key.into(), location)),
        }
    }

    fn scan(&self, from: &[u8], limit: usize) -> u64 {
        let (mut sum, mut left) = (0, limit);
        for map in &self.maps[self.at(from)..] {
            let map = map.read();
            for (key, location) in map.range::<[u8], _>((Bound::Included(from), Bound::Unbounded)) {
                sum += key.len() as u64 + u64::from(location.segment);
                left -= 1;
                if left == 0 {
                    return sum;
                }
            }
        }
        sum
    }
}

struct Skip(crossbeam_skiplist::SkipMap<Box<[u8]>, Location>);

impl Map for Skip {
    fn get(&self, key: &[u8]) -> Option<Location> {
        self.0.get(key).map(|entry| *entry.value())
    }

    fn insert(&self, key: &[u8], location: Location) {
        self.0.insert(key.into(), location);
    }

    fn scan(&self, from: &[u8], limit: usize) -> u64 {
        let range = self.0.range::<[u8], _>((Bound::Included(from), Bound::Unbounded));
        range
            .take(limit)
            .map(|entry| entry.key().len() as u64 + u64::from(entry.value().segment))
            .sum()
    }
}

/// Keys in the order in which they are inserted.
struct Keys(Vec<[u8; 25]>);

impl Keys {
    fn new(count: usize) -> Self {
        let mut random = Random(42);
        let key = |_| {
            let mut key = [0; 25];
            key[..4].copy_from_slice(&1_u32.to_be_bytes());
            key[4..].copy_from_slice(format!("user:{:016x}", random.next_u64()).as_bytes());
            key
        };
        Self((0..count).map(key).collect())
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn get(&self, n: usize) -> &[u8] {
        &self.0[n]
    }
}

fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).expect("pages") * 4096
}

fn measure(map: &dyn Map, keys: &Keys) -> [f64; 6] {
    let count = keys.len();
    let per = |start: Instant, count: usize| start.elapsed().as_nanos() as f64 / count as f64;
    let before = resident();
    let start = Instant::now();
    for n in 0..count {
        map.insert(keys.get(n), location(n));
    }
    let insert = per(start, count);
    let bytes = (resident() - before) as f64 / count as f64 - 25.0;
    let operations = count.min(1_000_000);
    let run = |seed: u64, task: &(dyn Fn(usize) + Sync)| {
        let mut random = Random(seed);
        let start = Instant::now();
        for _ in 0..operations {
            task(random.below(count as u64) as usize);
        }
        per(start, operations)
    };
    let both = |task: &(dyn Fn(usize) + Sync)| {
        std::thread::scope(|scope| {
            let threads = [8, 9].map(|seed| scope.spawn(move || run(seed, task)));
            threads.map(|thread| thread.join().expect("the thread ends")).iter().sum::<f64>() / 2.0
        })
    };
    let get = |n: usize| {
        let found = map.get(black_box(keys.get(n))).expect("the key is there");
        assert_eq!(found.segment, n as u32);
    };
    let one = run(7, &get);
    let two = both(&get);
    let update = both(&|n| map.insert(keys.get(n), location(n)));
    let mut random = Random(11);
    let scans = operations / 20;
    let start = Instant::now();
    for _ in 0..scans {
        black_box(map.scan(keys.get(random.below(count as u64) as usize), 100));
    }
    [one, two, insert, update, per(start, scans), bytes]
}
