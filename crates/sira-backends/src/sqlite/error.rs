//! From SQLite's errors to ours.

use rusqlite::{Error, ErrorCode};
use sira_store::{Retry, StorageError};

/// Whether another process holds the lock.
pub(super) fn is_busy(error: &Error) -> bool {
    let code = error.sqlite_error_code();
    matches!(code, Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// The error of a statement.
pub(super) fn storage_error(error: Error) -> StorageError {
    let said = format!("SQLite says {:?}", error.to_string());
    let with = |what: &str| format!("{what}: {said}");
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StorageError::unavailable(
            with("another process has been writing to the database for too long; retry later"),
        ),
        Some(ErrorCode::DiskFull) => {
            StorageError::out_of_space(with("the disk is full; make room"))
        }
        Some(ErrorCode::ReadOnly) => {
            StorageError::read_only(with("the database file cannot be written"))
        }
        Some(ErrorCode::PermissionDenied | ErrorCode::AuthorizationForStatementDenied) => {
            StorageError::permission_denied(with("the database file is not to be touched"))
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StorageError::corrupt(with(
            "the database file is damaged, or none of SQLite's; restore it from a copy",
        )),
        Some(ErrorCode::CannotOpen) => {
            StorageError::not_found(with("the database file cannot be opened; check its path"))
        }
        Some(ErrorCode::TooBig) => StorageError::too_large(said),
        Some(ErrorCode::OutOfMemory) => StorageError::unavailable(said),
        Some(ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch) => {
            StorageError::invalid_input(said)
        }
        Some(ErrorCode::SystemIoFailure) => StorageError::io(said),
        // Not of the engine: a column of another type than was written.
        None => StorageError::corrupt(with("a row of the database is not as it was written")),
        Some(_) => StorageError::io(said).with_retry(Retry::Permanent),
    }
    .with_source(error)
}

/// The error of a thread that has ended.
pub(super) fn ended() -> StorageError {
    StorageError::unavailable("the database is closed").with_retry(Retry::Ambiguous)
}
