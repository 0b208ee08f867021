//! The sections `[storage.routing.strategies]`: strategies made of others.

use std::collections::{BTreeMap, BTreeSet};

use clap::ValueEnum;
use serde::Deserialize;
use sira_store::env::Env;
use sira_store::router::{
    AllOf, FallbackChain, First, Mirror, RoutingStrategy, Shadow, StorageRouter, Weighted,
};
use toml::Spanned;
use toml::de::DeValue;

use super::Found;
use super::reader::{Entry, Reader};
use super::routing::{RoutingConfig, Strategy};
use crate::config::nearest::nearest;

/// A strategy made of others, which it calls by name.
#[derive(Debug, Clone, PartialEq)]
pub enum Composition {
    /// The answer of the first that has one.
    First(Vec<String>),
    /// Every answer, one standing in for the one before.
    Fallback(Vec<String>),
    /// Only what all of them name.
    AllOf(Vec<String>),
    /// Keys spread over backends by weight.
    Weighted(Vec<(String, f64)>),
    /// Another strategy, and copies on backends.
    Mirror(String, Vec<String>),
    /// Another strategy, and a backend that is compared for a part of the keys.
    Shadow(String, String, f64),
}

impl Composition {
    /// The strategies that it asks.
    fn of(&self) -> &[String] {
        match self {
            Self::First(of) | Self::Fallback(of) | Self::AllOf(of) => of,
            Self::Weighted(_) => &[],
            Self::Mirror(of, _) | Self::Shadow(of, ..) => std::slice::from_ref(of),
        }
    }
}

/// The strategy of a name, if it is one that is not made of others.
pub(super) fn simple(name: &str) -> Option<Strategy> {
    Strategy::from_str(name, false).ok()
}

impl RoutingConfig {
    /// The strategy of this name.
    ///
    /// # Errors
    /// As [`RoutingConfig::router`].
    pub(super) fn named(
        &self,
        name: &str,
        env: &dyn Env,
    ) -> sira_store::Result<Box<dyn RoutingStrategy>> {
        let Some(composition) = self.compositions.get(name) else {
            // Nothing is the answer of a router without rules.
            let simple = simple(name).map(|strategy| self.simple(strategy, env)).transpose()?;
            return Ok(simple.flatten().unwrap_or_else(|| Box::new(First(Vec::new()))));
        };
        let all = |names: &[String]| -> sira_store::Result<Vec<Box<dyn RoutingStrategy>>> {
            names.iter().map(|name| self.named(name, env)).collect()
        };
        Ok(match composition {
            Composition::First(of) => Box::new(First(all(of)?)),
            Composition::Fallback(of) => Box::new(FallbackChain(all(of)?)),
            Composition::AllOf(of) => Box::new(AllOf(all(of)?)),
            Composition::Weighted(weights) => Box::new(Weighted(weights.clone())),
            Composition::Mirror(of, to) => {
                Box::new(Mirror { inner: self.named(of, env)?, to: to.clone() })
            }
            Composition::Shadow(of, to, part) => {
                Box::new(Shadow { inner: self.named(of, env)?, to: to.clone(), part: *part })
            }
        })
    }

    /// Adds what is asked where neither a rule nor a pattern answers.
    pub(super) fn add_composed(
        &self,
        strategies: &mut Vec<Box<dyn RoutingStrategy>>,
        env: &dyn Env,
    ) -> sira_store::Result<()> {
        if let Some(name) = &self.composed {
            strategies.push(self.named(name, env)?);
        } else if self.strategy != Strategy::Patterns {
            strategies.extend(self.simple(self.strategy, env)?);
        }
        Ok(())
    }

