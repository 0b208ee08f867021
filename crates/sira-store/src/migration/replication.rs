//! A target that follows its source.

mod level;
mod mark;
mod meter;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

use crate::backend::StorageBackend;
use crate::changes::{Change, ChangeLog, ChangePosition};
use crate::env::{Env, SystemEnv};
use crate::error::{Result, Retry, StorageError};
use crate::pattern::KeyPattern;
use crate::version::Version;

use super::crew::{Bounds, Crew};
use super::keys::Keys;
use mark::Mark;
use meter::Meter;

pub use mark::ReplicationMark;
pub use meter::{ReplicationPhase, ReplicationProgress};

/// Records that are brought over together.
const RECORDS: usize = 1000;

/// Keys of a pass that are looked at together.
const KEYS: usize = 1000;

/// First pause after a failure that may pass; it doubles.
const BACKOFF: Duration = Duration::from_millis(100);

/// Longest pause after a failure.
const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// How a target follows its source.
#[derive(Debug, Clone)]
pub struct ReplicationOptions {
    /// Which keys.
    pub pattern: KeyPattern,
    /// Time between two looks at the change log of a source that has one.
    pub look_interval: Duration,
    /// Time between two passes over all keys of a source that has none.
    pub pass_interval: Duration,
    /// Objects that are under way at once.
    pub concurrency: usize,
    /// Bytes of values that are under way at once; one larger value goes alone.
    pub bytes_in_flight_max: u64,
    /// Most bytes of values a second.
    pub bytes_per_second_max: Option<u64>,
}

impl Default for ReplicationOptions {
    fn default() -> Self {
        Self {
            pattern: KeyPattern::any(),
            look_interval: Duration::from_millis(20),
            pass_interval: Duration::from_secs(10),
            concurrency: 32,
            bytes_in_flight_max: 256 * 1024 * 1024,
            bytes_per_second_max: None,
        }
    }
}

/// Keeps a target as its source is: brings over what is written, and removes what is removed.
///
/// It begins with a pass over all keys of both sides. After that it follows the change log of the
/// source, where that has one ([`StorageBackend::change_log`]), and brings over the newest state of
/// each key that is named there; else it passes over all keys again and again. Where the log no
/// longer has what comes next, as after a long break, it makes a pass and follows again.
///
/// Only what is durable at the source reaches the target. Every change is made at least once, on the
/// condition of what was seen there; one that is made again changes nothing. A newer version at the
/// target is left alone. Whatever else the target holds among the keys of the pattern is removed by
/// a pass: it belongs to its source.
///
/// A replication may die at any moment and goes on from its mark. What fails for a time, such as a
/// target that is not reachable, is tried again until it works or the replication is stopped.
#[derive(Debug, Clone)]
pub struct Replication {
    source: Arc<dyn StorageBackend>,
    target: Arc<dyn StorageBackend>,
    log: Option<Arc<dyn ChangeLog>>,
    mark: ReplicationMark,
    options: ReplicationOptions,
    env: Arc<dyn Env>,
    meter: Arc<Meter>,
    stop: Arc<Stop>,
}

#[derive(Debug, Default)]
struct Stop {
    stopped: AtomicBool,
    wake: Notify,
}

impl Replication {
    /// A replication, which keeps its place under a mark.
    ///
    /// # Errors
    /// [`StorageError::Unsupported`] when one of the sides cannot list its keys, or the target
    /// cannot store given versions on conditions.
    pub fn new(
        source: Arc<dyn StorageBackend>,
        target: Arc<dyn StorageBackend>,
        mark: ReplicationMark,
        options: ReplicationOptions,
    ) -> Result<Self> {
        let (from, to) = (source.capabilities(), target.capabilities());
        if !from.list {
            return Err(StorageError::unsupported(format!(
                "{} cannot be followed: it does not list its keys",
                from.name
            )));
        }
        if !(to.list && to.exact_versions && to.conditional) {
            return Err(StorageError::unsupported(format!(
                "{} cannot follow another backend: it must list its keys, keep given versions and \
                 check conditions",
                to.name
            )));
        }
        let env: Arc<dyn Env> = Arc::new(SystemEnv);
        let log = source.change_log();
        let meter = Arc::new(Meter::new(&*env));
        Ok(Self { source, target, log, mark, options, env, meter, stop: Arc::default() })
    }

    /// Follows this log of the source, which lies behind layers that do not show it.
    #[must_use]
    pub fn with_change_log(mut self, log: Arc<dyn ChangeLog>) -> Self {
        self.log = Some(log);
        self
    }

    /// How far it has come; to be called while it runs.
    #[must_use]
    pub fn progress(&self) -> ReplicationProgress {
        self.meter.progress(&*self.env)
    }

    /// Ends the run after what is under way.
    pub fn stop(&self) {
        self.stop.stopped.store(true, Ordering::Release);
        self.stop.wake.notify_one();
    }

