//! What is asked of a router, what it answers, and what came of it.

use std::fmt;
use std::time::Duration;

use crate::options::StorageOptions;

use super::stats::RoutingStats;

/// What is about to be done with an object.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// Reads the object or a range of it.
    Read,
    /// Stores the object.
    Write,
    /// Removes the object.
    Delete,
    /// Lists keys.
    List,
}

impl Operation {
    /// Every operation, in the order of [`Operation::index`].
    pub const ALL: [Self; 4] = [Self::Read, Self::Write, Self::Delete, Self::List];

    /// The name, as in configuration and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Delete => "delete",
            Self::List => "list",
        }
    }

    /// Position in [`Operation::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::Read => 0,
            Self::Write => 1,
            Self::Delete => 2,
            Self::List => 3,
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Tells where a related key lies, if that is known.
pub type Near<'a> = &'a (dyn Fn(&str) -> Option<String> + Sync);

/// What is known when a backend is chosen.
#[derive(Clone, Copy)]
pub struct RouteRequest<'a> {
    /// Namespace of the object.
    pub namespace: &'a str,
    /// Key of the object.
    pub key: &'a str,
    /// What is about to be done.
    pub operation: Operation,
    /// Options of the write.
    pub options: &'a StorageOptions,
    /// Bytes of the value, where known.
    pub size: Option<u64>,
    /// Region of the caller, where known.
    pub region: Option<&'a str>,
    /// Wall clock, milliseconds since the Unix epoch.
    pub now_ms: u64,
    /// Names that may be chosen; none at all means every backend that the statistics know.
    pub candidates: &'a [String],
    /// Where related keys lie.
    pub near: Option<Near<'a>>,
    /// Whether reasons are wanted. Strategies then answer what they hold to be best, without
    /// exploring.
    pub explain: bool,
}

impl<'a> RouteRequest<'a> {
    /// A write of the key, with nothing else known.
    #[must_use]
    pub fn new(key: &'a str, options: &'a StorageOptions) -> Self {
        Self {
            namespace: "default",
            key,
            operation: Operation::Write,
            options,
            size: None,
            region: None,
            now_ms: 0,
            candidates: &[],
            near: None,
            explain: false,
        }
    }

    /// Media type of the object, where the caller named one.
    #[must_use]
    pub fn content_type(&self) -> Option<&'a str> {
        self.options.metadata.content_type.as_deref()
    }

    /// Time to live of the object, where it has one.
    #[must_use]
    pub fn ttl(&self) -> Option<Duration> {
        let until = |at_ms: u64| Duration::from_millis(at_ms.saturating_sub(self.now_ms));
        self.options.ttl.or_else(|| self.options.expires_at_ms.map(until))
    }

    /// Whether a backend may be chosen.
    #[must_use]
    pub fn allows(&self, backend: &str) -> bool {
        self.candidates.is_empty() || self.candidates.iter().any(|name| name == backend)
    }

    /// The reason, made only where it is wanted.
    pub fn reason(&self, make: impl FnOnce() -> String) -> String {
        if self.explain { make() } else { String::new() }
    }

    /// The backends that the statistics know and that may be chosen, least score first; those
    /// without a score are left out. Of equal scores the name decides.
    pub(super) fn ranked<'s>(
        &self,
        stats: &'s RoutingStats,
        mut score: impl FnMut(&'s str, &'s super::BackendStats) -> Option<f64>,
    ) -> Vec<(f64, &'s str)> {
        let mut ranked: Vec<(f64, &str)> = stats
            .iter()
            .filter(|(name, _)| self.allows(name))
            .filter_map(|(name, backend)| score(name, backend).map(|score| (score, name)))
            .collect();
        ranked.sort_by(|a, b| a.0.total_cmp(&b.0));
        ranked
    }
}

impl fmt::Debug for RouteRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RouteRequest")
            .field("namespace", &self.namespace)
            .field("key", &self.key)
            .field("operation", &self.operation)
            .field("size", &self.size)
            .field("region", &self.region)
            .field("candidates", &self.candidates)
            .finish_non_exhaustive()
    }
}

/// Where an object may go.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
pub struct Route {
    /// Names of backends: the first is chosen, the others stand in for it in this order.
    pub backends: Vec<String>,
    /// Backends that get a copy of every write.
    pub mirrors: Vec<String>,
    /// Backends that are asked too, and compared, but never served from.
    pub shadows: Vec<String>,
    /// Name of the rule that answered.
    pub rule: String,
    /// Why, in words; empty unless [`RouteRequest::explain`] asked for it.
    pub reason: String,
}

impl Route {
    /// A route to these backends, the best first.
    #[must_use]
    pub fn to<N: Into<String>>(backends: impl IntoIterator<Item = N>) -> Self {
        Self { backends: backends.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    /// The same route, with the words that say why.
    #[must_use]
    pub fn because(mut self, reason: impl Into<String>) -> Self {
        self.reason = reason.into();
        self
    }

    /// The backend that was chosen.
    #[must_use]
    pub fn first(&self) -> Option<&str> {
        self.backends.first().map(String::as_str)
    }

    /// A route of what was ranked, or none where nothing was.
    pub(super) fn ranked(ranked: &[(f64, &str)]) -> Option<Self> {
        (!ranked.is_empty()).then(|| Self::to(ranked.iter().map(|(_, name)| *name)))
    }

    /// Leaves out what the request does not allow; none where no backend is left.
    pub(super) fn limited_to(mut self, request: &RouteRequest<'_>) -> Option<Self> {
        self.backends.retain(|name| request.allows(name));
        let first = self.backends.first()?;
        self.mirrors.retain(|name| name != first && request.allows(name));
        self.shadows.retain(|name| name != first && request.allows(name));
        Some(self)
    }
}

/// What came of an operation on a backend.
#[derive(Debug, Clone, Copy)]
pub struct RouteOutcome<'a> {
    /// Backend that was asked.
    pub backend: &'a str,
    /// Namespace of the object.
    pub namespace: &'a str,
    /// Key of the object.
    pub key: &'a str,
    /// What was done.
    pub operation: Operation,
    /// Bytes that were carried.
    pub size: u64,
    /// Region of the caller, where known.
    pub region: Option<&'a str>,
    /// From the call to its answer.
    pub latency: Duration,
    /// Whether the backend did its work: a key that is not there, or a condition that does not
    /// hold, is an answer and no failure.
    pub success: bool,
    /// Wall clock at the answer, milliseconds since the Unix epoch.
    pub now_ms: u64,
}
