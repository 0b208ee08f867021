//! An engine on a simulated disk, its model, and how sessions begin and end.

use std::collections::VecDeque;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sira_log::disk::{Disk, SimDisk, SimFaults};
use sira_log::env::{Env, SeededRandom, SimEnv};
use sira_store::embedded::{Engine, EngineOptions};
use sira_store::{Durability, StorageError};

use super::bugs::{LateSync, NoFolderSync, SameSalt};
use super::content::{self, Content, Unread};
use super::model::{Model, Survival};
use super::rot::History;

/// Folder of the store.
pub(super) const ROOT: &str = "/data/sira";

/// Lines of history that a finding shows.
const HISTORY_LINES: usize = 400;

/// Outcome of a step: an error is a finding.
pub(super) type Checked<T> = Result<T, String>;

/// What stands between the engine and its disk and environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doors {
    /// Nothing.
    Sound,
    /// Folders are never synced.
    NoFolderSync,
    /// While a checkpoint is written, the log is synced only after the checkpoint is published.
    LateSync,
    /// Every random number is the same.
    SameSalt,
}

/// How a session ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Close,
    Kill,
    PowerLoss,
}

/// Whether the session goes on after an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    Go,
    End(End),
}

/// What was done.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tally {
    pub(super) operations: u64,
    pub(super) power_losses: u64,
    pub(super) kills: u64,
    pub(super) closes: u64,
    pub(super) io_errors: u64,
    pub(super) refused_full: u64,
    pub(super) failed_opens: u64,
    pub(super) lost_writes: u64,
    pub(super) checkpoints: u64,
    pub(super) reclaimed: u64,
    pub(super) removed: u64,
    pub(super) expired: u64,
    pub(super) purged: u64,
    pub(super) rotted: u64,
    pub(super) rot_reported: u64,
}

impl Tally {
    pub(super) fn kinds(&self) -> [(&'static str, u64); 15] {
        [
            ("an operation", self.operations),
            ("a loss of power", self.power_losses),
            ("a killed process", self.kills),
            ("a clean close", self.closes),
            ("an I/O error", self.io_errors),
            ("a full disk", self.refused_full),
            ("an open that failed", self.failed_opens),
            ("an unsynced write that was lost", self.lost_writes),
            ("a checkpoint", self.checkpoints),
            ("a reclaimed segment", self.reclaimed),
            ("a removed segment", self.removed),
            ("an expired object", self.expired),
            ("a purged object", self.purged),
            ("a flipped bit", self.rotted),
            ("damage that was reported", self.rot_reported),
        ]
    }

    pub(super) fn add(&mut self, other: &Self) {
        let Self {
            operations,
            power_losses,
            kills,
            closes,
            io_errors,
            refused_full,
            failed_opens,
            lost_writes,
            checkpoints,
            reclaimed,
            removed,
            expired,
            purged,
            rotted,
            rot_reported,
        } = self;
        *operations += other.operations;
        *power_losses += other.power_losses;
        *kills += other.kills;
        *closes += other.closes;
        *io_errors += other.io_errors;
        *refused_full += other.refused_full;
        *failed_opens += other.failed_opens;
        *lost_writes += other.lost_writes;
        *checkpoints += other.checkpoints;
        *reclaimed += other.reclaimed;
        *removed += other.removed;
        *expired += other.expired;
        *purged += other.purged;
        *rotted += other.rotted;
        *rot_reported += other.rot_reported;
    }
}

/// How a world behaves, chosen from its seed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Style {
    /// Writes that are synced at once, of 100.
    pub(super) synced: u64,
    /// Keys of a namespace.
    pub(super) keys: u64,
    /// Steps of maintenance, of 1000 operations.
    pub(super) maintained: u64,
    /// Longest session in operations.
    pub(super) session: u64,
    pub(super) writeback_one_in: u32,
}

pub(super) struct World {
    pub(super) rng: SeededRandom,
    pub(super) disk: SimDisk,
    pub(super) env: Arc<SimEnv>,
    pub(super) model: Model,
    pub(super) tally: Tally,
    pub(super) style: Style,
    /// The faults of this session as they were planned.
    pub(super) plan: SimFaults,
    pub(super) past: History,
    /// Frames whose payload holds a forged frame: file and place.
    pub(super) forged: VecDeque<(PathBuf, u64)>,
    options: EngineOptions,
    doors: Doors,
    survival: Survival,
    lines: Option<VecDeque<String>>,
}

