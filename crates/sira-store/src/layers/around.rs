//! Layers that do something around each operation, whichever it is.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use async_trait::async_trait;
use bytes::Bytes;
use futures_core::Stream;

use crate::backend::{
    BatchOperation, BatchResult, ByteStream, Capabilities, HealthStatus, ListOptions, ListPage,
    Object, ObjectHead, ReadOptions, StorageBackend, StorageStats,
};
use crate::error::{Result, StorageError};
use crate::layers::metrics::NamespaceTally;
use crate::options::{Condition, StorageOptions};
use crate::transaction::{PreparedPart, TransactionEngine, TransactionPart};
use crate::version::Version;

/// Namespace of operations that name none.
const NAMESPACE_DEFAULT: &str = "default";

/// Which operation of the trait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum OperationKind {
    /// A write of a value that is there.
    Put,
    /// A write of a value that is still arriving.
    PutStream,
    /// A read of bytes.
    Read,
    /// A read of what describes an object, or of whether there is one.
    Head,
    /// A removal.
    Remove,
    /// A page of a listing.
    List,
    /// A batch.
    Batch,
    /// Figures.
    Stats,
    /// Making acknowledged writes durable.
    Flush,
    /// Opening a namespace.
    Namespace,
}

impl OperationKind {
    /// All of them, each at its own index.
    pub const ALL: [Self; 10] = [
        Self::Put,
        Self::PutStream,
        Self::Read,
        Self::Head,
        Self::Remove,
        Self::List,
        Self::Batch,
        Self::Stats,
        Self::Flush,
        Self::Namespace,
    ];

    /// A short name, as metrics and spans carry it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::PutStream => "put_stream",
            Self::Read => "read",
            Self::Head => "head",
            Self::Remove => "remove",
            Self::List => "list",
            Self::Batch => "batch",
            Self::Stats => "stats",
            Self::Flush => "flush",
            Self::Namespace => "namespace",
        }
    }
}

/// An operation under way, as a layer sees it.
#[derive(Debug, Clone)]
pub struct Operation<'a> {
    /// Which one.
    pub kind: OperationKind,
    /// What it goes to: the layers and the engine below.
    pub backend: &'a Arc<dyn StorageBackend>,
    /// Name of the namespace, where the backend was opened through one.
    pub namespace: Option<&'a str>,
    /// The key, where the operation is about one.
    pub key: Option<&'a str>,
    /// Bytes of the values that it carries; those of a stream are in `body`.
    pub value_bytes: u64,
    /// Most bytes that a read asks for; `None` where it is the whole value.
    pub wanted_bytes: Option<u64>,
    /// Whether it can change an object.
    pub writes: bool,
    /// How far the stream of a value has come.
    pub body: Option<&'a BodyProgress>,
    /// Reads and writes of a batch.
    pub batched: (u64, u64),
    /// Counts what its namespace does.
    pub tally: Option<&'a NamespaceTally>,
}

impl Operation<'_> {
    /// Adds what a batch brings.
    fn carries(&mut self, operations: &[BatchOperation]) {
        let writes = operations.iter().filter(|operation| operation.is_write()).count() as u64;
        self.batched.0 += operations.len() as u64 - writes;
        self.batched.1 += writes;
        self.writes |= operations.iter().any(BatchOperation::is_write);
        self.value_bytes += operations
            .iter()
            .map(|operation| match operation {
                BatchOperation::Put { value, .. } => value.len() as u64,
                _ => 0,
            })
            .sum::<u64>();
    }

    /// Bytes of values that were handed to the engine so far.
    #[must_use]
    pub fn bytes_in(&self) -> u64 {
        self.value_bytes + self.body.map_or(0, BodyProgress::bytes)
    }
}

/// What an operation answers.
pub trait Answer: Send {
    /// Bytes of values in it.
    fn value_bytes(&self) -> u64 {
        0
    }

    /// The first failure that it carries although the operation as a whole was answered.
    fn failure(&self) -> Option<&StorageError> {
        None
    }

    /// The figures in it.
    fn storage_stats(&self) -> Option<&StorageStats> {
        None
    }
}

impl Answer for () {}
impl Answer for bool {}
impl Answer for Version {}
impl Answer for ListPage {}
impl Answer for Option<ObjectHead> {}
impl Answer for Arc<dyn StorageBackend> {}

impl Answer for Option<Object> {
    fn value_bytes(&self) -> u64 {
        self.as_ref().map_or(0, |object| object.value.len() as u64)
    }
}

impl Answer for Option<Bytes> {
    fn value_bytes(&self) -> u64 {
        self.as_ref().map_or(0, |value| value.len() as u64)
    }
}

impl Answer for Vec<BatchResult> {
    fn value_bytes(&self) -> u64 {
        self.iter()
            .map(|result| match result {
                BatchResult::Value(Some(object)) => object.value.len() as u64,
                _ => 0,
            })
            .sum()
    }

