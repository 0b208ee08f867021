//! The engine's errors as ours.

use std::fmt::Display;

use ::scylla::errors::{
    ConnectionError, ConnectionPoolError, ConnectionSetupRequestErrorKind, DbError, ExecutionError,
    MetadataError, NewSessionError, PrepareError, RequestAttemptError,
};
use sira_store::{Retry, StorageError};

use crate::deadline::Effect;
use crate::handshake::refusal;

/// Our error of an operation that failed.
pub(super) fn of(error: ExecutionError, effect: Effect) -> StorageError {
    let ours = match &error {
        ExecutionError::LastAttemptError(attempt) => of_attempt(attempt, effect),
        ExecutionError::RequestTimeout(limit) => StorageError::timeout(format!(
            "Cassandra did not answer within {} ms",
            limit.as_millis()
        ))
        .with_retry(effect.retry()),
        ExecutionError::ConnectionPoolError(pool) => of_pool(pool),
        ExecutionError::PrepareError(prepare) => of_prepare(prepare),
        ExecutionError::EmptyPlan => {
            StorageError::unavailable("no node of Cassandra is known to be up")
        }
        ExecutionError::BadQuery(bad) => {
            StorageError::invalid_input(format!("Cassandra cannot be sent this: {bad}"))
        }
        ExecutionError::SchemaAgreementError(disagreement) => StorageError::unavailable(format!(
            "the nodes of Cassandra do not agree on the schema yet: {disagreement}"
        )),
        other => StorageError::io(format!("Cassandra failed: {other}")).with_retry(effect.retry()),
    };
    ours.with_source(error)
}

/// Our error of statements that could not be prepared.
pub(super) fn of_prepare(error: &PrepareError) -> StorageError {
    match error {
        PrepareError::ConnectionPoolError(pool) => of_pool(pool),
        PrepareError::AllAttemptsFailed { first_attempt, .. } => {
            of_attempt(first_attempt, Effect::Read)
        }
        other => StorageError::unavailable(format!("Cassandra's nodes disagree: {other}")),
    }
}

/// Our error of a session that could not begin.
pub(super) fn of_session(error: NewSessionError) -> StorageError {
    let ours = match &error {
        NewSessionError::MetadataError(MetadataError::ConnectionPoolError(pool)) => of_pool(pool),
        NewSessionError::FailedToResolveAnyHostname(names) => StorageError::unavailable(format!(
            "none of Cassandra's addresses can be resolved: {names:?}"
        )),
        NewSessionError::EmptyKnownNodesList => {
            StorageError::invalid_input("Cassandra needs the address of at least one node")
        }
        NewSessionError::IllegalConfig(why) => {
            StorageError::invalid_input(format!("Cassandra cannot be used so: {why}"))
        }
        other => StorageError::unavailable(format!("Cassandra did not tell of its nodes: {other}")),
    };
    ours.with_source(error)
}

fn of_pool(error: &ConnectionPoolError) -> StorageError {
    let ConnectionPoolError::Broken { last_connection_error, .. } = error else {
        return StorageError::unavailable(format!("Cassandra cannot be reached: {error}"));
    };
    if let Some(refusal) = refusal("Cassandra", &last_connection_error.to_string()) {
        return refusal;
    }
    if let ConnectionError::ConnectionSetupRequestError(setup) = last_connection_error {
        match &setup.error {
            ConnectionSetupRequestErrorKind::DbError(
                DbError::AuthenticationError | DbError::Unauthorized,
                message,
            ) => {
                return StorageError::permission_denied(format!(
                    "Cassandra refused the credentials: {message}"
                ));
            }
            ConnectionSetupRequestErrorKind::MissingAuthentication => {
                return StorageError::permission_denied(
                    "Cassandra asks for a user and a password, and none is configured",
                );
            }
            _ => {}
        }
    }
    StorageError::unavailable(format!("Cassandra cannot be reached: {last_connection_error}"))
}

fn of_attempt(error: &RequestAttemptError, effect: Effect) -> StorageError {
    match error {
        RequestAttemptError::DbError(kind, message) => of_db(kind, message, effect),
        RequestAttemptError::BrokenConnectionError(broken) => {
            StorageError::unavailable(format!("the connection to Cassandra was lost: {broken}"))
                .with_retry(effect.retry())
        }
        RequestAttemptError::UnableToAllocStreamId => {
            StorageError::unavailable("too many requests to Cassandra are under way")
        }
        RequestAttemptError::SerializationError(_)
        | RequestAttemptError::CqlRequestSerialization(_) => {
            StorageError::invalid_input(format!("Cassandra cannot be sent this: {error}"))
        }
        other => StorageError::io(format!("Cassandra answered what cannot be read: {other}"))
            .with_retry(effect.retry()),
    }
}

fn of_db(kind: &DbError, message: &str, effect: Effect) -> StorageError {
    let told = format!("Cassandra answered: {message} ({kind})");
    match kind {
        DbError::Unavailable { .. }
        | DbError::Overloaded
        | DbError::IsBootstrapping
        | DbError::RateLimitReached { .. }
        | DbError::ReadFailure { .. } => StorageError::unavailable(told),
        // Of a transaction, this is the time of its look at what is there.
        DbError::ReadTimeout { .. } => StorageError::timeout(told).with_retry(Retry::Temporary),
        DbError::WriteTimeout { .. } => StorageError::timeout(told).with_retry(effect.retry()),
        DbError::WriteFailure { .. } | DbError::ServerError | DbError::TruncateError => {
            StorageError::unavailable(told).with_retry(effect.retry())
        }
        DbError::AuthenticationError | DbError::Unauthorized => {
            StorageError::permission_denied(told)
        }
        DbError::SyntaxError
        | DbError::Invalid
        | DbError::ConfigError
        | DbError::AlreadyExists { .. }
        | DbError::ProtocolError => StorageError::invalid_input(told),
        // Among them that it is not known whether a transaction was made.
        _ => StorageError::io(told).with_retry(effect.retry()),
    }
}

/// The error of an answer or a row that is not as this module writes it.
pub(super) fn malformed(why: impl Display) -> StorageError {
    StorageError::corrupt(format!("what Cassandra holds is no record of this store: {why}"))
}
