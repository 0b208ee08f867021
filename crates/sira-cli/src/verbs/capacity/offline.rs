//! `sira capacity forecast`: forecasts a series of numbers in a file, and how far that would have been
//! off in the past.

use std::fmt::Write;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use sira_store::capacity::{Accuracy, ForecastOptions, SeriesForecast, forecast};

use super::series::{self, Selection};
use super::{percent, trend_text};
use crate::failure::{Failure, Outcome};
use crate::output::{Output, printable};

/// Flags of `capacity forecast`.
#[derive(Debug, Args)]
#[command(after_help = "\
The file has one sample a line, evenly spaced: CSV with or without a header, or JSON lines of numbers
or objects. Empty cells, null and NA are gaps. With --time and --bucket, lines are events: what is
forecast is how many there are in each bucket, or with --column what that adds up to.
  sira capacity forecast usage.csv --column used_bytes --season 24 --season 168 --horizon 24
  sira capacity forecast trace.jsonl --time timestamp --bucket 60000 --horizon 5")]
pub struct ForecastArgs {
    /// File, or - for standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Name of the column, or its number from 1 [default: the last one; of objects, value]
    #[arg(long, value_name = "NAME")]
    column: Option<String>,
    /// Samples of a season that may be there; can be given several times [default: none]
    #[arg(long, value_name = "COUNT")]
    season: Vec<usize>,
    /// Samples to forecast
    #[arg(long, value_name = "COUNT", default_value_t = 12)]
    horizon: usize,
    /// Column with the time of an event, as a number
    #[arg(long, value_name = "NAME", requires = "bucket")]
    time: Option<String>,
    /// Length of a bucket, in the unit of that column
    #[arg(long, value_name = "LENGTH", requires = "time")]
    bucket: Option<f64>,
}

/// Most samples that are forecast.
const HORIZON_MAX: usize = 100_000;

#[derive(Serialize)]
struct Record<'a> {
    verb: &'static str,
    file: String,
    gaps: usize,
    #[serde(flatten)]
    forecast: &'a SeriesForecast,
}

/// Runs the verb.
///
/// # Errors
/// When the file cannot be read, is no series, or is too short.
pub fn run(output: Output, args: &ForecastArgs) -> Outcome {
    if !(1..=HORIZON_MAX).contains(&args.horizon) {
        return Err(Failure::usage(format!("--horizon is from 1 to {HORIZON_MAX}")));
    }
    let selection =
        Selection { column: args.column.as_deref(), events: args.time.as_deref().zip(args.bucket) };
    let values = series::read(&args.file, selection)?;
    let options = ForecastOptions {
        horizon: args.horizon,
        points: args.horizon,
        seasons: args.season.clone(),
    };
    let name = args.file.display().to_string();
    let found =
        forecast(&values, &options).map_err(|error| Failure::usage(format!("{name}: {error}")))?;
    let gaps = values.iter().filter(|value| value.is_none()).count();
    let record = Record { verb: "capacity forecast", file: name, gaps, forecast: &found };
    output.result(&record, || text(&record, &values))
}

fn text(record: &Record<'_>, values: &[Option<f64>]) -> String {
    let found = record.forecast;
    let season = match found.model.season {
        1 => "no season".to_owned(),
        season => format!("season of {season}"),
    };
    let smoothing = found.smoothing;
    let backtest = &found.backtest;
    let gaps = match record.gaps {
        0 => String::new(),
        gaps => format!(", {gaps} gaps"),
    };
    let mut out = format!(
        "series    {} lines of {}{gaps}; the last {} known ones count\n\
         model     {} trend, {season}, {}; alpha {:.2}, beta {:.2}, gamma {:.2}, phi {:.2}\n\
         backtest  {} forecasts of {} samples from what was before them, {} compared\n\n\
         {:<16} {:>9} {:>8} {:>8}",
        values.len(),
        printable(&record.file),
        found.samples,
        trend_text(found.model.trend.name()),
        found.model.shape.name(),
        smoothing.level,
        smoothing.trend,
        smoothing.season,
        smoothing.damping,
        backtest.origins,
        backtest.horizon,
        backtest.compared,
        "",
        "ACCURACY",
        "WAPE",
        "MAPE",
    );
    let mut row = |name: &str, accuracy: &Accuracy| {
        let share = |share: Option<f64>| share.map_or("-".to_owned(), percent);
        let _ = write!(
            out,
            "\n{name:<16} {:>9} {:>8} {:>8}",
            share(accuracy.accuracy),
            share(accuracy.wape),
            share(accuracy.mape),
        );
    };
    row("model", &backtest.model);
    row("naive", &backtest.naive);
    if let Some(seasonal) = &backtest.seasonal_naive {
        row("seasonal naive", seasonal);
    }
    let _ = write!(out, "\n\n{:>6} {:>16} {:>16} {:>16}", "AHEAD", "LOW", "EXPECTED", "HIGH");
    for (ahead, point) in (1..).zip(&found.points) {
        let [low, expected, high] = [point.low, point.expected, point.high].map(number);
        let _ = write!(out, "\n{ahead:>6} {low:>16} {expected:>16} {high:>16}");
    }
    out
}

/// A number with as many digits as say something.
fn number(value: f64) -> String {
    if value.abs() >= 1e15 {
        return format!("{value:.6e}");
    }
    let decimals = if value.abs() >= 1_000.0 { 0 } else { 2 };
    format!("{value:.decimals$}")
}
