//! Many changes in few round trips.

use std::fmt::Display;

use ::mongodb::bson::raw::{CStr, RawDocument};
use ::mongodb::bson::{
    Bson, Document, RawArrayBuf, RawDocumentBuf, cstr, rawdoc, serialize_to_raw_document_buf,
};
use futures_util::{StreamExt, stream};
use sira_store::driver::{Change, Guard, Place};
use sira_store::{Condition, Result, StorageError, Version};

use super::document::{self, Keys};
use super::{MongoDriver, error, filter};
use crate::deadline::Effect;

/// Bytes of the statements of one command; the engine takes 16 MiB.
const COMMAND_BYTES_MAX: usize = 12 * 1024 * 1024;

/// Statements of one command.
const COMMAND_STATEMENTS_MAX: usize = 10_000;

/// Changes that are made by themselves at the same time.
const ALONE_AT_ONCE: usize = 16;

/// What is known of a change: nothing yet, or its answer.
type Answer = Option<Result<Option<Version>>>;

/// Makes each change. The engine does not say which statements of a command found nothing, so only
/// those become statements that cannot, or that fail if something is in their way. The others, and
/// those that failed so, are made one by one.
pub(super) async fn apply(
    driver: &MongoDriver,
    place: &Place,
    changes: Vec<Change>,
) -> Vec<Result<Option<Version>>> {
    let keys = Keys::of(place);
    let mut answers: Vec<Answer> = changes.iter().map(|_| None).collect();
    let mut updates = Commands::new(Kind::Update);
    let mut deletes = Commands::new(Kind::Delete);
    for (index, change) in changes.iter().enumerate() {
        match change {
            Change::Put { key, record, guard } if upserts(guard) => {
                let id = keys.id(key);
                let query = filter::put(&id, record.version, guard).query;
                let statement = document::of_record(&id, record).and_then(|replacement| {
                    let query = serialize_to_raw_document_buf(&query).map_err(unwritable)?;
                    Ok(rawdoc! { "q": query, "u": replacement, "upsert": true })
                });
                match statement {
                    Ok(statement) => updates.push(&statement, index, Some(record.version)),
                    Err(error) => set(&mut answers, index, Some(Err(error))),
                }
            }
            Change::Remove { key, guard } if guard.condition == Condition::Always => {
                let query = rawdoc! { "_id": keys.id(key) };
                deletes.push(&rawdoc! { "q": query, "limit": 1 }, index, None);
            }
            Change::Put { .. } | Change::Remove { .. } | Change::Check { .. } => {}
        }
    }
    for command in updates.all.into_iter().chain(deletes.all) {
        run(driver, command, &mut answers).await;
    }
    stream::iter(changes.into_iter().zip(answers))
        .map(|(change, answer)| async move {
            match answer {
                Some(answer) => answer,
                None => change.apply(driver, place).await,
            }
        })
        .buffered(ALONE_AT_ONCE)
        .collect()
        .await
}

/// Whether a put under this guard adds a document unless one is in its way, and so fails then.
fn upserts(guard: &Guard) -> bool {
    matches!(guard.condition, Condition::Always | Condition::IfAbsent | Condition::IfNoneMatch(_))
}

/// Sends a command and files the answers of its changes.
async fn run(driver: &MongoDriver, command: Command, answers: &mut [Answer]) {
    let Command { kind, statements, changes, .. } = command;
    let mut body = RawDocumentBuf::new();
    body.append(kind.name(), driver.records.name());
    body.append(cstr!("ordered"), false);
    if let Some(concern) = driver.records.write_concern() {
        match serialize_to_raw_document_buf(concern) {
            Ok(concern) => body.append(cstr!("writeConcern"), concern),
            Err(error) => return all(answers, &changes, &unwritable(error)),
        }
    }
    body.append(kind.statements(), statements);
    let sent = async {
        let answer = driver.database.run_raw_command(body).await;
        answer.map_err(|error| error::of(error, Effect::Write))
    };
    match driver.within(Effect::Write, sent).await {
        Ok(reply) => file(&reply, &changes, answers),
        Err(error) => all(answers, &changes, &error),
    }
}

