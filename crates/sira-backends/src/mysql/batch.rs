//! Several changes in one transaction.

use std::collections::HashMap;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error, Transaction, TxOpts, Value};
use sira_store::driver::{Change, CommitError, Guard, Held, Place, Record, apply_each};
use sira_store::{Result, Version};

use super::connection::{run, wait_for_others};
use super::error::{Effect, is_collision, storage_error};
use super::row::{self, column};
use super::statements::Statement;
use super::{MySqlDriver, Outcome, Target, is_update, outcome, parts};
use crate::sql::batch::{
    Answer, Failure, all_made, applied, check_demand, committed, placeholder, wants_absence,
};
use crate::sql::check_version;
use crate::sql::table::{Step, TRIES_MAX, overtaken, plan};

/// Most changes that go together; they are cut into the sizes that there are statements for.
const RUN_CHANGES_MAX: usize = 4096;

pub(super) async fn apply(
    driver: &MySqlDriver,
    place: &Place,
    changes: Vec<Change>,
) -> Vec<Result<Option<Version>>> {
    if changes.iter().any(Change::is_check) {
        return apply_each(driver, place, changes).await;
    }
    let answers = transact(driver, place, &changes, false).await;
    applied(driver, place, changes, answers).await
}

pub(super) async fn commit(
    driver: &MySqlDriver,
    place: &Place,
    changes: &[Change],
) -> Result<Vec<Option<Version>>, CommitError> {
    for _ in 0..TRIES_MAX {
        let answers = transact(driver, place, changes, true).await?;
        if let Some(versions) = committed(changes, &answers)? {
            return Ok(versions);
        }
    }
    Err(overtaken().into())
}

/// A statement inside a transaction failed, so that it is rolled back.
fn failure(error: Error) -> Failure {
    let collided = is_collision(&error);
    Failure { index: None, error: storage_error(error, Effect::Read), collided }
}

/// Runs the transaction, again after a collision. With `atomic` it is rolled back when a change was
/// not made.
async fn transact(
    driver: &MySqlDriver,
    place: &Place,
    changes: &[Change],
    atomic: bool,
) -> Result<Vec<Answer>, Failure> {
    if changes.is_empty() {
        return Ok(Vec::new());
    }
    for (index, change) in changes.iter().enumerate() {
        let checked = match change {
            Change::Put { record, .. } => check_version(record.version),
            change => check_demand(change),
        };
        checked.map_err(|error| Failure::at(index, error))?;
    }
    // A statement of rows of this many bytes stays well below the largest packet.
    let bytes_max = usize::try_from(driver.packet_bytes_max / 4).unwrap_or(usize::MAX);
    let steps = plan(changes, RUN_CHANGES_MAX, bytes_max);
    let mut collisions = 0;
    loop {
        let mut conn = driver.connections.conn().await?;
        let task = attempt(driver, &mut conn, place, changes, &steps, atomic);
        let result = tokio::time::timeout(driver.connections.operation_timeout(), task).await;
        match result.unwrap_or_else(|_| Err(driver.connections.late(Effect::Write).into())) {
            Err(failure) if failure.collided && wait_for_others(&mut collisions).await => {}
            other => return other,
        }
    }
}

/// The pool rolls back what is dropped before it has ended.
async fn attempt(
    driver: &MySqlDriver,
    conn: &mut Conn,
    place: &Place,
    changes: &[Change],
    steps: &[Step],
    atomic: bool,
) -> Result<Vec<Answer>, Failure> {
    let mut transaction = conn.start_transaction(TxOpts::default()).await.map_err(failure)?;
    let mut batch =
        Batch { driver, place, changes, answers: vec![Answer::Left(None); changes.len()] };
    for step in steps {
        match step {
            Step::Puts(indexes) => {
                for part in parts(indexes) {
                    batch.put_many(&mut transaction, part).await?;
                }
            }
            Step::ExactPuts(indexes) => {
                for part in parts(indexes) {
                    batch.put_many_exact(&mut transaction, part).await?;
                }
                if atomic && !batch.all_made(indexes) {
                    return batch.refuse(transaction, indexes).await;
                }
            }
            Step::Removals(indexes) => {
                for part in parts(indexes) {
                    batch.remove_many(&mut transaction, part).await?;
                }
            }
            Step::One(index) => {
                batch.one(&mut transaction, *index).await?;
                if atomic && !batch.all_made(&[*index]) {
                    return batch.refuse(transaction, &[*index]).await;
                }
            }
        }
    }
    let placeholders: Vec<usize> = changes
        .iter()
        .enumerate()
        .filter_map(|(index, change)| wants_absence(change).then_some(index))
        .collect();
    for part in parts(&placeholders) {
        batch.remove_many(&mut transaction, part).await?;
    }
    transaction.commit().await.map_err(|error| Failure {
        index: None,
        collided: is_collision(&error),
        error: storage_error(error, Effect::Write),
    })?;
    Ok(batch.answers)
}