impl World {
    pub(super) fn new(seed: u64, doors: Doors, history: bool) -> Self {
        let mut rng = SeededRandom::new(seed);
        let disk = SimDisk::new(rng.next_u64());
        disk.create_dir_all(Path::new("/data")).expect("a new disk");
        disk.sync_dir(Path::new("/")).expect("a new disk");
        let options = EngineOptions {
            durability: Durability::None,
            segment_bytes: rng.pick(&[48 << 10, 64 << 10, 200 << 10]),
            checkpoint_bytes: rng.pick(&[100 << 10, 400 << 10, 2 << 20]),
            reclaim_dead_ratio: rng.pick(&[0.1, 0.3, 0.6]),
            background: false,
            ..EngineOptions::default()
        };
        let style = Style {
            synced: rng.pick(&[5, 30, 90]),
            keys: rng.pick(&[20, 120, 400]),
            maintained: rng.pick(&[2, 10, 40]),
            session: rng.pick(&[300, 1500, 3000]),
            writeback_one_in: rng.pick(&[0, 5, 50]),
        };
        Self {
            env: Arc::new(SimEnv::new(rng.next_u64(), 1_795_000_000_000)),
            rng,
            disk,
            model: Model::default(),
            tally: Tally::default(),
            style,
            plan: SimFaults::default(),
            past: History::default(),
            forged: VecDeque::new(),
            options,
            doors,
            survival: Survival::All,
            lines: history.then(VecDeque::new),
        }
    }

    /// Runs sessions until so many operations are done.
    pub(super) fn run(&mut self, operations: u64) -> Checked<()> {
        let (style, options) = (self.style, self.options.clone());
        self.note(|| format!("{style:?} {options:?}"));
        while self.tally.operations < operations {
            self.session(operations)?;
        }
        self.set_faults(SimFaults::default());
        let engine = self.open_engine().map_err(|error| format!("the last open: {error}"))?;
        let found = self.read(&engine)?.ok_or("the last open: the disk is off")?;
        self.take(&found)
    }

    pub(super) fn tally(&self) -> Tally {
        self.tally
    }

    pub(super) fn trace(&self) -> u64 {
        self.disk.trace()
    }

    pub(super) fn record_calls(&self) {
        self.disk.record_text();
    }

    pub(super) fn calls(&self) -> String {
        self.disk.recorded_text()
    }

    pub(super) fn history(&self) -> String {
        let mut text = String::new();
        for line in self.lines.iter().flatten() {
            let _ = writeln!(text, "{line}");
        }
        text
    }

