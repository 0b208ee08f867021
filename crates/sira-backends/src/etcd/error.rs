//! What an error of etcd means to the caller.

use std::error::Error as StdError;
use std::io;

use etcd_client::Error;
use sira_store::{Retry, StorageError};

use crate::handshake::{chain, refusal};

/// Whether a request may have changed something when its answer is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    Read,
    Write,
}

impl Effect {
    /// Whether a retry helps after an answer was lost.
    fn after_loss(self) -> Retry {
        match self {
            Self::Read => Retry::Temporary,
            Self::Write => Retry::Ambiguous,
        }
    }
}

/// Codes of gRPC that this module tells apart.
mod code {
    pub(super) const CANCELLED: i32 = 1;
    pub(super) const INVALID_ARGUMENT: i32 = 3;
    pub(super) const DEADLINE_EXCEEDED: i32 = 4;
    pub(super) const PERMISSION_DENIED: i32 = 7;
    pub(super) const RESOURCE_EXHAUSTED: i32 = 8;
    pub(super) const FAILED_PRECONDITION: i32 = 9;
    pub(super) const UNAVAILABLE: i32 = 14;
    pub(super) const UNAUTHENTICATED: i32 = 16;
}

/// The error of a request, in the store's terms.
pub(super) fn storage_error(error: Error, effect: Effect) -> StorageError {
    if let Some(refusal) = refusal("etcd", &chain(&error)) {
        return refusal.with_source(error);
    }
    let kind = match &error {
        Error::GRpcStatus(status) => {
            of_status(status.code() as i32, status.message(), is_unsent(&error), effect)
        }
        Error::InvalidArgs(_) | Error::InvalidUri(_) | Error::InvalidMetadataValue(_) => {
            StorageError::invalid_input(format!("etcd cannot be used like this: {error}"))
        }
        Error::TransportError(_) => {
            StorageError::unavailable(format!("etcd cannot be reached: {error}"))
        }
        _ => StorageError::unavailable(format!("the connection to etcd was lost: {error}"))
            .with_retry(effect.after_loss()),
    };
    kind.with_source(error)
}

fn of_status(code: i32, said: &str, unsent: bool, effect: Effect) -> StorageError {
    match code {
        _ if unsent => StorageError::unavailable(format!(
            "no member of etcd can be reached: {said}; see that they run and that the endpoints are \
             right"
        )),
        code::CANCELLED | code::DEADLINE_EXCEEDED => late(effect),
        code::UNAUTHENTICATED | code::PERMISSION_DENIED => denied(said),
        code::INVALID_ARGUMENT if said.contains("authentication") || said.contains("user name") => {
            denied(said)
        }
        code::INVALID_ARGUMENT if said.contains("too large") => too_large(),
        code::INVALID_ARGUMENT if said.contains("too many operations") => StorageError::too_large(
            "this etcd takes fewer operations in a transaction than usual; raise its --max-txn-ops \
             to 128",
        ),
        code::RESOURCE_EXHAUSTED if said.contains("larger than max") => too_large(),
        code::RESOURCE_EXHAUSTED if said.contains("space") => StorageError::out_of_space(
            "etcd has reached its --quota-backend-bytes and refuses writes; compact and defragment \
             it, raise the quota, then disarm the alarm",
        ),
        code::RESOURCE_EXHAUSTED => {
            StorageError::unavailable(format!("etcd is overloaded: {said}"))
        }
        code::FAILED_PRECONDITION if said.contains("authentication is not enabled") => {
            StorageError::invalid_input("this etcd has no users: leave user and password out")
        }
        code::UNAVAILABLE if said.contains("no leader") => StorageError::unavailable(
            "etcd has no leader at present: too few of its members answer",
        ),
        // A leader may have passed the request on before it was replaced.
        code::UNAVAILABLE => StorageError::unavailable(format!("etcd did not answer: {said}"))
            .with_retry(effect.after_loss()),
        _ => StorageError::io(format!("etcd refused the request: {said}"))
            .with_retry(effect.after_loss()),
    }
}

/// The error of an answer that did not come in time.
pub(super) fn late(effect: Effect) -> StorageError {
    StorageError::timeout("etcd did not answer in time").with_retry(effect.after_loss())
}

fn too_large() -> StorageError {
    StorageError::too_large(
        "etcd takes no request as large; its --max-request-bytes bounds a value, and the changes of \
         one atomic batch together",
    )
}

fn denied(said: &str) -> StorageError {
    StorageError::permission_denied(format!(
        "etcd refuses this user: {said}; check user, password and the user's roles"
    ))
}

/// Whether the request never left, because there was no connection.
pub(super) fn is_unsent(error: &Error) -> bool {
    let Error::GRpcStatus(status) = error else {
        return matches!(error, Error::TransportError(_));
    };
    let mut cause = StdError::source(status);
    while let Some(error) = cause {
        let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
        if matches!(
            kind,
            Some(
                io::ErrorKind::ConnectionRefused
                    | io::ErrorKind::HostUnreachable
                    | io::ErrorKind::NetworkUnreachable
                    | io::ErrorKind::AddrNotAvailable
            )
        ) {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests;
