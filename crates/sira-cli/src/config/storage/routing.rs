//! The section `[storage.routing]`: which backend an object goes to.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use sira_backends::config::{fields_of, units};
use sira_store::env::Env;
use sira_store::pattern::KeyPattern;
use sira_store::router::{
    Adaptive, BackendProfile, CostBased, DataPattern, DataPatterns, Geography, Locality,
    PerformanceBased, Predictive, PriceTable, RoutingStrategy, Rules, SlaBased, StatsRecorder,
    StorageRouter,
};
use toml::Spanned;
use toml::de::DeTable;

use super::reader::{Entry, Reader, take};
use super::strategies::{self, Composition};
use super::{EMBEDDED, Found};

/// Which backend an object goes to: the first rule that holds, then the pattern that says most about
/// the key, then the strategy, then the default backend.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RoutingConfig {
    /// What chooses among the backends where neither a rule nor a pattern does.
    pub strategy: Strategy,
    /// Name of the strategy of `compositions` that does so in its place.
    pub composed: Option<String>,
    /// Strategies made of others.
    pub compositions: BTreeMap<String, Composition>,
    /// Region of this process, from which callers count as coming.
    pub region: Option<String>,
    /// Bounds of [`Strategy::Sla`].
    pub sla: SlaConfig,
    /// Time between two snapshots of the statistics.
    pub rebalance_interval: Option<Duration>,
    /// Patterns of keys and their backends, in the order of the file.
    pub patterns: Vec<(String, DataPattern)>,
    /// Rules in the order in which they are asked.
    pub rules: Vec<RoutingRule>,
    /// What is known of backends, prices included.
    pub profiles: BTreeMap<String, BackendProfile>,
}

/// What chooses among the backends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Strategy {
    /// Nothing but rules and patterns.
    #[default]
    Patterns,
    /// Measured latency and success.
    Performance,
    /// Price over the object's life.
    Cost,
    /// Bounds, then price.
    Sla,
    /// Rewards observed in like cases.
    Adaptive,
    /// Forecast of the load by time of day.
    Predictive,
    /// Regions of the caller and the backends.
    Geography,
    /// Where related keys lie.
    Locality,
}

/// Bounds that a backend must keep.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SlaConfig {
    /// What 99 of 100 operations must keep within.
    #[serde(deserialize_with = "units::duration")]
    pub latency_p99: Option<Duration>,
    /// Durability over a year, from 0 to 1.
    pub durability: Option<f64>,
    /// Part of the time that the backend must answer, from 0 to 1.
    pub availability: Option<f64>,
    /// Where no backend keeps the bounds, the default backend is taken, not the best of them.
    pub strict: bool,
}

/// A rule in the Common Expression Language.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoutingRule {
    /// What explanations call it.
    pub name: String,
    /// The expression.
    pub when: String,
    /// Backends where it holds; without, the expression answers a backend's name.
    pub backends: Vec<String>,
}

impl RoutingConfig {
    /// A router that follows this, with the statistics of `recorder`.
    ///
    /// # Errors
    /// [`sira_store::StorageError::InvalidInput`] for a rule or a pattern that cannot be used, which
    /// the configuration's check has found before.
    pub fn router(
        &self,
        default_backend: &str,
        env: &Arc<dyn Env>,
        recorder: Arc<StatsRecorder>,
    ) -> sira_store::Result<StorageRouter> {
        let mut router = StorageRouter::with_recorder(Arc::clone(env), recorder);
        for (name, profile) in &self.profiles {
            router.register_backend(name, profile.clone());
        }
        if let Some(interval) = self.rebalance_interval {
            router.set_rebalance_interval(interval);
        }
        for strategy in self.strategies(&**env)? {
            router.add_strategy(strategy);
        }
        router.set_default_backend(default_backend);
        self.settle(&mut router);
        Ok(router)
    }

    /// The rules, the patterns and the strategy, in the order in which they are asked.
    ///
    /// # Errors
    /// As [`RoutingConfig::router`].
    pub fn strategies(&self, env: &dyn Env) -> sira_store::Result<Vec<Box<dyn RoutingStrategy>>> {
        let mut strategies: Vec<Box<dyn RoutingStrategy>> = Vec::new();
        if !self.rules.is_empty() {
            let mut rules = Rules::new();
            for rule in &self.rules {
                rules.add(&rule.name, &rule.when, rule.backends.clone())?;
            }
            strategies.push(Box::new(rules));
        }
        strategies.extend(self.simple(Strategy::Patterns, env)?);
        self.add_composed(&mut strategies, env)?;
        Ok(strategies)
    }

