//! `sira capacity`: what the backends and namespaces of a server have in use, and when they are full.

mod offline;
mod series;

use std::collections::BTreeMap;
use std::fmt::Write;

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::Config;
use crate::failure::{Failure, Outcome};
use crate::output::{Output, printable};
use crate::target::HttpTarget;
use crate::units::{human_size, parse_duration};

pub use offline::ForecastArgs;

/// Flags of `capacity`.
#[derive(Debug, Args)]
#[command(after_help = "\
Forecasts are made by exponential smoothing with level, trend and season, of which those parts are
taken that would have done best. ACCURACY is 1 less the weighted absolute percentage error of
forecasts of the past; beside it that of repeating the last sample. Ranges hold in 8 of 10 cases.
  sira capacity --horizon 90d
  sira capacity forecast requests.csv --season 24 --horizon 48")]
pub struct CapacityArgs {
    /// How far forecasts look [default: the server's, 30d unless configured]
    #[arg(long, value_name = "TIME")]
    horizon: Option<String>,
    /// What else
    #[command(subcommand)]
    verb: Option<CapacityVerb>,
}

/// Verbs of `capacity`.
#[derive(Debug, Subcommand)]
pub enum CapacityVerb {
    /// Forecast any series of numbers in a file
    Forecast(ForecastArgs),
}

