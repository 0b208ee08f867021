//! Several changes in one transaction, sent without waiting for answers in between.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

use deadpool_postgres::Client;
use sira_store::driver::{Change, CommitError, Place, Record, apply_each};
use sira_store::{Result, Version};
use tokio_postgres::{Error, Row, Statement};

use super::connection::{InTransaction, late, wait_for_others};
use super::error::{Effect, is_collision, storage_error};
use super::row::column;
use super::statements::Statements;
use super::{Aim, Outcome, Parameters, PostgresDriver, Write, row};
use crate::sql::area_column;
use crate::sql::batch::{
    Answer, Failure, all_made, applied, check_demand, committed, placeholder, wants_absence,
};
use crate::sql::number::{time_column, version_column};
use crate::sql::table::{Step, TRIES_MAX, overtaken, plan};

/// Most rows of a statement that writes several.
const RUN_CHANGES_MAX: usize = 1000;

/// Most bytes of such a statement.
const RUN_BYTES_MAX: usize = 8 * 1024 * 1024;

fn failure(index: Option<usize>, error: Error, effect: Effect) -> Failure {
    let collided = is_collision(&error);
    Failure { index, error: storage_error(&error, effect).with_source(error), collided }
}

pub(super) async fn apply(
    driver: &PostgresDriver,
    place: &Place,
    changes: Vec<Change>,
) -> Vec<Result<Option<Version>>> {
    if changes.iter().any(Change::is_check) {
        return apply_each(driver, place, changes).await;
    }
    let answers = run(driver, place, &changes, false).await;
    applied(driver, place, changes, answers).await
}

pub(super) async fn commit(
    driver: &PostgresDriver,
    place: &Place,
    changes: &[Change],
) -> Result<Vec<Option<Version>>, CommitError> {
    for _ in 0..TRIES_MAX {
        let answers = run(driver, place, changes, true).await?;
        if let Some(versions) = committed(changes, &answers)? {
            return Ok(versions);
        }
    }
    Err(overtaken().into())
}

/// Runs the transaction, again after a collision. With `atomic` it is rolled back when a change was
/// not made.
async fn run(
    driver: &PostgresDriver,
    place: &Place,
    changes: &[Change],
    atomic: bool,
) -> Result<Vec<Answer>, Failure> {
    let placeholder = placeholder();
    let batch = Batch::new(place, changes, &placeholder)?;
    let mut collisions = 0;
    loop {
        let transaction = InTransaction::new(driver.connections.client().await?);
        let task = batch.run(transaction, &driver.statements, atomic);
        let result = driver.connections.in_time(task).await.unwrap_or_else(|_| {
            Err(late(driver.connections.operation_timeout(), Effect::Write).into())
        });
        match result {
            Err(failure) if failure.collided && wait_for_others(&mut collisions).await => {}
            other => return other,
        }
    }
}

/// The statements of a batch.
struct Batch<'a> {
    namespace: &'a [u8],
    area: i16,
    changes: &'a [Change],
    requests: Vec<Request<'a>>,
}

/// A statement with its parameters.
enum Request<'a> {
    /// With `exact`, of given versions.
    Puts {
        indexes: Vec<usize>,
        rows: Rows<'a>,
        exact: bool,
    },
    Removals {
        indexes: Vec<usize>,
        keys: Vec<&'a [u8]>,
    },
    One {
        index: usize,
        write: Write<'a>,
    },
}

/// Rows as one array a column.
#[derive(Default)]
struct Rows<'a> {
    keys: Vec<&'a [u8]>,
    versions: Vec<i64>,
    expiries: Vec<Option<i64>>,
    sizes: Vec<i64>,
    envelopes: Vec<&'a [u8]>,
    bodies: Vec<&'a [u8]>,
}

impl<'a> Rows<'a> {
    fn push(&mut self, key: &'a str, record: &'a Record) -> Result<()> {
        self.versions.push(version_column(record.version)?);
        self.keys.push(key.as_bytes());
        self.expiries.push(record.expires_at_ms.map(time_column));
        self.sizes.push(time_column(record.size));
        self.envelopes.push(&record.envelope);
        self.bodies.push(&record.body);
        Ok(())
    }
}

type Reply<'a> = Pin<Box<dyn Future<Output = Result<Vec<Row>, Error>> + Send + 'a>>;

