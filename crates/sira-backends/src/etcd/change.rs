//! Transactions that make one change, and what they answer.

use etcd_client::{
    Compare, CompareOp, DeleteOptions, GetResponse, Txn, TxnOp, TxnOpResponse, TxnResponse,
};
use sira_store::driver::{Guard, Held, Record};
use sira_store::{Condition, Result, StorageError, Version};

use super::layout::{Names, StoredHead, alive, below, encode_head};

/// Largest record that is sent twice, for either case of a transaction, to spare a second one.
const TWICE_BYTES_MAX: usize = 32 * 1024;

/// Operations of one level of a transaction; etcd takes 128 on all levels together.
const OPERATIONS: usize = 100;

/// What a key was found to hold.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Seen {
    pub(super) held: Option<Held>,
    /// etcd's revision of the head, 0 for none.
    pub(super) revision: i64,
}

/// What became of a change.
#[derive(Debug, Clone, Copy)]
pub(super) enum Outcome {
    Applied,
    /// A removal was made, of what is told.
    Removed(Option<Held>),
    /// Nothing was changed, because of what the key holds, or because it was not known before.
    Refused(Seen),
}

/// Writes a record if the key holds what etcd can tell by comparing bytes; else only looks.
pub(super) fn put(names: &Names, record: &Record, guard: &Guard) -> Txn {
    let look = || vec![look(names)];
    let first = match guard.condition {
        Condition::Always => vec![older(names, record.version)],
        Condition::IfAbsent => vec![absent(names)],
        Condition::IfMatch(version) if record.version > version => {
            matches(names, version, guard.now_ms)
        }
        _ => return Txn::new().and_then(look()),
    };
    let twice = record.envelope.len() + record.body.len() <= TWICE_BYTES_MAX;
    let otherwise = if guard.condition == Condition::Always && twice {
        let create = Txn::new().when([absent(names)]).and_then(puts(names, record)).or_else(look());
        vec![TxnOp::txn(create)]
    } else {
        look()
    };
    Txn::new().when(first).and_then(puts(names, record)).or_else(otherwise)
}

/// Writes a record if the key still holds what was seen.
pub(super) fn put_over(names: &Names, record: &Record, seen: &Seen) -> Txn {
    Txn::new().when([unchanged(names, seen)]).and_then(puts(names, record)).or_else([look(names)])
}

/// Removes a record if the key holds what etcd can tell by comparing bytes; else only looks.
pub(super) fn remove(names: &Names, guard: &Guard) -> Txn {
    match guard.condition {
        Condition::Always => Txn::new().and_then(removals(names)),
        Condition::IfMatch(version) => Txn::new()
            .when(matches(names, version, guard.now_ms))
            .and_then(removals(names))
            .or_else([look(names)]),
        _ => Txn::new().and_then([look(names)]),
    }
}

/// Removes a record if the key still holds what was seen.
pub(super) fn remove_seen(names: &Names, seen: &Seen) -> Txn {
    Txn::new().when([unchanged(names, seen)]).and_then(removals(names)).or_else([look(names)])
}

/// What the first answer says that a transaction of this module gives.
pub(super) fn outcome(response: &TxnResponse) -> Result<Outcome> {
    match response.op_responses().into_iter().next() {
        Some(TxnOpResponse::Put(_)) => Ok(Outcome::Applied),
        Some(TxnOpResponse::Delete(deleted)) => {
            let head = deleted.prev_kvs().first();
            // What cannot be read is gone as well, and was there.
            let held = head.map(|head| {
                StoredHead::decode(head.value().to_vec())
                    .map_or(Held { version: Version::default(), expires_at_ms: None }, |it| {
                        it.held()
                    })
            });
            Ok(Outcome::Removed(held))
        }
        Some(TxnOpResponse::Txn(inner)) => outcome(&inner),
        Some(TxnOpResponse::Get(found)) => seen_head(found).map(Outcome::Refused),
        None => Err(StorageError::io("etcd answered a transaction with nothing")),
    }
}

/// Reads several heads at one moment.
pub(super) fn look_at_all(names: &[Names]) -> Txn {
    Txn::new().and_then(grouped(names.iter().map(look).collect()))
}

/// What [`look_at_all`] found.
pub(super) fn seen(response: &TxnResponse) -> Result<Vec<Seen>> {
    let mut all = Vec::new();
    for answer in response.op_responses() {
        match answer {
            TxnOpResponse::Get(found) => all.push(seen_head(found)?),
            TxnOpResponse::Txn(inner) => all.extend(seen(&inner)?),
            _ => return Err(StorageError::io("etcd answered a read with something else")),
        }
    }
    Ok(all)
}

/// Operations as one level, in transactions of their own where they are too many.
fn grouped(ops: Vec<TxnOp>) -> Vec<TxnOp> {
    if ops.len() <= OPERATIONS {
        return ops;
    }
    let parts = ops.chunks(OPERATIONS);
    parts.map(|part| TxnOp::txn(Txn::new().and_then(part))).collect()
}

fn seen_head(mut found: GetResponse) -> Result<Seen> {
    let Some(head) = found.take_kvs().into_iter().next() else { return Ok(Seen::default()) };
    let revision = head.mod_revision();
    let held = Some(StoredHead::decode(head.into_key_value().1)?.held());
    Ok(Seen { held, revision })
}

/// Reads the head.
fn look(names: &Names) -> TxnOp {
    TxnOp::get(names.head.clone(), None)
}

/// The key holds just what was seen.
pub(super) fn unchanged(names: &Names, seen: &Seen) -> Compare {
    Compare::mod_revision(names.head.clone(), CompareOp::Equal, seen.revision)
}

pub(super) fn puts(names: &Names, record: &Record) -> Vec<TxnOp> {
    let mut ops = vec![
        TxnOp::put(names.head.clone(), encode_head(record), None),
        TxnOp::put(names.body.clone(), record.body.to_vec(), None),
    ];
    if let Some(at) = record.expires_at_ms {
        ops.push(TxnOp::put(names.expiry(at), Vec::new(), None));
    }
    ops
}

pub(super) fn removals(names: &Names) -> Vec<TxnOp> {
    let told = DeleteOptions::new().with_prev_key();
    vec![TxnOp::delete(names.head.clone(), Some(told)), TxnOp::delete(names.body.clone(), None)]
}

fn absent(names: &Names) -> Compare {
    unchanged(names, &Seen::default())
}

/// The key holds a record of a lower version. False where it holds none.
fn older(names: &Names, version: Version) -> Compare {
    Compare::value(names.head.clone(), CompareOp::Less, below(version))
}

/// The key holds a record of this version that lives.
fn matches(names: &Names, version: Version, now_ms: u64) -> Vec<Compare> {
    let next = Version::from_u64(version.as_u64().saturating_add(1));
    vec![
        Compare::value(names.head.clone(), CompareOp::Greater, alive(version, now_ms)),
        older(names, next),
    ]
}
