//! From the server's errors to ours.

use std::error::Error as _;

use deadpool_postgres::{PoolError, TimeoutType};
use sira_store::{Retry, StorageError};
use tokio_postgres::Error;
use tokio_postgres::error::{DbError, SqlState};

use crate::handshake::refusal;

/// What a statement does, which decides what a lost connection means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    Read,
    Write,
}

impl Effect {
    /// Whether a retry helps when no answer came.
    pub(super) fn unanswered(self) -> Retry {
        match self {
            Self::Read => Retry::Temporary,
            Self::Write => Retry::Ambiguous,
        }
    }
}

/// Whether the server gave up a transaction because of another one, and it can be run again.
pub(super) fn is_collision(error: &Error) -> bool {
    error.code().is_some_and(|code| {
        *code == SqlState::T_R_SERIALIZATION_FAILURE || *code == SqlState::T_R_DEADLOCK_DETECTED
    })
}

/// The error of a statement.
pub(super) fn storage_error(error: &Error, effect: Effect) -> StorageError {
    match error.as_db_error() {
        Some(error) => server_error(error),
        None => {
            let said = root(error);
            refusal("PostgreSQL", &said).unwrap_or_else(|| {
                let message = format!("the connection to PostgreSQL failed: {said}");
                StorageError::unavailable(message).with_retry(effect.unanswered())
            })
        }
    }
}

/// The error of getting a connection, for a server at `address`.
pub(super) fn pool_error(error: PoolError, address: &str, pool_size: usize) -> StorageError {
    let message = match &error {
        PoolError::Timeout(TimeoutType::Wait) => format!(
            "all {pool_size} connections to PostgreSQL are busy: retry later, or raise pool_size"
        ),
        PoolError::Timeout(_) => {
            format!("PostgreSQL at {address} did not answer in time: check that it runs")
        }
        PoolError::Backend(error) => match error.as_db_error() {
            Some(error) => return server_error(error),
            None => {
                let said = root(error);
                if let Some(refusal) = refusal("PostgreSQL", &said) {
                    return refusal;
                }
                format!("cannot connect to PostgreSQL at {address}: {said}")
            }
        },
        PoolError::PostCreateHook(deadpool_postgres::HookError::Backend(error)) => {
            return storage_error(error, Effect::Read);
        }
        _ => "the pool of connections to PostgreSQL does not work".to_owned(),
    };
    StorageError::unavailable(message).with_source(error)
}

/// What lies deepest, which is what says why.
fn root(error: &Error) -> String {
    let mut deepest: &dyn std::error::Error = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    if error.source().is_some() { format!("{error}: {deepest}") } else { error.to_string() }
}

fn server_error(error: &DbError) -> StorageError {
    let code = error.code();
    let said = format!("PostgreSQL says {:?} ({})", error.message(), code.code());
    let with = |what: &str| format!("{what}: {said}");
    if *code == SqlState::T_R_SERIALIZATION_FAILURE || *code == SqlState::T_R_DEADLOCK_DETECTED {
        return StorageError::conflict(with("other writers were in the way"));
    }
    if *code == SqlState::DISK_FULL {
        return StorageError::out_of_space(with("the server's disk is full; make room there"));
    }
    if *code == SqlState::QUERY_CANCELED {
        return StorageError::timeout(with("the server gave up, and changed nothing"))
            .with_retry(Retry::Temporary);
    }
    if *code == SqlState::READ_ONLY_SQL_TRANSACTION {
        return StorageError::read_only(with("the server takes no writes; name the primary"));
    }
    if *code == SqlState::INSUFFICIENT_PRIVILEGE {
        return StorageError::permission_denied(with("the user may not do this; grant the right"));
    }
    if *code == SqlState::INVALID_CATALOG_NAME || *code == SqlState::UNDEFINED_TABLE {
        return StorageError::not_found(with("the database or the table is not there"));
    }
    if *code == SqlState::DATA_CORRUPTED || *code == SqlState::INDEX_CORRUPTED {
        return StorageError::corrupt(said);
    }
    match code.code().get(..2).unwrap_or_default() {
        "28" => StorageError::permission_denied(with("check user and password")),
        "08" | "53" | "55" | "57" => StorageError::unavailable(said),
        "54" => StorageError::too_large(said),
        "22" | "23" | "3F" | "42" => StorageError::invalid_input(said),
        _ => StorageError::io(said),
    }
}