impl<'a> Batch<'a> {
    fn new(
        place: &'a Place,
        changes: &'a [Change],
        placeholder: &'a Record,
    ) -> Result<Self, Failure> {
        let mut requests = Vec::new();
        for step in plan(changes, RUN_CHANGES_MAX, RUN_BYTES_MAX) {
            let exact = matches!(step, Step::ExactPuts(_));
            requests.push(match step {
                Step::Puts(indexes) | Step::ExactPuts(indexes) => {
                    let mut rows = Rows::default();
                    for &index in &indexes {
                        if let Some(Change::Put { key, record, .. }) = changes.get(index) {
                            rows.push(key, record).map_err(|error| Failure::at(index, error))?;
                        }
                    }
                    Request::Puts { indexes, rows, exact }
                }
                Step::Removals(indexes) => {
                    let changes = indexes.iter().filter_map(|&index| changes.get(index));
                    let keys = changes.map(|change| change.key().as_bytes()).collect();
                    Request::Removals { indexes, keys }
                }
                Step::One(index) => {
                    let write = match changes.get(index) {
                        Some(Change::Put { key, record, guard }) => {
                            Write::new(place, key, Some(record), *guard)
                        }
                        Some(Change::Remove { key, guard }) => Write::new(place, key, None, *guard),
                        Some(change @ Change::Check { key, guard }) => {
                            check_demand(change).map_err(|error| Failure::at(index, error))?;
                            match wants_absence(change) {
                                true => Write::new(place, key, Some(placeholder), *guard),
                                false => Write::hold(place, key, *guard),
                            }
                        }
                        None => continue,
                    };
                    Request::One { index, write: write.map_err(|error| Failure::at(index, error))? }
                }
            });
        }
        let absent = changes.iter().filter(|change| wants_absence(change));
        let mut keys: Vec<_> = absent.map(|change| change.key().as_bytes()).collect();
        if !keys.is_empty() {
            keys.sort_unstable();
            requests.push(Request::Removals { indexes: Vec::new(), keys });
        }
        Ok(Self {
            namespace: place.namespace.as_bytes(),
            area: area_column(place.area),
            changes,
            requests,
        })
    }

    /// The connection is closed when this fails, which rolls back what has not ended.
    async fn run(
        &self,
        transaction: InTransaction,
        statements: &Statements,
        atomic: bool,
    ) -> Result<Vec<Answer>, Failure> {
        let client = transaction.client()?;
        let mut prepared = Vec::with_capacity(self.requests.len());
        for request in &self.requests {
            let statement = client.prepare_cached(request.text(statements)).await;
            prepared.push(statement.map_err(|error| failure(None, error, Effect::Read))?);
        }
        // The end goes along with all else, unless what was answered decides about it.
        let ends = !atomic || !self.requests.iter().any(Request::is_guarded);
        // A statement alone is a transaction.
        let framed = !ends || self.requests.len() > 1;
        let mut replies: Vec<Reply<'_>> = Vec::with_capacity(prepared.len() + 2);
        if framed {
            replies.push(plain(client, "BEGIN ISOLATION LEVEL READ COMMITTED"));
        }
        for (request, statement) in self.requests.iter().zip(prepared) {
            replies.push(Box::pin(request.send(client, self, statement)));
        }
        if framed && ends {
            replies.push(plain(client, "COMMIT"));
        }
        let effect = if ends { Effect::Write } else { Effect::Read };
        let begin = usize::from(framed);
        let mut answers = vec![Answer::Left(None); self.changes.len()];
        for (at, reply) in pipeline(replies).await.into_iter().enumerate() {
            let request = at.checked_sub(begin).and_then(|at| self.requests.get(at));
            let index = request.and_then(Request::only);
            let rows = reply.map_err(|error| failure(index, error, effect))?;
            if let Some(request) = request {
                request.answer(&rows, self.changes, &mut answers)?;
            }
        }
        for request in &self.requests {
            self.look(client, statements, request, &mut answers).await?;
        }
        if !ends {
            let all = all_made(self.changes, &answers);
            let end = if all { "COMMIT" } else { "ROLLBACK" };
            plain(client, end).await.map_err(|error| failure(None, error, Effect::Write))?;
        }
        transaction.end();
        Ok(answers)
    }

    /// Reads what is held where puts of given versions were not made.
    async fn look(
        &self,
        client: &Client,
        statements: &Statements,
        request: &Request<'_>,
        answers: &mut [Answer],
    ) -> Result<(), Failure> {
        let Request::Puts { indexes, rows, exact: true } = request else { return Ok(()) };
        let left = |index: &usize| matches!(answers.get(*index), Some(Answer::Left(_)));
        let keys: Vec<&[u8]> = (indexes.iter().zip(&rows.keys))
            .filter_map(|(index, key)| left(index).then_some(*key))
            .collect();
        if keys.is_empty() {
            return Ok(());
        }
        let failed = |error| failure(None, error, Effect::Write);
        let statement = client.prepare_cached(&statements.held_many).await.map_err(failed)?;
        let parameters: Parameters<'_> = &[&self.namespace, &self.area, &keys];
        for row in client.query(&statement, parameters).await.map_err(failed)? {
            let key: &[u8] = column(&row, 0)?;
            let at = rows.keys.binary_search(&key).ok().and_then(|at| indexes.get(at));
            if let Some(slot) = at.and_then(|index| answers.get_mut(*index)) {
                *slot = Answer::Left(Some(row::held(&row, 1)?));
            }
        }
        Ok(())
    }
}

