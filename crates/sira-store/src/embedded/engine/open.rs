//! Opening: log, namespaces, checkpoint, then the log's tail.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use sira_log::disk::Disk;
use sira_log::log::{SEGMENT_START, SegmentLog, SegmentLogOptions};
use sira_log::record::LogPosition;

use super::super::durable::DurableWaiters;
use super::super::gate::Gate;
use super::super::namespaces::Namespaces;
use super::super::spool;
use super::super::stripes::Stripes;
use super::super::{EngineOptions, NamespaceId};
use super::maintain::{self, Maintenance, Stop};
use super::{Engine, checkpoint, replay};
use crate::env::Env;
use crate::error::{Result, StorageError};
use crate::limits::SEGMENT_BYTES_MAX;
use crate::options::Durability;
use crate::version::HybridClock;

/// First part of the names of segment files.
const STEM: &str = "store";

pub(super) fn open(
    disk: Arc<dyn Disk>,
    env: Arc<dyn Env>,
    root: &Path,
    options: EngineOptions,
) -> Result<Arc<Engine>> {
    if options.segment_bytes > SEGMENT_BYTES_MAX {
        return Err(StorageError::invalid_input(format!(
            "segment_bytes is {}, more than {SEGMENT_BYTES_MAX}",
            options.segment_bytes
        )));
    }
    let log_options = SegmentLogOptions {
        stem: STEM.to_owned(),
        segment_bytes: options.segment_bytes,
        reserve_bytes: (options.segment_bytes / 8).clamp(4096, 32 << 20),
        write_reserve: options.durability == Durability::Sync,
        background: options.background,
    };
    let (log, report) = SegmentLog::open(Arc::clone(&disk), Arc::clone(&env), root, log_options)?;
    let names = root.join(".metadata").join("namespaces.json");
    if log.appended() > 0 && !disk.exists(&names) {
        // A new table would give the numbers of old namespaces to new ones.
        return Err(StorageError::corrupt(format!(
            "{} is missing, so nothing says which objects are whose: restore it from a backup",
            names.display()
        )));
    }
    let namespaces = Namespaces::open(Arc::clone(&disk), names)?;

    let loaded = checkpoint::load_newest(&*disk, root, &log)?;
    let clock = HybridClock::default();
    let (index, from, generation) = match loaded {
        Some(loaded) => {
            clock.observe(loaded.version);
            (loaded.index, loaded.position, loaded.generation)
        }
        None => {
            let first = log.segments().first().map_or(0, |segment| segment.id);
            let start = LogPosition { segment: first, offset: SEGMENT_START };
            (super::Index::new(), start, 0)
        }
    };

    let waiters = Arc::new(DurableWaiters::default());
    let engine = Arc::new(Engine {
        index,
        namespaces,
        stripes: Stripes::new(),
        gate: Gate::default(),
        clock,
        usage: ArcSwap::default(),
        waiters: Arc::clone(&waiters),
        maintenance: Maintenance::new(from, generation),
        maintenance_error: Mutex::new(None),
        worker: Mutex::new(None),
        stop: Arc::new(Stop::default()),
        report,
        corrupt_reads: AtomicU64::new(0),
        env,
        options,
        log,
    });
    count_index(&engine)?;
    replay::replay(&engine, from)?;
    spool::clean(&engine)?;
    watch(&engine, waiters);
    if engine.options.background {
        maintain::start_worker(&engine)?;
    }
    Ok(engine)
}

/// Wakes waiting tasks after each sync.
fn watch(engine: &Arc<Engine>, waiters: Arc<DurableWaiters>) {
    let weak = Arc::downgrade(engine);
    engine.log.watch_durable(Arc::new(move || {
        if let Some(engine) = weak.upgrade() {
            waiters.wake(engine.log.durable(), engine.log.check_writable().is_err());
        }
    }));
    if let Durability::Interval(ms) = engine.options.durability {
        // Writes ask for it as they come; this covers what was recovered.
        engine.request_durable_within(std::time::Duration::from_millis(ms));
    }
}

/// Fills the counts that follow from the index, and drops what belongs to no namespace.
fn count_index(engine: &Engine) -> Result<()> {
    let mut gone: Vec<NamespaceId> = Vec::new();
    let mut current: Option<(u32, i64)> = None;
    let mut usage: std::collections::BTreeMap<u32, u64> = std::collections::BTreeMap::new();
    let flush = |current: Option<(u32, i64)>, gone: &mut Vec<NamespaceId>| {
        if let Some((id, keys)) = current {
            let id = NamespaceId(id);
            if engine.namespaces.with_count(id, |count| count.add(keys)).is_none() {
                gone.push(id);
            }
        }
    };
    engine.index.scan(std::ops::Bound::Unbounded, &mut |full, location| {
        let id = full.first_chunk().map_or(0, |id| u32::from_be_bytes(*id));
        match &mut current {
            Some((same, keys)) if *same == id => *keys += 1,
            _ => {
                flush(current, &mut gone);
                current = Some((id, 1));
            }
        }
        let bytes = super::item_bytes(full.len() - 4, location);
        *usage.entry(location.segment).or_default() += bytes;
        std::ops::ControlFlow::Continue(())
    });
    flush(current, &mut gone);
    let usage = usage.into_iter().map(|(id, bytes)| (id, Arc::new(AtomicU64::new(bytes))));
    engine.usage.store(Arc::new(usage.collect()));
    for id in gone {
        maintain::purge(engine, id);
    }
    // An entry whose segment is gone would be a loss; say so rather than answer "not there".
    let missing = engine.usage.load().keys().find(|id| engine.log.segment(**id).is_none()).copied();
    match missing {
        Some(id) if engine.log.damage().iter().all(|damage| damage.segment != id) => {
            Err(StorageError::corrupt(format!(
                "segment {id} is missing from {}: put it back, or restore a backup",
                engine.log.root().display()
            )))
        }
        _ => Ok(()),
    }
}
