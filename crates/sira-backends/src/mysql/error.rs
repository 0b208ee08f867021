//! From the server's errors to ours.

use mysql_async::{DriverError, Error, ServerError};
use sira_store::{Retry, StorageError};

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

/// Whether the server gave up a transaction because of another one, and it can be run again: a
/// deadlock, or a row that changed since the transaction began.
pub(super) fn is_collision(error: &Error) -> bool {
    matches!(error, Error::Server(error) if matches!(error.code, 1213 | 1020))
}

/// The error of a statement.
pub(super) fn storage_error(error: Error, effect: Effect) -> StorageError {
    match &error {
        Error::Server(error) => server_error(error),
        Error::Driver(DriverError::PacketTooLarge) => StorageError::too_large(
            "the record is larger than the server's max_allowed_packet; raise it there",
        ),
        // Its text may hold parts of the URL.
        Error::Url(_) => return StorageError::invalid_input("the URL of MySQL is not understood"),
        other => {
            let said = other.to_string();
            refusal("MySQL", &said).unwrap_or_else(|| {
                StorageError::unavailable(format!("the connection to MySQL failed: {said}"))
                    .with_retry(effect.unanswered())
            })
        }
    }
    .with_source(error)
}

/// The error of getting a connection, for a server at `address`.
pub(super) fn connect_error(error: Error, address: &str) -> StorageError {
    match &error {
        Error::Io(cause) => {
            let said = cause.to_string();
            refusal("MySQL", &said)
                .unwrap_or_else(|| {
                    let message = format!("cannot connect to MySQL at {address}: {said}");
                    StorageError::unavailable(message)
                })
                .with_source(error)
        }
        _ => storage_error(error, Effect::Read),
    }
}

fn server_error(error: &ServerError) -> StorageError {
    let said = format!("MySQL says {:?} ({})", error.message, error.code);
    let with = |what: &str| format!("{what}: {said}");
    match error.code {
        1213 | 1020 => StorageError::conflict(with("other writers were in the way")),
        1205 | 1969 | 3024 => {
            StorageError::timeout(with("the server gave up, and changed nothing"))
                .with_retry(Retry::Temporary)
        }
        1040 | 1053 | 1129 | 1203 | 1226 | 1317 | 1927 => StorageError::unavailable(said),
        1044 | 1045 | 1142 | 1143 | 1227 | 1370 | 1698 => {
            StorageError::permission_denied(with("check user, password and rights"))
        }
        1049 | 1146 => StorageError::not_found(with("the database or the table is not there")),
        1021 | 1114 => StorageError::out_of_space(with("make room on the server")),
        1290 | 1792 | 1836 => {
            StorageError::read_only(with("the server takes no writes; name the primary"))
        }
        1118 | 1153 | 1162 | 1301 | 1406 => StorageError::too_large(said),
        126 | 1034 | 1194 | 1712 => StorageError::corrupt(said),
        1064 | 1054 | 1264 | 1366 | 1690 => StorageError::invalid_input(said),
        _ => StorageError::io(said),
    }
}