struct Batch<'a> {
    driver: &'a MySqlDriver,
    place: &'a Place,
    changes: &'a [Change],
    answers: Vec<Answer>,
}

impl Batch<'_> {
    fn set(&mut self, index: usize, answer: Answer) {
        if let Some(slot) = self.answers.get_mut(index) {
            *slot = answer;
        }
    }

    fn all_made(&self, indexes: &[usize]) -> bool {
        indexes.iter().all(|&index| {
            let answer = self.answers.get(index..=index).unwrap_or_default();
            all_made(self.changes.get(index..=index).unwrap_or_default(), answer)
        })
    }

    /// Rolls back because of some of these changes; the others were not tried, and are no reason.
    async fn refuse(
        self,
        transaction: Transaction<'_>,
        indexes: &[usize],
    ) -> Result<Vec<Answer>, Failure> {
        transaction.rollback().await.map_err(failure)?;
        let mut answers = vec![Answer::Made(None); self.answers.len()];
        for &index in indexes {
            if let (Some(slot), Some(answer)) = (answers.get_mut(index), self.answers.get(index)) {
                *slot = *answer;
            }
        }
        Ok(answers)
    }

    async fn put_many(&mut self, conn: &mut impl Queryable, part: &[usize]) -> Result<(), Failure> {
        let statements = &self.driver.statements;
        let mut values = Vec::with_capacity(part.len() * 9);
        let mut keys: HashMap<&[u8], usize> = HashMap::with_capacity(part.len());
        for &index in part {
            let Some(Change::Put { key, record, .. }) = self.changes.get(index) else { continue };
            keys.insert(key.as_bytes(), index);
            values.extend(Target::among(self.place, [key.as_bytes()].into_iter()));
            values.extend(columns(record, self.driver.env.random_u64()));
            self.answers.get_mut(index).into_iter().for_each(|slot| {
                *slot = Answer::Made(Some(record.version));
            });
        }
        let text = statements.put_many(part.len());
        let answer = run(conn, &text, values).await.map_err(failure)?;
        if answer.last_insert_id == 0 {
            return Ok(());
        }
        // Some have got greater versions; their rows are locked until the transaction ends.
        let values = Target::among(self.place, keys.keys().copied());
        let text = statements.held_many(part.len());
        for mut row in run(conn, &text, values).await.map_err(failure)?.rows {
            let key: Vec<u8> = column(&mut row, 0)?;
            let version = Version::from_u64(column(&mut row, 1)?);
            if let Some(&index) = keys.get(&key[..]) {
                self.set(index, Answer::Made(Some(version)));
            }
        }
        Ok(())
    }

    /// Puts of given versions.
    async fn put_many_exact(
        &mut self,
        conn: &mut impl Queryable,
        part: &[usize],
    ) -> Result<(), Failure> {
        let statements = &self.driver.statements;
        let mut values = Vec::with_capacity(part.len() * 9);
        let mut sent: HashMap<&[u8], (usize, u64)> = HashMap::with_capacity(part.len());
        for &index in part {
            let Some(Change::Put { key, record, .. }) = self.changes.get(index) else { continue };
            let stamp = self.driver.env.random_u64();
            sent.insert(key.as_bytes(), (index, stamp));
            values.extend(Target::among(self.place, [key.as_bytes()].into_iter()));
            values.extend(columns(record, stamp));
            self.answers.get_mut(index).into_iter().for_each(|slot| {
                *slot = Answer::Made(Some(record.version));
            });
        }
        let text = statements.put_many_exact(part.len());
        let answer = run(conn, &text, values).await.map_err(failure)?;
        if answer.last_insert_id == 0 {
            return Ok(());
        }
        let values = Target::among(self.place, sent.keys().copied());
        let text = statements.held_many(part.len());
        for mut row in run(conn, &text, values).await.map_err(failure)?.rows {
            let key: Vec<u8> = column(&mut row, 0)?;
            if let Some(&(index, stamp)) = sent.get(&key[..])
                && column::<u64>(&mut row, 3)? != stamp
            {
                let held = Held {
                    version: Version::from_u64(column(&mut row, 1)?),
                    expires_at_ms: column(&mut row, 2)?,
                };
                self.set(index, Answer::Left(Some(held)));
            }
        }
        Ok(())
    }

    async fn remove_many(
        &mut self,
        conn: &mut impl Queryable,
        part: &[usize],
    ) -> Result<(), Failure> {
        let keys = part.iter().filter_map(|&index| self.changes.get(index));
        let values = Target::among(self.place, keys.map(|change| change.key().as_bytes()));
        let text = self.driver.statements.remove_many(part.len());
        run(conn, &text, values).await.map_err(failure)?;
        for &index in part {
            self.set(index, Answer::Made(None));
        }
        Ok(())
    }

    async fn one(&mut self, conn: &mut impl Queryable, index: usize) -> Result<(), Failure> {
        let answer = match self.changes.get(index) {
            Some(Change::Put { key, record, guard }) => self.put(conn, key, record, *guard).await?,
            Some(Change::Remove { key, guard }) => self.remove(conn, key, *guard).await?,
            Some(change @ Change::Check { key, guard }) => match wants_absence(change) {
                true => match self.put(conn, key, &placeholder(), *guard).await? {
                    Answer::Made(_) => Answer::Made(None),
                    left @ Answer::Left(_) => left,
                },
                false => self.hold(conn, key, *guard).await?,
            },
            None => return Ok(()),
        };
        self.set(index, answer);
        Ok(())
    }

    async fn put(
        &self,
        conn: &mut impl Queryable,
        key: &str,
        record: &Record,
        guard: Guard,
    ) -> Result<Answer, Failure> {
        let target = Target::new(self.place, key, guard);
        let statement = self.driver.statements.put(guard.condition, guard.exact)?;
        let values = statement.values(&target, Some((record, self.driver.env.random_u64())));
        let answer = run(conn, &statement.text, values).await.map_err(failure)?;
        Ok(match outcome(&answer, record.version, is_update(guard)) {
            Outcome::Done(version) => Answer::Made(Some(version)),
            Outcome::Left(held) => Answer::Left(held),
        })
    }

    async fn remove(
        &self,
        conn: &mut impl Queryable,
        key: &str,
        guard: Guard,
    ) -> Result<Answer, Failure> {
        let target = Target::new(self.place, key, guard);
        let statement = self.driver.statements.remove(guard.condition)?;
        let values = statement.values(&target, None);
        let answer = run(conn, &statement.text, values).await.map_err(failure)?;
        if answer.changed > 0 {
            return Ok(Answer::Made(None));
        }
        left(conn, &self.driver.statements.held, &target).await
    }

    /// Answers what is there, which nobody changes until the transaction ends.
    async fn hold(
        &self,
        conn: &mut impl Queryable,
        key: &str,
        guard: Guard,
    ) -> Result<Answer, Failure> {
        let target = Target::new(self.place, key, guard);
        left(conn, &self.driver.statements.hold, &target).await
    }
}

/// What is there, as `statement` reads it, for a key that was not changed.
async fn left(
    conn: &mut impl Queryable,
    statement: &Statement,
    target: &Target<'_>,
) -> Result<Answer, Failure> {
    let values = statement.values(target, None);
    let mut answer = run(conn, &statement.text, values).await.map_err(failure)?;
    Ok(Answer::Left(answer.rows.first_mut().map(row::held).transpose()?))
}

/// Columns of a record, with its stamp.
fn columns(record: &Record, stamp: u64) -> [Value; 6] {
    [
        Value::UInt(stamp),
        Value::UInt(record.version.as_u64()),
        record.expires_at_ms.map_or(Value::NULL, Value::UInt),
        Value::UInt(record.size),
        Value::Bytes(record.envelope.to_vec()),
        Value::Bytes(record.body.to_vec()),
    ]
}
