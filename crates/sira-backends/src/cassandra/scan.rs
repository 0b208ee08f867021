//! Listings: the buckets of a namespace, merged.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use futures_util::{StreamExt, TryStreamExt, stream};
use sira_store::Result;
use sira_store::driver::{Expiry, Listed, Place, Scan};

use super::{Inner, error, expiry};
use crate::deadline::Effect;
use crate::signed;

/// Buckets that are asked at once.
const BUCKETS_AT_ONCE: usize = 64;

/// Keys to ask a bucket for beyond its share of a page: keys do not spread evenly.
const KEYS_BEYOND_SHARE: usize = 8;

/// Where the keys of a scan lie, as bytes: from the first on, before the end.
#[derive(Debug, Clone, PartialEq, Eq)]
struct KeyRange {
    first: Vec<u8>,
    end: Vec<u8>,
}

impl KeyRange {
    fn of(scan: &Scan) -> Self {
        let mut first = scan.prefix.as_bytes().to_vec();
        let mut end = first.clone();
        // No key holds the byte 255, so each prefix has one that follows.
        match end.last_mut() {
            Some(last) => *last += 1,
            None => end.push(0xFF),
        }
        if let Some(after) = &scan.after {
            let mut next = after.to_bytes();
            next.push(0);
            first = first.max(next);
        }
        Self { first, end }
    }

    fn is_empty(&self) -> bool {
        self.first >= self.end
    }
}

/// What is known of one bucket.
#[derive(Debug)]
struct Bucket {
    number: i32,
    /// Keys that were read and not listed yet.
    read: VecDeque<Listed>,
    /// Where to read on; `None` when nothing is left.
    rest: Option<KeyRange>,
}

impl Inner {
    /// A page of keys.
    pub(super) async fn page(&self, place: &Place, scan: &Scan) -> Result<Vec<Listed>> {
        let range = KeyRange::of(scan);
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let mut buckets: Vec<Bucket> = (0..self.buckets.cast_signed())
            .map(|number| Bucket { number, read: VecDeque::new(), rest: Some(range.clone()) })
            .collect();
        let share = scan.limit.div_ceil(buckets.len().max(1));
        let keys = share.saturating_add(share / 4).saturating_add(KEYS_BEYOND_SHARE);
        let mut page = Vec::new();
        loop {
            buckets = stream::iter(buckets)
                .map(|bucket| self.refill(place, bucket, keys.min(scan.limit)))
                .buffered(BUCKETS_AT_ONCE)
                .try_collect()
                .await?;
            if merge(&mut buckets, &mut page, scan.limit) {
                return Ok(page);
            }
        }
    }

    /// Reads up to so many keys of a bucket that has none left, if there may be more.
    async fn refill(&self, place: &Place, mut bucket: Bucket, keys: usize) -> Result<Bucket> {
        let Some(range) = bucket.rest.take_if(|_| bucket.read.is_empty()) else {
            return Ok(bucket);
        };
        let limit = i32::try_from(keys).unwrap_or(i32::MAX);
        let area = place.area.code();
        let values = (&*place.namespace, area, bucket.number, &range.first, &range.end, limit);
        let answer = self.session.execute_unpaged(&self.statements.page, values).await;
        let answer = answer
            .map_err(|error| error::of(error, Effect::Read))?
            .into_rows_result()
            .map_err(error::malformed)?;
        for row in answer.rows::<(Vec<u8>, i64, i64, i64)>().map_err(error::malformed)? {
            let (key, version, expires_at, size) = row.map_err(error::malformed)?;
            bucket.read.push_back(Listed {
                key: String::from_utf8(key).map_err(error::malformed)?,
                size: u64::try_from(size).map_err(error::malformed)?,
                version: Some(signed::to_version(version)),
                expiry: Expiry::from(expiry(expires_at)?),
            });
        }
        if bucket.read.len() >= keys {
            bucket.rest = bucket.read.back().map(|last| {
                let mut first = last.key.as_bytes().to_vec();
                first.push(0);
                KeyRange { first, end: range.end }
            });
        }
        Ok(bucket)
    }
}

/// Moves keys to the page in order, until it is full or a bucket must be read on. Says whether the
/// page is done.
fn merge(buckets: &mut [Bucket], page: &mut Vec<Listed>, limit: usize) -> bool {
    let mut next: BinaryHeap<Reverse<(String, usize)>> = BinaryHeap::new();
    for (at, bucket) in buckets.iter().enumerate() {
        match bucket.read.front() {
            Some(first) => next.push(Reverse((first.key.clone(), at))),
            None if bucket.rest.is_some() => return false,
            None => {}
        }
    }
    while page.len() < limit {
        let Some(Reverse((_, at))) = next.pop() else { return true };
        let Some(bucket) = buckets.get_mut(at) else { return true };
        page.extend(bucket.read.pop_front());
        match bucket.read.front() {
            Some(first) => next.push(Reverse((first.key.clone(), at))),
            None if bucket.rest.is_some() => return page.len() >= limit,
            None => {}
        }
    }
    true
}

#[cfg(test)]
mod tests;
