//! What lies on each backend, counted through its listings.

use std::collections::{BTreeMap, BTreeSet};

use super::StorageClient;
use super::view::inside;
use crate::backend::ListOptions;
use crate::error::Result;

/// What one page of a listing holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CountedPage {
    /// Objects.
    pub objects: u64,
    /// Bytes of their keys, and of their values as they are stored.
    pub bytes: u64,
    /// Key after which the next page begins; `None` after the last object.
    pub next: Option<String>,
}

impl StorageClient {
    /// The namespaces that have, or may have, something on each backend: those that the catalog
    /// knows, those that have a policy, and `default`. An engine may have more.
    ///
    /// # Errors
    /// Those of the catalog.
    pub async fn holdings(&self) -> Result<BTreeMap<String, BTreeSet<String>>> {
        let plan = self.plan();
        let mut holdings = plan.holdings().await?;
        for name in plan.namespaces.iter().filter(|(_, policy)| policy.plain).map(|(name, _)| name)
        {
            let backend = plan.backend_of(name);
            if let Some(namespaces) = backend.and_then(|backend| holdings.get_mut(backend)) {
                namespaces.insert(name.clone());
            }
        }
        Ok(holdings)
    }

    /// Counts the objects of a namespace that lie on a backend, a page of the listing at a time.
    ///
    /// # Errors
    /// [`crate::StorageError::NotFound`] for a backend that is not there,
    /// [`crate::StorageError::Unsupported`] for one that does not list, and those of the backend.
    pub async fn count_page(
        &self,
        backend: &str,
        namespace: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<CountedPage> {
        let plan = self.plan();
        let root = plan.find(backend)?;
        let is_plain = plan.namespaces.get(namespace).is_some_and(|policy| policy.plain);
        let place = match is_plain {
            true => root.plain(namespace).await?,
            false => inside(root, namespace).await?,
        };
        let start_after = after.map(str::to_owned);
        let page = place.list(ListOptions { start_after, limit, ..ListOptions::default() }).await?;
        let mut counted = CountedPage { next: page.next, ..CountedPage::default() };
        for entry in page.entries {
            counted.objects += 1;
            counted.bytes += entry.size + entry.key.len() as u64;
        }
        Ok(counted)
    }
}
