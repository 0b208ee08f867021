//! Places near related keys.

use std::collections::{BTreeMap, VecDeque};

use parking_lot::Mutex;

use super::hash::stable_hash;
use super::request::{Operation, Route, RouteOutcome, RouteRequest};
use super::stats::RoutingStats;
use super::strategy::{RoutingStrategy, simple_form};

/// The backend on which the key's siblings lie: the keys of the same namespace with the same text
/// before the last separator, so that what is read together is kept together.
///
/// It remembers where the last writes of a bounded number of groups went, and asks
/// [`RouteRequest::near`] about the group's name and separator for others. While nothing is known it
/// has no answer, and the next strategy places the group.
#[derive(Debug)]
pub struct Locality {
    separators: Vec<char>,
    groups_max: usize,
    groups: Mutex<Groups>,
}

#[derive(Debug, Default)]
struct Groups {
    places: BTreeMap<u64, String>,
    /// Groups in the order in which they came.
    order: VecDeque<u64>,
}

impl Locality {
    /// Groups end at the last `/` or `:` of a key; 65,536 of them are remembered.
    #[must_use]
    pub fn new() -> Self {
        Self { separators: vec!['/', ':'], groups_max: 65_536, groups: Mutex::default() }
    }

    /// Sets the characters that end a group.
    #[must_use]
    pub fn with_separators(mut self, separators: impl IntoIterator<Item = char>) -> Self {
        self.separators = separators.into_iter().collect();
        self
    }

    /// Sets how many groups are remembered, at least one.
    #[must_use]
    pub fn with_groups_max(mut self, groups: usize) -> Self {
        self.groups_max = groups.max(1);
        self
    }

    /// What comes before the key's last separator, with the separator.
    fn group<'k>(&self, key: &'k str) -> Option<&'k str> {
        let (at, separator) =
            key.char_indices().rev().find(|(_, c)| self.separators.contains(c))?;
        key.get(..at + separator.len_utf8())
    }
}

impl Default for Locality {
    fn default() -> Self {
        Self::new()
    }
}

impl RoutingStrategy for Locality {
    fn name(&self) -> &str {
        "locality"
    }

    simple_form!();

    fn route(&self, request: &RouteRequest<'_>, _stats: &RoutingStats) -> Option<Route> {
        let group = self.group(request.key)?;
        let hash = stable_hash(&[request.namespace, group]);
        let known = self.groups.lock().places.get(&hash).cloned();
        let place = known.or_else(|| request.near.and_then(|near| near(group)))?;
        Some(Route::to([place]).because(request.reason(|| format!("keys of {group:?} lie there"))))
    }

    fn observe(&self, outcome: &RouteOutcome<'_>) {
        if outcome.operation != Operation::Write || !outcome.success {
            return;
        }
        let Some(group) = self.group(outcome.key) else { return };
        let hash = stable_hash(&[outcome.namespace, group]);
        let mut groups = self.groups.lock();
        if let Some(place) = groups.places.get_mut(&hash) {
            if place != outcome.backend {
                outcome.backend.clone_into(place);
            }
            return;
        }
        groups.places.insert(hash, outcome.backend.to_owned());
        groups.order.push_back(hash);
        if groups.order.len() > self.groups_max
            && let Some(oldest) = groups.order.pop_front()
        {
            groups.places.remove(&oldest);
        }
    }
}
