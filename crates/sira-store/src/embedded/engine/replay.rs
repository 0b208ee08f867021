//! Replay: from the log's records to the index.

use sira_log::frame::BinaryLogFormat;
use sira_log::log::{Damage, Found, RecordRef, SEGMENT_START};
use sira_log::record::{ContentKind, LogPosition, RECORD_BODY_OFFSET};

use super::super::index::Location;
use super::super::item::{ItemHeader, Op};
use super::Engine;
use super::lookup::coarse_expiry;
use super::write::{FLAG_BATCH, index_change};
use crate::error::Result;
use crate::version::Version;

/// One change of a record, as it stands in the log.
#[derive(Debug, Clone, Copy)]
pub(super) struct LoggedChange<'a> {
    pub header: ItemHeader,
    pub version: Version,
    pub key: &'a [u8],
    pub location: Location,
    /// From the item on.
    pub item: &'a [u8],
}

/// Visits the changes of a record in order. Frames were verified before; bytes that are no item
/// end the visit with `false`.
pub(super) fn changes<'a>(
    record: &RecordRef<'a>,
    mut visit: impl FnMut(LoggedChange<'a>) -> Result<()>,
) -> Result<bool> {
    let recorded = Version::from_u64(record.header.time);
    let batch = record.header.flags & FLAG_BATCH != 0;
    let mut rest = if batch { record.data() } else { record.head() };
    let mut item = RECORD_BODY_OFFSET;
    loop {
        let Some(header) = ItemHeader::decode(rest) else { return Ok(false) };
        let key_end = super::super::item::ITEM_BYTES + usize::from(header.key_len);
        let Some(key) = rest.get(super::super::item::ITEM_BYTES..key_end) else {
            return Ok(false);
        };
        let Some(version) = header.version(rest, recorded) else { return Ok(false) };
        let location = Location {
            segment: record.position.segment,
            offset: (record.position.offset / BinaryLogFormat::ALIGN_BYTES as u64) as u32,
            item: item as u32,
            size: header.value_len,
            expiry: coarse_expiry(header.expires_at_ms()),
        };
        visit(LoggedChange { header, version, key, location, item: rest })?;
        if !batch {
            return Ok(true);
        }
        let step = header.inline_len().next_multiple_of(4);
        item += step;
        match rest.get(step..) {
            Some([]) => return Ok(true),
            Some(next) => rest = next,
            None => return Ok(false),
        }
    }
}

/// Applies every record from `from` on to the index.
pub(super) fn replay(engine: &Engine, from: LogPosition) -> Result<()> {
    let now_ms = engine.env.now_ms();
    for segment in engine.log.segments() {
        if segment.id < from.segment {
            continue;
        }
        let mut offset = if segment.id == from.segment { from.offset } else { SEGMENT_START };
        if offset >= segment.used() {
            continue;
        }
        let bytes = segment.read_used()?;
        let scanner = segment.scanner(&bytes);
        loop {
            let record = match scanner.at(offset, None) {
                Found::Record(record) => record,
                Found::End => break,
                Found::Bad { .. } => {
                    // What follows damage is still true; what was in it is lost until repair.
                    let next = scanner.resync(offset + 4, 0);
                    let end = next.map_or(segment.used(), |record| record.position.offset);
                    engine.log.report_damage(Damage { segment: segment.id, start: offset, end });
                    match next {
                        Some(record) => record,
                        None => break,
                    }
                }
            };
            apply(engine, &record, now_ms)?;
            offset = record.end();
        }
    }
    Ok(())
}

fn apply(engine: &Engine, record: &RecordRef<'_>, now_ms: u64) -> Result<()> {
    if record.header.kind != ContentKind::Custom as u8 {
        return Ok(());
    }
    engine.clock.observe(Version::from_u64(record.header.time));
    let whole = changes(record, |change| {
        let namespace = change.header.namespace;
        if !engine.namespaces.is_live(namespace) {
            return Ok(());
        }
        let stays = change.header.op == Op::Put && !change.header.expired(now_ms);
        index_change(engine, namespace, change.key, stays.then_some(change.location))
    })?;
    if !whole {
        engine.log.report_damage(Damage {
            segment: record.position.segment,
            start: record.position.offset,
            end: record.end(),
        });
    }
    Ok(())
}