    fn failure(&self) -> Option<&StorageError> {
        self.iter().find_map(|result| match result {
            BatchResult::Error(error) => Some(error),
            _ => None,
        })
    }
}

impl Answer for Vec<Vec<BatchResult>> {
    fn value_bytes(&self) -> u64 {
        self.iter().map(Answer::value_bytes).sum()
    }
}

impl Answer for StorageStats {
    fn storage_stats(&self) -> Option<&StorageStats> {
        Some(self)
    }
}

/// What a layer does around each operation. [`Layered`] makes a backend of it.
pub trait Around: fmt::Debug + Send + Sync + 'static {
    /// Runs `call`, or refuses to. A `call` that was begun and is dropped is a cancelled operation.
    fn around<T: Answer>(
        &self,
        operation: &Operation<'_>,
        call: impl Future<Output = Result<T>> + Send,
    ) -> impl Future<Output = Result<T>> + Send;

    /// Runs a health check.
    fn health(
        &self,
        call: impl Future<Output = HealthStatus> + Send,
    ) -> impl Future<Output = HealthStatus> + Send {
        call
    }

    /// What counts the operations of a namespace, for layers that do.
    fn tally(&self, _namespace: &str) -> Option<Arc<NamespaceTally>> {
        None
    }
}

/// One layer within another, as one.
#[derive(Debug)]
pub struct Nested<A, B> {
    outer: Arc<A>,
    inner: Arc<B>,
}

impl<A, B> Nested<A, B> {
    /// `outer` around `inner`.
    #[must_use]
    pub fn new(outer: Arc<A>, inner: Arc<B>) -> Self {
        Self { outer, inner }
    }
}

impl<A: Around, B: Around> Around for Nested<A, B> {
    async fn around<T: Answer>(
        &self,
        operation: &Operation<'_>,
        call: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        self.outer.around(operation, self.inner.around(operation, call)).await
    }

    async fn health(&self, call: impl Future<Output = HealthStatus> + Send) -> HealthStatus {
        self.outer.health(self.inner.health(call)).await
    }

    fn tally(&self, namespace: &str) -> Option<Arc<NamespaceTally>> {
        self.outer.tally(namespace).or_else(|| self.inner.tally(namespace))
    }
}

/// A backend with something around each of its operations. Its namespaces share what is around.
#[derive(Debug)]
pub struct Layered<A> {
    inner: Arc<dyn StorageBackend>,
    around: Arc<A>,
    namespace: Option<Arc<str>>,
    tally: Option<Arc<NamespaceTally>>,
}

impl<A: Around> Layered<A> {
    /// `inner` with `around` around its operations.
    #[must_use]
    pub fn new(inner: Arc<dyn StorageBackend>, around: Arc<A>) -> Self {
        let tally = around.tally(NAMESPACE_DEFAULT);
        Self { inner, around, namespace: None, tally }
    }

    /// A namespace with the same around it.
    fn inside(&self, inner: Arc<dyn StorageBackend>, name: &str) -> Self {
        let (around, tally) = (Arc::clone(&self.around), self.around.tally(name));
        Self { inner, around, namespace: Some(name.into()), tally }
    }

    /// What is around the operations.
    #[must_use]
    pub fn around(&self) -> &Arc<A> {
        &self.around
    }

    fn operation<'a>(&'a self, kind: OperationKind, key: Option<&'a str>) -> Operation<'a> {
        Operation {
            kind,
            backend: &self.inner,
            namespace: self.namespace.as_deref(),
            key,
            value_bytes: 0,
            wanted_bytes: Some(0),
            writes: false,
            body: None,
            batched: (0, 0),
            tally: self.tally.as_deref(),
        }
    }
}

#[async_trait]
impl<A: Around> StorageBackend for Layered<A> {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn put(&self, key: &str, value: Bytes, options: StorageOptions) -> Result<Version> {
        let mut operation = self.operation(OperationKind::Put, Some(key));
        operation.value_bytes = value.len() as u64;
        operation.writes = true;
        self.around.around(&operation, self.inner.put(key, value, options)).await
    }

    async fn put_stream(
        &self,
        key: &str,
        body: ByteStream,
        options: StorageOptions,
    ) -> Result<Version> {
        let progress = Arc::new(BodyProgress::default());
        let body = Box::pin(ObservedBody { body, progress: Arc::clone(&progress) });
        let mut operation = self.operation(OperationKind::PutStream, Some(key));
        operation.writes = true;
        operation.body = Some(&progress);
        self.around.around(&operation, self.inner.put_stream(key, body, options)).await
    }

    async fn read(&self, key: &str, options: ReadOptions) -> Result<Option<Object>> {
        let mut operation = self.operation(OperationKind::Read, Some(key));
        operation.wanted_bytes =
            options.range.as_ref().map(|range| range.end.saturating_sub(range.start));
        self.around.around(&operation, self.inner.read(key, options)).await
    }

