//! The engine's errors as ours.

use std::io::ErrorKind as IoErrorKind;

use ::mongodb::error::{Error, ErrorKind, NO_WRITES_PERFORMED, WriteFailure};
use sira_store::{Retry, StorageError};

use crate::deadline::Effect;
use crate::handshake::refusal;

/// Code of a write that would be the second document of one `_id`.
pub(super) const DUPLICATE_KEY: i32 = 11000;

/// Whether the write would have added a second document of one `_id`.
pub(super) fn is_duplicate(error: &Error) -> bool {
    match error.kind.as_ref() {
        ErrorKind::Write(WriteFailure::WriteError(write)) => write.code == DUPLICATE_KEY,
        ErrorKind::Command(command) => command.code == DUPLICATE_KEY,
        _ => false,
    }
}

/// Our error of an error of the driver's.
pub(super) fn of(error: Error, effect: Effect) -> StorageError {
    // A driver that was told by the server, or that never sent anything, knows.
    let effect = match error.contains_label(NO_WRITES_PERFORMED) {
        true => Effect::Read,
        false => effect,
    };
    let ours = match error.kind.as_ref() {
        ErrorKind::Authentication { message, .. } => {
            StorageError::permission_denied(format!("MongoDB refused the credentials: {message}"))
        }
        ErrorKind::ServerSelection { message, .. } => {
            refusal("MongoDB", message).unwrap_or_else(|| {
                StorageError::unavailable(format!(
                    "no server of MongoDB that takes this operation can be reached: {message}"
                ))
            })
        }
        ErrorKind::DnsResolve { message, .. } => {
            StorageError::unavailable(format!("MongoDB's address cannot be resolved: {message}"))
        }
        ErrorKind::ConnectionPoolCleared { message, .. } => StorageError::unavailable(format!(
            "the connections to MongoDB were closed before the operation was sent: {message}"
        )),
        ErrorKind::Shutdown => StorageError::unavailable("the connections to MongoDB were closed"),
        ErrorKind::Io(io) if io.kind() == IoErrorKind::ConnectionRefused => {
            StorageError::unavailable(format!("MongoDB cannot be reached: {io}"))
        }
        ErrorKind::Io(io) => {
            StorageError::unavailable(format!("the connection to MongoDB was lost: {io}"))
                .with_retry(effect.retry())
        }
        ErrorKind::Command(command) => of_code(command.code, &command.message, effect),
        ErrorKind::Write(WriteFailure::WriteError(write)) => {
            of_code(write.code, &write.message, effect)
        }
        ErrorKind::Write(WriteFailure::WriteConcernError(concern)) => unconfirmed(&concern.message),
        ErrorKind::InvalidResponse { message, .. } => {
            StorageError::unavailable(format!("MongoDB answered what cannot be read: {message}"))
                .with_retry(effect.retry())
        }
        ErrorKind::InvalidArgument { message, .. }
        | ErrorKind::InvalidTlsConfig { message, .. }
        | ErrorKind::IncompatibleServer { message, .. } => StorageError::invalid_input(format!(
            "MongoDB cannot be used with these options: {message}"
        )),
        _ => StorageError::io(format!("MongoDB failed: {error}")).with_retry(effect.retry()),
    };
    ours.with_source(error)
}

/// The error of a write that the primary has made and that too few others have.
pub(super) fn unconfirmed(message: &str) -> StorageError {
    StorageError::unavailable(format!(
        "MongoDB made the write but too few replicas confirmed it: {message}"
    ))
    .with_retry(Retry::Ambiguous)
}

/// The error of an answer with this code.
pub(super) fn of_code(code: i32, message: &str, effect: Effect) -> StorageError {
    let told = format!("MongoDB answered code {code}: {message}");
    match code {
        // Unauthorized, AuthenticationFailed, AtlasError 8000, too weak mechanisms.
        13 | 18 | 8000 => StorageError::permission_denied(told),
        // MaxTimeMSExpired, ExceededTimeLimit, NetworkTimeout.
        50 | 89 | 262 => StorageError::timeout(told).with_retry(effect.retry()),
        // WriteConcernFailed, WriteConcernTimeout.
        64 | 75 => unconfirmed(message),
        // WriteConflict, LockTimeout.
        112 | 24 => StorageError::conflict(told),
        // OutOfDiskSpace, ExceededMemoryLimit.
        14031 => StorageError::out_of_space(told),
        // Not a primary, or not one any more, or going down before it began.
        10107 | 13435 | 10058 | 11602 | 13436 | 189 | 91 | 11600 => {
            StorageError::unavailable(told).with_retry(effect.retry())
        }
        // HostUnreachable, HostNotFound, SocketException, ReadConcernMajorityNotAvailableYet.
        6 | 7 | 9001 | 134 => StorageError::unavailable(told).with_retry(effect.retry()),
        // TooManyLogicalSessions and operations refused by admission control.
        261 | 462 => StorageError::unavailable(told),
        // BSONObjectTooLarge.
        10334 => StorageError::too_large(told),
        // CommandNotFound, IllegalOperation.
        59 | 20 => StorageError::unsupported(told),
        _ => StorageError::io(told).with_retry(match effect {
            Effect::Read => Retry::Temporary,
            // The server has read the command and refused it.
            Effect::Write => Retry::Permanent,
        }),
    }
}
