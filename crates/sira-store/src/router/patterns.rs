//! Places by the pattern of the key.

use crate::error::Result;
use crate::pattern::KeyPattern;

use super::compose::is_compared;
use super::request::{Route, RouteRequest};
use super::stats::RoutingStats;
use super::strategy::{RoutingStrategy, simple_form};

/// Where the objects go whose keys match a pattern.
#[derive(Debug, Clone, PartialEq, Default, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct DataPattern {
    /// Backend for the objects.
    #[serde(rename = "backend")]
    pub preferred_backend: String,
    /// Backends that stand in for it, in this order.
    #[serde(default, rename = "fallbacks")]
    pub fallback_backends: Vec<String>,
    /// Backends that get a copy.
    #[serde(default, rename = "mirrors")]
    pub mirror_backends: Vec<String>,
    /// Backend that is compared, and never served from.
    #[serde(default, rename = "shadow")]
    pub shadow_backend: Option<String>,
    /// Part of the keys that are compared, from 0 to 1, always the same keys; all of them where
    /// nothing is said.
    #[serde(default)]
    pub shadow_part: Option<f64>,
    /// The pattern counts only for values of at least this many bytes.
    #[serde(default)]
    pub size_min: Option<u64>,
    /// The pattern counts only for values of at most this many bytes.
    #[serde(default)]
    pub size_max: Option<u64>,
}

impl DataPattern {
    /// A pattern's backend, and nothing else.
    #[must_use]
    pub fn to(backend: impl Into<String>) -> Self {
        Self { preferred_backend: backend.into(), ..Self::default() }
    }

    /// A bound on the size keeps out values of unknown size.
    fn covers(&self, size: Option<u64>) -> bool {
        match (self.size_min, self.size_max, size) {
            (None, None, _) => true,
            (_, _, None) => false,
            (min, max, Some(size)) => {
                min.is_none_or(|min| size >= min) && max.is_none_or(|max| size <= max)
            }
        }
    }
}

/// Patterns of keys and their places, such as `cache:*` on `redis`.
///
/// Of the patterns that match, the one with the most literal characters wins, and of those the one
/// that was added first.
#[derive(Debug, Default)]
pub struct DataPatterns {
    // Most literals first.
    patterns: Vec<(KeyPattern, DataPattern)>,
}

impl DataPatterns {
    /// No patterns.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a pattern. The same pattern may be added again with other bounds on the size.
    ///
    /// # Errors
    /// [`StorageError::InvalidInput`](crate::StorageError::InvalidInput) for a pattern that cannot
    /// be read.
    pub fn add(&mut self, pattern: &str, data: DataPattern) -> Result<()> {
        let pattern: KeyPattern = pattern.parse()?;
        let literals = pattern.literals();
        let at = self.patterns.partition_point(|(other, _)| other.literals() >= literals);
        self.patterns.insert(at, (pattern, data));
        Ok(())
    }

    /// Every pattern and its place, in the order in which they are asked.
    pub fn iter(&self) -> impl Iterator<Item = (&KeyPattern, &DataPattern)> {
        self.patterns.iter().map(|(pattern, data)| (pattern, data))
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }
}

impl RoutingStrategy for DataPatterns {
    fn name(&self) -> &str {
        "patterns"
    }

    simple_form!();

    fn route(&self, request: &RouteRequest<'_>, _stats: &RoutingStats) -> Option<Route> {
        let (pattern, data) = self.patterns.iter().find(|(pattern, data)| {
            pattern.matches(request.key)
                && data.covers(request.size)
                && std::iter::once(&data.preferred_backend)
                    .chain(&data.fallback_backends)
                    .any(|name| request.allows(name))
        })?;
        let backends = std::iter::once(&data.preferred_backend).chain(&data.fallback_backends);
        let mut route = Route::to(backends.cloned())
            .because(request.reason(|| format!("the key matches the pattern {pattern}")));
        route.mirrors.clone_from(&data.mirror_backends);
        if let Some(shadow) = &data.shadow_backend
            && is_compared(request, data.shadow_part.unwrap_or(1.0))
        {
            route.shadows.push(shadow.clone());
        }
        Some(route)
    }

    fn mirrors(&self) -> Vec<String> {
        self.patterns.iter().flat_map(|(_, data)| data.mirror_backends.iter().cloned()).collect()
    }

    fn has_shadows(&self) -> bool {
        self.patterns.iter().any(|(_, data)| data.shadow_backend.is_some())
    }
}
