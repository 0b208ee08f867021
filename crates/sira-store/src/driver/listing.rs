//! Pages of a listing, made from the scans of a driver.

use std::collections::VecDeque;
use std::sync::Arc;

use async_trait::async_trait;

use super::store::Store;
use super::{After, Expiry, Listed, Part, Place, Scan};
use crate::backend::{ListEntry, ListOptions, ListPage};
use crate::error::{Result, StorageError};
use crate::limits::{KEY_BYTES_MAX, LIST_LIMIT_DEFAULT, LIST_LIMIT_MAX};

/// Most keys of one scan.
const SCAN_LIMIT_MAX: usize = 1000;

/// Keys of one scan while they fold into common prefixes: most of them are skipped.
const SCAN_LIMIT_FOLDED: usize = 100;

/// Records that are asked for their expiry at once.
const CONCURRENCY: usize = 16;

/// What pages are made from.
#[async_trait]
pub(crate) trait Source: Sync {
    /// As [`super::Driver::scan`].
    async fn scan(&self, scan: Scan) -> Result<Vec<Listed>>;

    /// Those that have not expired.
    async fn live(&self, found: Vec<Listed>) -> Result<VecDeque<Listed>>;
}

/// Records of a place.
pub(super) struct Records<'a> {
    pub(super) store: &'a Store,
    pub(super) place: &'a Place,
}

#[async_trait]
impl Source for Records<'_> {
    async fn scan(&self, scan: Scan) -> Result<Vec<Listed>> {
        self.store.driver.scan(self.place, scan).await
    }

    async fn live(&self, found: Vec<Listed>) -> Result<VecDeque<Listed>> {
        live(self.store, self.place, found).await
    }
}

/// Makes a page, as `StorageBackend::list` defines it.
pub(crate) async fn page(source: &dyn Source, options: &ListOptions) -> Result<ListPage> {
    let limit = match options.limit {
        0 => LIST_LIMIT_DEFAULT,
        limit => limit.min(LIST_LIMIT_MAX),
    };
    if options.prefix.len() > KEY_BYTES_MAX {
        return Ok(ListPage::default());
    }
    let delimiter = options.delimiter.as_deref().filter(|delimiter| !delimiter.is_empty());
    let folded = |key: &str| {
        let rest = key.strip_prefix(options.prefix.as_str())?;
        let delimiter = delimiter?;
        let end = key.len() - rest.len() + rest.find(delimiter)? + delimiter.len();
        key.get(..end).map(str::to_owned)
    };
    let mut page = ListPage::default();
    let mut last = None;
    // What lies under a common prefix that sorts before `start_after` was folded on an earlier page.
    let mut after = options.start_after.as_ref().map(|after| match folded(after) {
        Some(folded) => After::Prefix(folded),
        None => After::Key(after.clone()),
    });
    let scan_limit = match delimiter {
        Some(_) => limit.saturating_add(1).min(SCAN_LIMIT_FOLDED),
        None => limit.saturating_add(1).min(SCAN_LIMIT_MAX),
    };
    loop {
        let scan = Scan { prefix: options.prefix.clone(), after: after.clone(), limit: scan_limit };
        let found = source.scan(scan).await?;
        let exhausted = found.len() < scan_limit;
        let mut reached = found.last().map(|listed| After::Key(listed.key.clone()));
        let mut found = source.live(found).await?;
        while let Some(listed) = found.pop_front() {
            if page.entries.len() + page.common_prefixes.len() == limit {
                page.next = last;
                return Ok(page);
            }
            if let Some(folded) = folded(&listed.key) {
                found.retain(|listed| !listed.key.starts_with(&folded));
                if let Some(After::Key(key)) = &reached
                    && key.starts_with(&folded)
                {
                    reached = Some(After::Prefix(folded.clone()));
                }
                last = Some(folded.clone());
                page.common_prefixes.push(folded);
                continue;
            }
            last = Some(listed.key.clone());
            page.entries.push(ListEntry {
                key: listed.key,
                size: listed.size,
                version: listed.version,
                expires_at_ms: match listed.expiry {
                    Expiry::At(at) => Some(at),
                    Expiry::Never | Expiry::Unknown => None,
                },
            });
        }
        if exhausted || reached.is_none() {
            return Ok(page);
        }
        after = reached;
    }
}

/// Those that have not expired.
async fn live(store: &Store, place: &Place, found: Vec<Listed>) -> Result<VecDeque<Listed>> {
    let now_ms = store.env.now_ms();
    let mut kept: Vec<Option<Listed>> = Vec::with_capacity(found.len());
    let mut under_way = tokio::task::JoinSet::new();
    for (number, listed) in found.into_iter().enumerate() {
        let expired = matches!(listed.expiry, Expiry::At(at) if at <= now_ms);
        if listed.expiry == Expiry::Unknown {
            if under_way.len() == CONCURRENCY {
                settle_one(store, &mut under_way, &mut kept).await?;
            }
            let (driver, place, key) =
                (Arc::clone(&store.driver), place.clone(), listed.key.clone());
            under_way.spawn(async move {
                let record = driver.get(&place, &key, Part::Head).await?;
                Ok((number, record.map(|record| record.expires_at_ms)))
            });
        }
        kept.push((!expired).then_some(listed));
    }
    while !under_way.is_empty() {
        settle_one(store, &mut under_way, &mut kept).await?;
    }
    Ok(kept.into_iter().flatten().collect())
}

/// Number of an entry, and the expiry of its record if there is one.
type Asked = Result<(usize, Option<Option<u64>>)>;

async fn settle_one(
    store: &Store,
    under_way: &mut tokio::task::JoinSet<Asked>,
    kept: &mut [Option<Listed>],
) -> Result<()> {
    let Some(asked) = under_way.join_next().await else { return Ok(()) };
    let (number, found) = asked.map_err(|error| {
        StorageError::unavailable("a part of the listing was given up").with_source(error)
    })??;
    let Some(entry) = kept.get_mut(number) else { return Ok(()) };
    let lives = |at: Option<u64>| at.is_none_or(|at| store.env.now_ms() < at);
    match found {
        Some(expires_at_ms) if lives(expires_at_ms) => {
            if let Some(listed) = entry {
                listed.expiry = expires_at_ms.into();
            }
        }
        Some(_) | None => *entry = None,
    }
    Ok(())
}
