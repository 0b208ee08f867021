//! What a server tells of itself.

use std::collections::BTreeMap;

use serde::Deserialize;
use sira_store::env::{Env, SystemEnv};

use super::sample::Sample;
use crate::failure::Outcome;
use crate::target::HttpTarget;

/// Everything that advice rests on.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Seconds since the server started.
    pub uptime_s: f64,
    /// Engine of each backend.
    pub engines: BTreeMap<String, String>,
    /// What `/metrics` shows.
    pub metrics: Vec<Sampled>,
    /// What was read of each namespace.
    pub samples: BTreeMap<String, Sample>,
    /// Milliseconds since the Unix epoch.
    pub now_ms: u64,
}

/// A line of `/metrics`.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampled {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

#[derive(Deserialize)]
struct Stats {
    uptime_s: f64,
    backends: BTreeMap<String, Backend>,
}

#[derive(Deserialize)]
struct Backend {
    engine: String,
}

impl Facts {
    /// Asks a server.
    ///
    /// # Errors
    /// The server's.
    pub fn gather(target: &HttpTarget, samples: BTreeMap<String, Sample>) -> Outcome<Self> {
        let stats: Stats = target.ask("/stats")?;
        let text = target.text("/metrics")?;
        let engines = stats.backends.into_iter().map(|(name, it)| (name, it.engine)).collect();
        let metrics = text.lines().filter_map(read_line).collect();
        let now_ms = SystemEnv.now_ms();
        Ok(Self { uptime_s: stats.uptime_s, engines, metrics, samples, now_ms })
    }

    /// The sum of the samples of a family that have these labels; 0 where there are none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let has = |sampled: &&Sampled| {
            let of = |label: &str| sampled.labels.get(label).map(String::as_str);
            sampled.name == name && labels.iter().all(|(label, text)| of(label) == Some(*text))
        };
        self.metrics.iter().filter(has).map(|sampled| sampled.value).sum()
    }

    /// The values that a label of a family has.
    pub fn values(&self, name: &str, label: &str) -> Vec<String> {
        let of = self.metrics.iter().filter(|sampled| sampled.name == name);
        let mut values: Vec<String> =
            of.filter_map(|sampled| sampled.labels.get(label).cloned()).collect();
        values.sort_unstable();
        values.dedup();
        values
    }
}

/// Reads `name{label="text",...} value`; `None` of comments and of what is none.
pub fn read_line(line: &str) -> Option<Sampled> {
    if line.starts_with('#') {
        return None;
    }
    let (series, value) = line.rsplit_once(' ')?;
    let value = value.parse().ok()?;
    let Some((name, rest)) = series.split_once('{') else {
        return Some(Sampled { name: series.to_owned(), labels: BTreeMap::new(), value });
    };
    let mut labels = BTreeMap::new();
    let mut rest = rest.strip_suffix('}')?;
    while let Some((label, after)) = rest.split_once("=\"") {
        let (text, end) = unquote(after)?;
        labels.insert(label.trim_start_matches(',').to_owned(), text);
        rest = after.get(end..)?;
    }
    Some(Sampled { name: name.to_owned(), labels, value })
}

/// The text up to the closing quote, and where what follows it begins.
fn unquote(text: &str) -> Option<(String, usize)> {
    let mut out = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((out, at + 1)),
            '\\' => match chars.next()?.1 {
                'n' => out.push('\n'),
                other => out.push(other),
            },
            other => out.push(other),
        }
    }
    None
}
