//! One client's socket with all that belongs to it.

use std::io::{self, IoSlice};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags};

use sira_store::embedded::Ticket;

use crate::limits::{RESP_QUERY_BUFFER_BYTES_MAX, RESP_READ_BYTES};

use super::away::{Ended, Errand, Request};
use super::data::Data;
use super::executor::{Flow, execute, follow};
use super::output::Output;
use super::parser::{Parser, Step};
use super::session::{Block, BlockReply, Queued, Replies, Session};
use super::shared::Shared;
use super::stats::{self, LoopStats};

/// Most bytes by which a buffer grows ahead of what has arrived.
const GROW_BYTES_MAX: usize = 1024 * 1024;

/// Changes of a client's waiting bytes that are not worth counting.
const ACCOUNT_STEP: usize = 16 * 1024;

/// Why a client's requests are not looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// They are.
    No,
    /// It does not read its replies.
    Output,
    /// It asked to wait.
    Block,
    /// All clients, or those that write, are held up.
    Pause,
    /// Its requests are being run where their databases are.
    Away,
}

/// What reading gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Input {
    /// Bytes, all there were.
    Some,
    /// Bytes, and there may be more.
    More,
    /// Nothing for now.
    Nothing,
    /// The client has gone.
    Closed,
}

/// One client.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) stream: TcpStream,
    pub(crate) session: Session,
    pub(crate) out: Output,
    parser: Parser,
    /// Bytes of requests that are not dealt with, from `input_start` on.
    input: Vec<u8>,
    input_start: usize,
    /// Bytes that the request that is arriving lacks at least.
    missing: usize,
    pub(crate) wait: Wait,
    /// What the event loop was told to report.
    pub(crate) interest: EventFlags,
    /// Newest write since the event loop last looked.
    pub(crate) wrote: Option<Ticket>,
    /// Requests that are to be run where their databases are.
    pub(crate) errand: Option<Errand>,
    accounted: usize,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream, session: Session) -> Self {
        Self {
            stream,
            parser: Parser::new(session.authenticated),
            session,
            out: Output::default(),
            input: Vec::new(),
            input_start: 0,
            missing: 0,
            wait: Wait::No,
            interest: EventFlags::empty(),
            wrote: None,
            errand: None,
            accounted: 0,
        }
    }

    /// Whether bytes wait that have been read.
    pub(crate) fn has_input(&self) -> bool {
        self.input_start < self.input.len()
    }

    /// What the event loop should report now.
    pub(crate) fn wanted(&self) -> EventFlags {
        let mut wanted = EventFlags::empty();
        if self.wait == Wait::No && !self.session.closing {
            wanted |= EventFlags::IN;
        }
        if self.can_send() {
            wanted |= EventFlags::OUT;
        }
        wanted
    }

    fn can_send(&self) -> bool {
        let mut slices = Vec::new();
        if self.out.pending() == 0 {
            return false;
        }
        self.out.slices(&mut slices);
        !slices.is_empty()
    }

    /// Reads what has arrived and deals with it.
    pub(crate) fn read(
        &mut self,
        shared: &Shared,
        stats: &LoopStats,
        data: &mut Data<'_>,
        scratch: &mut [u8],
    ) -> io::Result<Input> {
        if self.has_input() || self.missing > RESP_READ_BYTES {
            return self.read_more(shared, stats);
        }
        let read = match rustix::io::read(&self.stream, &mut *scratch) {
            Ok(0) => return Ok(Input::Closed),
            Ok(read) => read,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(Input::Nothing),
            Err(error) => return Err(error.into()),
        };
        stats::add(&stats.input_bytes, read as u64);
        let bytes = scratch.get(..read).unwrap_or(&[]);
        let used = self.process(shared, stats, data, bytes);
        if used < read {
            self.input.clear();
            self.input_start = 0;
            self.input.extend_from_slice(bytes.get(used..).unwrap_or(&[]));
            self.account(shared)?;
        }
        Ok(if read == scratch.len() { Input::More } else { Input::Some })
    }

    /// Reads behind bytes that wait already, into the client's own buffer.
    fn read_more(&mut self, shared: &Shared, stats: &LoopStats) -> io::Result<Input> {
        if self.input_start > 0 {
            self.input.drain(..self.input_start);
            self.input_start = 0;
        }
        let ahead = self.missing.min(GROW_BYTES_MAX.max(self.input.len()));
        self.input.reserve(ahead.max(RESP_READ_BYTES));
        let space = self.input.capacity() - self.input.len();
        let spare = rustix::buffer::spare_capacity(&mut self.input);
        let read = match rustix::io::read(&self.stream, spare) {
            Ok(0) => return Ok(Input::Closed),
            Ok(read) => read,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(Input::Nothing),
            Err(error) => return Err(error.into()),
        };
        stats::add(&stats.input_bytes, read as u64);
        self.missing = self.missing.saturating_sub(read);
        self.account(shared)?;
        Ok(if read == space { Input::More } else { Input::Some })
    }

    /// Deals with the bytes that wait in the client's own buffer, unless the request is known not
    /// to be whole.
    pub(crate) fn resume(&mut self, shared: &Shared, stats: &LoopStats, data: &mut Data<'_>) {
        // Short of more than a line, the request cannot be whole.
        if self.wait != Wait::No || !self.has_input() || self.missing > 1 {
            return;
        }
        let input = std::mem::take(&mut self.input);
        let used = self.process(shared, stats, data, input.get(self.input_start..).unwrap_or(&[]));
        self.input = input;
        self.input_start += used;
        if !self.has_input() {
            self.input_start = 0;
            self.input.clear();
        }
        // Giving back memory cannot fail.
        let _ = self.account(shared);
    }

    /// Deals with requests; answers how many bytes are done with.
    fn process(
        &mut self,
        shared: &Shared,
        stats: &LoopStats,
        data: &mut Data<'_>,
        bytes: &[u8],
    ) -> usize {
        let start = shared.env.monotonic();
        let (syncs, pause) = (shared.syncs(), shared.output_pause());
        let (mut used, mut commands) = (0, 0);
        let mut hold = None;
        self.wait = Wait::No;
        self.missing = 0;
        while used < bytes.len() {
            if self.session.closing {
                used = bytes.len();
                break;
            }
            if self.errand.is_none() && self.out.pending() > pause {
                self.wait = Wait::Output;
                break;
            }
            let rest = bytes.get(used..).unwrap_or(&[]);
            self.parser.authenticated = self.session.authenticated;
            let step = match self.parser.parse(rest) {
                Step::Incomplete { missing } => {
                    self.missing = missing;
                    break;
                }
                Step::Failed(_) if self.errand.is_some() => {
                    // The replies to what came before it are still to come.
                    self.parser.reset();
                    break;
                }
                Step::Failed(error) => {
                    self.out.error(&error.text());
                    self.session.closing = true;
                    continue;
                }
                Step::Nothing { used } => used,
                Step::Request { used } => {
                    let place = self.out.place();
                    let args = self.parser.args(rest);
                    let silent = self.session.replies != Replies::On;
                    let flow = match &self.errand {
                        None => {
                            execute(shared, stats, &mut self.session, data, &mut self.out, args)
                        }
                        Some(errand) if errand.takes_more() => {
                            follow(shared, stats, &self.session, args)
                        }
                        Some(_) => Flow::Apart,
                    };
                    match flow {
                        Flow::Done => {
                            commands += 1;
                            if syncs {
                                let ticket = data.take_ticket();
                                if let Some(ticket) = ticket {
                                    let (from, _) = hold.unwrap_or((place, ticket));
                                    hold = Some((from, ticket));
                                }
                                self.out.mark(ticket.is_some());
                            }
                        }
                        Flow::Away(number, command) => {
                            let queued = Queued::new(command, args);
                            let request = Request { number, queued, silent };
                            self.errand.get_or_insert_default().push(request);
                            self.wait = Wait::Away;
                        }
                        Flow::Apart => {
                            self.parser.reset();
                            break;
                        }
                        Flow::Postponed => {
                            self.wait = Wait::Pause;
                            self.parser.reset();
                            break;
                        }
                    }
                    used
                }
            };
            self.parser.reset();
            used += step;
            if self.session.block.is_some() {
                self.wait = Wait::Block;
                self.session.info.blocked.store(true, Ordering::Release);
                break;
            }
        }
        self.wrote = self.wrote.max(data.take_ticket());
        if let Some((place, ticket)) = hold {
            self.out.hold(place, ticket);
            self.wrote = Some(ticket);
        }
        if data.writes > 0 {
            stats::add(&stats.writes, std::mem::take(&mut data.writes));
        }
        if commands > 0 {
            let end = shared.env.monotonic();
            stats.batch(commands, end.saturating_sub(start));
            self.session.info.active_ms.store(end.as_millis() as u64, Ordering::Relaxed);
        }
        used
    }

    /// The requests that are to be run elsewhere, and the conversation that they belong to.
    pub(crate) fn take_errand(&mut self) -> Option<(Session, Errand)> {
        let errand = self.errand.take()?;
        let mut stand_in = Session::new(Arc::clone(&self.session.info), self.session.authenticated);
        stand_in.closing = self.session.closing;
        Some((std::mem::replace(&mut self.session, stand_in), errand))
    }

    /// Takes the replies to requests that were run elsewhere.
    pub(crate) fn ended(&mut self, ended: Ended, stats: &LoopStats) {
        let closing = self.session.closing;
        self.session = ended.session;
        self.session.closing |= closing;
        self.out.append(ended.out);
        self.out.mark(false);
        ended.failed.into_iter().for_each(|number| stats.failed(number));
        stats::add(&stats.writes, ended.writes);
        stats.batch(ended.requests, ended.took);
    }

    /// Ends a wait that the client asked for.
    pub(crate) fn unblock(&mut self, error: bool) {
        let Some(Block { reply, .. }) = self.session.block.take() else { return };
        self.session.info.blocked.store(false, Ordering::Release);
        match reply {
            _ if error => self.out.error(b"UNBLOCKED client unblocked via CLIENT UNBLOCK"),
            BlockReply::Ok => self.out.ok(),
            BlockReply::Zero => self.out.int(0),
        }
        self.out.mark(false);
        self.wait = Wait::No;
    }

    /// When a wait that the client asked for ends, if it does.
    pub(crate) fn blocked_until(&self) -> Option<Duration> {
        self.session.block.and_then(|block| block.until)
    }

    /// Sends what may be sent; answers whether all of that was taken.
    pub(crate) fn send(&mut self, stats: &LoopStats) -> io::Result<bool> {
        loop {
            if self.out.pending() == 0 {
                return Ok(true);
            }
            let (sent, wanted) = match self.out.plain() {
                Some(bytes) => {
                    (rustix::net::send(&self.stream, bytes, SendFlags::NOSIGNAL), bytes.len())
                }
                None => {
                    let mut slices: Vec<IoSlice<'_>> = Vec::with_capacity(8);
                    self.out.slices(&mut slices);
                    if slices.is_empty() {
                        return Ok(true);
                    }
                    let wanted = slices.iter().map(|slice| slice.len()).sum();
                    let mut control = SendAncillaryBuffer::default();
                    let flags = SendFlags::NOSIGNAL;
                    let sent = rustix::net::sendmsg(&self.stream, &slices, &mut control, flags);
                    (sent, wanted)
                }
            };
            match sent {
                Ok(sent) => {
                    stats::add(&stats.output_bytes, sent as u64);
                    self.out.advance(sent);
                    if sent < wanted {
                        return Ok(false);
                    }
                }
                Err(Errno::AGAIN) => return Ok(false),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Gives back memory that an idle client does not need.
    pub(crate) fn shrink(&mut self, keep: usize) {
        self.out.shrink(keep);
        if self.input.capacity() > keep && !self.has_input() {
            self.input = Vec::new();
        }
    }

    /// Counts the bytes that wait. Fails when there are too many, of this client or of all.
    fn account(&mut self, shared: &Shared) -> io::Result<()> {
        let queued = self.session.queue.as_ref().map_or(0, |queue| queue.bytes);
        let now = self.input.len() - self.input_start + queued;
        self.session.info.query_bytes.store(now, Ordering::Relaxed);
        self.session.info.output_bytes.store(self.out.pending(), Ordering::Relaxed);
        let total = adjust(&shared.query_bytes, &mut self.accounted, now);
        if now > RESP_QUERY_BUFFER_BYTES_MAX
            || total > shared.config.query_bytes_max && now > RESP_READ_BYTES
        {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        Ok(())
    }

    /// Takes this client's bytes out of the total.
    pub(crate) fn forget(&mut self, shared: &Shared) {
        shared.query_bytes.fetch_sub(self.accounted, Ordering::Relaxed);
        self.accounted = 0;
    }
}

/// Puts `now` in the place of `had` in a total, where that is worth it; answers the total.
fn adjust(total: &AtomicUsize, had: &mut usize, now: usize) -> usize {
    if now.abs_diff(*had) < ACCOUNT_STEP && now != 0 {
        return total.load(Ordering::Relaxed);
    }
    let before = std::mem::replace(had, now);
    if now >= before {
        total.fetch_add(now - before, Ordering::Relaxed) + (now - before)
    } else {
        total.fetch_sub(before - now, Ordering::Relaxed) - (before - now)
    }
}
