//! Reading everything that lies on a backend, a little at a time, to see that it verifies.

use super::StorageClient;
use super::view::inside;
use crate::backend::ListOptions;
use crate::error::{Result, StorageError};

/// Objects of one page.
const PAGE: usize = 100;

/// What an object counts for at least: small ones cost a request, too.
const OBJECT_BYTES_MIN: u64 = 16 << 10;

/// How far a scrub of a backend has come.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct ScrubCursor {
    namespace: Option<String>,
    after: Option<String>,
}

/// What one step of a scrub read and found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ScrubbedObjects {
    /// Where the next step begins; `None` after the last object.
    pub next: Option<ScrubCursor>,
    /// What was read, in bytes; small objects count for 16 KiB.
    pub bytes: u64,
    /// Objects that were read and verify.
    pub objects: u64,
    /// Objects that do not, as `namespace/key`, and that no replica could make good.
    pub damaged: Vec<String>,
}

impl StorageClient {
    /// Reads the next objects that lie on a backend, up to about `bytes`, as they lie there: no cache
    /// and no mirror answers in its place. An object whose checksum does not hold is made good from
    /// another replica, else it is named, and the rest is read on. Namespaces of plain bytes have no checksums and are left out.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] for a backend that is not there, [`StorageError::Unsupported`] for
    /// one that does not list, and those of the backend; the same step can be tried again.
    pub async fn scrub(
        &self,
        backend: &str,
        from: &ScrubCursor,
        bytes: u64,
    ) -> Result<ScrubbedObjects> {
        let plan = self.plan();
        let root = plan.find(backend)?;
        let holdings = plan.holdings().await?;
        let namespaces = holdings.get(backend).into_iter().flatten();
        let mut done = ScrubbedObjects::default();
        for name in namespaces.filter(|name| from.namespace.as_ref().is_none_or(|at| *name >= at)) {
            let namespace = inside(root, name).await?;
            let is_first = from.namespace.as_ref() == Some(name);
            let mut after = from.after.clone().filter(|_| is_first);
            loop {
                let options = ListOptions {
                    start_after: after.clone(),
                    limit: PAGE,
                    ..ListOptions::default()
                };
                let page = namespace.list(options).await?;
                for entry in page.entries {
                    match namespace.get(&entry.key).await {
                        // It may have been removed since it was listed.
                        Ok(value) => {
                            done.bytes +=
                                value.map_or(0, |it| it.len() as u64).max(OBJECT_BYTES_MIN);
                            done.objects += 1;
                        }
                        Err(StorageError::Corrupt(_)) => {
                            done.bytes += entry.size.max(OBJECT_BYTES_MIN);
                            if !self.heal(name, &entry.key).await {
                                done.damaged.push(format!("{name}/{}", entry.key));
                            }
                        }
                        Err(error) => return Err(error.with_namespace(name)),
                    }
                    if done.bytes >= bytes {
                        let (namespace, after) = (Some(name.clone()), Some(entry.key));
                        done.next = Some(ScrubCursor { namespace, after });
                        return Ok(done);
                    }
                }
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
        }
        Ok(done)
    }
}