    /// Keeps a line of history, where it is asked for.
    pub(super) fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.lines {
            if lines.len() == HISTORY_LINES {
                lines.pop_front();
            }
            lines.push_back(format!("{:>6} {}", self.tally.operations, line()));
        }
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.env.now_ms()
    }

    fn set_faults(&mut self, faults: SimFaults) {
        self.plan = faults;
        self.disk.set_faults(faults);
    }

    fn open_engine(&self) -> Result<Arc<Engine>, StorageError> {
        self.open_on(&self.disk, Arc::clone(&self.env) as _)
    }

    /// Opens an engine on a disk behind this world's doors.
    pub(super) fn open_on(
        &self,
        disk: &SimDisk,
        env: Arc<dyn Env>,
    ) -> Result<Arc<Engine>, StorageError> {
        let disk = disk.clone();
        let disk: Arc<dyn Disk> = match self.doors {
            Doors::Sound | Doors::SameSalt => Arc::new(disk),
            Doors::NoFolderSync => Arc::new(NoFolderSync(disk)),
            Doors::LateSync => Arc::new(LateSync::new(disk)),
        };
        let env = if self.doors == Doors::SameSalt { Arc::new(SameSalt(env)) as _ } else { env };
        Engine::open_on(disk, env, Path::new(ROOT), self.options.clone())
    }

    /// The salt of all segments, where an author of payloads can know it.
    pub(super) fn known_salt(&self) -> Option<u64> {
        (self.doors == Doors::SameSalt).then_some(SameSalt::SALT)
    }

    fn choose_faults(&mut self) -> SimFaults {
        let rng = &mut self.rng;
        let used: u64 = self.disk.files().iter().map(|(_, len)| len).sum();
        let far = rng.pick(&[10, 200, 2_000, 6_000]);
        SimFaults {
            power_loss_in: rng.chance(3, 5).then(|| rng.below(far)),
            sync_error_in: rng.chance(1, 8).then(|| rng.below(400)),
            write_error_in: rng.chance(1, 20).then(|| rng.below(1_000)),
            allocate_error_in: rng.chance(1, 20).then(|| rng.below(60)),
            capacity_bytes: rng.chance(1, 8).then(|| used + rng.below(500 << 10)),
            writeback_one_in: self.style.writeback_one_in,
        }
    }

    /// Opens the engine, compares, works on it, and ends it in some way.
    fn session(&mut self, operations: u64) -> Checked<()> {
        let faults = self.choose_faults();
        self.set_faults(faults);
        self.note(|| format!("open with {faults:?}"));
        let end = match self.open_engine() {
            Ok(engine) => self.work(&engine, operations)?,
            Err(error) => {
                self.tally.failed_opens += 1;
                self.note(|| format!("open failed: {error}"));
                let full = self.plan.capacity_bytes.is_some()
                    && matches!(error, StorageError::OutOfSpace(_));
                if !self.disk.is_off() && !full && !self.io_error_struck() {
                    return Err(format!("the open failed: {error} ({error:?})"));
                }
                self.crash_end()
            }
        };
        // Power may go within the very last call.
        let end = if self.disk.is_off() { End::PowerLoss } else { end };
        let disk = match end {
            End::Close if self.rng.chance(1, 2) => self.disk.kill(),
            End::Close => self.disk.crash(self.rng.next_u64()),
            End::Kill => {
                self.tally.kills += 1;
                self.disk.kill()
            }
            End::PowerLoss => {
                self.tally.power_losses += 1;
                self.survival = Survival::Prefix;
                self.disk.crash(self.rng.next_u64())
            }
        };
        self.note(|| format!("end: {end:?}"));
        self.disk = disk;
        let pause = self.rng.below(5_000);
        self.env.advance_ms(pause);
        if self.rng.chance(1, 2) {
            self.set_faults(SimFaults::default());
            self.rot()?;
        }
        Ok(())
    }

    /// How a session ends that cannot go on.
    pub(super) fn crash_end(&mut self) -> End {
        if self.disk.is_off() || self.rng.chance(1, 2) { End::PowerLoss } else { End::Kill }
    }

    /// Whether a planned I/O error has struck.
    pub(super) fn io_error_struck(&self) -> bool {
        let left = self.disk.faults();
        let plan = &self.plan;
        (plan.sync_error_in.is_some() && left.sync_error_in.is_none())
            || (plan.write_error_in.is_some() && left.write_error_in.is_none())
            || (plan.allocate_error_in.is_some() && left.allocate_error_in.is_none())
    }

    fn work(&mut self, engine: &Arc<Engine>, operations: u64) -> Checked<End> {
        let Some(found) = self.read(engine)? else { return Ok(End::PowerLoss) };
        self.take(&found)?;
        let count = self.rng.within(1, self.style.session);
        for _ in 0..count.min(operations - self.tally.operations) {
            self.tally.operations += 1;
            match self.operation(engine)? {
                Flow::Go => self.model.settle(engine.durable()),
                Flow::End(end) => return Ok(end),
            }
        }
        if self.rng.chance(1, 10) {
            let Some(found) = self.read(engine)? else { return Ok(End::PowerLoss) };
            self.model.compare(&found, self.now_ms())?;
        }
        match self.rng.below(10) {
            0..3 => self.close(engine),
            3..6 => Ok(End::Kill),
            _ => Ok(End::PowerLoss),
        }
    }

    fn close(&mut self, engine: &Arc<Engine>) -> Checked<End> {
        match engine.close() {
            Ok(()) => {
                self.tally.closes += 1;
                self.model.settle_all();
                let refused = self.put_something(engine);
                if !matches!(refused, Err(StorageError::Unavailable(_))) {
                    return Err(format!("a closed engine answers a write with {refused:?}"));
                }
                Ok(End::Close)
            }
            Err(error) => {
                self.note(|| format!("close failed: {error}"));
                let full = self.plan.capacity_bytes.is_some()
                    && matches!(error, StorageError::OutOfSpace(_));
                if !self.disk.is_off() && !full && !self.io_error_struck() {
                    return Err(format!("the close failed: {error}"));
                }
                Ok(self.crash_end())
            }
        }
    }

    /// Reads everything; `None` when the disk is off.
    fn read(&mut self, engine: &Engine) -> Checked<Option<Content>> {
        match content::read(engine, &mut self.rng) {
            Ok(content) => Ok(Some(content)),
            Err(Unread::Failed(_)) if self.disk.is_off() => Ok(None),
            Err(Unread::Failed(error)) => Err(format!("reading everything: {error}")),
            Err(Unread::Wrong(what)) => Err(what),
        }
    }

    /// Takes the content of a reopened engine as the model's, if it may be.
    fn take(&mut self, found: &Content) -> Checked<()> {
        let pending = self.model.pending();
        let before = self.model.count();
        self.model.reopened(found, self.survival, self.now_ms())?;
        self.survival = Survival::All;
        self.past.saw(found);
        if pending > 0 && self.model.count() != before {
            self.tally.lost_writes += 1;
        }
        let keys: usize = found.values().map(|(_, objects)| objects.len()).sum();
        self.note(|| format!("opened: {keys} keys, {pending} writes were not durable"));
        Ok(())
    }
}
