//! Messages to an event loop.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::event::EventfdFlags;

use super::away::Ended;
use super::connection::Connection;

/// What an event loop is told.
#[derive(Debug)]
pub(crate) enum Message {
    /// Serve this client from now on.
    Adopt(Box<Connection>),
    /// Disconnect this client, if it is still yours.
    Kill(u64),
    /// Stop this client's waiting, with an error where that is set.
    Unblock(u64, bool),
    /// Hand your clients to the loop of this number, which has time for them.
    GiveBack(usize),
    /// Look again at clients that are held up by a pause.
    Resume,
    /// Go on with a client whose requests were run where their databases are.
    Ended(Box<Ended>),
    /// Tell when nothing is under way that began before this message.
    Pass(SyncSender<()>),
    /// Stop: answer what has been read, until this monotonic time.
    Stop(Duration),
}

/// A loop's messages, and the descriptor that wakes it.
#[derive(Debug)]
pub(crate) struct Mailbox {
    messages: Mutex<Vec<Message>>,
    /// Something was sent since the last [`Mailbox::drain`].
    rung: AtomicBool,
    /// The loop has replies that wait for an fsync.
    awaits_durable: AtomicBool,
    event: OwnedFd,
}

impl Mailbox {
    pub(crate) fn new() -> io::Result<Self> {
        let event = rustix::event::eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Self {
            messages: Mutex::default(),
            rung: AtomicBool::new(false),
            awaits_durable: AtomicBool::new(false),
            event,
        })
    }

    pub(crate) fn event(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }

    pub(crate) fn send(&self, message: Message) {
        self.messages.lock().push(message);
        self.wake();
    }

    /// Wakes the loop without a message.
    pub(crate) fn wake(&self) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            // Fails only when the counter is full, and then the loop wakes anyway.
            let _ = rustix::io::write(&self.event, &1_u64.to_ne_bytes());
        }
    }

    /// Says whether the loop is to be woken when something became durable.
    pub(crate) fn await_durable(&self, awaits: bool) {
        self.awaits_durable.store(awaits, Ordering::SeqCst);
    }

    /// Something became durable, or never will.
    pub(crate) fn durable(&self) {
        if self.awaits_durable.load(Ordering::SeqCst) {
            self.wake();
        }
    }

    /// Takes all messages.
    pub(crate) fn drain(&self) -> Vec<Message> {
        let mut count = [0_u8; 8];
        // Fails when nothing was written, which is as good.
        let _ = rustix::io::read(&self.event, &mut count);
        self.rung.store(false, Ordering::Release);
        std::mem::take(&mut *self.messages.lock())
    }
}
