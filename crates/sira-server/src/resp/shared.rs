//! What all event loops share.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use sira_store::Durability;
use sira_store::embedded::Engine;
use sira_store::env::Env;

use crate::limits::{
    RESP_KEEP_BYTES, RESP_KEEP_BYTES_MIN, RESP_KEPT_BYTES, RESP_OUTPUT_BYTES,
    RESP_OUTPUT_PAUSE_BYTES, RESP_OUTPUT_PAUSE_BYTES_MIN, RESP_SCAN_CURSORS_MAX,
};

use super::RespConfig;
use super::away::{Away, Databases};
use super::data::{Space, Spaces};
use super::mailbox::{Mailbox, Message};
use super::session::ClientInfo;
use super::stats::{LoopStats, RespStats};
use crate::storage::Storage;

/// Name of the namespace of a database.
pub(crate) fn namespace_name(database: usize) -> String {
    format!("db{database}")
}

/// Where an unfinished `SCAN` stands.
#[derive(Debug)]
struct Cursor {
    after: Bytes,
    /// The cursor that this one followed; not needed any more once this one is used.
    before: u64,
}

/// Cursors of unfinished `SCAN`s: clients hold numbers, the engine goes on after a key.
#[derive(Debug, Default)]
struct Cursors {
    by_number: BTreeMap<u64, Cursor>,
    order: VecDeque<u64>,
    last: u64,
}

/// How long a loop may take for what it has begun; only one that has ended takes that long.
const PASS_TIMEOUT: Duration = Duration::from_secs(2);

/// How clients are held up by `CLIENT PAUSE`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pause {
    /// Monotonic time of its end.
    pub(crate) until: Duration,
    /// Only clients that write wait.
    pub(crate) writes_only: bool,
}

/// What all event loops share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) engine: Arc<Engine>,
    pub(crate) env: Arc<dyn Env>,
    pub(crate) config: RespConfig,
    pub(crate) addr: SocketAddr,
    pub(crate) started: Duration,
    pub(crate) run_id: String,
    spaces: RwLock<Spaces>,
    pub(crate) databases: Arc<Databases>,
    pub(crate) away: Away,
    /// Grows whenever databases change places or are emptied.
    generation: AtomicU64,
    pub(crate) clients: Mutex<BTreeMap<u64, Arc<ClientInfo>>>,
    next_client: AtomicU64,
    pub(crate) connected: AtomicUsize,
    /// Bytes of all clients' requests that wait.
    pub(crate) query_bytes: AtomicUsize,
    pub(crate) stats: Box<[LoopStats]>,
    pub(crate) mailboxes: Box<[Mailbox]>,
    cursors: Mutex<Cursors>,
    /// Settings that clients changed.
    pub(crate) settings: Mutex<BTreeMap<String, String>>,
    pause: Mutex<Option<Pause>>,
    paused: AtomicBool,
    /// Seconds since the Unix epoch of the last `SAVE`.
    pub(crate) saved_s: AtomicU64,
    /// Commits before the last `SAVE`.
    pub(crate) saved_writes: AtomicU64,
}

impl Shared {
    pub(crate) fn new(
        storage: &Storage,
        away: Away,
        config: RespConfig,
        addr: SocketAddr,
        mailboxes: Box<[Mailbox]>,
    ) -> sira_store::Result<Self> {
        let engine = Arc::clone(&storage.engine);
        let env = Arc::clone(engine.env());
        let run_id = (0..3).map(|_| format!("{:016x}", env.random_u64())).collect::<String>();
        let shared = Self {
            spaces: RwLock::new(std::array::from_fn(|database| Space::Away(database as u8))),
            databases: Arc::clone(&storage.databases),
            away,
            generation: AtomicU64::new(1),
            clients: Mutex::default(),
            next_client: AtomicU64::new(1),
            connected: AtomicUsize::new(0),
            query_bytes: AtomicUsize::new(0),
            stats: mailboxes.iter().map(|_| LoopStats::new()).collect(),
            mailboxes,
            // Numbers of an earlier run must not mean anything now.
            cursors: Mutex::new(Cursors { last: env.random_u64() >> 16, ..Cursors::default() }),
            settings: Mutex::default(),
            pause: Mutex::default(),
            paused: AtomicBool::new(false),
            saved_s: AtomicU64::new(env.now_ms() / 1000),
            saved_writes: AtomicU64::new(0),
            started: env.monotonic(),
            run_id: run_id.get(..40).unwrap_or(&run_id).to_owned(),
            env,
            engine,
            config,
            addr,
        };
        shared.reload_spaces()?;
        Ok(shared)
    }