impl Request<'_> {
    fn text<'s>(&self, statements: &'s Statements) -> &'s str {
        match self {
            Self::Puts { exact: false, .. } => &statements.put_many,
            Self::Puts { exact: true, .. } => &statements.put_many_exact,
            Self::Removals { .. } => &statements.remove_many,
            Self::One { write, .. } => write.text(statements),
        }
    }

    /// Whether what is held decides about the change.
    fn is_guarded(&self) -> bool {
        match self {
            Self::Puts { exact, .. } => *exact,
            Self::Removals { .. } => false,
            Self::One { write, .. } => write.aim == Aim::Hold || !write.guard.is_blind(),
        }
    }

    /// The change, where it is one.
    fn only(&self) -> Option<usize> {
        match self {
            Self::One { index, .. } => Some(*index),
            Self::Puts { indexes, .. } | Self::Removals { indexes, .. } => match indexes[..] {
                [index] => Some(index),
                _ => None,
            },
        }
    }

    async fn send(
        &self,
        client: &Client,
        batch: &Batch<'_>,
        statement: Statement,
    ) -> Result<Vec<Row>, Error> {
        let (namespace, area) = (&batch.namespace, &batch.area);
        match self {
            Self::Puts { rows, .. } => {
                let parameters: Parameters<'_> = &[
                    namespace,
                    area,
                    &rows.keys,
                    &rows.versions,
                    &rows.expiries,
                    &rows.sizes,
                    &rows.envelopes,
                    &rows.bodies,
                ];
                client.query(&statement, parameters).await
            }
            Self::Removals { keys, .. } => client.query(&statement, &[namespace, area, keys]).await,
            Self::One { write, .. } => client.query(&statement, &write.parameters()).await,
        }
    }

    fn answer(&self, rows: &[Row], changes: &[Change], answers: &mut [Answer]) -> Result<()> {
        let mut set = |index: usize, answer: Answer| {
            if let Some(slot) = answers.get_mut(index) {
                *slot = answer;
            }
        };
        match self {
            Self::Puts { indexes, rows: sent, .. } => {
                // Indexes are in the order of their keys.
                for row in rows {
                    let key: &[u8] = column(row, 0)?;
                    let at = sent.keys.binary_search(&key).ok().and_then(|at| indexes.get(at));
                    if let Some(&index) = at {
                        set(index, Answer::Made(Some(row::version(row, 1)?)));
                    }
                }
            }
            Self::Removals { indexes, .. } => {
                for &index in indexes {
                    set(index, Answer::Made(None));
                }
            }
            Self::One { index, write } => {
                let is_put = matches!(changes.get(*index), Some(Change::Put { .. }));
                let answer = match write.outcome(rows)? {
                    Outcome::Done(held) => Answer::Made(is_put.then_some(held.version)),
                    Outcome::Left(held) => Answer::Left(held),
                };
                set(*index, answer);
            }
        }
        Ok(())
    }
}

fn plain<'a>(client: &'a Client, text: &'static str) -> Reply<'a> {
    Box::pin(async move { client.batch_execute(text).await.map(|()| Vec::new()) })
}

/// Sends all requests in their order, then waits for the replies, which come in the same order.
async fn pipeline(mut requests: Vec<Reply<'_>>) -> Vec<Result<Vec<Row>, Error>> {
    let mut replies: Vec<Option<_>> = requests.iter().map(|_| None).collect();
    let mut waiting_for = None;
    poll_fn(|context| {
        let mut slots = requests.iter_mut().zip(&mut replies);
        if waiting_for.is_none() {
            // The first poll of each sends it.
            for (request, reply) in slots.by_ref() {
                if let Poll::Ready(result) = request.as_mut().poll(context) {
                    *reply = Some(result);
                }
            }
            slots = requests.iter_mut().zip(&mut replies);
        }
        for (at, (request, reply)) in slots.enumerate().skip(waiting_for.unwrap_or(0)) {
            if reply.is_none() {
                match request.as_mut().poll(context) {
                    Poll::Ready(result) => *reply = Some(result),
                    Poll::Pending => {
                        waiting_for = Some(at);
                        return Poll::Pending;
                    }
                }
            }
        }
        Poll::Ready(())
    })
    .await;
    replies.into_iter().flatten().collect()
}
