//! Copies of objects from one backend to another, while both are in use.
//!
//! A [`Migration`] walks the keys of its source in order and brings each object to the target under
//! the version, expiry and metadata that it has, seal included: stored bytes are copied bit for bit.
//! Because a target stores a given version only over an older one, a migration may run beside
//! writers, beside another migration, and again after a crash: what is there already is left alone,
//! and what was written meanwhile is never replaced by something older.

mod copy;
pub(crate) mod crew;
mod cursor;
mod group;
pub(crate) mod keys;
mod ledger;
pub(crate) mod progress;
mod replication;
mod sync;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use tokio::task::JoinSet;

use crate::backend::{ListEntry, ListOptions, ObjectHead, StorageBackend};
use crate::env::{Env, SystemEnv};
use crate::error::{Result, StorageError};
use crate::options::Condition;
use crate::pattern::KeyPattern;
use crate::version::Version;

pub use cursor::Cursor;
pub use ledger::Ledger;
pub use progress::{MigrationProgress, MigrationReport};
pub use replication::{
    Replication, ReplicationMark, ReplicationOptions, ReplicationPhase, ReplicationProgress,
};
pub use sync::{SyncOptions, SyncProgress, SyncReport, TwoWaySync};

use copy::Copied;
use group::Held;
use progress::Meter;

/// Keys of one page of the walk.
const PAGE_KEYS: usize = 1000;

/// What to do with an object that both sides have in different versions.
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum ConflictRule {
    /// The newer version wins.
    #[default]
    Newest,
    /// The source wins; the target's object is replaced under a version of its own.
    Source,
    /// The target wins.
    Target,
    /// Both are kept: the source's under the key with this and its version behind it.
    KeepBoth {
        /// What stands between key and version.
        separator: String,
    },
    /// The caller decides.
    Rule(Arc<ChooseSide>),
}

/// Decides between the source's object and the target's.
pub type ChooseSide = dyn Fn(&str, &ObjectHead, &ObjectHead) -> Side + Send + Sync;

/// A side of a migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Where objects come from.
    Source,
    /// Where they go.
    Target,
}

impl fmt::Debug for ConflictRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Newest => f.write_str("Newest"),
            Self::Source => f.write_str("Source"),
            Self::Target => f.write_str("Target"),
            Self::KeepBoth { separator } => write!(f, "KeepBoth({separator:?})"),
            Self::Rule(_) => f.write_str("Rule"),
        }
    }
}

/// What is read back after it was copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verify {
    /// Nothing: engines check what they are given.
    #[default]
    None,
    /// One of so many objects.
    OneOf(u32),
    /// Every object.
    All,
}

/// How objects are copied.
#[derive(Debug, Clone)]
pub struct MigrationOptions {
    /// Which keys.
    pub pattern: KeyPattern,
    /// Only objects of a version greater than this: what changed since an earlier migration, whose
    /// report tells its watermark.
    pub since: Option<Version>,
    /// What to do with an object that both sides have in different versions.
    pub conflict: ConflictRule,
    /// Removes each object from the source once it is at the target, unless it was written
    /// meanwhile.
    pub remove_source: bool,
    /// Removes objects of the target that the source does not have.
    pub remove_extraneous: bool,
    /// What is read back.
    pub verify: Verify,
    /// Reports what would be done, and does nothing.
    pub dry_run: bool,
    /// Objects that are under way at once; of small ones, groups of them.
    pub concurrency: usize,
    /// Bytes of values that are under way at once; one larger value goes alone.
    pub bytes_in_flight_max: u64,
    /// Most bytes of values a second.
    pub bytes_per_second_max: Option<u64>,
}

impl Default for MigrationOptions {
    fn default() -> Self {
        Self {
            pattern: KeyPattern::any(),
            since: None,
            conflict: ConflictRule::default(),
            remove_source: false,
            remove_extraneous: false,
            verify: Verify::default(),
            dry_run: false,
            concurrency: 32,
            bytes_in_flight_max: 256 * 1024 * 1024,
            bytes_per_second_max: None,
        }
    }
}

/// A copy of objects from one backend to another.
#[derive(Debug, Clone)]
pub struct Migration {
    source: Arc<dyn StorageBackend>,
    target: Arc<dyn StorageBackend>,
    options: MigrationOptions,
    cursor: Option<Cursor>,
    env: Arc<dyn Env>,
    progress: Arc<Meter>,
}

