//! The writer: one thread that makes the changes which wait together as one transaction, so that one
//! sync covers them all.

use rusqlite::{Connection, OptionalExtension, params};
use sira_store::driver::{Change, CommitError, Guard, Held, Record};
use sira_store::{Result, StorageError, Version};
use tokio::sync::oneshot;

use super::error::{is_busy, storage_error};
use super::queue::Queue;
use super::reader::{Columns, held};
use crate::sql::number::{time_column, version_column};
use crate::sql::same;

/// Most tasks of one transaction.
const TASKS_MAX: usize = 512;

/// Bytes of bodies from which on a transaction takes no more tasks.
const BYTES_MAX: usize = 32 * 1024 * 1024;

/// What was done for a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Done {
    Put(Version),
    /// Whether something was there that had not expired.
    Removed(bool),
}

/// Answers of each change, or why all of them failed.
pub(super) type Results = Result<Vec<Result<Done>>, CommitError>;

/// What the writer is asked for.
pub(super) enum Task {
    Changes {
        place: Columns,
        changes: Vec<Change>,
        /// All or none.
        atomic: bool,
        reply: oneshot::Sender<Results>,
    },
    Collect {
        now_ms: u64,
        limit: usize,
        reply: oneshot::Sender<Result<u64>>,
    },
}

/// What became of a task, once its transaction has ended well.
enum Answer {
    Changes(Results),
    Collected(Result<u64>),
}

impl Task {
    fn bytes(&self) -> usize {
        let size = |change: &Change| match change {
            Change::Put { record, .. } => record.body.len(),
            Change::Remove { .. } | Change::Check { .. } => 0,
        };
        match self {
            Self::Changes { changes, .. } => changes.iter().map(size).sum(),
            Self::Collect { .. } => 0,
        }
    }

    /// Nobody may wait any more, which is no reason not to have done it.
    fn answer(self, answer: Answer) {
        match (self, answer) {
            (Self::Changes { reply, .. }, Answer::Changes(results)) => drop(reply.send(results)),
            (Self::Collect { reply, .. }, Answer::Collected(result)) => drop(reply.send(result)),
            _ => {}
        }
    }

    fn fail(self, error: StorageError) {
        match self {
            Self::Changes { reply, .. } => drop(reply.send(Err(error.into()))),
            Self::Collect { reply, .. } => drop(reply.send(Err(error))),
        }
    }
}

/// Works until the queue is closed and empty.
pub(super) fn work(connection: &Connection, queue: &Queue<Task>) {
    while let Some(task) = queue.pop() {
        let mut bytes = task.bytes();
        let mut tasks = vec![task];
        while tasks.len() < TASKS_MAX {
            let Some(task) = queue.pop_if(|task| bytes + task.bytes() <= BYTES_MAX) else { break };
            bytes += task.bytes();
            tasks.push(task);
        }
        group(connection, tasks);
    }
}

/// One transaction for all tasks. When it fails by one of them, each gets its own.
fn group(connection: &Connection, tasks: Vec<Task>) {
    match transact(connection, &tasks) {
        Ok(answers) => {
            for (task, answer) in tasks.into_iter().zip(answers) {
                task.answer(answer);
            }
        }
        Err(error) if tasks.len() == 1 || is_busy(&error) => {
            let error = storage_error(error);
            for task in tasks {
                task.fail(same(&error));
            }
        }
        Err(_) => {
            for task in tasks {
                group(connection, vec![task]);
            }
        }
    }
}

fn transact(connection: &Connection, tasks: &[Task]) -> rusqlite::Result<Vec<Answer>> {
    run(connection, "BEGIN IMMEDIATE")?;
    let answers =
        attempt(connection, tasks).and_then(|answers| run(connection, "COMMIT").map(|()| answers));
    if answers.is_err() && !connection.is_autocommit() {
        // What cannot be rolled back now is so when the next transaction finds it.
        run(connection, "ROLLBACK")?;
    }
    answers
}

fn attempt(connection: &Connection, tasks: &[Task]) -> rusqlite::Result<Vec<Answer>> {
    tasks
        .iter()
        .map(|task| match task {
            Task::Changes { place, changes, atomic, .. } => {
                let results = if *atomic {
                    whole(connection, place, changes)?
                } else {
                    let each = |change| make(connection, place, change);
                    Ok(changes.iter().map(each).collect::<rusqlite::Result<_>>()?)
                };
                Ok(Answer::Changes(results))
            }
            Task::Collect { now_ms, limit, .. } => {
                Ok(Answer::Collected(Ok(collect(connection, *now_ms, *limit)?)))
            }
        })
        .collect()
}

