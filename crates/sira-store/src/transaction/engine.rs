//! What an engine offers so that a transaction can be in several of its namespaces.

use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;

use crate::backend::{BatchOperation, BatchResult, ListOptions, ListPage, StorageBackend};
use crate::error::{Result, StorageError};
use crate::key::check_batch;
use crate::limits::LIST_LIMIT_MAX;

/// Commits that are tried before a version that is drawn and refused each time is an error.
const TRIES: u32 = 16;

/// Keys of a listing that must be as they were.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ListedKeys {
    /// The keys begin with this.
    pub prefix: String,
    /// They come after this one.
    pub start_after: Option<String>,
    /// All keys from there on, in byte order.
    pub keys: Vec<String>,
    /// Whether there is none with the prefix after the last of them.
    pub complete: bool,
}

impl ListedKeys {
    /// The listing that shows whether they are as they were.
    pub(crate) fn again(&self) -> ListOptions {
        ListOptions {
            prefix: self.prefix.clone(),
            start_after: self.start_after.clone(),
            delimiter: None,
            limit: self.keys.len().clamp(1, LIST_LIMIT_MAX),
        }
    }

    /// Compares with that listing.
    ///
    /// # Errors
    /// [`StorageError::PreconditionFailed`] when keys have come or gone.
    pub(crate) fn require(&self, page: &ListPage) -> Result<()> {
        let same = self.keys.iter().eq(page.entries.iter().map(|entry| &entry.key));
        if same && !(self.complete && page.next.is_some()) {
            return Ok(());
        }
        Err(StorageError::precondition_failed(format!(
            "keys that begin with {:?} have come or gone since they were listed",
            self.prefix
        ))
        .with_key(&*self.prefix))
    }
}

/// What a transaction demands and does in one namespace.
#[derive(Debug, Clone, Default)]
pub struct TransactionPart {
    /// Name of the namespace.
    pub namespace: String,
    /// In order; reads see the writes before them.
    pub operations: Vec<BatchOperation>,
    /// Listings that must be as they were before the operations.
    pub listed: Vec<ListedKeys>,
}

impl TransactionPart {
    /// The same on an engine that knows the namespace by this name.
    #[must_use]
    pub fn named(self, namespace: &str) -> Self {
        Self { namespace: namespace.to_owned(), ..self }
    }
}

/// Checks what every engine demands of the parts of a transaction.
///
/// # Errors
/// [`StorageError::TooLarge`] for too many operations, [`StorageError::InvalidInput`] for a namespace
/// that is named twice.
pub(crate) fn check_parts(parts: &[TransactionPart]) -> Result<()> {
    check_batch(parts.iter().map(|part| part.operations.len()).sum())?;
    let mut names = BTreeSet::new();
    match parts.iter().find(|part| !names.insert(part.namespace.as_str())) {
        None => Ok(()),
        Some(part) => {
            let twice = "the namespace is named twice; give what is done in it together";
            Err(StorageError::invalid_input(twice).with_namespace(&part.namespace))
        }
    }
}

/// An engine that reads and writes in several namespaces as one step.
#[async_trait]
pub trait TransactionEngine: Send + Sync + fmt::Debug {
    /// Tells engines apart: handles of the same engine have the same number.
    fn identity(&self) -> usize;

    /// Whether a commit here may have parts that were prepared for the other engine.
    fn covers(&self, other: &dyn TransactionEngine) -> bool {
        self.identity() == other.identity()
    }

    /// Whether a commit is one write of the engine, and no record of several that are to follow.
    fn writes_once(&self) -> bool {
        true
    }

    /// Runs the operations of all parts, which name each namespace once, as one step: what is listed
    /// and demanded holds and every write takes effect, or nothing does. Answers the operations of
    /// each part.
    ///
    /// # Errors
    /// That of the first operation which failed, with its namespace and key; nothing has changed
    /// then, but where the error is ambiguous.
    async fn commit(&self, parts: Vec<TransactionPart>) -> Result<Vec<Vec<BatchResult>>>;
}

/// Answers of the operations of one part; an error where nothing took effect.
pub type PartResults = Result<Vec<BatchResult>>;

type Finish<'a> = Box<
    dyn FnOnce(PartResults) -> Pin<Box<dyn Future<Output = PartResults> + Send + 'a>> + Send + 'a,