    /// Looks up all databases again, and makes those that are not there.
    pub(crate) fn reload_spaces(&self) -> sira_store::Result<()> {
        let mut spaces = self.spaces.write();
        for (database, space) in spaces.iter_mut().enumerate() {
            *space = match self.databases.is_away(database) {
                true => Space::Away(database as u8),
                false => Space::Here(self.engine.namespace(&namespace_name(database))?),
            };
        }
        self.generation.fetch_add(1, Ordering::Release);
        Ok(())
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub(crate) fn spaces(&self) -> Spaces {
        *self.spaces.read()
    }

    /// Looks up again which databases are away, and waits until no loop works by what was before.
    pub(crate) fn databases_changed(&self) {
        if let Err(error) = self.reload_spaces() {
            tracing::warn!(%error, "a database of RESP could not be opened");
        }
        let (pass, passed) = std::sync::mpsc::sync_channel(self.mailboxes.len());
        for mailbox in &self.mailboxes {
            mailbox.send(Message::Pass(pass.clone()));
        }
        for _ in &self.mailboxes {
            // A loop that has ended works on nothing.
            if passed.recv_timeout(PASS_TIMEOUT).is_err() {
                return;
            }
        }
    }

    /// Empties databases.
    pub(crate) fn flush(&self, databases: impl Iterator<Item = usize>) -> sira_store::Result<()> {
        for database in databases {
            self.engine.clear_namespace(&namespace_name(database))?;
        }
        self.reload_spaces()
    }

    /// Exchanges two databases.
    pub(crate) fn swap(&self, left: usize, right: usize) -> sira_store::Result<()> {
        self.engine.swap_namespaces(&namespace_name(left), &namespace_name(right))?;
        self.reload_spaces()
    }

    pub(crate) fn next_client(&self) -> u64 {
        self.next_client.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn authenticated_at_once(&self) -> bool {
        self.config.token.is_none()
    }

    fn share(&self, total: usize, least: usize, most: usize) -> usize {
        (total / self.connected.load(Ordering::Relaxed).max(1)).clamp(least, most)
    }

    /// Unsent bytes past which a client's requests wait.
    pub(crate) fn output_pause(&self) -> usize {
        self.share(RESP_OUTPUT_BYTES, RESP_OUTPUT_PAUSE_BYTES_MIN, RESP_OUTPUT_PAUSE_BYTES)
    }

    /// Capacity that an idle client's buffers may keep.
    pub(crate) fn keep_bytes(&self) -> usize {
        self.share(RESP_KEPT_BYTES, RESP_KEEP_BYTES_MIN, RESP_KEEP_BYTES)
    }

    /// Whether replies to writes wait for an fsync.
    pub(crate) fn syncs(&self) -> bool {
        self.config.durability == Durability::Sync
    }

    /// Whether the token is right; takes the same time whatever it is.
    pub(crate) fn check_token(&self, user: &[u8], token: &[u8]) -> bool {
        use subtle::ConstantTimeEq;
        let Some(expected) = &self.config.token else { return user == b"default" };
        bool::from(expected.ct_eq(token)) && user == b"default"
    }

    /// Remembers where a scan stands and gives it a number.
    pub(crate) fn save_cursor(&self, after: &[u8], before: u64) -> u64 {
        let mut cursors = self.cursors.lock();
        cursors.last += 1;
        let number = cursors.last;
        cursors.by_number.insert(number, Cursor { after: Bytes::copy_from_slice(after), before });
        cursors.order.push_back(number);
        while cursors.by_number.len() > RESP_SCAN_CURSORS_MAX
            || cursors.order.len() > 2 * RESP_SCAN_CURSORS_MAX
        {
            match cursors.order.pop_front() {
                Some(oldest) => cursors.by_number.remove(&oldest),
                None => break,
            };
        }
        number
    }

    /// The key after which the scan of this number goes on.
    pub(crate) fn load_cursor(&self, number: u64) -> Option<Bytes> {
        let mut cursors = self.cursors.lock();
        let (after, before) = {
            let cursor = cursors.by_number.get(&number)?;
            (cursor.after.clone(), cursor.before)
        };
        // Its number came back, so the reply that carried it has arrived.
        cursors.by_number.remove(&before);
        Some(after)
    }

    pub(crate) fn set_pause(&self, pause: Option<Pause>) {
        let mut current = self.pause.lock();
        *current = match (*current, pause) {
            // The longer and the stricter one win.
            (Some(had), Some(new)) => Some(Pause {
                until: had.until.max(new.until),
                writes_only: had.writes_only && new.writes_only,
            }),
            (_, new) => new,
        };
        self.paused.store(current.is_some(), Ordering::Release);
        drop(current);
        for mailbox in &self.mailboxes {
            mailbox.send(Message::Resume);
        }
    }

    /// The pause that is on.
    #[inline]
    pub(crate) fn pause(&self) -> Option<Pause> {
        if !self.paused.load(Ordering::Acquire) {
            return None;
        }
        let mut pause = self.pause.lock();
        if pause.is_some_and(|pause| pause.until <= self.env.monotonic()) {
            *pause = None;
            self.paused.store(false, Ordering::Release);
        }
        *pause
    }

    pub(crate) fn snapshot(&self) -> RespStats {
        RespStats::collect(&self.stats, self.connected.load(Ordering::Relaxed) as u64)
    }
}
