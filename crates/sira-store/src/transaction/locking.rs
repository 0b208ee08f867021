//! The locks of one transaction.

use crate::error::Result;
use crate::lock::{LockManager, LockMode, LockName, LockOptions, LockOwner};

/// Takes locks for a transaction, and releases them when it ends.
#[derive(Debug)]
pub(crate) struct Locking {
    manager: LockManager,
    owner: LockOwner,
    options: LockOptions,
}

impl Locking {
    pub(crate) fn new(manager: LockManager, owner: LockOwner, options: LockOptions) -> Self {
        Self { manager, owner, options }
    }

    pub(super) async fn lock(&self, namespace: &str, key: &str, mode: LockMode) -> Result<()> {
        let name = LockName::new(namespace, key);
        self.manager.acquire(&self.owner, &name, mode, self.options).await.map(|_| ())
    }
}

impl Drop for Locking {
    fn drop(&mut self) {
        self.manager.release_all(&self.owner);
    }
}
