//! Budgets of extra requests: a share of what callers ask for, and no more.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::env::Env;

/// Thousandths: the unit in which tokens are counted.
const TOKEN: u64 = 1000;

/// How many extra requests a layer may make.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BudgetOptions {
    /// Extra requests for each operation of the callers, as a fraction: 0.1 is one in ten.
    pub ratio: f64,
    /// Extra requests a second that are allowed whatever the load, so that a quiet client has some.
    pub per_second: f64,
    /// Most extra requests that can be saved up; as many are there at the start.
    pub burst: u32,
}

/// Tokens, of which each operation brings a part, and each extra request takes one.
#[derive(Debug)]
pub struct Budget {
    options: BudgetOptions,
    env: Arc<dyn Env>,
    tokens: AtomicU64,
    /// Monotonic milliseconds up to which time has brought its part.
    filled_ms: AtomicU64,
}

impl Budget {
    /// A full budget.
    #[must_use]
    pub fn new(options: BudgetOptions, env: Arc<dyn Env>) -> Self {
        let filled_ms = AtomicU64::new(monotonic_ms(&*env));
        let tokens = AtomicU64::new(u64::from(options.burst) * TOKEN);
        Self { options, env, tokens, filled_ms }
    }

    /// Counts an operation of a caller.
    pub fn deposit(&self) {
        self.add((self.options.ratio * TOKEN as f64) as u64);
    }

    /// Takes a token for an extra request, and says whether there was one.
    pub fn withdraw(&self) -> bool {
        self.fill();
        let taken = self
            .tokens
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |tokens| tokens.checked_sub(TOKEN));
        taken.is_ok()
    }

    /// Extra requests that could be made now.
    #[must_use]
    pub fn available(&self) -> u64 {
        self.fill();
        self.tokens.load(Ordering::Relaxed) / TOKEN
    }

    fn fill(&self) {
        let now_ms = monotonic_ms(&*self.env);
        let filled_ms = self.filled_ms.load(Ordering::Relaxed);
        let brought = (now_ms.saturating_sub(filled_ms) as f64 * self.options.per_second) as u64;
        // A token a second is a thousandth a millisecond.
        let is_ours = brought > 0
            && self
                .filled_ms
                .compare_exchange(filled_ms, now_ms, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if is_ours {
            self.add(brought);
        }
    }

    fn add(&self, tokens: u64) {
        let most = u64::from(self.options.burst) * TOKEN;
        let _ = self.tokens.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| {
            (held < most).then_some(held.saturating_add(tokens).min(most))
        });
    }
}

fn monotonic_ms(env: &dyn Env) -> u64 {
    u64::try_from(Duration::as_millis(&env.monotonic())).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
