//! Reclaiming space: live objects of a mostly dead segment are written again, then its file goes.
//!
//! A removal is kept as long as an older segment is there, since that may still hold what was
//! removed: an index rebuilt from the log alone must not bring it back. So a segment with removals
//! is read record by record; of one without, only what the index names counts, and looking through
//! the index is quicker than through millions of dead records.

use std::ops::{Bound, ControlFlow};
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
use super::write::{Change, FLAG_HIDES, Put, append_alone, location_alone};
use crate::embedded::NamespaceId;
use crate::error::{Result, StorageError};

/// Bytes between two looks at the clock while a segment is rewritten.
const PACE_BYTES: u64 = 256 << 10;

/// Most segments that one step rewrites.
const SEGMENTS_PER_STEP: usize = 4;

/// Entries of the index that cost about as much to look at as one record of a segment.
const ENTRIES_PER_RECORD: u64 = 8;

/// Most entries that are looked at before those found are moved.
const ENTRIES_PER_ROUND: u64 = 16_384;

/// Bytes of work that an entry counts as, for the rate.
const ENTRY_BYTES: u64 = 16;

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
    candidates.truncate(SEGMENTS_PER_STEP);
    if candidates.is_empty() {
        return Ok(0);
    }
    // A write to one of them may not have reached the index yet; when its lock was free once, it
    // has.
    engine.stripes.drain();
    let (named, read): (Vec<_>, Vec<_>) = candidates
        .into_iter()
        .map(|(_, segment)| segment)
        .partition(|segment| is_quicker_by_index(engine, segment));
    let mut done = 0;
    if !named.is_empty() {
        let Some(moved) = move_named(engine, &named)? else { return Ok(done) };
        done += moved.len() as u64;
        state.rewritten.extend(moved);
    }
    for segment in read {
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

/// Whether all that counts of a segment is named by the index, and the index is the shorter way.
fn is_quicker_by_index(engine: &Engine, segment: &Segment) -> bool {
    if segment.flags().is_none_or(|flags| flags & FLAG_HIDES != 0) {
        return false;
    }
    let next = engine.log.segments().into_iter().find(|next| next.id > segment.id);
    let records = next.map_or(0, |next| next.first_sequence.saturating_sub(segment.first_sequence));
    engine.index.len() <= records.saturating_mul(ENTRIES_PER_RECORD)
}

/// Writes again what the index names in these segments; answers those in which nothing is left, or
/// `None` when the engine is stopping.
fn move_named(engine: &Engine, segments: &[Arc<Segment>]) -> Result<Option<Vec<u32>>> {
    let mut kept = Vec::new();
    let find = |id: u32| segments.iter().find(|segment| segment.id == id);
    let mut pace = Pace::new(engine);
    let mut cursor: Option<Vec<u8>> = None;
    loop {
        let from = cursor.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut found: Vec<(Vec<u8>, Location)> = Vec::new();
        let (mut entries, mut bytes) = (0, 0);
        let mut last = None;
        engine.index.scan(from, &mut |full, location| {
            entries += 1;
            if find(location.segment).is_some() {
                found.push((full.to_vec(), location));
                bytes += u64::from(location.size);
            }
            if bytes < PACE_BYTES && entries < ENTRIES_PER_ROUND {
                return ControlFlow::Continue(());
            }
            last = Some(full.to_vec());
            ControlFlow::Break(())
        });
        if !pace.step(entries * ENTRY_BYTES) {
            return Ok(None);
        }
        for (full, location) in found {
            let (Some(segment), Some((id, key))) =
                (find(location.segment), full.split_first_chunk())
            else {
                continue;
            };
            let namespace = NamespaceId(u32::from_be_bytes(*id));
            let held = engine.stripes.lock_one(namespace, key);
            if engine.index.get(&full) != Some(location) {
                continue;
            }
            let moved = move_object(engine, segment, namespace, key, location);
            drop(held);
            let written = match moved {
                Ok(written) => written,
                Err(error @ (StorageError::Corrupt(_) | StorageError::OutOfSpace(_))) => {
                    // This segment stays; the others must not wait for it.
                    if !kept.contains(&segment.id) {
                        kept.push(segment.id);
                        if matches!(error, StorageError::Corrupt(_)) {
                            engine.saw_corruption();
                        }
                    }
                    continue;
                }
                Err(error) => return Err(error),
            };
            if !pace.step(written) {
                return Ok(None);
            }
        }
        match last {
            Some(last) => cursor = Some(last),
            None => break,
        }
    }
    let ids = segments.iter().map(|segment| segment.id);
    Ok(Some(ids.filter(|id| !kept.contains(id)).collect()))
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
    move_object(engine, segment, namespace, change.key, change.location)
}

/// Writes an object again that the index names at `location`; returns the bytes written. The caller
/// holds the key's lock.
fn move_object(
    engine: &Engine,
    segment: &Segment,
    namespace: NamespaceId,
    key: &[u8],
    location: Location,
) -> Result<u64> {
    let full = FullKey::checked(namespace, key)?;
    let found = item_at(segment, location)?;
    let header = found.item.header;
    let value = segment.read(found.value_offset, header.value_len as usize)?;
    let valid = found.item.key() == key
        && found.item.verify(Some(&value))
        && (!header.blocks || found.item.verify_blocks(0, &value));
    if !valid {
        return Err(StorageError::corrupt(format!("segment {} is damaged", segment.id)));
    }
    let put = Put {
        value: &value,
        expires_at_ms: header.expires_at_ms(),
        metadata: found.item.metadata(),
        version: None,
    };
    let again = Change { namespace, key, put: Some(put) };
    let appended = append_alone(engine, &again, found.item.version)?;
    let new = location_alone(&appended, &again);
    if engine.index.replace(full.bytes(), location, new) {
        engine.add_live(key.len(), new);
        engine.add_dead(key.len(), location);
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
