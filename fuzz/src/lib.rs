//! Fuzz targets. Each is a function of bytes that must not panic, whatever the bytes are.
//!
//! `cargo fuzz` runs them with feedback from coverage; `tests/run.rs` runs them without, on any
//! toolchain, from the same corpus. See CONTRIBUTING.md.

pub mod forged;
pub mod frames;
pub mod http;
mod input;
pub mod mutate;
pub mod resp;

pub use input::Input;

/// A fuzz target.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, which is also that of the folder of its corpus and of its binary.
    pub name: &'static str,
    /// Runs it once; panics when a promise is broken.
    pub run: fn(&[u8]),
    /// Inputs that the runner tries where it is not told how many: as many as take a few seconds.
    pub runs: u64,
    /// Words that the inputs are made of.
    pub words: &'static [&'static [u8]],
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target { name: "frames", run: frames::run, runs: 200_000, words: frames::WORDS },
    Target { name: "forged", run: forged::run, runs: 30_000, words: forged::WORDS },
    Target { name: "resp", run: resp::run, runs: 150_000, words: resp::WORDS },
    Target { name: "http", run: http::run, runs: 500_000, words: http::WORDS },
];