>;

/// A part of a transaction as the engine takes it, and what is to be done with its answers. Dropped
/// before that, the outcome counts as unknown.
pub struct PreparedPart<'a> {
    part: TransactionPart,
    /// Whether versions were drawn for it, so that a conflict may end when it is prepared anew.
    renews: bool,
    /// From the engine outwards.
    finish: Vec<Finish<'a>>,
}

impl<'a> PreparedPart<'a> {
    /// A part that is as the engine takes it.
    #[must_use]
    pub fn new(part: TransactionPart) -> Self {
        Self { part, renews: false, finish: Vec::new() }
    }

    /// The same, with something to be done with the answers.
    #[must_use]
    pub fn then<F>(mut self, finish: impl FnOnce(PartResults) -> F + Send + 'a) -> Self
    where
        F: Future<Output = PartResults> + Send + 'a,
    {
        self.finish.push(Box::new(move |results| Box::pin(finish(results))));
        self
    }

    /// The same, worth another attempt when the engine answers a conflict.
    #[must_use]
    pub fn renewing(self) -> Self {
        Self { renews: true, ..self }
    }

    async fn finish(self, mut results: PartResults) -> PartResults {
        for finish in self.finish {
            results = finish(results).await;
        }
        results
    }
}

impl fmt::Debug for PreparedPart<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PreparedPart").field("part", &self.part).finish_non_exhaustive()
    }
}

/// The engine that a transaction over these namespaces goes to.
///
/// # Errors
/// [`StorageError::Unsupported`] where they have none in common.
pub(crate) fn common<'b>(
    backends: impl IntoIterator<Item = &'b Arc<dyn StorageBackend>>,
) -> Result<Arc<dyn TransactionEngine>> {
    let mut common: Option<Arc<dyn TransactionEngine>> = None;
    for backend in backends {
        let Some(engine) = backend.transaction_engine() else {
            return Err(StorageError::unsupported(format!(
                "{} has no transactions over several namespaces, or over listings; keep what \
                 changes together in one namespace, or on the embedded engine",
                backend.capabilities().name
            )));
        };
        match &common {
            Some(first) if first.covers(&*engine) => {}
            // Whoever covers the first covers what that one does.
            Some(first) if !engine.covers(&**first) => {
                return Err(StorageError::unsupported(
                    "the namespaces lie on different engines; a transaction is on one",
                ));
            }
            _ => common = Some(engine),
        }
    }
    common.ok_or_else(|| StorageError::invalid_input("a transaction has at least one namespace"))
}

/// Whether these namespaces are written to by one write of one engine.
pub(crate) fn in_one_step<'b>(
    backends: impl IntoIterator<Item = &'b Arc<dyn StorageBackend>>,
) -> bool {
    common(backends).is_ok_and(|engine| engine.writes_once())
}

/// Commits parts of one transaction, each in its backend's namespace.
///
/// # Errors
/// As [`TransactionEngine::commit`], and as [`common`].
pub(crate) async fn commit(
    parts: Vec<(Arc<dyn StorageBackend>, TransactionPart)>,
) -> Result<Vec<Vec<BatchResult>>> {
    let engine = common(parts.iter().map(|(backend, _)| backend))?;
    let mut attempt = 1;
    loop {
        let mut prepared = Vec::with_capacity(parts.len());
        for (backend, part) in &parts {
            prepared.push(backend.prepare(part.clone()).await?);
        }
        let renews = prepared.iter().any(|prepared| prepared.renews);
        let sent = prepared.iter_mut().map(|prepared| std::mem::take(&mut prepared.part)).collect();
        match engine.commit(sent).await {
            Ok(results) => {
                let mut finished = Vec::with_capacity(parts.len());
                for (prepared, results) in prepared.into_iter().zip(results) {
                    finished.push(prepared.finish(Ok(results)).await?);
                }
                return Ok(finished);
            }
            Err(error) => {
                for prepared in prepared {
                    let same = error.same_kind(error.detail().message.clone());
                    let _ = prepared.finish(Err(same.with_retry(error.retry()))).await;
                }
                let again = renews && matches!(error, StorageError::Conflict(_));
                if !again || attempt == TRIES {
                    return Err(error);
                }
                attempt += 1;
            }
        }
    }
}
