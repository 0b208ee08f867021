//! What the server knows about one client.

use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicI64, AtomicU8, AtomicU16, AtomicU64, AtomicUsize, Ordering,
};
use std::time::Duration;

use parking_lot::Mutex;
use sira_store::Version;
use std::net::SocketAddr;

use super::parser::{Args, Span};
use super::table::{Command, Number};

/// What other clients may see of a client, and how they reach it.
#[derive(Debug)]
pub(crate) struct ClientInfo {
    pub(crate) id: u64,
    pub(crate) fd: i32,
    pub(crate) addr: SocketAddr,
    pub(crate) laddr: SocketAddr,
    /// Monotonic time of the connection.
    pub(crate) since: Duration,
    /// Monotonic milliseconds of the last request.
    pub(crate) active_ms: AtomicU64,
    pub(crate) name: Mutex<Vec<u8>>,
    pub(crate) library: Mutex<(Vec<u8>, Vec<u8>)>,
    pub(crate) database: AtomicU8,
    pub(crate) protocol: AtomicU8,
    /// Queued commands, -1 outside `MULTI`.
    pub(crate) queued: AtomicI64,
    pub(crate) last_command: AtomicU16,
    pub(crate) blocked: AtomicBool,
    pub(crate) no_evict: AtomicBool,
    pub(crate) query_bytes: AtomicUsize,
    pub(crate) output_bytes: AtomicUsize,
    /// The event loop that serves the client.
    pub(crate) home: AtomicUsize,
    pub(crate) killed: AtomicBool,
}

impl ClientInfo {
    pub(crate) fn new(
        id: u64,
        fd: i32,
        addr: SocketAddr,
        laddr: SocketAddr,
        since: Duration,
        home: usize,
    ) -> Self {
        Self {
            id,
            fd,
            addr,
            laddr,
            since,
            active_ms: AtomicU64::new(since.as_millis() as u64),
            name: Mutex::default(),
            library: Mutex::default(),
            database: AtomicU8::new(0),
            protocol: AtomicU8::new(2),
            queued: AtomicI64::new(-1),
            last_command: AtomicU16::new(Number::MAX),
            blocked: AtomicBool::new(false),
            no_evict: AtomicBool::new(false),
            query_bytes: AtomicUsize::new(0),
            output_bytes: AtomicUsize::new(0),
            home: AtomicUsize::new(home),
            killed: AtomicBool::new(false),
        }
    }
}

/// Which replies a client gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Replies {
    On,
    Off,
    /// None for the next command.
    SkipNext,
}

/// A command that `MULTI` keeps.
#[derive(Debug)]
pub(crate) struct Queued {
    pub(crate) command: &'static Command,
    bytes: Box<[u8]>,
    spans: Box<[Span]>,
}

impl Queued {
    pub(crate) fn new(command: &'static Command, args: Args<'_>) -> Self {
        let mut bytes = Vec::with_capacity(args.total_bytes());
        let mut spans = Vec::with_capacity(args.len());
        for arg in args.from(0) {
            spans.push(Span::new(bytes.len(), arg.len()));
            bytes.extend_from_slice(arg);
        }
        Self { command, bytes: bytes.into(), spans: spans.into() }
    }

    /// A command with these words, its name the first.
    pub(crate) fn of(command: &'static Command, words: &[&[u8]]) -> Self {
        let mut bytes = Vec::new();
        let mut spans = Vec::with_capacity(words.len());
        for word in words {
            spans.push(Span::new(bytes.len(), word.len()));
            bytes.extend_from_slice(word);
        }
        Self { command, bytes: bytes.into(), spans: spans.into() }
    }

    pub(crate) fn args(&self) -> Args<'_> {
        Args::new(&self.bytes, &self.spans)
    }

    /// Memory that the command takes, in bytes.
    pub(crate) fn size(&self) -> usize {
        self.bytes.len() + size_of_val(&*self.spans) + size_of::<Self>()
    }
}

/// Commands between `MULTI` and `EXEC`.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    pub(crate) commands: Vec<Queued>,
    /// A command was refused: `EXEC` will be too.
    pub(crate) broken: bool,
    pub(crate) bytes: usize,
}

/// A transaction that has run, and may have to run again.
#[derive(Debug)]
pub(crate) struct Parked {
    pub(crate) queue: Queue,
    pub(crate) watched: Vec<Watched>,
    pub(crate) database: u8,
}

/// A key as it was when it was watched.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Watched {
    pub(crate) database: u8,
    pub(crate) key: Box<[u8]>,
    pub(crate) version: Option<Version>,
}

/// Why a client's requests wait.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Block {
    /// Monotonic time until which they do; `None` is for ever.
    pub(crate) until: Option<Duration>,
    /// The reply when it is over.
    pub(crate) reply: BlockReply,
}

/// What a blocked client is told in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BlockReply {
    Ok,
    Zero,
}

/// State of one client's conversation.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) info: Arc<ClientInfo>,
    pub(crate) database: u8,
    pub(crate) authenticated: bool,
    pub(crate) replies: Replies,
    pub(crate) queue: Option<Queue>,
    pub(crate) watched: Vec<Watched>,
    pub(crate) parked: Option<Parked>,
    pub(crate) block: Option<Block>,
    /// Close once the replies are sent.
    pub(crate) closing: bool,
}

impl Session {
    pub(crate) fn new(info: Arc<ClientInfo>, authenticated: bool) -> Self {
        Self {
            info,
            database: 0,
            authenticated,
            replies: Replies::On,
            queue: None,
            watched: Vec::new(),
            parked: None,
            block: None,
            closing: false,
        }
    }

    pub(crate) fn select(&mut self, database: u8) {
        self.database = database;
        self.info.database.store(database, Ordering::Relaxed);
    }

    /// Forgets the queue and the watched keys.
    pub(crate) fn discard(&mut self) {
        self.queue = None;
        self.watched.clear();
        self.info.queued.store(-1, Ordering::Relaxed);
    }

    /// Puts the transaction that was parked back to where `EXEC` finds it.
    pub(crate) fn unpark(&mut self) {
        let Some(Parked { queue, watched, database }) = self.parked.take() else { return };
        self.info.queued.store(queue.commands.len() as i64, Ordering::Relaxed);
        self.queue = Some(queue);
        self.watched = watched;
        self.select(database);
    }

    /// Makes a later `EXEC` fail, if one is prepared.
    pub(crate) fn break_queue(&mut self) {
        if let Some(queue) = &mut self.queue {
            queue.broken = true;
        }
    }
}