    /// Tells a router the region of this process.
    pub(super) fn settle(&self, router: &mut StorageRouter) {
        if let Some(region) = &self.region {
            router.set_region(region);
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    First,
    Fallback,
    AllOf,
    Weighted,
    Mirror,
    Shadow,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawComposition {
    r#type: Kind,
    #[serde(default)]
    of: Vec<Spanned<String>>,
    #[serde(default)]
    to: Vec<Spanned<String>>,
    #[serde(default)]
    weights: BTreeMap<Spanned<String>, f64>,
    #[serde(default)]
    part: Option<Spanned<f64>>,
}

/// Reads which strategy is asked where neither a rule nor a pattern answers.
pub(super) fn choose(
    reader: &mut Reader<'_>,
    value: &Spanned<DeValue<'_>>,
    found: &mut Found,
    asked: &mut Asked,
) {
    let at = value.span();
    let Some(name) = value.get_ref().as_str() else {
        let kind = value.get_ref().type_str();
        let message = format!("storage.routing.strategy is a name in quotes, this is a {kind}");
        return reader.fail(at.start, &message);
    };
    let routing = &mut found.config.routing;
    match simple(name) {
        Some(strategy) => routing.strategy = strategy,
        None => routing.composed = Some(name.to_owned()),
    }
    asked.push(Spanned::new(at, name.to_owned()));
}

/// Names of strategies, where they are asked for.
pub(super) type Asked = Vec<Spanned<String>>;

/// Reads the sections, and adds to what is asked for.
pub(super) fn read(
    reader: &mut Reader<'_>,
    entry: Entry<'_>,
    found: &mut Found,
    asked: &mut Asked,
) {
    let Some((_, table)) = reader.table("storage.routing.strategies", entry) else { return };
    for (key, value) in table {
        let name = key.get_ref().to_string();
        let section = format!("storage.routing.strategies.{name}");
        let at = key.span().start;
        if simple(&name).is_some() {
            let message = format!("{section}: there is a strategy of this name; choose another");
            reader.fail(at, &message);
            continue;
        }
        let Some((at, table)) = reader.table(&section, (at, value)) else { continue };
        let Some(raw) = reader.section::<RawComposition>(&section, at, table) else { continue };
        if let Some(composition) = composition(reader, &section, at, raw, found, asked) {
            found.config.routing.compositions.insert(name, composition);
        }
    }
}

fn composition(
    reader: &mut Reader<'_>,
    section: &str,
    at: usize,
    raw: RawComposition,
    found: &mut Found,
    asked: &mut Asked,
) -> Option<Composition> {
    let RawComposition { r#type, of, to, weights, part } = raw;
    let (ofs, tos, weighed, parted) = match r#type {
        Kind::First | Kind::Fallback | Kind::AllOf => (of.len().max(1), 0, false, false),
        Kind::Weighted => (0, 0, true, false),
        Kind::Mirror => (1, to.len().max(1), false, false),
        Kind::Shadow => (1, 1, false, true),
    };
    let wrong = [
        (of.len() != ofs, "of", ofs, "strategies"),
        (to.len() != tos, "to", tos, "backends"),
        (weights.is_empty() == weighed, "weights", usize::from(weighed), "weights of backends"),
        (part.is_some() && !parted, "part", 0, "part of the keys"),
    ];
    if let Some((_, key, number, what)) = wrong.into_iter().find(|(wrong, ..)| *wrong) {
        let wants = match (number, r#type) {
            (0, _) => format!("takes no {what}"),
            (1, Kind::Mirror | Kind::Shadow) => format!("takes one of the {what}"),
            _ => format!("takes {what}"),
        };
        reader.fail(at, &format!("{section}.{key}: a strategy of this type {wants}"));
        return None;
    }
    if let Some((name, weight)) =
        weights.iter().find(|(_, weight)| !weight.is_finite() || **weight < 0.0)
    {
        let message =
            format!("{section}.weights: a weight is a number from 0 on, this is {weight}");
        reader.fail(name.span().start, &message);
        return None;
    }
    let share = self::part(reader, &format!("{section}.part"), part.as_ref())?;
    let mut of = of.into_iter().map(|name| {
        asked.push(name.clone());
        name.into_inner()
    });
    let mut to = to.into_iter().map(|name| found.want(name)).collect::<Vec<_>>().into_iter();
    Some(match r#type {
        Kind::First => Composition::First(of.collect()),
        Kind::Fallback => Composition::Fallback(of.collect()),
        Kind::AllOf => Composition::AllOf(of.collect()),
        Kind::Weighted => Composition::Weighted(
            weights.into_iter().map(|(name, weight)| (found.want(name), weight)).collect(),
        ),
        Kind::Mirror => Composition::Mirror(of.next()?, to.collect()),
        Kind::Shadow => Composition::Shadow(of.next()?, to.next()?, share.unwrap_or(1.0)),
    })
}

/// A part of the keys; `None` when it can be none, which is noted.
pub(super) fn part(
    reader: &mut Reader<'_>,
    name: &str,
    part: Option<&Spanned<f64>>,
) -> Option<Option<f64>> {
    let Some(part) = part else { return Some(None) };
    let share = *part.get_ref();
    if (0.0..=1.0).contains(&share) {
        return Some(Some(share));
    }
    reader.fail(part.span().start, &format!("{name} is a part from 0 to 1, this is {share}"));
    None
}

/// Checks that strategies which are asked for are there, and that none asks itself.
pub(super) fn check(reader: &mut Reader<'_>, found: &Found, asked: &Asked) {
    let compositions = &found.config.routing.compositions;
    for name in asked {
        let wanted = name.get_ref().as_str();
        let at = name.span().start;
        if compositions.contains_key(wanted) {
            if asks(compositions, wanted, wanted, &mut BTreeSet::new()) {
                reader.fail(at, &format!("the strategy {wanted:?} asks itself"));
            }
            continue;
        }
        if simple(wanted).is_some() {
            continue;
        }
        let simple: Vec<String> = Strategy::value_variants()
            .iter()
            .filter_map(|strategy| Some(strategy.to_possible_value()?.get_name().to_owned()))
            .collect();
        let names = compositions.keys().chain(&simple).map(String::as_str);
        let hint = match nearest(wanted, names) {
            Some(near) => format!("{near:?}"),
            None => format!("[storage.routing.strategies.{wanted}]"),
        };
        reader.fail_with(at, &format!("there is no strategy {wanted:?}"), Some(hint));
    }
}

/// Whether a strategy asks another, itself or by others.
fn asks<'a>(
    compositions: &'a BTreeMap<String, Composition>,
    from: &'a str,
    whom: &str,
    seen: &mut BTreeSet<&'a str>,
) -> bool {
    let of = compositions.get(from).map(Composition::of).unwrap_or_default();
    of.iter().any(|name| {
        name == whom || (seen.insert(name.as_str()) && asks(compositions, name, whom, seen))
    })
}

#[cfg(test)]
mod tests;
