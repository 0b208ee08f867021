//! Names of keys on the server.
//!
//! Keys are spread over buckets. Everything of a bucket carries one hash tag and so lies in one hash
//! slot of a cluster, where a script can change it as one step; the slots of the buckets are spaced
//! evenly, so that a cluster's nodes get equal shares. Within bucket `{t}`, where `a` is the code of
//! the area:
//!
//! | name | what |
//! |---|---|
//! | `PREFIX{t}a/NAMESPACE/KEY` | a record, as [`Record::encode`] gives it |
//! | `PREFIX{t}a` | sorted set of `NAMESPACE/KEY`, all of score 0, so in byte order |
//! | `PREFIX{t}ax` | sorted set of the `NAMESPACE/KEY` that expire, scored by when |
//!
//! `PREFIX{sira}` is a hash with the layout's format and the number of buckets.
//!
//! [`Record::encode`]: sira_store::driver::Record::encode

use sira_store::driver::{Area, Place};

/// Version of the layout.
pub(super) const FORMAT: u64 = 1;

/// Hash slots of a cluster.
const SLOTS: u32 = 16_384;

/// Most buckets of a store.
pub(super) const BUCKETS_MAX: u16 = 1024;

/// Buckets of a store on a cluster, unless options say otherwise.
pub(super) const CLUSTER_BUCKETS: u16 = 64;

/// Where things are, for one prefix and number of buckets.
#[derive(Debug)]
pub(super) struct Layout {
    buckets: Vec<Bucket>,
}

#[derive(Debug)]
pub(super) struct Bucket {
    /// Prefix and tag: what all names of the bucket begin with.
    stem: String,
    slot: u16,
}

/// The names that a change of one key touches.
#[derive(Debug, Clone)]
pub(super) struct Names {
    pub(super) value: Vec<u8>,
    pub(super) index: String,
    pub(super) expiries: String,
    pub(super) slot: u16,
}

impl Layout {
    pub(super) fn new(prefix: &str, buckets: u16) -> Self {
        let count = u32::from(buckets.clamp(1, BUCKETS_MAX));
        let buckets = (0..count)
            .map(|number| {
                let (tag, slot) = tag(number, count);
                Bucket { stem: format!("{prefix}{{{tag}}}"), slot }
            })
            .collect();
        Self { buckets }
    }

    /// Name of the hash that describes the layout.
    pub(super) fn description(prefix: &str) -> String {
        format!("{prefix}{{sira}}")
    }

    pub(super) fn buckets(&self) -> &[Bucket] {
        &self.buckets
    }

    /// The names of one key.
    pub(super) fn names(&self, place: &Place, key: &str) -> Names {
        let hash = crc16::State::<crc16::XMODEM>::calculate(key.as_bytes());
        // There is at least one bucket.
        let bucket = &self.buckets[usize::from(hash) % self.buckets.len()];
        let mut member = Vec::with_capacity(place.namespace.len() + 1 + key.len());
        member.extend_from_slice(place.namespace.as_bytes());
        member.push(b'/');
        member.extend_from_slice(key.as_bytes());
        bucket.names(place.area, &member)
    }
}

impl Bucket {
    pub(super) fn slot(&self) -> u16 {
        self.slot
    }

    pub(super) fn index(&self, area: Area) -> String {
        format!("{}{}", self.stem, area.code())
    }

    pub(super) fn expiries(&self, area: Area) -> String {
        format!("{}{}x", self.stem, area.code())
    }

    /// The names of a member of the index.
    pub(super) fn names(&self, area: Area, member: &[u8]) -> Names {
        let mut value = Vec::with_capacity(self.stem.len() + 2 + member.len());
        value.extend_from_slice(self.stem.as_bytes());
        value.extend_from_slice(area.code().as_bytes());
        value.push(b'/');
        value.extend_from_slice(member);
        Names { value, index: self.index(area), expiries: self.expiries(area), slot: self.slot }
    }
}

/// The smallest number whose hash slot lies in the bucket's share of the slots, and that slot.
fn tag(bucket: u32, count: u32) -> (u32, u16) {
    let share = SLOTS * bucket / count..SLOTS * (bucket + 1) / count;
    let mut tag = 0;
    loop {
        let slot = slot(tag.to_string().as_bytes());
        if share.contains(&u32::from(slot)) {
            return (tag, slot);
        }
        tag += 1;
    }
}

/// The hash slot of a key without a tag, or of a tag.
pub(super) fn slot(bytes: &[u8]) -> u16 {
    crc16::State::<crc16::XMODEM>::calculate(bytes) % SLOTS as u16
}

/// The hash slot of any key: that of its tag, where it has one that is not empty.
pub(super) fn slot_of(key: &[u8]) -> u16 {
    let tag = || {
        let open = key.iter().position(|byte| *byte == b'{')? + 1;
        let length = key.get(open..)?.iter().position(|byte| *byte == b'}')?;
        key.get(open..open + length).filter(|tag| !tag.is_empty())
    };
    slot(tag().unwrap_or(key))
}

#[cfg(test)]
mod tests;
