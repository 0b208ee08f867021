//! Which request an operation belongs to.

use std::future::Future;
use std::sync::Arc;

tokio::task_local! {
    static REQUEST_ID: Arc<str>;
}

/// Runs `call` as a part of the request of this id: log lines about operations in it name the id.
/// What `call` spawns is not part of it.
pub async fn in_request<F: Future>(id: Arc<str>, call: F) -> F::Output {
    REQUEST_ID.scope(id, call).await
}

/// Id of the request that the current task works on, where there is one.
#[must_use]
pub fn request_id() -> Option<Arc<str>> {
    REQUEST_ID.try_with(Arc::clone).ok()
}
