//! What tests against real servers share.

use sira_store::env::{Env, SystemEnv};

/// The value of an environment variable that names a test server.
pub fn env(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set: run scripts/services up and eval \"$(scripts/services env)\"")
    })
}

/// A name that no other test has, for tables, prefixes and the like: lower-case letters and digits.
pub fn unique(prefix: &str) -> String {
    format!("{prefix}{:016x}", SystemEnv.random_u64())
}

/// The wall clock, in milliseconds since the Unix epoch.
pub fn now_ms() -> u64 {
    SystemEnv.now_ms()
}
