//! What an error of Redis means to the caller.

use redis::{ErrorKind, RedisError, ServerErrorKind};
use sira_store::{Retry, StorageError};

use crate::handshake::refusal;

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

/// Codes that a script's error carries inside of its text with servers before Redis 7.
const CODES_IN_SCRIPTS: [&str; 8] = [
    "OOM",
    "READONLY",
    "MISCONF",
    "NOREPLICAS",
    "WRONGTYPE",
    "CLUSTERDOWN",
    "MASTERDOWN",
    "NOPERM",
];

/// The error of a request, in the store's terms.
pub(super) fn storage_error(error: RedisError, effect: Effect) -> StorageError {
    let said = error.to_string();
    if let Some(refusal) = refusal("Redis", &said) {
        return refusal.with_source(error);
    }
    match error.kind() {
        ErrorKind::Io if error.is_connection_refusal() => StorageError::unavailable(format!(
            "Redis cannot be reached: {said}; see that it runs and that the address is right"
        )),
        ErrorKind::Io if error.is_timeout() => {
            StorageError::timeout("Redis did not answer in time").with_retry(effect.after_loss())
        }
        ErrorKind::Io => {
            StorageError::unavailable(format!("the connection to Redis was lost: {said}"))
                .with_retry(effect.after_loss())
        }
        ErrorKind::ClusterConnectionNotFound => StorageError::unavailable(format!(
            "no node of the Redis cluster can be reached: {said}"
        )),
        ErrorKind::AuthenticationFailed | ErrorKind::Server(ServerErrorKind::NoPerm) => {
            denied(&said)
        }
        ErrorKind::InvalidClientConfig => {
            StorageError::invalid_input(format!("Redis cannot be used like this: {said}"))
        }
        ErrorKind::Parse | ErrorKind::UnexpectedReturnType => {
            StorageError::io(format!("the answer of Redis cannot be understood: {said}"))
                .with_retry(effect.after_loss())
        }
        _ => of_server(code(&error), &said),
    }
    .with_source(error)
}

/// The code that an answer begins with, or, of an error within a script, the one inside.
fn code(error: &RedisError) -> &str {
    let outer = error.code().unwrap_or_default();
    if outer != "ERR" {
        return outer;
    }
    let inner = |text: &str| CODES_IN_SCRIPTS.into_iter().find(|code| text.contains(code));
    error.detail().and_then(inner).unwrap_or(outer)
}

fn of_server(code: &str, said: &str) -> StorageError {
    match code {
        "OOM" => StorageError::out_of_space(
            "Redis has reached its maxmemory and refuses writes; raise the limit or remove data",
        ),
        "WRONGTYPE" => StorageError::corrupt(
            "a key of this store holds no string on the Redis server; something else writes under \
             its prefix",
        ),
        "NOAUTH" | "WRONGPASS" | "NOPERM" => denied(said),
        "MISCONF" => StorageError::unavailable(
            "Redis refuses writes because it cannot save to its disk; see its log",
        ),
        "LOADING" | "BUSY" | "TRYAGAIN" | "MOVED" | "ASK" | "READONLY" | "CLUSTERDOWN"
        | "MASTERDOWN" | "NOREPLICAS" | "UNBLOCKED" => {
            StorageError::unavailable(format!("Redis takes no such request at present: {said}"))
        }
        _ if said.contains("max number of clients") => {
            StorageError::unavailable("Redis has reached its maxclients and takes no connection")
        }
        _ if said.contains("unknown command") => {
            StorageError::unsupported(format!("this Redis server lacks what is needed: {said}"))
        }
        _ => StorageError::io(format!("Redis refused the request: {said}"))
            .with_retry(Retry::Permanent),
    }
}

fn denied(said: &str) -> StorageError {
    StorageError::permission_denied(format!(
        "Redis refuses this user: {said}; check user, password and the user's permissions"
    ))
}

/// Whether the server said that it did nothing and that the request is to be made again at once.
pub(super) fn is_redirection(error: &RedisError) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ClusterConnectionNotFound
            | ErrorKind::Server(
                ServerErrorKind::Moved
                    | ServerErrorKind::Ask
                    | ServerErrorKind::TryAgain
                    | ServerErrorKind::ClusterDown
                    | ServerErrorKind::MasterDown
                    | ServerErrorKind::ReadOnly
            )
    )
}

/// Whether the server does not know the script, and so did nothing.
pub(super) fn is_unknown_script(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}

#[cfg(test)]
mod tests;
