//! `sira route`: where objects lie and go, and why.

mod simulate;

use std::fmt::Write;

use clap::{Args, Subcommand};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use crate::config::{Config, Setting};
use crate::failure::Outcome;
use crate::output::{Output, printable};
use crate::path::Location;
use crate::target::HttpTarget;

pub use simulate::SimulateArgs;

/// Verbs of `route`.
#[derive(Debug, Subcommand)]
pub enum RouteVerb {
    /// Say where an object lies, where its next write would go, and which rule says so
    Explain(ExplainArgs),
    /// Replay an access log against the configured routing, and against others
    Simulate(SimulateArgs),
}

/// Flags of `route explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// Object: KEY or sira://NAMESPACE/KEY
    key: String,
    /// Bytes that would be written
    #[arg(long, value_name = "BYTES")]
    size: Option<u64>,
    /// Media type that would be written
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
}

/// Runs the verb.
///
/// # Errors
/// Those of the server, and of a log that cannot be replayed.
pub fn run(config: &Config, output: Output, verb: RouteVerb) -> Outcome {
    match verb {
        RouteVerb::Explain(args) => explain(config, output, &args),
        RouteVerb::Simulate(args) => simulate::run(config, output, &args),
    }
}

fn explain(config: &Config, output: Output, args: &ExplainArgs) -> Outcome {
    let at = Location::parse_key(&args.key, config.text(Setting::Namespace))?;
    let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let mut path = format!("/route?namespace={}&key={}", encode(&at.namespace), encode(&at.key));
    if let Some(size) = args.size {
        let _ = write!(path, "&size={size}");
    }
    if let Some(content_type) = &args.content_type {
        let _ = write!(path, "&content_type={}", encode(content_type));
    }
    let found: Value = HttpTarget::new(config)?.ask(&path)?;
    output.result(&found, || text(&at, &found))
}

fn text(at: &Location, found: &Value) -> String {
    let field = |name: &str| printable(found[name].as_str().unwrap_or_default()).to_string();
    let names = |value: &Value| {
        let names = value.as_array().into_iter().flatten().filter_map(Value::as_str);
        names.collect::<Vec<_>>().join(", else ")
    };
    let mut out = format!(
        "object    {at}\nlies on   {}\ngoes to   {}",
        field("lies_on"),
        printable(&names(&found["goes_to"])),
    );
    for (label, name) in [
        ("copies", "has_copies_on"),
        ("behind", "behind_on"),
        ("copied to", "copies_on"),
        ("compared", "compared_with"),
    ] {
        let list = names(&found[name]).replace(", else ", ", ");
        if !list.is_empty() {
            let _ = write!(out, "\n{label:<9} {}", printable(&list));
        }
    }
    let _ = write!(out, "\nbecause   {}: {}", field("rule"), field("reason"));
    for answer in found["answers"].as_array().into_iter().flatten() {
        let rule = answer["rule"].as_str().unwrap_or_default();
        let route = &answer["route"];
        let said = if route.is_null() { "no answer".to_owned() } else { names(&route["backends"]) };
        let reason = route["reason"].as_str().filter(|reason| !reason.is_empty());
        let reason = reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
        let _ =
            write!(out, "\n  {:<12} {}", printable(rule), printable(&format!("{said}{reason}")));
    }
    out
}
