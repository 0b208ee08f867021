//! Runs the fuzz targets on any toolchain: the corpus first, then inputs made of it.
//!
//! ```text
//! cargo test --manifest-path fuzz/Cargo.toml -- \
//!     [--seed N] [--runs N | --seconds N] [--input FILE] [TARGET]...
//! ```
//!
//! The same seed gives the same inputs. An input that fails is kept in the folder `artifacts` beside
//! this one.

use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use sira_fuzz::mutate::Mutator;
use sira_fuzz::{TARGETS, Target};
use sira_log::env::{Env, SystemEnv};

/// Inputs between two looks at the clock.
const LOOK_RUNS: u64 = 64;

#[derive(Debug, Default)]
struct Arguments {
    seed: u64,
    runs: Option<u64>,
    time: Option<Duration>,
    input: Option<PathBuf>,
    targets: Vec<Target>,
}

fn arguments(mut given: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let mut arguments = Arguments { seed: 1, ..Arguments::default() };
    while let Some(argument) = given.next() {
        let mut value = || given.next().ok_or_else(|| format!("{argument} needs a value"));
        let number = |text: String| text.parse().map_err(|_| format!("{text:?} is no number"));
        match argument.as_str() {
            "--seed" => arguments.seed = number(value()?)?,
            "--runs" => arguments.runs = Some(number(value()?)?),
            "--seconds" => arguments.time = Some(Duration::from_secs(number(value()?)?)),
            "--input" => arguments.input = Some(value()?.into()),
            name => match TARGETS.iter().find(|target| target.name == name) {
                Some(target) => arguments.targets.push(*target),
                None => {
                    let known: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
                    return Err(format!("{name:?} is no target; there are {}", known.join(", ")));
                }
            },
        }
    }
    if arguments.targets.is_empty() {
        arguments.targets = TARGETS.to_vec();
    }
    Ok(arguments)
}

fn main() -> ExitCode {
    let arguments = match arguments(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    };
    for target in &arguments.targets {
        match fuzz(target, &arguments) {
            Ok(true) => {}
            Ok(false) => return ExitCode::FAILURE,
            Err(error) => {
                eprintln!("error: {}: {error}", target.name);
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

fn home() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The corpus of a target, in an order that does not depend on the file system.
fn corpus(target: &Target) -> io::Result<Vec<Vec<u8>>> {
    let mut paths = fs::read_dir(home().join("corpus").join(target.name))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<Vec<_>>>()?;
    paths.sort_unstable();
    paths.iter().map(fs::read).collect()
}

/// Runs a target; `false` when an input fails.
fn fuzz(target: &Target, arguments: &Arguments) -> io::Result<bool> {
    if let Some(input) = &arguments.input {
        return Ok(holds(target, &fs::read(input)?));
    }
    let corpus = corpus(target)?;
    let began = SystemEnv.monotonic();
    for input in &corpus {
        if !holds(target, input) {
            return keep(target, input);
        }
    }
    let mut mutator = Mutator::new(arguments.seed, &corpus, target.words);
    let most = arguments.runs.unwrap_or(match arguments.time {
        Some(_) => u64::MAX,
        None => target.runs,
    });
    let mut runs = 0;
    while runs < most {
        let late = |time| SystemEnv.monotonic().saturating_sub(began) >= time;
        if runs % LOOK_RUNS == 0 && arguments.time.is_some_and(late) {
            break;
        }
        let input = mutator.make();
        if !holds(target, &input) {
            return keep(target, &input);
        }
        runs += 1;
    }
    let took = SystemEnv.monotonic().saturating_sub(began).as_secs_f64();
    let (name, seeds) = (target.name, corpus.len());
    println!("{name}: {seeds} inputs of the corpus and {runs} made of them hold, {took:.1} s");
    Ok(true)
}

fn holds(target: &Target, input: &[u8]) -> bool {
    catch_unwind(AssertUnwindSafe(|| (target.run)(input))).is_ok()
}

/// Keeps an input that failed and says how to run it again.
fn keep(target: &Target, input: &[u8]) -> io::Result<bool> {
    let folder = home().join("artifacts").join(target.name);
    fs::create_dir_all(&folder)?;
    let path = folder.join(format!("crash-{:08x}", crc32c::crc32c(input)));
    fs::write(&path, input)?;
    eprintln!(
        "{name} fails. Again: cargo test --manifest-path fuzz/Cargo.toml -- --input {path} {name}",
        name = target.name,
        path = path.display(),
    );
    Ok(false)
}
