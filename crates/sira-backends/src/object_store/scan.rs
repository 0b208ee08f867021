//! Keys in order, also those that only the objects tell.

use std::collections::BTreeMap;

use futures_util::StreamExt;
use sira_store::Result;
use sira_store::driver::{After, Expiry, HEAD_BYTES, Listed, Place, Scan, names};

use super::adapter::Found;
use super::driver::{ObjectStoreDriver, is_tombstone};
use super::layout::{self, HASHED, Layout, Name, TOMBSTONE_BYTES};

/// Keys of one scan that are known and not told yet: those of hashed names. In their folder they
/// come before all others, with whose keys they are mixed.
struct Merge<'a> {
    scan: &'a Scan,
    pending: BTreeMap<String, Listed>,
    out: Vec<Listed>,
}

impl Merge<'_> {
    fn wants(&self, key: &str) -> bool {
        key.starts_with(&self.scan.prefix)
            && self.scan.after.as_ref().is_none_or(|after| after.precedes(key))
    }

    fn is_full(&self) -> bool {
        self.out.len() >= self.scan.limit
    }

    fn hold(&mut self, listed: Listed) {
        if self.wants(&listed.key) {
            self.pending.insert(listed.key.clone(), listed);
        }
    }

    /// Tells the pending keys before this one; all without.
    fn flush(&mut self, before: Option<&str>) {
        while !self.is_full() {
            let Some(first) = self.pending.first_entry() else { return };
            if before.is_some_and(|key| first.key().as_str() >= key) {
                return;
            }
            self.out.push(first.remove());
        }
    }

    fn tell(&mut self, listed: Listed) {
        self.flush(Some(&listed.key));
        if !self.is_full() && self.wants(&listed.key) {
            self.out.push(listed);
        }
    }
}

impl ObjectStoreDriver {
    pub(super) async fn scan_place(&self, place: &Place, scan: &Scan) -> Result<Vec<Listed>> {
        let space = self.layout.space(place);
        let prefix = names::escape(scan.prefix.as_bytes());
        let after = scan.after.as_ref().map(After::to_bytes).map(|bytes| names::escape(&bytes));
        let mut merge = Merge { scan, pending: BTreeMap::new(), out: Vec::new() };

        // Hashed names that lie before the place where the listing starts, of keys that may not.
        let part =
            layout::part_folder(&prefix).or_else(|| after.as_deref().and_then(layout::part_folder));
        if let Some(folder) = part {
            self.hold_hashed(format!("{space}{folder}{HASHED}"), &mut merge).await?;
        }

        let after = after.map(|after| format!("{space}{}", names::fold(&after)));
        let prefix = format!("{space}{}", names::fold(&prefix));
        let mut listing = self.store.list(&prefix, after, scan.limit.saturating_add(1)).await?;
        let mut hashed = Vec::new();
        while !merge.is_full() {
            let next = listing.next().await?;
            let name = next.as_ref().and_then(|(path, _)| Layout::name(path.strip_prefix(&space)?));
            match (next, name) {
                (Some((path, _)), Some(Name::Hashed)) => hashed.push(path),
                (Some((_, size)), Some(Name::Key(key))) => {
                    self.resolve(std::mem::take(&mut hashed), &mut merge).await?;
                    if size != TOMBSTONE_BYTES {
                        let expiry = if size % 2 == 1 { Expiry::Unknown } else { Expiry::Never };
                        merge.tell(Listed { key, size, version: None, expiry });
                    }
                }
                // Somebody else's object.
                (Some(_), None) => {}
                (None, _) => {
                    self.resolve(hashed, &mut merge).await?;
                    merge.flush(None);
                    break;
                }
            }
        }
        Ok(merge.out)
    }

    async fn hold_hashed(&self, prefix: String, merge: &mut Merge<'_>) -> Result<()> {
        let mut listing = self.store.list(&prefix, None, 1000).await?;
        let mut paths = Vec::new();
        while let Some((path, _)) = listing.next().await? {
            paths.push(path);
        }
        self.resolve(paths, merge).await
    }

    /// Reads the keys of hashed names.
    async fn resolve(&self, paths: Vec<String>, merge: &mut Merge<'_>) -> Result<()> {
        let reads = paths.into_iter().map(|path| self.read_hashed(path));
        let mut reads =
            futures_util::stream::iter(reads).buffered(self.store.options().requests_concurrent);
        while let Some(listed) = reads.next().await {
            if let Some(listed) = listed? {
                merge.hold(listed);
            }
        }
        Ok(())
    }

    async fn read_hashed(&self, path: String) -> Result<Option<Listed>> {
        let range = Some(0..layout::HEAD_BYTES_MAX as u64);
        let Found::Object(fetched) = self.store.get(&path, range, None).await? else {
            return Ok(None);
        };
        let (key, head) = layout::carried_head(&fetched.bytes)?;
        let size = HEAD_BYTES as u64 + u64::from(head.envelope_bytes) + head.body_bytes;
        let listed =
            Listed { key, size, version: Some(head.version), expiry: head.expires_at_ms.into() };
        Ok((!is_tombstone(&head)).then_some(listed))
    }
}
