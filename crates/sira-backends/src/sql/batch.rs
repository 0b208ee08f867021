//! What became of the changes of a batch that ran in one transaction.

use bytes::Bytes;
use sira_store::driver::{Change, CommitError, Driver, Held, Place, Record};
use sira_store::{Condition, Result, Retry, StorageError, Version};

use super::same;

/// What is written under a key, until the end of a transaction, that must hold nothing: other
/// writers of it wait.
pub(crate) fn placeholder() -> Record {
    Record {
        version: Version::from_u64(1),
        expires_at_ms: None,
        size: 0,
        envelope: Bytes::new(),
        body: Bytes::new(),
    }
}

/// Whether a change needs a placeholder.
pub(crate) fn wants_absence(change: &Change) -> bool {
    change.is_check() && change.guard().condition == Condition::IfAbsent
}

/// Checks what a change demands.
///
/// # Errors
/// [`StorageError::Unsupported`] for a check that no lock can make last.
pub(crate) fn check_demand(change: &Change) -> Result<()> {
    match (change, change.guard().condition) {
        (Change::Check { .. }, Condition::Always | Condition::IfNoneMatch(_)) => {
            Err(StorageError::unsupported(
                "a check within a batch demands that an object is absent, present or of a version",
            ))
        }
        _ => Ok(()),
    }
}

/// What became of a change.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Answer {
    /// It was made; the version of a put.
    Made(Option<Version>),
    /// It was not made; the row as it was when the statement began.
    Left(Option<Held>),
}

/// What an answer means.
pub(crate) enum Verdict {
    Made(Option<Version>),
    Refused(StorageError),
    /// What was held would let the change through: it has changed meanwhile.
    Overtaken,
}

impl Answer {
    pub(crate) fn verdict(self, change: &Change) -> Verdict {
        let held = match self {
            Self::Made(version) => return Verdict::Made(version),
            Self::Left(held) => held,
        };
        let gone = match change {
            Change::Put { record, guard, .. } => guard.admit(held, record.version).map(|_| false),
            Change::Remove { guard, .. } => guard.admit_removal(held).map(|live| !live),
            Change::Check { guard, .. } => {
                // What is there is locked; that nothing is there is not told by looking.
                guard.admit_removal(held).map(|_| guard.condition != Condition::IfAbsent)
            }
        };
        match gone {
            Ok(true) => Verdict::Made(None),
            Ok(false) => Verdict::Overtaken,
            Err(error) => Verdict::Refused(error),
        }
    }
}

/// Why a transaction did not take place.
pub(crate) struct Failure {
    /// The change that the engine refused, where it was one.
    pub(crate) index: Option<usize>,
    pub(crate) error: StorageError,
    /// Others were in the way, and it can be run again.
    pub(crate) collided: bool,
}

impl Failure {
    /// Of the change with this index.
    pub(crate) fn at(index: usize, error: StorageError) -> Self {
        Self { index: Some(index), error, collided: false }
    }
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Self {
        Self { index: None, error, collided: false }
    }
}

impl From<Failure> for CommitError {
    fn from(failure: Failure) -> Self {
        Self { index: failure.index, error: failure.error }
    }
}

/// Answers of [`Driver::apply_many`], whose changes ran in one transaction, each by itself as far as
/// guards go. When the engine refused the transaction, they are made one by one.
pub(crate) async fn applied(
    driver: &impl Driver,
    place: &Place,
    changes: Vec<Change>,
    answers: Result<Vec<Answer>, Failure>,
) -> Vec<Result<Option<Version>>> {
    let mut results = Vec::with_capacity(changes.len());
    match answers {
        Ok(answers) => {
            for (change, answer) in changes.into_iter().zip(answers) {
                results.push(match answer.verdict(&change) {
                    Verdict::Made(version) => Ok(version),
                    Verdict::Refused(error) => Err(error),
                    Verdict::Overtaken => change.apply(driver, place).await,
                });
            }
        }
        Err(failure) if failure.error.retry() == Retry::Permanent => {
            for change in changes {
                results.push(change.apply(driver, place).await);
            }
        }
        Err(failure) => results.extend(changes.iter().map(|_| Err(same(&failure.error)))),
    }
    results
}

/// Answers of [`Driver::commit`]; `None` when others came in between and nothing was changed.
pub(crate) fn committed(
    changes: &[Change],
    answers: &[Answer],
) -> Result<Option<Vec<Option<Version>>>, CommitError> {
    let mut versions = Vec::with_capacity(changes.len());
    for (index, (answer, change)) in answers.iter().zip(changes).enumerate() {
        match answer.verdict(change) {
            Verdict::Made(version) => versions.push(version),
            Verdict::Refused(error) => return Err(CommitError { index: Some(index), error }),
            Verdict::Overtaken => {}
        }
    }
    Ok((versions.len() == changes.len()).then_some(versions))
}

/// Whether all changes were made.
pub(crate) fn all_made(changes: &[Change], answers: &[Answer]) -> bool {
    let made =
        |(answer, change): (&Answer, &Change)| matches!(answer.verdict(change), Verdict::Made(_));
    answers.iter().zip(changes).all(made)
}