/// What the server tells.
#[derive(Debug, Serialize, Deserialize)]
struct Report {
    at_ms: u64,
    horizon_days: f64,
    backends: BTreeMap<String, Value>,
    namespaces: BTreeMap<String, Namespace>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Namespace {
    used_bytes: u64,
    objects: u64,
    grown_bytes_per_day: Option<f64>,
    backends: BTreeMap<String, Value>,
}

/// Runs the verb.
///
/// # Errors
/// Those of the server; of `forecast`, those of the file, and too little history.
pub fn run(config: &Config, output: Output, args: &CapacityArgs) -> Outcome {
    if let Some(CapacityVerb::Forecast(forecast)) = &args.verb {
        if args.horizon.is_some() {
            return Err(Failure::usage("--horizon of a file is counted in samples")
                .hint("sira capacity forecast FILE --horizon 24"));
        }
        return offline::run(output, forecast);
    }
    let path = match &args.horizon {
        Some(text) => {
            let horizon = parse_duration(text)
                .map_err(|how| Failure::usage(format!("--horizon {text:?}: {how}")))?;
            format!("/capacity?horizon={}ms", horizon.as_millis())
        }
        None => "/capacity".to_owned(),
    };
    let report: Report = HttpTarget::new(config)?.ask(&path)?;
    output.result(&report, || table(&report))
}

fn table(report: &Report) -> String {
    let mut out = format!(
        "{:<18} {:>10} {:>10} {:>12} {:>24} {:>42}  ACCURACY",
        "BACKEND", "USED", "AVAILABLE", "GROWTH/DAY", "FULL IN", "FORECAST"
    );
    for (name, backend) in &report.backends {
        let number = |path: &str| backend.pointer(path).and_then(Value::as_f64);
        let size = |path: &str| {
            let bytes = backend.pointer(path).and_then(Value::as_u64);
            bytes.map_or("-".to_owned(), human_size)
        };
        let last = backend.pointer("/outlook/points").and_then(Value::as_array);
        let last = last.and_then(|points| points.last());
        let at = |name: &str| {
            let bytes = last.and_then(|point| point.get(name)).and_then(Value::as_u64);
            bytes.map_or("-".to_owned(), human_size)
        };
        let expected = match last {
            Some(_) => format!(
                "{} ({}..{}) in {}",
                at("expected_bytes"),
                at("low_bytes"),
                at("high_bytes"),
                span(number("/outlook/ahead_days").unwrap_or(0.0)),
            ),
            None => "-".to_owned(),
        };
        let accuracy = number("/outlook/forecast/backtest/accuracy").map_or("-".to_owned(), |it| {
            let naive = number("/outlook/forecast/backtest/naive/accuracy");
            let naive = naive.map_or(String::new(), |it| format!(", naive {}", percent(it)));
            format!("{}{naive}", percent(it))
        });
        let _ = write!(
            out,
            "\n{:<18} {:>10} {:>10} {:>12} {:>24} {expected:>42}  {accuracy}",
            printable(name),
            size("/used_bytes"),
            size("/available_bytes"),
            number("/outlook/growth_bytes_per_day").map_or("-".to_owned(), growth),
            full_in(backend),
        );
        if let Some(model) = backend.pointer("/outlook/forecast") {
            let _ = write!(out, "\n  {}", model_text(model, backend));
        }
        if let Some(why) = backend.get("no_outlook").and_then(Value::as_str) {
            let _ = write!(out, "\n  no forecast: {}", printable(why));
        }
    }
    if report.namespaces.is_empty() {
        return out;
    }
    let _ = write!(
        out,
        "\n\n{:<28} {:>12} {:>10} {:>12} ON",
        "NAMESPACE", "OBJECTS", "USED", "GROWN/DAY"
    );
    let mut namespaces: Vec<(&String, &Namespace)> = report.namespaces.iter().collect();
    namespaces.sort_by_key(|(name, it)| (std::cmp::Reverse(it.used_bytes), name.as_str()));
    for (name, namespace) in namespaces {
        let on: Vec<&str> = namespace.backends.keys().map(String::as_str).collect();
        let _ = write!(
            out,
            "\n{:<28} {:>12} {:>10} {:>12} {}",
            printable(name),
            namespace.objects,
            human_size(namespace.used_bytes),
            namespace.grown_bytes_per_day.map_or("-".to_owned(), growth),
            printable(&on.join(", ")),
        );
    }
    out
}

/// The parts of the model, and what it was tried on.
fn model_text(model: &Value, backend: &Value) -> String {
    let number = |path: &str| model.pointer(path).and_then(Value::as_u64).unwrap_or(0);
    let step_ms = backend.pointer("/outlook/step_ms").and_then(Value::as_u64).unwrap_or(0);
    let unit = match step_ms {
        3_600_000 => "hours".to_owned(),
        86_400_000 => "days".to_owned(),
        ms => format!("samples of {} s", ms as f64 / 1e3),
    };
    let trend = model.get("trend").and_then(Value::as_str).map_or("no", trend_text);
    let season = match number("/season") {
        0 | 1 => "no season".to_owned(),
        season => format!("season of {season}"),
    };
    let shape = model.get("shape").and_then(Value::as_str).unwrap_or("additive");
    format!(
        "{trend} trend, {season}, {shape}, from {} {unit}; tried {} times, {} ahead",
        number("/samples"),
        number("/backtest/origins"),
        number("/backtest/horizon"),
    )
}

fn full_in(backend: &Value) -> String {
    let Some(full) = backend.pointer("/outlook/days_until_full").filter(|it| it.is_object()) else {
        return "-".to_owned();
    };
    let days = |name: &str| full.get(name).and_then(Value::as_f64);
    let text = |days: Option<f64>| days.map_or(String::new(), span);
    match (days("expected"), days("earliest")) {
        (None, None) => {
            let looked = days("looked_ahead").unwrap_or(0.0);
            format!("not in {}", span(looked))
        }
        (expected, earliest) => {
            let expected = expected.map_or("-".to_owned(), span);
            format!("{expected} ({}..{})", text(earliest), text(days("latest")))
        }
    }
}

/// A time as people say it, from days.
pub fn span(days: f64) -> String {
    const HOURS: f64 = 24.0;
    if days >= 20.0 {
        format!("{days:.0} d")
    } else if days >= 2.0 {
        format!("{days:.1} d")
    } else if days * HOURS >= 2.0 {
        format!("{:.1} h", days * HOURS)
    } else {
        format!("{:.0} min", days * HOURS * 60.0)
    }
}

/// What stands before `trend`.
pub fn trend_text(name: &str) -> &str {
    if name == "none" { "no" } else { name }
}

/// A share as percent.
pub fn percent(share: f64) -> String {
    format!("{:.1}%", share * 100.0)
}

fn growth(bytes: f64) -> String {
    let sign = if bytes < 0.0 { "-" } else { "+" };
    format!("{sign}{}", human_size(bytes.abs().round() as u64))
}