impl Migration {
    /// A migration between two backends.
    ///
    /// # Errors
    /// [`StorageError::Unsupported`] when the source cannot list its keys, or the target cannot
    /// store given versions.
    pub fn new(
        source: Arc<dyn StorageBackend>,
        target: Arc<dyn StorageBackend>,
        options: MigrationOptions,
    ) -> Result<Self> {
        let (from, to) = (source.capabilities(), target.capabilities());
        if !from.list {
            return Err(StorageError::unsupported(format!(
                "objects cannot be migrated from {}, which does not list its keys",
                from.name
            )));
        }
        if !(to.exact_versions && to.conditional) {
            return Err(StorageError::unsupported(format!(
                "objects cannot be migrated to {}, which does not keep given versions",
                to.name
            )));
        }
        if options.remove_extraneous && !to.list {
            return Err(StorageError::unsupported(format!(
                "{} does not list its keys, so what is extraneous there cannot be found",
                to.name
            )));
        }
        let env: Arc<dyn Env> = Arc::new(SystemEnv);
        let progress = Arc::new(Meter::new(&*env));
        Ok(Self { source, target, options, cursor: None, env, progress })
    }

    /// Keeps the place that the walk has reached under a cursor, and begins where the cursor is.
    #[must_use]
    pub fn with_cursor(mut self, cursor: Cursor) -> Self {
        self.cursor = Some(cursor);
        self
    }

    /// How far it has come; to be called while it runs.
    #[must_use]
    pub fn progress(&self) -> MigrationProgress {
        self.progress.progress(&*self.env)
    }

    /// Copies every object that is wanted, and tells what was done. A dropped run has copied what
    /// the report of [`Migration::progress`] says; with a cursor the next one goes on from there.
    ///
    /// # Errors
    /// Those of the backends, after what was under way has ended.
    pub async fn run(&self) -> Result<MigrationReport> {
        let mut walk = Walk::begin(self).await?;
        let outcome = walk.run().await;
        let finished = walk.drain().await;
        outcome.and(finished)?;
        if let Some(cursor) = &self.cursor
            && !self.options.dry_run
        {
            cursor.finish().await?;
        }
        Ok(self.progress.report())
    }

    async fn page(
        &self,
        side: &Arc<dyn StorageBackend>,
        start_after: Option<String>,
    ) -> Result<(Vec<ListEntry>, Option<String>)> {
        let options = ListOptions {
            prefix: self.options.pattern.prefix().to_owned(),
            start_after,
            delimiter: None,
            limit: PAGE_KEYS,
        };
        let page = side.list(options).await?;
        Ok((page.entries, page.next))
    }
}

/// Keys that are under way, in order, so that the cursor never passes one.
struct Walk<'a> {
    migration: &'a Migration,
    tasks: JoinSet<(u64, u64, Result<Vec<Copied>>)>,
    /// First and last key of each group of objects that is under way, by number.
    open: BTreeMap<u64, (String, String)>,
    bytes: u64,
    next: u64,
    /// The key before the first that is not done.
    reached: Option<String>,
    last_done: Option<String>,
}

impl<'a> Walk<'a> {
    async fn begin(migration: &'a Migration) -> Result<Self> {
        let reached = match &migration.cursor {
            Some(cursor) => cursor.load().await?,
            None => None,
        };
        Ok(Self {
            migration,
            tasks: JoinSet::new(),
            open: BTreeMap::new(),
            bytes: 0,
            next: 0,
            last_done: reached.clone(),
            reached,
        })
    }

