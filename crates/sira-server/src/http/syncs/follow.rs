//! Syncs that go on when the server is started again.
//!
//! What was asked is kept in the embedded engine, as the JSON of the request, from before it is
//! answered until the sync is ended by its caller.

use std::sync::Arc;
use std::time::Duration;

use sira_store::client::DataSync;
use sira_store::limits::LIST_LIMIT_MAX;
use sira_store::{Durability, Result, StorageBackend, StorageError, StorageOptions};

use super::{SyncRequest, prepare};
use crate::http::app::App;

/// Namespace of the embedded engine that keeps the requests. Like the catalog's, it is shown to
/// nobody.
const NAMESPACE: &str = "sira.catalog.following";

/// Waits between attempts to begin, the first and the longest.
const WAIT_FIRST: Duration = Duration::from_millis(500);
const WAIT_MAX: Duration = Duration::from_secs(30);

/// The key of a request: both places, of which there is one sync.
fn key(asked: &SyncRequest) -> Result<String> {
    serde_json::to_string(&(&asked.from, &asked.to))
        .map_err(|error| StorageError::invalid_input("the sync has no name").with_source(error))
}

/// Keeps a request, durably.
pub(super) async fn remember(app: &App, asked: &SyncRequest) -> Result<()> {
    let kept = StorageBackend::namespace(app.store(), NAMESPACE).await?;
    let text = serde_json::to_vec(asked).map_err(|error| {
        StorageError::invalid_input("the sync cannot be kept").with_source(error)
    })?;
    let durable = StorageOptions { durability: Some(Durability::Sync), ..Default::default() };
    kept.put(&key(asked)?, text.into(), durable).await.map(drop)
}

/// Forgets the request of these places, durably.
pub(super) async fn forget(app: &App, asked: &SyncRequest) -> Result<()> {
    let Some(kept) = app.store().find_namespace(NAMESPACE)? else { return Ok(()) };
    if kept.delete(&key(asked)?).await? {
        kept.flush().await?;
    }
    Ok(())
}

/// Begins what went on when the server ended; what cannot be begun is logged, and stays kept.
pub async fn resume(app: &App) {
    let kept = match requests(app).await {
        Ok(kept) => kept,
        Err(error) => {
            tracing::error!(%error, "the syncs that went on before cannot be read");
            return;
        }
    };
    for asked in kept {
        match app.syncs().begin(asked, None, app) {
            Ok(begun) => tracing::info!(id = begun.id, "a sync goes on"),
            Err(problem) => tracing::error!(?problem, "a sync does not go on"),
        }
    }
}

async fn requests(app: &App) -> Result<Vec<SyncRequest>> {
    let Some(kept) = app.store().find_namespace(NAMESPACE)? else { return Ok(Vec::new()) };
    let mut requests = Vec::new();
    for key in kept.list_keys("", LIST_LIMIT_MAX).await? {
        let Some(text) = kept.get(&key).await? else { continue };
        match serde_json::from_slice(&text) {
            Ok(asked) => requests.push(asked),
            Err(error) => tracing::error!(%error, key, "a sync is kept that cannot be read"),
        }
    }
    Ok(requests)
}

/// Makes a sync ready, again and again until its places are there.
pub(super) async fn made_ready(app: &App, id: u64, asked: &SyncRequest) -> Arc<DataSync> {
    let mut wait = WAIT_FIRST;
    loop {
        let made = prepare(app, asked).await.map(Arc::new);
        if let Some(job) = app.syncs().known.lock().get_mut(&id) {
            match &made {
                Ok(sync) => job.sync = Some(Arc::clone(sync)),
                Err(problem) => job.hindrance = Some(problem.detail.to_string()),
            }
        }
        match made {
            Ok(sync) => return sync,
            Err(problem) => {
                tracing::warn!(id, why = %problem.detail, "a sync that goes on cannot begin yet");
            }
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(WAIT_MAX);
    }
}
