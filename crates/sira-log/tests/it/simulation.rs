//! Seeded simulation of the log: what was durable is found after every crash, and beyond it a
//! prefix of what was appended.

use std::fmt::Write;
use std::io;
use std::path::Path;
use std::sync::Arc;

use sira_log::LogError;
use sira_log::disk::{Disk, PowerLost, SimDisk, SimFaults};
use sira_log::env::{Env, SeededRandom, SimEnv};
use sira_log::log::{Entry, Found, OpenReport, SEGMENT_START, SegmentLog, SegmentLogOptions};

const SEEDS: u64 = 200;
const SESSIONS: u64 = 12;
const ROOT: &str = "/data/log";

/// What a record must read as.
#[derive(Debug, Clone, PartialEq)]
struct Written {
    sequence: u64,
    count: u32,
    kind: u8,
    head: Vec<u8>,
    data: Vec<u8>,
}

struct World {
    disk: SimDisk,
    env: Arc<SimEnv>,
    rng: SeededRandom,
    options: SegmentLogOptions,
    written: Vec<Written>,
    /// Records below this sequence are durable.
    durable: u64,
    /// A record whose append failed and that may be there.
    maybe: Option<Written>,
    /// Sequence below which records were removed.
    removed: u64,
    story: String,
    crashes: u64,
}

fn is_power_loss(error: &LogError) -> bool {
    let LogError::Io { source, .. } = error else { return false };
    source.get_ref().is_some_and(|inner| inner.is::<PowerLost>())
}