    /// Follows the source until [`Replication::stop`] is called. Dropped, what was done is done, and
    /// the next run goes on from the mark.
    ///
    /// # Errors
    /// Those of the backends that do not pass; [`StorageError::Corrupt`] for a mark that cannot be
    /// read.
    pub async fn run(&self) -> Result<()> {
        let mut mark = self.mark.load().await?;
        let mut backoff = BACKOFF;
        while !self.stop.stopped.load(Ordering::Acquire) {
            let pause = match self.turn(&mut mark).await {
                Ok(pause) => {
                    self.meter.works();
                    backoff = BACKOFF;
                    pause
                }
                Err(error) if error.retry() == Retry::Permanent => return Err(error),
                Err(error) => {
                    tracing::warn!(%error, "a replication waits for a failure to pass");
                    self.meter.fails(&error);
                    let pause = backoff;
                    backoff = backoff.saturating_mul(2).min(BACKOFF_MAX);
                    pause
                }
            };
            if !pause.is_zero() {
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = self.stop.wake.notified() => {}
                }
            }
        }
        Ok(())
    }

    /// Brings over what there is to bring, and says how long to wait before the next look.
    async fn turn(&self, mark: &mut Option<Mark>) -> Result<Duration> {
        let Some(log) = &self.log else {
            self.pass().await?;
            return Ok(self.options.pass_interval);
        };
        let position = match mark {
            Some(Mark { passing: false, position }) => position.clone(),
            // What is written from here on is followed after the pass.
            _ => {
                let position = log.end().await?;
                if !self.pass().await? {
                    return Ok(Duration::ZERO);
                }
                self.go_on(mark, position.clone()).await?;
                position
            }
        };
        let Some(page) = log.after(&position, RECORDS).await? else {
            tracing::info!("a replication has lost its place in the change log, and begins anew");
            let lost = Mark { passing: true, position };
            self.mark.store(&lost).await?;
            *mark = Some(lost);
            return Ok(Duration::ZERO);
        };
        self.follow(page.changes).await?;
        if page.next != position {
            self.go_on(mark, page.next).await?;
        }
        self.meter.followed(page.records_left, page.written_ms);
        Ok(if page.records_left == 0 || page.written_ms.is_none() {
            self.options.look_interval
        } else {
            Duration::ZERO
        })
    }

    /// Everything before a position is at the target.
    async fn go_on(&self, mark: &mut Option<Mark>, position: ChangePosition) -> Result<()> {
        // The mark must not say so of what the target may still lose.
        self.target.flush().await?;
        let reached = Mark { passing: false, position };
        self.mark.store(&reached).await?;
        *mark = Some(reached);
        Ok(())
    }

    /// Brings the keys that were changed level, each once.
    async fn follow(&self, changes: Vec<Change>) -> Result<()> {
        let mut keys: BTreeMap<String, Option<Version>> = BTreeMap::new();
        for Change { key, version, removed } in changes {
            if self.options.pattern.matches(&key) {
                let newest = keys.entry(key).or_default();
                *newest = (*newest).max(removed.then_some(version));
            }
        }
        let mut crew = self.crew();
        for (number, (key, removed)) in keys.into_iter().enumerate() {
            // What was only written and is gone has a removal that comes later in the log.
            let remove_below = removed.unwrap_or_default();
            self.begin(&mut crew, number, key, 0, remove_below).await;
        }
        crew.finish().await.map(drop)
    }

    /// Brings all keys level that one of the sides has; false when it was stopped on its way.
    async fn pass(&self) -> Result<bool> {
        self.meter.begin_pass(&*self.env);
        let prefix = self.options.pattern.prefix();
        let mut source = Keys::new(Arc::clone(&self.source), prefix);
        let mut target = Keys::new(Arc::clone(&self.target), prefix);
        loop {
            let mut crew = self.crew();
            for number in 0..KEYS {
                let here = source.peek().await?.map(str::to_owned);
                let there = target.peek().await?.map(str::to_owned);
                let Some(key) = [here, there].into_iter().flatten().min() else {
                    crew.finish().await?;
                    self.meter.end_pass();
                    return Ok(true);
                };
                let (here, there) = (source.take(&key), target.take(&key));
                if !self.options.pattern.matches(&key) {
                    continue;
                }
                self.meter.looked_at();
                let size = here.as_ref().map_or(0, |entry| entry.size);
                if let (Some(here), Some(there)) = (here, there)
                    && here.version.is_some()
                    && here.version == there.version
                {
                    continue;
                }
                self.begin(&mut crew, number, key, size, Version::from_u64(u64::MAX)).await;
            }
            crew.finish().await?;
            if self.stop.stopped.load(Ordering::Acquire) {
                return Ok(false);
            }
        }
    }

    fn crew(&self) -> Crew<()> {
        let ReplicationOptions { concurrency, bytes_in_flight_max, .. } = self.options;
        Crew::new(Bounds { concurrency, bytes_in_flight_max })
    }

    async fn begin(
        &self,
        crew: &mut Crew<()>,
        number: usize,
        key: String,
        bytes: u64,
        remove_below: Version,
    ) {
        let replication = self.clone();
        let level = async move {
            let result = level::level(&replication, &key, remove_below).await;
            result.map_err(|error| error.with_key(key))
        };
        crew.begin(number, bytes, level).await;
    }
}
