//! `sira lock`: who may use a key now.

use std::fmt::Write;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};

use crate::config::{Config, Setting};
use crate::failure::Outcome;
use crate::output::{Output, printable};
use crate::target::HttpTarget;
use crate::units::{human_duration, parse_duration};

/// Verbs of locks.
#[derive(Debug, Subcommand)]
pub enum LockVerb {
    /// List the locks that are held and waited for
    Ls,
    /// Take a lock, or renew it, and print its token
    Acquire(AcquireArgs),
    /// Release a lock
    Release(ReleaseArgs),
}

/// Flags of `lock acquire`.
#[derive(Debug, Args)]
#[command(after_help = "\
The token is greater than that of every lock before: whoever guards something by the lock refuses
smaller tokens than it has seen, and so keeps out owners whose lease has ended.
  sira lock acquire job:7 --owner worker-3 --wait 10s --lease 1m
It exits with 4 when others hold the lock.")]
pub struct AcquireArgs {
    /// The key, whether or not it holds an object
    key: String,
    /// Who asks; the same name is the same owner
    #[arg(long)]
    owner: String,
    /// Whether others may hold it too
    #[arg(long, value_enum, default_value_t = Mode::Exclusive)]
    mode: Mode,
    /// How long it is held unless it is renewed, such as 30s
    #[arg(long, default_value = "30s", value_parser = parse_duration, value_name = "TIME")]
    lease: Duration,
    /// How long to wait for others [default: not at all]
    #[arg(long, value_parser = parse_duration, value_name = "TIME")]
    wait: Option<Duration>,
    /// Renew the lock that was given with this token, and fail where it is lost
    #[arg(long)]
    token: Option<u64>,
}

/// Flags of `lock release`.
#[derive(Debug, Args)]
pub struct ReleaseArgs {
    /// The key
    key: String,
    /// Who holds it
    #[arg(long)]
    owner: String,
}

#[derive(Debug, Clone, Copy, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    /// Others may hold it shared
    Shared,
    /// Nobody else holds it
    Exclusive,
}

#[derive(Serialize)]
struct Ask<'a> {
    namespace: &'a str,
    key: &'a str,
    owner: &'a str,
    mode: Mode,
    lease_ms: u64,
    wait_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<u64>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Given {
    namespace: String,
    key: String,
    owner: String,
    token: u64,
    lease_ms: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Locks {
    locks: Vec<Lock>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Lock {
    namespace: String,
    key: String,
    owner: String,
    mode: String,
    token: Option<u64>,
    since_ms: u64,
    lease_left_ms: Option<u64>,
}

/// Runs the verb.
///
/// # Errors
/// Those of the server.
pub fn run(config: &Config, output: Output, verb: &LockVerb) -> Outcome {
    let target = HttpTarget::new(config)?;
    let namespace = config.text(Setting::Namespace);
    match verb {
        LockVerb::Ls => {
            let locks: Locks = target.ask("/locks")?;
            output.result(&locks, || table(&locks.locks))
        }
        LockVerb::Acquire(args) => {
            let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
            let ask = Ask {
                namespace,
                key: &args.key,
                owner: &args.owner,
                mode: args.mode,
                lease_ms: ms(args.lease),
                wait_ms: args.wait.map_or(0, ms),
                token: args.token,
            };
            let given: Given = target.tell("/locks", &ask)?;
            output.result(&given, || given.token.to_string())
        }
        LockVerb::Release(args) => {
            let encode = |text| utf8_percent_encode(text, NON_ALPHANUMERIC);
            Ok(target.end(&format!(
                "/locks?namespace={}&key={}&owner={}",
                encode(namespace),
                encode(&args.key),
                encode(&args.owner)
            ))?)
        }
    }
}

fn table(locks: &[Lock]) -> String {
    let mut out = format!(
        "{:<16} {:<24} {:<20} {:<10} {:>18} {:>9} {:>9}",
        "NAMESPACE", "KEY", "OWNER", "MODE", "TOKEN", "SINCE", "LEASE"
    );
    for lock in locks {
        let time = |ms| human_duration(Duration::from_millis(ms));
        let _ = write!(
            out,
            "\n{:<16} {:<24} {:<20} {:<10} {:>18} {:>9} {:>9}",
            printable(&lock.namespace),
            printable(&lock.key),
            printable(&lock.owner),
            printable(&lock.mode),
            lock.token.map_or("waits".to_owned(), |token| token.to_string()),
            time(lock.since_ms),
            lock.lease_left_ms.map_or("-".to_owned(), time),
        );
    }
    out
}