/// Files what a reply says of each change.
fn file(reply: &Document, changes: &[(usize, Option<Version>)], answers: &mut [Answer]) {
    if let Ok(concern) = reply.get_document("writeConcernError") {
        let message = concern.get_str("errmsg").unwrap_or_default();
        return all(answers, changes, &error::unconfirmed(message));
    }
    for (index, version) in changes {
        set(answers, *index, Some(Ok(*version)));
    }
    let Ok(failed) = reply.get_array("writeErrors") else { return };
    for failed in failed.iter().filter_map(Bson::as_document) {
        let number = |field| match failed.get(field) {
            Some(Bson::Int32(number)) => Some(*number),
            Some(Bson::Int64(number)) => i32::try_from(*number).ok(),
            _ => None,
        };
        let at = number("index").and_then(|at| usize::try_from(at).ok());
        let Some((index, _)) = at.and_then(|at| changes.get(at)) else {
            let error = StorageError::io("MongoDB refused a part of a batch and did not say which");
            return all(answers, changes, &error);
        };
        let code = number("code").unwrap_or_default();
        let message = failed.get_str("errmsg").unwrap_or_default();
        let answer = match code {
            // Made again by itself.
            error::DUPLICATE_KEY => None,
            _ => Some(Err(error::of_code(code, message, Effect::Write))),
        };
        set(answers, *index, answer);
    }
}

fn set(answers: &mut [Answer], index: usize, answer: Answer) {
    if let Some(slot) = answers.get_mut(index) {
        *slot = answer;
    }
}

/// Files one error for every change of a command.
fn all(answers: &mut [Answer], changes: &[(usize, Option<Version>)], error: &StorageError) {
    for (index, _) in changes {
        set(answers, *index, Some(Err(error.same_kind(error.detail().message.clone()))));
    }
}

fn unwritable(error: impl Display) -> StorageError {
    StorageError::invalid_input(format!("this cannot be written as a document: {error}"))
}

/// What the statements of a command do.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Update,
    Delete,
}

impl Kind {
    const fn name(self) -> &'static CStr {
        match self {
            Self::Update => cstr!("update"),
            Self::Delete => cstr!("delete"),
        }
    }

    const fn statements(self) -> &'static CStr {
        match self {
            Self::Update => cstr!("updates"),
            Self::Delete => cstr!("deletes"),
        }
    }
}

/// Statements of one kind that make one command, and whose they are.
#[derive(Debug)]
struct Command {
    kind: Kind,
    statements: RawArrayBuf,
    bytes: usize,
    /// Index of each change, and the version it writes.
    changes: Vec<(usize, Option<Version>)>,
}

/// Commands of one kind, each within the engine's limits.
#[derive(Debug)]
struct Commands {
    kind: Kind,
    all: Vec<Command>,
}

impl Commands {
    const fn new(kind: Kind) -> Self {
        Self { kind, all: Vec::new() }
    }

    fn push(&mut self, statement: &RawDocument, index: usize, version: Option<Version>) {
        let bytes = statement.as_bytes().len() + 16;
        let last = self.all.pop_if(|last| {
            last.bytes + bytes <= COMMAND_BYTES_MAX && last.changes.len() < COMMAND_STATEMENTS_MAX
        });
        let fresh = || Command {
            kind: self.kind,
            statements: RawArrayBuf::new(),
            bytes: 0,
            changes: Vec::new(),
        };
        let mut command = last.unwrap_or_else(fresh);
        command.statements.push(statement);
        command.bytes += bytes;
        command.changes.push((index, version));
        self.all.push(command);
    }
}

#[cfg(test)]
mod tests;