fn all(log: &SegmentLog) -> Result<Vec<Written>, LogError> {
    let mut records = Vec::new();
    for segment in log.segments() {
        let bytes = segment.read_used()?;
        let mut offset = SEGMENT_START;
        while let Found::Record(record) = segment.scanner(&bytes).at(offset, None) {
            records.push(Written {
                sequence: record.header.sequence,
                count: record.header.count,
                kind: record.header.kind,
                head: record.head().to_vec(),
                data: record.data().to_vec(),
            });
            offset = record.end();
        }
        assert_eq!(offset, segment.used(), "segment {} ends early", segment.id);
    }
    Ok(records)
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = SeededRandom::new(seed);
        let disk = SimDisk::new(rng.next_u64());
        disk.create_dir_all(Path::new("/data")).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        Self {
            disk,
            env: Arc::new(SimEnv::new(rng.next_u64(), 1_795_000_000_000)),
            options: SegmentLogOptions {
                segment_bytes: rng.pick(&[4 << 10, 16 << 10, 64 << 10]),
                reserve_bytes: rng.pick(&[0, 4 << 10, 16 << 10]),
                write_reserve: rng.chance(1, 2),
                background: false,
                ..SegmentLogOptions::default()
            },
            rng,
            written: Vec::new(),
            durable: 0,
            maybe: None,
            removed: 0,
            story: String::new(),
            crashes: 0,
        }
    }

    fn open(&self) -> Result<(SegmentLog, OpenReport), LogError> {
        let env: Arc<dyn Env> = Arc::clone(&self.env) as _;
        SegmentLog::open(Arc::new(self.disk.clone()), env, Path::new(ROOT), self.options.clone())
    }

    fn run(&mut self) {
        for session in 0..SESSIONS {
            let faults = SimFaults {
                power_loss_in: self.rng.chance(2, 3).then(|| {
                    let far = self.rng.pick(&[4, 30, 300]);
                    self.rng.below(far)
                }),
                sync_error_in: self.rng.chance(1, 6).then(|| self.rng.below(20)),
                write_error_in: self.rng.chance(1, 10).then(|| self.rng.below(40)),
                allocate_error_in: self.rng.chance(1, 10).then(|| self.rng.below(6)),
                capacity_bytes: None,
                writeback_one_in: self.rng.pick(&[0, 3, 20]),
            };
            let _ = writeln!(self.story, "session {session}: {faults:?}");
            self.disk.set_faults(faults);
            let clean = self.session(faults);
            self.disk.set_faults(SimFaults::default());
            self.env.advance_ms(self.rng.below(40 * 86_400_000));
            // A disk that is off, or whose page cache can no longer be trusted, starts anew.
            if self.disk.is_off() || self.rng.chance(1, 2) {
                let seed = self.rng.next_u64();
                let _ = writeln!(self.story, "power loss, clean {clean}");
                self.disk = self.disk.crash(seed);
                self.crashes += 1;
            } else {
                let _ = writeln!(self.story, "kill, clean {clean}");
                self.disk = self.disk.kill();
            }
        }
        self.disk.set_faults(SimFaults::default());
        let (log, report) = self.open().unwrap();
        self.check(&log, &report);
    }

    /// Opens, compares and appends until something fails or the session ends.
    fn session(&mut self, faults: SimFaults) -> bool {
        let (log, report) = match self.open() {
            Ok(opened) => opened,
            Err(error) => {
                let _ = writeln!(self.story, "open: {error}");
                assert!(self.is_explained(&error, faults), "open: {error:?}");
                return false;
            }
        };
        if self.disk.is_off() {
            return false;
        }
        self.check(&log, &report);
        for _ in 0..self.rng.below(120) {
            let step = self.step(&log);
            self.durable = self.durable.max(log.durable());
            match step {
                Ok(()) => {}
                Err(error) => {
                    let _ = writeln!(self.story, "failed: {error}");
                    assert!(self.is_explained(&error, faults), "{error:?}");
                    if !self.disk.is_off() {
                        assert!(all(&log).is_ok(), "reads go on after {error}");
                    }
                    if log.check_writable().is_err() || self.disk.is_off() {
                        return false;
                    }
                }
            }
        }
        if self.rng.chance(1, 3) && log.close().is_ok() {
            self.durable = log.appended();
            return true;
        }
        false
    }

    fn is_explained(&self, error: &LogError, faults: SimFaults) -> bool {
        let left = self.disk.faults();
        let struck = left.sync_error_in != faults.sync_error_in
            || left.write_error_in != faults.write_error_in
            || left.allocate_error_in != faults.allocate_error_in;
        is_power_loss(error)
            || self.disk.is_off()
            || (struck && matches!(error, LogError::Io { .. } | LogError::Poisoned { .. }))
    }

    fn step(&mut self, log: &SegmentLog) -> Result<(), LogError> {
        match self.rng.below(20) {
            0 => {
                let ticket = self.rng.below(log.appended() + 1);
                log.wait_durable(ticket)?;
                assert!(log.durable() >= ticket);
                Ok(())
            }
            1 => log.rotate(),
            3 => log.run_due_sync(),
            2 => {
                let sealed: Vec<_> = log.segments().into_iter().filter(|s| s.is_sealed()).collect();
                let Some(oldest) = sealed.first().filter(|_| self.rng.chance(1, 3)) else {
                    return Ok(());
                };
                let id = oldest.id;
                let next = log.segments()[1].first_sequence;
                // Removed or not: both may be found until the removal is durable.
                let _ = writeln!(self.story, "remove segment {id}, up to {next}");
                self.removed = self.removed.max(next);
                log.remove_segment(id)?;
                if self.rng.chance(1, 2) { log.remove_empty_months() } else { Ok(()) }
            }
            _ => self.append(log),
        }
    }

    fn append(&mut self, log: &SegmentLog) -> Result<(), LogError> {
        let len = match self.rng.below(12) {
            0 => 0,
            1..8 => self.rng.below(60),
            8..11 => self.rng.below(3_000),
            _ => self.rng.below(30_000),
        };
        let data = self.data(len as usize);
        let head = vec![7; self.rng.below(20) as usize];
        let (sequence, count) = (log.appended(), 1 + self.rng.below(3) as u32);
        let record = Written { sequence, count, kind: 5, head, data };
        let entry = Entry {
            kind: record.kind,
            flags: 0,
            time: 1,
            count,
            head: &[&record.head],
            data: &record.data,
            align: self.rng.pick(&[1, 1, 1, 512, 4096]),
            data_crc: None,
        };
        let _ = writeln!(self.story, "append {sequence}, {} bytes", record.data.len());
        match log.append(&entry) {
            Ok(appended) => {
                assert_eq!(appended.sequence, sequence);
                self.written.push(record);
                if self.rng.chance(1, 3) {
                    log.wait_durable(appended.ticket)?;
                    let _ = writeln!(self.story, "durable {}", appended.ticket);
                }
                Ok(())
            }
            Err(error) => {
                self.maybe = Some(record);
                Err(error)
            }
        }
    }

    /// Random bytes, zeros, or a piece of a file of the log.
    fn data(&mut self, len: usize) -> Vec<u8> {
        let files = self.disk.files();
        match self.rng.below(4) {
            0 => vec![0; len],
            1 if !files.is_empty() => {
                let (path, _) = &files[self.rng.below(files.len() as u64) as usize];
                let bytes = sira_log::disk::read_all(&self.disk, path).unwrap_or_default();
                let from = self.rng.below(bytes.len() as u64 / 4 + 1) as usize * 4;
                bytes[from..].iter().copied().take(len).collect()
            }
            _ => (0..len).map(|_| self.rng.below(256) as u8).collect(),
        }
    }

    fn check(&mut self, log: &SegmentLog, report: &OpenReport) {
        let _ = writeln!(self.story, "opened: {report:?}");
        assert_eq!(report.damage, [], "nothing was damaged");
        let found = all(log).unwrap();
        let mut expected: Vec<Written> = self.written.clone();
        expected.extend(self.maybe.take());
        let place =
            |found: &Written| expected.iter().position(|record| record.sequence == found.sequence);
        let Some(last) = found.last() else {
            assert!(self.durable <= self.removed, "nothing is found");
            self.written.retain(|record| record.sequence < log.appended());
            return;
        };
        let total = place(last).expect("a record that was never written") + 1;
        let kept = expected[..total].iter().filter(|record| record.sequence >= self.removed);
        let kept_found = found.iter().filter(|record| record.sequence >= self.removed);
        assert_eq!(kept.count(), kept_found.count(), "records are missing");
        for found in &found {
            let expected = &expected[place(found).expect("a record that was never written")];
            let what = format!("record {} is not what was written", found.sequence);
            let fields = |record: &Written| (record.sequence, record.count, record.kind);
            assert_eq!(fields(found), fields(expected), "{what}");
            assert!(found.data == expected.data, "{what}");
            // Zeros that align the data follow the head.
            let (head, gap) = found.head.split_at(expected.head.len());
            assert!(head == expected.head && gap.iter().all(|byte| *byte == 0), "{what}");
        }
        let end = last.sequence + u64::from(last.count);
        assert_eq!(end, log.appended());
        assert!(end >= self.durable, "durable to {}, found to {end}", self.durable);
        // A removed segment may come back until its removal is durable.
        expected.truncate(total);
        self.written = expected;
        self.durable = end;
        let _ = writeln!(self.story, "found to {end}");
    }
}

