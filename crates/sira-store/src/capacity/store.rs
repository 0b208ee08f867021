//! Series of use kept over restarts: docs/formats/usage.md.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::series::UsageSeries;
use crate::backend::StorageBackend;
use crate::error::{Result, StorageError};
use crate::options::{Durability, StorageOptions};

/// Form of the documents.
const FORMAT: u32 = 1;

/// What a series is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct UsageOf {
    /// The backend.
    pub backend: String,
    /// The namespace on it; `None` for all of the backend.
    pub namespace: Option<String>,
}

impl UsageOf {
    /// All of a backend.
    #[must_use]
    pub fn backend(backend: impl Into<String>) -> Self {
        Self { backend: backend.into(), namespace: None }
    }

    /// A namespace on a backend.
    #[must_use]
    pub fn namespace(backend: impl Into<String>, namespace: impl Into<String>) -> Self {
        Self { backend: backend.into(), namespace: Some(namespace.into()) }
    }

    /// The key of its document.
    fn key(&self) -> Result<String> {
        serde_json::to_string(&(&self.backend, &self.namespace)).map_err(|error| {
            StorageError::invalid_input("the series has no name").with_source(error)
        })
    }
}

/// A series as it is kept.
#[derive(Debug, Serialize, Deserialize)]
struct Document {
    format: u32,
    of: UsageOf,
    /// When its objects were counted, in milliseconds since the Unix epoch.
    counted_ms: Option<u64>,
    #[serde(flatten)]
    series: UsageSeries,
}

/// Keeps series of use in a namespace of a backend, an object each.
#[derive(Debug, Clone)]
pub struct UsageStore(Arc<dyn StorageBackend>);

impl UsageStore {
    /// Keeps them here.
    #[must_use]
    pub fn new(namespace: Arc<dyn StorageBackend>) -> Self {
        Self(namespace)
    }

    /// The series that is kept, and when its objects were counted; an empty one where none is. One
    /// that a later version wrote is begun anew rather than mistaken.
    ///
    /// # Errors
    /// Those of the backend; [`StorageError::Corrupt`] for what is no series.
    pub async fn read(&self, of: &UsageOf) -> Result<(UsageSeries, Option<u64>)> {
        let key = of.key()?;
        let Some(bytes) = self.0.get(&key).await? else { return Ok(Default::default()) };
        let corrupt = |error| {
            StorageError::corrupt("the history of what was in use cannot be read")
                .with_key(&key)
                .with_source(error)
        };
        let format: Format = serde_json::from_slice(&bytes).map_err(corrupt)?;
        if format.format != FORMAT {
            return Ok(Default::default());
        }
        let document: Document = serde_json::from_slice(&bytes).map_err(corrupt)?;
        Ok((document.series, document.counted_ms))
    }

    /// Keeps a series. It can be lost with the machine, as what is written now and then is.
    ///
    /// # Errors
    /// Those of the backend.
    pub async fn write(
        &self,
        of: &UsageOf,
        series: &UsageSeries,
        counted_ms: Option<u64>,
    ) -> Result<()> {
        let (of, series) = (of.clone(), series.clone());
        let key = of.key()?;
        let document = Document { format: FORMAT, of, counted_ms, series };
        let bytes = serde_json::to_vec(&document).map_err(|error| {
            StorageError::invalid_input("the series has no JSON form").with_source(error)
        })?;
        let durability = Some(Durability::None);
        let options = StorageOptions { durability, ..StorageOptions::default() };
        self.0.put(&key, bytes.into(), options).await.map(drop)
    }

    /// Forgets a series, and says whether there was one.
    ///
    /// # Errors
    /// Those of the backend.
    pub async fn forget(&self, of: &UsageOf) -> Result<bool> {
        self.0.delete(&of.key()?).await
    }

    /// Which series are kept.
    ///
    /// # Errors
    /// Those of the backend.
    pub async fn kept(&self) -> Result<Vec<UsageOf>> {
        let keys = self.0.list_keys("[", usize::MAX).await?;
        let of = |key: String| {
            let (backend, namespace) = serde_json::from_str(&key).ok()?;
            Some(UsageOf { backend, namespace })
        };
        Ok(keys.into_iter().filter_map(of).collect())
    }
}

/// What every version of a document has.
#[derive(Deserialize)]
struct Format {
    format: u32,
}
