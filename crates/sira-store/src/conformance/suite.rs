//! The list of all cases.

use std::future::Future;
use std::pin::Pin;

use super::context::Context;
use super::{
    answers, batches, cancellation, checks, conditions, expiry, keys, listing, metadata,
    namespaces, ranges, transactions, values, versions,
};
use crate::backend::StorageBackend;

/// What a case found; the text says what was expected and what was seen.
pub(super) type Verdict = Result<(), String>;

/// A capability that a case needs.
#[derive(Debug, Clone, Copy)]
pub(super) enum Need {
    Ttl,
    Conditional,
    List,
    AtomicBatch,
    Namespaces,
    Metadata,
    ExactVersions,
    Transactions,
    TransactionEngine,
}

/// One case.
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) needs: &'static [Need],
    pub(super) run: fn(Context) -> Pin<Box<dyn Future<Output = Verdict> + Send>>,
}

impl Case {
    /// The first capability that the case needs and the backend does not have.
    pub(super) fn missing(&self, backend: &dyn StorageBackend) -> Option<&'static str> {
        let capabilities = backend.capabilities();
        self.needs.iter().find_map(|need| {
            let (declared, name) = match need {
                Need::Ttl => (capabilities.ttl, "ttl"),
                Need::Conditional => (capabilities.conditional, "conditional"),
                Need::List => (capabilities.list, "list"),
                Need::AtomicBatch => (capabilities.atomic_batch, "atomic_batch"),
                Need::Namespaces => (capabilities.namespaces, "namespaces"),
                Need::Metadata => (capabilities.metadata, "metadata"),
                Need::ExactVersions => (capabilities.exact_versions, "exact_versions"),
                Need::Transactions => {
                    let one_step = capabilities.atomic_batch && capabilities.conditional;
                    (one_step || backend.transaction_engine().is_some(), "transactions")
                }
                Need::TransactionEngine => {
                    (backend.transaction_engine().is_some(), "transaction_engine")
                }
            };
            (!declared).then_some(name)
        })
    }
}

macro_rules! cases {
    ($($module:ident / $case:ident $([$($need:ident),+])?;)*) => {
        /// Every case, in the order in which they run.
        pub(super) const CASES: &[Case] = &[$(
            Case {
                name: concat!(stringify!($module), "/", stringify!($case)),
                needs: &[$($(Need::$need),+)?],
                run: |context| Box::pin($module::$case(context)),
            },
        )*];
    };
}

cases! {
    answers/capabilities;
    answers/stats_and_health;
    answers/options;
    values/empty;
    values/binary;
    values/sizes;
    values/overwrite;
    values/streamed;
    values/failed_stream;
    values/whole_while_overwritten;
    values/tasks_read_their_own_writes;
    keys/longest;
    keys/refused;
    keys/odd;
    keys/apart;
    keys/shortest [Namespaces];
    versions/told;
    versions/grow;
    versions/grow_past_delete;
    versions/unique;
    versions/delete_says_what_was_there;
    versions/exact [ExactVersions];
    versions/exact_is_no_condition [ExactVersions, Conditional];
    versions/exact_refused [ExactVersions];
    versions/exact_in_batches [ExactVersions];
    versions/exact_in_race [ExactVersions];
    conditions/of_writes [Conditional];
    conditions/of_removals [Conditional];
    conditions/of_reads [Conditional];
    conditions/race_to_create [Conditional];
    conditions/race_to_replace [Conditional];
    conditions/race_to_remove [Conditional];
    conditions/counter [Conditional];
    expiry/exact [Ttl];
    expiry/told [Ttl];
    expiry/replaced [Ttl];
    expiry/gone_is_absent [Ttl];
    expiry/gone_is_absent_to_conditions [Ttl, Conditional];
    expiry/edges [Ttl];
    expiry/at [Ttl];
    ranges/cut;
    ranges/refused;
    ranges/random;
    metadata/kept [Metadata];
    metadata/replaced [Metadata];
    metadata/refused [Metadata];
    listing/ordered [List];
    listing/paged [List];
    listing/prefix [List];
    listing/start_after [List];
    listing/delimiter [List];
    listing/delimiter_pages [List];
    listing/follows_writes [List];
    listing/while_writing [List];
    batches/answers;
    batches/in_order;
    batches/large;
    batches/refused;
    batches/others_go_on;
    batches/all_or_nothing [AtomicBatch];
    batches/conditions [AtomicBatch, Conditional];
    batches/seen_whole [AtomicBatch];
    batches/racing [AtomicBatch, Conditional];
    checks/demands [AtomicBatch, Conditional];
    checks/in_order [AtomicBatch, Conditional];
    checks/racing [AtomicBatch, Conditional];
    transactions/whole [Transactions];
    transactions/serializable [Transactions];
    transactions/namespaces [TransactionEngine, Namespaces];
    transactions/apart [TransactionEngine, Namespaces];
    transactions/listed [TransactionEngine, List];
    transactions/phantoms [TransactionEngine, List];
    namespaces/apart [Namespaces];
    namespaces/refused [Namespaces];
    cancellation/put;
    cancellation/stream;
    cancellation/remove;
    cancellation/batch [AtomicBatch];
}