fn run(connection: &Connection, text: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(text)?.execute([]).map(|_| ())
}

/// All changes or none.
fn whole(
    connection: &Connection,
    place: &Columns,
    changes: &[Change],
) -> rusqlite::Result<Results> {
    run(connection, "SAVEPOINT whole")?;
    let mut results = Vec::with_capacity(changes.len());
    for (index, change) in changes.iter().enumerate() {
        match make(connection, place, change)? {
            Ok(done) => results.push(Ok(done)),
            Err(error) => {
                run(connection, "ROLLBACK TO whole")?;
                run(connection, "RELEASE whole")?;
                return Ok(Err(CommitError { index: Some(index), error }));
            }
        }
    }
    run(connection, "RELEASE whole")?;
    Ok(Ok(results))
}

/// Makes a change if its guard holds. The outer error is the engine's, and ends the transaction.
fn make(
    connection: &Connection,
    place: &Columns,
    change: &Change,
) -> rusqlite::Result<Result<Done>> {
    match change {
        Change::Put { key, record, guard } => {
            let row = if guard.is_blind() { None } else { find(connection, place, key)? };
            let admitted = row
                .as_ref()
                .map(|row| held(row.version, row.expires_at))
                .transpose()
                .and_then(|held| guard.admit(held, record.version))
                .and_then(version_column);
            match admitted {
                Ok(version) => put(connection, place, key, record, version),
                Err(error) => Ok(Err(error)),
            }
        }
        Change::Remove { key, guard } => remove(connection, place, key, *guard),
        Change::Check { key, guard } => {
            let row = find(connection, place, key)?;
            let row = row.map(|row| held(row.version, row.expires_at)).transpose();
            Ok(row.and_then(|held| guard.admit_removal(held)).map(Done::Removed))
        }
    }
}

/// Where a key lies, and what a guard looks at.
struct Found {
    row: i64,
    version: i64,
    expires_at: Option<i64>,
}

fn find(connection: &Connection, place: &Columns, key: &str) -> rusqlite::Result<Option<Found>> {
    connection
        .prepare_cached(
            "SELECT rowid, version, expires_at FROM objects \
             WHERE namespace = ?1 AND area = ?2 AND key = ?3",
        )?
        .query_row(params![place.namespace, place.area, key.as_bytes()], |row| {
            Ok(Found { row: row.get(0)?, version: row.get(1)?, expires_at: row.get(2)? })
        })
        .optional()
}

fn put(
    connection: &Connection,
    place: &Columns,
    key: &str,
    record: &Record,
    version: i64,
) -> rusqlite::Result<Result<Done>> {
    let version: i64 = connection
        .prepare_cached(
            "INSERT INTO objects (namespace, area, key, version, expires_at, size, envelope, body) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) \
             ON CONFLICT (namespace, area, key) DO UPDATE SET \
             version = max(excluded.version, version + 1), expires_at = excluded.expires_at, \
             size = excluded.size, envelope = excluded.envelope, body = excluded.body \
             RETURNING version",
        )?
        .query_row(
            params![
                place.namespace,
                place.area,
                key.as_bytes(),
                version,
                record.expires_at_ms.map(time_column),
                time_column(record.size),
                &record.envelope[..],
                &record.body[..],
            ],
            |row| row.get(0),
        )?;
    Ok(held(version, None).map(|held| Done::Put(held.version)))
}

fn remove(
    connection: &Connection,
    place: &Columns,
    key: &str,
    guard: Guard,
) -> rusqlite::Result<Result<Done>> {
    let Some(found) = find(connection, place, key)? else {
        return Ok(guard.admit_removal(None).map(Done::Removed));
    };
    let judged = |held: Held| guard.admit_removal(Some(held));
    let admitted = held(found.version, found.expires_at).and_then(judged);
    if admitted.is_ok() {
        connection.prepare_cached("DELETE FROM objects WHERE rowid = ?1")?.execute([found.row])?;
    }
    Ok(admitted.map(Done::Removed))
}

fn collect(connection: &Connection, now_ms: u64, limit: usize) -> rusqlite::Result<u64> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let gone = connection
        .prepare_cached(
            "DELETE FROM objects WHERE rowid IN (SELECT rowid FROM objects \
             WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2)",
        )?
        .execute(params![time_column(now_ms), limit])?;
    Ok(gone as u64)
}
