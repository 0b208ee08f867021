//! Reclaiming space: live objects of a mostly dead segment are written again, then its file goes.
//!
//! A removal is kept as long as an older segment is there, since that may still hold what was
//! removed: an index rebuilt from the log alone must not bring it back.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sira_log::log::{Found, SEGMENT_START, Segment};

use super::super::index::Location;
use super::super::item::Op;
use super::Engine;
use super::lookup::{FullKey, item_at};
use super::maintain::State;
use super::replay::{LoggedChange, changes};
use super::write::{Change, Put, append_alone, location_alone};
use crate::error::{Result, StorageError};

/// Bytes between two looks at the clock while a segment is rewritten.
const PACE_BYTES: u64 = 256 << 10;

/// Most segments that one step rewrites.
const SEGMENTS_PER_STEP: usize = 4;

/// Rewrites segments whose share of dead bytes is over the limit, most dead first.
pub(super) fn reclaim(engine: &Engine, state: &mut State) -> Result<u64> {
    let active = engine.log.active_segment().id;
    let mut candidates: Vec<(u64, Arc<Segment>)> = Vec::new();
    for segment in engine.log.segments() {
        if !segment.is_sealed() || segment.id >= active || state.rewritten.contains(&segment.id) {
            continue;
        }
        let used = segment.used().max(1);
        let live = engine
            .usage
            .load()
            .get(&segment.id)
            .map_or(0, |live| live.load(Ordering::Relaxed))
            .min(used);
        let dead_share = 1.0 - live as f64 / used as f64;
        if dead_share > engine.options.reclaim_dead_ratio {
            candidates.push((live, segment));
        }
    }
    candidates.sort_by_key(|(live, segment)| (*live, segment.id));
    let mut done = 0;
    for (_, segment) in candidates.into_iter().take(SEGMENTS_PER_STEP) {
        match rewrite(engine, &segment) {
            Ok(true) => {
                state.rewritten.push(segment.id);
                done += 1;
            }
            Ok(false) => break,
            // What does not verify stays where it is, for repair.
            Err(StorageError::Corrupt(_)) => engine.saw_corruption(),
            // There is no room to move anything; segments without live objects may still go.
            Err(StorageError::OutOfSpace(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// Writes the live objects of a segment again. `false` when the engine is stopping.
fn rewrite(engine: &Engine, segment: &Arc<Segment>) -> Result<bool> {
    let oldest = engine.log.segments().first().is_none_or(|first| first.id == segment.id);
    let bytes = segment.read_used()?;
    let scanner = segment.scanner(&bytes);
    let mut offset = SEGMENT_START;
    let mut pace = Pace::new(engine);
    loop {
        let record = match scanner.at(offset, None) {
            Found::Record(record) => record,
            Found::End => return Ok(true),
            Found::Bad { .. } => {
                return Err(StorageError::corrupt(format!("segment {} is damaged", segment.id)));
            }
        };
        let mut written = 0;
        changes(&record, |change| {
            written += move_change(engine, segment, &change, oldest)?;
            Ok(())
        })?;
        offset = record.end();
        if !pace.step(record.frame_len + written) {
            return Ok(false);
        }
    }
}

/// Writes a change again if it still counts; returns the bytes written.
fn move_change(
    engine: &Engine,
    segment: &Segment,
    change: &LoggedChange<'_>,
    oldest: bool,
) -> Result<u64> {
    let namespace = change.header.namespace;
    if !engine.namespaces.is_live(namespace) {
        return Ok(0);
    }
    let full = FullKey::checked(namespace, change.key)?;
    let current = engine.index.get(full.bytes());
    let counts = |current: Option<Location>| match change.header.op {
        Op::Put => current == Some(change.location) || (current.is_none() && !oldest),
        Op::Delete => current.is_none() && !oldest,
    };
    if !counts(current) {
        return Ok(0);
    }
    let _held = engine.stripes.lock_one(namespace, change.key);
    let current = engine.index.get(full.bytes());
    if !counts(current) {
        return Ok(0);
    }
    if current.is_none() {
        // A removal, or an object that expired: it hides what older segments hold.
        let removal = Change { namespace, key: change.key, put: None };
        return Ok(append_alone(engine, &removal, change.version)?.frame_len);
    }
    let found = item_at(segment, change.location)?;
    let value = segment.read(found.value_offset, change.header.value_len as usize)?;
    let valid = found.item.verify(Some(&value))
        && (!change.header.blocks || found.item.verify_blocks(0, &value));
    if !valid {
        return Err(StorageError::corrupt(format!("segment {} is damaged", segment.id)));
    }
    let put = Put {
        value: &value,
        expires_at_ms: change.header.expires_at_ms(),
        metadata: found.item.metadata(),
    };
    let again = Change { namespace, key: change.key, put: Some(put) };
    let appended = append_alone(engine, &again, change.version)?;
    let location = location_alone(&appended, &again);
    if engine.index.replace(full.bytes(), change.location, location) {
        engine.add_live(change.key.len(), location);
        engine.add_dead(change.key.len(), change.location);
    }
    Ok(appended.frame_len)
}

/// Keeps rewriting below its rate.
struct Pace<'a> {
    engine: &'a Engine,
    owed: u64,
}

impl<'a> Pace<'a> {
    fn new(engine: &'a Engine) -> Self {
        Self { engine, owed: 0 }
    }

    /// Counts bytes and rests when it is due; `false` when the engine is stopping.
    fn step(&mut self, bytes: u64) -> bool {
        self.owed += bytes;
        if self.owed < PACE_BYTES {
            return true;
        }
        let rate = self.engine.options.reclaim_bytes_per_second.max(1);
        if self.engine.options.background {
            let rest = Duration::from_micros(self.owed.saturating_mul(1_000_000) / rate);
            self.engine.env.sleep(rest);
        }
        self.owed = 0;
        !self.engine.stop.is_stopping()
    }
}
