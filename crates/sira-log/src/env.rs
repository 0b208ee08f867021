//! The one door for clocks, random numbers and threads.
//!
//! Everything in Sira that needs the time, a random number or a thread asks an [`Env`]. Production
//! uses [`SystemEnv`]; tests and the simulation drive a [`SimEnv`] from a seed, so that a run can be
//! replayed byte for byte. `clippy.toml` bans the standard library's own doors elsewhere.

mod random;

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;

pub use random::SeededRandom;

/// Clocks, randomness and threads, as the rest of Sira may use them.
pub trait Env: Send + Sync + fmt::Debug + 'static {
    /// Wall clock, milliseconds since the Unix epoch. May jump in either direction.
    fn now_ms(&self) -> u64;

    /// Time since an arbitrary origin. Never goes back.
    fn monotonic(&self) -> Duration;

    /// A random number that an outsider cannot predict (in production).
    fn random_u64(&self) -> u64;

    /// Blocks the calling thread for `duration`.
    fn sleep(&self, duration: Duration);

    /// Starts a named thread.
    ///
    /// # Errors
    /// The operating system's error when no thread can be started.
    fn spawn(&self, name: &str, task: Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle<()>>;
}

/// The operating system's clocks, random numbers and threads.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemEnv;

#[allow(clippy::disallowed_methods, reason = "this is the door that the ban points at")]
impl Env for SystemEnv {
    fn now_ms(&self) -> u64 {
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    fn monotonic(&self) -> Duration {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
    }

    fn random_u64(&self) -> u64 {
        let mut bytes = [0_u8; 8];
        let mut filled = 0;
        while filled < bytes.len() {
            match rustix::rand::getrandom(
                &mut bytes[filled..],
                rustix::rand::GetRandomFlags::empty(),
            ) {
                Ok(count) => filled += count,
                Err(rustix::io::Errno::INTR) => {}
                // The kernel has no entropy source at all: the clock is the best that is left.
                Err(_) => {
                    return self.monotonic().as_nanos() as u64 ^ self.now_ms().rotate_left(32);
                }
            }
        }
        u64::from_le_bytes(bytes)
    }

    fn sleep(&self, duration: Duration) {
        std::thread::sleep(duration);
    }

    fn spawn(&self, name: &str, task: Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle<()>> {
        std::thread::Builder::new().name(name.to_owned()).spawn(task)
    }
}

/// A seeded environment: the clock moves only when told, random numbers follow from the seed.
#[derive(Debug)]
pub struct SimEnv {
    now_ms: AtomicU64,
    elapsed_ms: AtomicU64,
    random: Mutex<SeededRandom>,
}

impl SimEnv {
    /// An environment whose wall clock reads `now_ms` and whose random numbers follow from `seed`.
    #[must_use]
    pub fn new(seed: u64, now_ms: u64) -> Self {
        Self {
            now_ms: AtomicU64::new(now_ms),
            elapsed_ms: AtomicU64::new(0),
            random: Mutex::new(SeededRandom::new(seed)),
        }
    }

    /// Lets time pass: both clocks go forward.
    pub fn advance_ms(&self, by_ms: u64) {
        self.elapsed_ms.fetch_add(by_ms, Ordering::Relaxed);
        self.now_ms.fetch_add(by_ms, Ordering::Relaxed);
    }

    /// Sets the wall clock, also backwards; the monotonic clock stays.
    pub fn set_ms(&self, now_ms: u64) {
        self.now_ms.store(now_ms, Ordering::Relaxed);
    }
}

impl Env for SimEnv {
    fn now_ms(&self) -> u64 {
        self.now_ms.load(Ordering::Relaxed)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.elapsed_ms.load(Ordering::Relaxed))
    }

    fn random_u64(&self) -> u64 {
        self.random.lock().next_u64()
    }

    fn sleep(&self, duration: Duration) {
        self.advance_ms(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX));
    }

    #[allow(clippy::disallowed_methods, reason = "this is the door that the ban points at")]
    fn spawn(&self, name: &str, task: Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle<()>> {
        std::thread::Builder::new().name(name.to_owned()).spawn(task)
    }
}
