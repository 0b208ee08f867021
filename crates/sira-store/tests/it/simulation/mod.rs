//! Seeded simulation of the embedded engine against a model.
//!
//! A world is an engine on a [`SimDisk`](sira_log::disk::SimDisk), a model of what it must hold,
//! and a seed from which everything follows: settings, operations, faults and what a loss of power
//! leaves behind. After each reopening the whole content is compared: what was acknowledged as
//! durable is there, and beyond it exactly some prefix of the writes in the order of the log.

mod bugs;
mod content;
mod forgery;
mod model;
mod operations;
mod rot;
mod world;

use std::fmt::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};

use world::{Doors, Tally, World};

/// Seeds of a run where the environment names none.
const SEEDS: u64 = 50;

/// Operations of a world.
const OPERATIONS: u64 = 21_000;

/// Fewest operations and crashes of a whole run.
const OPERATIONS_MIN: u64 = 1_000_000;
const CRASHES_MIN: u64 = 500;

/// What a seed found.
struct Finding {
    seed: u64,
    what: String,
    history: String,
}

/// Runs the world of a seed to its end.
fn run(seed: u64, doors: Doors, operations: u64, history: bool) -> Result<Tally, Finding> {
    let mut world = World::new(seed, doors, history);
    let outcome = catch_unwind(AssertUnwindSafe(|| world.run(operations)));
    let what = match outcome {
        Ok(Ok(())) => return Ok(world.tally()),
        Ok(Err(what)) => what,
        Err(panic) => match panic.downcast::<String>() {
            Ok(text) => format!("panic: {text}"),
            Err(panic) => format!("panic: {:?}", panic.downcast::<&str>().ok()),
        },
    };
    Err(Finding { seed, what, history: world.history() })
}

/// The finding as text, with the last operations before it and the command that replays it.
fn report(finding: &Finding) -> String {
    let mut text = format!("seed {}: {}\n", finding.seed, finding.what);
    let history = match run(finding.seed, Doors::Sound, OPERATIONS, true) {
        Err(again) => again.history,
        Ok(_) => finding.history.clone(),
    };
    let _ = writeln!(text, "{history}");
    let _ = write!(
        text,
        "replay with: SIRA_SIM_SEED={} cargo test -p sira-store --test it simulation",
        finding.seed
    );
    text
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} must be a number, not {text:?}")))
}

#[test]
fn the_engine_agrees_with_the_model_over_every_crash() {
    if let Some(seed) = number("SIRA_SIM_SEED") {
        match run(seed, Doors::Sound, OPERATIONS, true) {
            Ok(tally) => println!("seed {seed}: {tally:?}"),
            Err(finding) => panic!("{}", report(&finding)),
        }
        return;
    }
    let seeds = number("SIRA_SIM_SEEDS").unwrap_or(SEEDS);
    let mut total = Tally::default();
    let mut findings = Vec::new();
    for seed in 0..seeds {
        match run(seed, Doors::Sound, OPERATIONS, false) {
            Ok(tally) => total.add(&tally),
            Err(finding) => findings.push(finding),
        }
    }
    println!("{seeds} seeds: {total:?}");
    if let Some(first) = findings.first() {
        let failed: Vec<u64> = findings.iter().map(|finding| finding.seed).collect();
        panic!("{} of {seeds} seeds failed: {failed:?}\n{}", failed.len(), report(first));
    }
    if seeds >= SEEDS {
        assert!(total.operations >= OPERATIONS_MIN, "{total:?}");
        assert!(total.power_losses + total.kills >= CRASHES_MIN, "{total:?}");
        for (what, count) in total.kinds() {
            assert!(count > 0, "no world saw {what}: {total:?}");
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let trace = |seed| {
        let mut world = World::new(seed, Doors::Sound, true);
        world.record_calls();
        world.run(3_000).unwrap_or_else(|what| panic!("seed {seed}: {what}"));
        (world.trace(), world.history(), world.calls())
    };
    for seed in [1, 2, 3] {
        let (first, second) = (trace(seed), trace(seed));
        assert!(first == second, "seed {seed} gave two traces");
    }
    assert_ne!(trace(1).0, trace(2).0);
}