    /// A strategy that is not made of others; `None` for patterns where there are none.
    pub(super) fn simple(
        &self,
        strategy: Strategy,
        env: &dyn Env,
    ) -> sira_store::Result<Option<Box<dyn RoutingStrategy>>> {
        let strategy: Box<dyn RoutingStrategy> = match strategy {
            Strategy::Patterns if self.patterns.is_empty() => return Ok(None),
            Strategy::Patterns => {
                let mut patterns = DataPatterns::new();
                for (pattern, data) in &self.patterns {
                    patterns.add(pattern, data.clone())?;
                }
                Box::new(patterns)
            }
            Strategy::Performance => Box::new(PerformanceBased::new(env)),
            Strategy::Cost => Box::new(CostBased::default()),
            Strategy::Sla => {
                let SlaConfig { latency_p99, durability, availability, strict } = self.sla;
                let cost = CostBased::default();
                Box::new(SlaBased { latency_p99, durability, availability, strict, cost })
            }
            Strategy::Adaptive => Box::new(Adaptive::new(env)),
            Strategy::Predictive => Box::new(Predictive::new(env)),
            Strategy::Geography => Box::new(Geography::new()),
            Strategy::Locality => Box::new(Locality::new()),
        };
        Ok(Some(strategy))
    }
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct RawRouting {
    region: Option<String>,
    #[serde(deserialize_with = "units::duration")]
    rebalance_interval: Option<Duration>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPattern {
    pattern: Spanned<String>,
    backend: Spanned<String>,
    #[serde(default)]
    fallbacks: Vec<Spanned<String>>,
    #[serde(default)]
    mirrors: Vec<Spanned<String>>,
    #[serde(default)]
    shadow: Option<Spanned<String>>,
    #[serde(default)]
    shadow_part: Option<Spanned<f64>>,
    #[serde(default, deserialize_with = "units::size")]
    size_min: Option<u64>,
    #[serde(default, deserialize_with = "units::size")]
    size_max: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    #[serde(default)]
    name: Option<String>,
    when: Spanned<String>,
    #[serde(default)]
    backends: Vec<Spanned<String>>,
}

/// Sections within `[storage.routing]`.
const SUBSECTIONS: [&str; 6] = ["patterns", "rules", "profiles", "prices", "sla", "strategies"];

pub(super) fn read(reader: &mut Reader<'_>, at: usize, mut table: DeTable<'_>, found: &mut Found) {
    let [patterns, rules, profiles, prices, sla, composed] =
        SUBSECTIONS.map(|name| take(&mut table, name));
    let strategy = take(&mut table, "strategy");
    let keys = fields_of::<RawRouting>().iter().chain(&SUBSECTIONS).chain(&["strategy"]);
    let keys: Vec<&str> = keys.copied().collect();
    let own = reader.section_with("storage.routing", at, table, &keys, RawRouting::deserialize);
    let mut asked = strategies::Asked::new();
    if let Some(entry) = composed {
        strategies::read(reader, entry, found, &mut asked);
    }
    if let Some(own) = own {
        let routing = &mut found.config.routing;
        (routing.rebalance_interval, routing.region) = (own.rebalance_interval, own.region);
    }
    if let Some((_, value)) = strategy {
        strategies::choose(reader, &value, found, &mut asked);
    }
    strategies::check(reader, found, &asked);
    if let Some(entry) = patterns {
        read_patterns(reader, entry, found);
    }
    if let Some(entry) = rules {
        read_rules(reader, entry, found);
    }
    if let Some(entry) = profiles {
        read_profiles(reader, entry, found);
    }
    if let Some(entry) = prices {
        read_prices(reader, entry, found);
    }
    if let Some((at, table)) = sla.and_then(|entry| reader.table("storage.routing.sla", entry))
        && let Some(sla) = reader.section::<SlaConfig>("storage.routing.sla", at, table)
    {
        for (name, part) in [("durability", sla.durability), ("availability", sla.availability)] {
            if part.is_some_and(|part| !(0.0..=1.0).contains(&part)) {
                reader.fail(at, &format!("storage.routing.sla.{name} is from 0 to 1"));
            }
        }
        found.config.routing.sla = sla;
    }
}

fn read_patterns(reader: &mut Reader<'_>, entry: Entry<'_>, found: &mut Found) {
    let name = "storage.routing.patterns";
    for (at, table) in reader.tables(name, entry) {
        let Some(raw) = reader.section::<RawPattern>(name, at, table) else { continue };
        if let Err(error) = raw.pattern.get_ref().parse::<KeyPattern>() {
            let message = format!("{name}.pattern: {}", error.detail().message);
            reader.fail(raw.pattern.span().start, &message);
        }
        let backend = raw.backend.get_ref();
        let copies = raw.mirrors.iter().map(|mirror| ("mirrors", mirror));
        let copies = copies.chain(raw.shadow.iter().map(|shadow| ("shadow", shadow)));
        for (key, copy) in copies.filter(|(_, copy)| copy.get_ref() == backend) {
            let message = format!("{name}.{key}: {backend:?} is where the objects lie themselves");
            reader.fail(copy.span().start, &message);
        }
        let part = {
            let key = format!("{name}.shadow_part");
            strategies::part(reader, &key, raw.shadow_part.as_ref())
        };
        if let (Some(part), None) = (&raw.shadow_part, &raw.shadow) {
            let message = format!("{name}.shadow_part is that of a shadow, and there is none");
            reader.fail_with(part.span().start, &message, Some("shadow = \"archive\"".to_owned()));
        }
        let all = |names: Vec<Spanned<String>>, found: &mut Found| {
            names.into_iter().map(|name| found.want(name)).collect()
        };
        let data = DataPattern {
            fallback_backends: all(raw.fallbacks, found),
            mirror_backends: all(raw.mirrors, found),
            shadow_backend: raw.shadow.map(|name| found.want(name)),
            shadow_part: part.flatten(),
            size_min: raw.size_min,
            size_max: raw.size_max,
            ..DataPattern::to(found.want(raw.backend))
        };
        found.config.routing.patterns.push((raw.pattern.into_inner(), data));
    }
}

fn read_rules(reader: &mut Reader<'_>, entry: Entry<'_>, found: &mut Found) {
    let name = "storage.routing.rules";
    for (number, (at, table)) in (1..).zip(reader.tables(name, entry)) {
        let Some(raw) = reader.section::<RawRule>(name, at, table) else { continue };
        let rule = RoutingRule {
            name: raw.name.unwrap_or_else(|| format!("rule {number}")),
            backends: raw.backends.into_iter().map(|name| found.want(name)).collect(),
            when: raw.when.get_ref().clone(),
        };
        if let Err(error) = Rules::new().add(&rule.name, &rule.when, rule.backends.clone()) {
            let message = format!("{name}.when: {}", error.detail().message);
            reader.fail(raw.when.span().start, &message);
        }
        found.config.routing.rules.push(rule);
    }
}

fn read_profiles(reader: &mut Reader<'_>, entry: Entry<'_>, found: &mut Found) {
    let Some((_, table)) = reader.table("storage.routing.profiles", entry) else { return };
    for (key, value) in table {
        let name = format!("storage.routing.profiles.{}", key.get_ref());
        let at = key.span().start;
        let backend = found.want(Spanned::new(key.span(), key.get_ref().to_string()));
        let Some((at, table)) = reader.table(&name, (at, value)) else { continue };
        let Some(profile) = reader.section::<BackendProfile>(&name, at, table) else { continue };
        if let Some(fault) = profile.fault() {
            reader.fail(at, &format!("{name}: {fault}"));
        }
        found.config.routing.profiles.insert(backend, profile);
    }
}

fn read_prices(reader: &mut Reader<'_>, entry: Entry<'_>, found: &mut Found) {
    let Some((_, table)) = reader.table("storage.routing.prices", entry) else { return };
    for (key, value) in table {
        let name = format!("storage.routing.prices.{}", key.get_ref());
        let at = key.span().start;
        let backend = found.want(Spanned::new(key.span(), key.get_ref().to_string()));
        let Some((at, table)) = reader.table(&name, (at, value)) else { continue };
        let Some(prices) = reader.section::<PriceTable>(&name, at, table) else { continue };
        let profile = found.config.routing.profiles.entry(backend).or_default();
        if profile.prices != PriceTable::default() {
            let message = format!("{name}: the profile of this backend has prices already");
            reader.fail(at, &message);
            continue;
        }
        profile.prices = prices;
        if let Some(fault) = profile.fault() {
            reader.fail(at, &format!("{name}: {fault}"));
        }
    }
}

/// Whether a name is that of a backend.
pub(super) fn is_backend(found: &Found, name: &str) -> bool {
    name == EMBEDDED || found.backends.iter().any(|backend| backend == name)
}