fn run(seed: u64) -> (Result<u64, String>, u64) {
    let mut world = World::new(seed);
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.run()));
    let trace = world.disk.trace();
    match outcome {
        Ok(()) => (Ok(world.crashes), trace),
        Err(panic) => {
            let what = panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            let what = what.unwrap_or_else(|| "a panic without a text".to_owned());
            (Err(format!("seed {seed}: {what}\n{}", world.story)), trace)
        }
    }
}

#[test]
fn what_was_durable_is_found_after_every_crash() {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let one = number("SIRA_SIM_SEED");
    let count = number("SIRA_SIM_SEEDS").unwrap_or(SEEDS);
    let seeds: Vec<u64> = one.map_or_else(|| (0..count).collect(), |seed| vec![seed]);
    let outcomes: Vec<_> = seeds.iter().map(|seed| (*seed, run(*seed).0)).collect();
    let failed: Vec<_> = outcomes.iter().filter(|(_, outcome)| outcome.is_err()).collect();
    if let Some((seed, Err(what))) = failed.first() {
        let first_line = |outcome: &Result<u64, String>| {
            let text = outcome.as_ref().err().and_then(|what| what.lines().next());
            text.unwrap_or_default().to_owned()
        };
        let others: Vec<_> = failed.iter().map(|(_, outcome)| first_line(outcome)).collect();
        panic!(
            "{what}\nseeds that failed: {others:#?}\nreplay with: \
             SIRA_SIM_SEED={seed} cargo test -p sira-log --test it simulation"
        );
    }
    let crashes: u64 = outcomes.iter().filter_map(|(_, outcome)| outcome.as_ref().ok()).sum();
    assert!(one.is_some() || count < SEEDS || crashes > 500, "{crashes} crashes");
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 0..10 {
        assert_eq!(run(seed).1, run(seed).1, "seed {seed}");
    }
    assert_ne!(run(1).1, run(2).1);
}

#[test]
fn io_errors_are_told_apart() {
    let error =
        LogError::Io { action: "sync", path: ROOT.into(), source: io::Error::other(PowerLost) };
    assert!(is_power_loss(&error));
}