    async fn remove(&self, key: &str, condition: Condition) -> Result<bool> {
        let mut operation = self.operation(OperationKind::Remove, Some(key));
        operation.writes = true;
        self.around.around(&operation, self.inner.remove(key, condition)).await
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        let mut operation = self.operation(OperationKind::Read, Some(key));
        operation.wanted_bytes = None;
        self.around.around(&operation, self.inner.get(key)).await
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectHead>> {
        let operation = self.operation(OperationKind::Head, Some(key));
        self.around.around(&operation, self.inner.head(key)).await
    }

    async fn exists(&self, key: &str) -> Result<bool> {
        let operation = self.operation(OperationKind::Head, Some(key));
        self.around.around(&operation, self.inner.exists(key)).await
    }

    async fn list(&self, options: ListOptions) -> Result<ListPage> {
        let operation = self.operation(OperationKind::List, None);
        self.around.around(&operation, self.inner.list(options)).await
    }

    async fn batch(&self, operations: Vec<BatchOperation>) -> Result<Vec<BatchResult>> {
        let mut operation = self.operation(OperationKind::Batch, None);
        operation.carries(&operations);
        self.around.around(&operation, self.inner.batch(operations)).await
    }

    async fn stats(&self) -> Result<StorageStats> {
        let operation = self.operation(OperationKind::Stats, None);
        self.around.around(&operation, self.inner.stats()).await
    }

    async fn health_check(&self) -> HealthStatus {
        self.around.health(self.inner.health_check()).await
    }

    async fn namespace(&self, name: &str) -> Result<Arc<dyn StorageBackend>> {
        let operation = self.operation(OperationKind::Namespace, None);
        let inner = self.around.around(&operation, self.inner.namespace(name)).await?;
        Ok(Arc::new(self.inside(inner, name)))
    }

    async fn plain(&self, name: &str) -> Result<Arc<dyn StorageBackend>> {
        let operation = self.operation(OperationKind::Namespace, None);
        let inner = self.around.around(&operation, self.inner.plain(name)).await?;
        Ok(Arc::new(self.inside(inner, name)))
    }

    fn transaction_engine(&self) -> Option<Arc<dyn TransactionEngine>> {
        Some(Arc::new(LayeredEngine {
            engine: self.inner.transaction_engine()?,
            backend: Arc::clone(&self.inner),
            around: Arc::clone(&self.around),
        }))
    }

    async fn prepare(&self, part: TransactionPart) -> Result<PreparedPart<'_>> {
        self.inner.prepare(part).await
    }

    async fn flush(&self) -> Result<()> {
        let operation = self.operation(OperationKind::Flush, None);
        self.around.around(&operation, self.inner.flush()).await
    }

    async fn maintain(&self) -> Result<u64> {
        self.inner.maintain().await
    }
}

/// The engine of transactions below a layer. A transaction is a batch to what is around it.
#[derive(Debug)]
struct LayeredEngine<A> {
    engine: Arc<dyn TransactionEngine>,
    backend: Arc<dyn StorageBackend>,
    around: Arc<A>,
}

#[async_trait]
impl<A: Around> TransactionEngine for LayeredEngine<A> {
    fn identity(&self) -> usize {
        self.engine.identity()
    }

    async fn commit(&self, parts: Vec<TransactionPart>) -> Result<Vec<Vec<BatchResult>>> {
        let mut operation = Operation {
            kind: OperationKind::Batch,
            backend: &self.backend,
            namespace: None,
            key: None,
            value_bytes: 0,
            wanted_bytes: Some(0),
            writes: false,
            body: None,
            batched: (0, 0),
            tally: None,
        };
        parts.iter().for_each(|part| operation.carries(&part.operations));
        self.around.around(&operation, self.engine.commit(parts)).await
    }
}

/// How far the stream of a value has come.
#[derive(Debug, Default)]
pub struct BodyProgress {
    bytes: AtomicU64,
    polls: AtomicU64,
    waiting: AtomicBool,
    ended: AtomicBool,
}

impl BodyProgress {
    /// Bytes that the engine has taken.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Times that the engine has asked for more: it grows while the engine is at work.
    #[must_use]
    pub fn polls(&self) -> u64 {
        self.polls.load(Ordering::Relaxed)
    }

    /// Whether the engine waits for more of the value.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Whether the engine has seen the end of the value.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }
}

/// A body that tells how far it has come.
struct ObservedBody {
    body: ByteStream,
    progress: Arc<BodyProgress>,
}

impl Stream for ObservedBody {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = self.body.as_mut().poll_next(cx);
        let progress = &self.progress;
        progress.polls.fetch_add(1, Ordering::Relaxed);
        progress.waiting.store(polled.is_pending(), Ordering::Relaxed);
        match &polled {
            Poll::Ready(Some(Ok(part))) => {
                progress.bytes.fetch_add(part.len() as u64, Ordering::Relaxed);
            }
            Poll::Ready(None) => progress.ended.store(true, Ordering::Relaxed),
            _ => {}
        }
        polled
    }
}
