//! The log beside okaywal and raft-engine: eight producers, every append on the medium before its
//! producer goes on.

use std::collections::HashSet;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use okaywal::{Entry, EntryId, LogManager, SegmentReader, WriteAheadLog};
use parking_lot::Mutex;
use raft_engine::{Config, LogBatch};
use sira_benches::args::Args;
use sira_benches::data::Values;
use sira_benches::report::{Report, Row};
use sira_benches::{order, timed_threads};
use sira_log::ContentKind;
use sira_log::disk::OsDisk;
use sira_log::env::SystemEnv;
use sira_log::log::{Found, SEGMENT_START, SegmentLog, SegmentLogOptions};

const SIZES: [(&str, usize, usize); 3] =
    [("100 B", 100, 64_000), ("4 KiB", 4096, 32_000), ("64 KiB", 64 << 10, 6_400)];

fn main() {
    let args = Args::parse();
    let threads = args.option("--producers").map_or(8, |n| n.parse().expect("a number"));
    let contenders: [(&str, fn(&Path, &Values, usize, usize) -> Duration); 3] =
        [("sira-log", sira), ("okaywal", okay), ("raft-engine", raft)];
    let names: Vec<&str> = contenders.iter().map(|(name, _)| *name).collect();
    let notes = [
        format!("{threads} producers, each append fsynced before the next of its producer"),
        "everything is read back after opening the log again".to_owned(),
        "sira-log: `SegmentLogOptions { write_reserve: true, .. }`; okaywal: defaults; raft-engine: \
         defaults with `prefill_for_recycle` and no compression"
            .to_owned(),
    ];
    let mut report = Report::new("Log: append and fsync", &notes);
    for (name, size, count) in SIZES {
        if !args.wants(name) {
            continue;
        }
        let values = Values::new(size);
        let each = args.count(count, 80) / threads;
        let mut row = Row::new(&format!("{name} append + fsync"), "k ops/s", true, &names);
        for round in 0..args.rounds {
            for at in order(contenders.len(), round) {
                let folder = args.folder();
                let took = contenders[at].1(folder.path(), &values, threads, each);
                row.add(at, (threads * each) as f64 / took.as_secs_f64() / 1e3);
            }
        }
        eprintln!("{name} done");
        report.rows.push(row);
    }
    report.finish(args.json.as_deref());
}

/// Number of the entry that a producer writes as its nth.
fn id(thread: usize, n: usize) -> u32 {
    (n * 64 + thread) as u32
}

/// Notes an entry that was read back; its first bytes are its number.
fn seen(found: &mut HashSet<u32>, values: &Values, entry: &[u8]) {
    let id = u32::from_le_bytes(*entry.first_chunk().expect("a number"));
    values.check(id, &entry[4..]);
    assert!(found.insert(id), "entry {id} is there twice");
}

fn entry(values: &Values, id: u32) -> Vec<u8> {
    [&id.to_le_bytes(), values.of(id)].concat()
}

fn sira(path: &Path, values: &Values, threads: usize, each: usize) -> Duration {
    let options = SegmentLogOptions { write_reserve: true, ..SegmentLogOptions::default() };
    let open = || {
        let (disk, env) = (Arc::new(OsDisk), Arc::new(SystemEnv));
        SegmentLog::open(disk, env, path, options.clone()).expect("the log opens").0
    };
    let log = open();
    let took = timed_threads(threads, |thread| {
        for n in 0..each {
            let bytes = entry(values, id(thread, n));
            let entry = sira_log::log::Entry {
                kind: ContentKind::Binary as u8,
                flags: 0,
                time: 0,
                count: 1,
                head: &[],
                data: &bytes,
                align: 1,
                data_crc: None,
            };
            let appended = log.append(&entry).expect("an append");
            log.wait_durable(appended.ticket).expect("a sync");
        }
    });
    eprintln!("sira-log: {} syncs for {} appends", log.sync_count(), threads * each);
    drop(log);
    let mut found = HashSet::new();
    for segment in open().segments() {
        let bytes = segment.read_used().expect("a segment");
        let scanner = segment.scanner(&bytes);
        let mut offset = SEGMENT_START;
        while let Found::Record(record) = scanner.at(offset, None) {
            seen(&mut found, values, record.data());
            offset = record.end();
        }
    }
    assert_eq!(found.len(), threads * each, "entries were lost");
    took
}

/// Keeps what okaywal has, the whole life of the log long.
#[derive(Debug, Default, Clone)]
struct Keep {
    entries: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl LogManager for Keep {
    fn recover(&mut self, entry: &mut Entry<'_>) -> io::Result<()> {
        if let Some(chunks) = entry.read_all_chunks()? {
            self.entries.lock().extend(chunks);
        }
        Ok(())
    }

    fn checkpoint_to(
        &mut self,
        _last: EntryId,
        entries: &mut SegmentReader,
        _log: &WriteAheadLog,
    ) -> io::Result<()> {
        while let Some(mut entry) = entries.read_entry()? {
            while let okaywal::ReadChunkResult::Chunk(mut chunk) = entry.read_chunk()? {
                let mut bytes = Vec::new();
                chunk.read_to_end(&mut bytes)?;
                self.entries.lock().push(bytes);
            }
        }
        Ok(())
    }
}

fn okay(path: &Path, values: &Values, threads: usize, each: usize) -> Duration {
    let keep = Keep::default();
    let log = WriteAheadLog::recover(path, keep.clone()).expect("okaywal opens");
    let took = timed_threads(threads, |thread| {
        for n in 0..each {
            let bytes = entry(values, id(thread, n));
            let mut writer = log.begin_entry().expect("an entry");
            writer.write_chunk(&bytes).expect("an append");
            writer.commit().expect("a sync");
        }
    });
    log.shutdown().expect("okaywal stops");
    let log = WriteAheadLog::recover(path, keep.clone()).expect("okaywal opens");
    log.shutdown().expect("okaywal stops");
    let mut found = HashSet::new();
    for entry in &*keep.entries.lock() {
        seen(&mut found, values, entry);
    }
    assert_eq!(found.len(), threads * each, "entries were lost");
    took
}

fn raft(path: &Path, values: &Values, threads: usize, each: usize) -> Duration {
    let config = Config {
        dir: path.to_string_lossy().into_owned(),
        batch_compression_threshold: raft_engine::ReadableSize::kb(0),
        prefill_for_recycle: true,
        prefill_limit: Some(raft_engine::ReadableSize::mb(256)),
        ..Config::default()
    };
    let log = raft_engine::Engine::open(config.clone()).expect("raft-engine opens");
    let took = timed_threads(threads, |thread| {
        for n in 0..each {
            let id = id(thread, n);
            let mut batch = LogBatch::with_capacity(1);
            batch
                .put(thread as u64 + 1, id.to_le_bytes().to_vec(), entry(values, id))
                .expect("an entry");
            log.write(&mut batch, true).expect("an append and a sync");
        }
    });
    drop(log);
    let log = raft_engine::Engine::open(config).expect("raft-engine opens");
    let mut found = HashSet::new();
    for thread in 0..threads {
        for n in 0..each {
            let entry = log.get(thread as u64 + 1, &id(thread, n).to_le_bytes());
            seen(&mut found, values, &entry.expect("the entry is there"));
        }
    }
    took
}