    async fn run(&mut self) -> Result<()> {
        let migration = self.migration;
        let options = &migration.options;
        let mut after = self.reached.clone();
        let mut extraneous = Extraneous::new(migration, after.clone());
        loop {
            let (entries, next) = migration.page(&migration.source, after.take()).await?;
            let mut wanted = Vec::with_capacity(entries.len());
            for entry in entries {
                if options.remove_extraneous {
                    extraneous.pass(Some(&entry.key)).await?;
                }
                if !options.pattern.matches(&entry.key) {
                    continue;
                }
                migration.progress.found(entry.size);
                if options.since.is_some_and(|since| entry.version.is_some_and(|v| v <= since)) {
                    migration.progress.unchanged();
                    continue;
                }
                wanted.push(entry);
            }
            let held = Arc::new(group::held(migration, &wanted).await?);
            for group in group::groups(migration, wanted) {
                self.start(group, &held).await?;
            }
            self.note().await?;
            match next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        if options.remove_extraneous {
            extraneous.pass(None).await?;
        }
        Ok(())
    }

    async fn start(&mut self, group: Vec<ListEntry>, held: &Arc<Held>) -> Result<()> {
        let options = &self.migration.options;
        let size: u64 = group.iter().map(|entry| entry.size).sum();
        let (Some(first), Some(last)) = (group.first(), group.last()) else { return Ok(()) };
        let span = (first.key.clone(), last.key.clone());
        let full = |walk: &Self| {
            walk.tasks.len() >= options.concurrency.max(1)
                || (walk.bytes > 0 && walk.bytes + size > options.bytes_in_flight_max)
        };
        while full(self) {
            self.finish_one().await?;
        }
        let Migration { env, progress, .. } = self.migration;
        progress.wait(&**env, size, options.bytes_per_second_max).await;
        let number = self.next;
        self.next += 1;
        self.open.insert(number, span);
        self.bytes += size;
        let (migration, held) = (self.migration.clone(), Arc::clone(held));
        self.tasks.spawn(async move {
            (number, size, group::copy_group(&migration, &group, &held).await)
        });
        Ok(())
    }

    async fn finish_one(&mut self) -> Result<()> {
        let Some(joined) = self.tasks.join_next().await else { return Ok(()) };
        let (number, size, result) = joined.map_err(|error| {
            StorageError::unavailable("a copy was given up half way").with_source(error)
        })?;
        self.bytes = self.bytes.saturating_sub(size);
        let copied = result?;
        let last = self.open.remove(&number).map(|(_, last)| last);
        // Everything before the first that is open is done.
        self.last_done = self.last_done.take().max(last);
        copied.iter().for_each(|copied| self.migration.progress.done(copied));
        Ok(())
    }

    /// Waits for what is under way.
    async fn drain(&mut self) -> Result<()> {
        let mut result = Ok(());
        while !self.tasks.is_empty() {
            result = result.and(self.finish_one().await);
        }
        result
    }

    /// Puts down how far the walk has come: at most the keys that are under way are copied twice.
    async fn note(&mut self) -> Result<()> {
        let Some(cursor) = &self.migration.cursor else { return Ok(()) };
        if self.migration.options.dry_run {
            return Ok(());
        }
        while self.open.len() > self.migration.options.concurrency / 2 {
            self.finish_one().await?;
        }
        let first_open = self.open.values().map(|(first, _)| first).min().cloned();
        let Some(first_open) = first_open else {
            self.reached = self.last_done.clone();
            return cursor.store(self.reached.as_deref()).await;
        };
        cursor.store_before(&first_open).await
    }
}

/// Keys of the target, in step with those of the source.
struct Extraneous<'a> {
    migration: &'a Migration,
    entries: std::vec::IntoIter<ListEntry>,
    head: Option<ListEntry>,
    after: Option<String>,
    ended: bool,
}

impl<'a> Extraneous<'a> {
    fn new(migration: &'a Migration, after: Option<String>) -> Self {
        Self { migration, entries: Vec::new().into_iter(), head: None, after, ended: false }
    }

    async fn peek(&mut self) -> Result<Option<&ListEntry>> {
        while self.head.is_none() {
            self.head = self.entries.next();
            if self.head.is_some() {
                break;
            }
            if self.ended {
                return Ok(None);
            }
            let page = self.migration.page(&self.migration.target, self.after.take()).await?;
            self.entries = page.0.into_iter();
            self.ended = page.1.is_none();
            self.after = page.1;
        }
        Ok(self.head.as_ref())
    }

    /// Removes what lies before a key of the source, or all that is left.
    async fn pass(&mut self, source_key: Option<&str>) -> Result<()> {
        let migration = self.migration;
        while let Some(entry) = self.peek().await? {
            let before = source_key.is_none_or(|key| entry.key.as_str() < key);
            if !before {
                if source_key == Some(entry.key.as_str()) {
                    self.head = None;
                }
                return Ok(());
            }
            let entry = self.head.take();
            let Some(entry) = entry.filter(|entry| migration.options.pattern.matches(&entry.key))
            else {
                continue;
            };
            migration.progress.extraneous();
            if migration.options.dry_run {
                continue;
            }
            // It may have been written at the source since the page was listed, and copied.
            let Some(head) = migration.target.head(&entry.key).await? else { continue };
            if migration.source.exists(&entry.key).await? {
                continue;
            }
            match migration.target.remove(&entry.key, Condition::IfMatch(head.version)).await {
                Ok(_) | Err(StorageError::PreconditionFailed(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
