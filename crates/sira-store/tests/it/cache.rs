//! The cache: conformance over primaries and tiers, and what it must hold beside that.

mod behavior;
mod conformance;
mod faults;
mod model;
mod probe;
mod write_back;

use std::sync::Arc;

use sira_store::cache::{CacheBackend, CacheOptions, CachePolicy};
use sira_store::{MemoryBackend, StorageBackend};

/// A policy under which every write goes through the cache.
fn exclusive() -> CachePolicy {
    CachePolicy { exclusive: true, ..CachePolicy::default() }
}

fn with_policy(policy: CachePolicy) -> CacheOptions {
    CacheOptions { policy, ..CacheOptions::default() }
}

fn over(primary: Arc<dyn StorageBackend>, options: CacheOptions) -> CacheBackend {
    CacheBackend::new(primary, options).unwrap()
}

fn memory() -> Arc<MemoryBackend> {
    Arc::new(MemoryBackend::new(1 << 30))
}
