//! One namespace over several backends: where each object lies, and how it is found again.
//!
//! A [`PlacementPolicy`] chooses among backends when an object is written. What it chose is kept in
//! a [`Catalog`], so a read finds what a write stored, whatever the policy became since. Only objects
//! that lie elsewhere than at the namespace's *home* have an entry.
//!
//! The protocol, which `docs/architecture.md` explains:
//!
//! - A write goes to the place that the entry names, and looks at the entry again afterwards. If a
//!   move went on meanwhile, it either took the write along or had gone by before the write came;
//!   then the write removes what it left at the old place, and begins again.
//! - A move says so in the entry first (`at`, `moving`), copies the object under the same version,
//!   says that too, removes the object from the old place on the condition that it is still that
//!   version, and then names the new place. While it goes on, what lies at the old place counts
//!   before the copy.
//! - A move that was given up is ended by the next write to the key: at once if it was of this
//!   process, else after [`MOVE_LEASE_MS`]. Calls to the backends must end within that time, which
//!   the deadline layer sees to.
//! - An object on mirrors has an entry that says which copies are as it is; a write says that it
//!   begins before it changes the object, and which copies it has made afterwards. Where the
//!   object's backend does not answer, such a copy is read, and no other.

mod backend;
mod catalog;
mod copies;
mod entry;
mod figures;
mod listing;
mod mender;
mod movement;
mod replicas;
mod replication;
mod retire;
mod write;

use std::fmt;

use crate::options::StorageOptions;
use crate::router::{Operation, Route, RouteRequest, StorageRouter};

pub use backend::PlacedBackend;
pub use catalog::{Catalog, NamespaceRecord};
pub use entry::{Copies, Entry, Moving, Writing};
pub use figures::{CopyCounts, CopyFigures};
pub use mender::Behind;
pub use replicas::{RepairOptions, RepairReport, RepairRule};
pub use replication::{Acknowledge, Consistency, REPLICAS_MAX, Replication};

pub(crate) use copies::together;

/// Time after which a move of another process counts as given up, in milliseconds.
pub const MOVE_LEASE_MS: u64 = 30_000;

/// What is known when a place is chosen.
#[derive(Debug, Clone, Copy)]
pub struct PlacementRequest<'a> {
    /// Namespace of the object.
    pub namespace: &'a str,
    /// Key of the object.
    pub key: &'a str,
    /// Bytes of the value.
    pub size: u64,
    /// Options of the write.
    pub options: &'a StorageOptions,
    /// Names of the backends that there are, in byte order.
    pub backends: &'a [String],
    /// Wall clock, milliseconds since the Unix epoch.
    pub now_ms: u64,
}

/// Chooses among backends.
pub trait PlacementPolicy: Send + Sync + fmt::Debug {
    /// Where the object may lie, best first. An object that lies on one of the backends already
    /// stays there; a new one goes to the first that takes it. Names of backends that there are not
    /// are passed over; none at all leaves the object where it is, or puts it at the namespace's
    /// home. Mirrors get a copy of it.
    fn choose(&self, request: &PlacementRequest<'_>) -> Route;
}

/// What the router ranks: a rule that names one backend moves an object that lies elsewhere, one
/// that ranks several lets it stay on any of them.
impl PlacementPolicy for StorageRouter {
    fn choose(&self, request: &PlacementRequest<'_>) -> Route {
        self.route(&RouteRequest {
            namespace: request.namespace,
            key: request.key,
            operation: Operation::Write,
            options: request.options,
            size: Some(request.size),
            region: None,
            now_ms: request.now_ms,
            candidates: request.backends,
            near: None,
            explain: false,
        })
    }
}
