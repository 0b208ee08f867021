//! The event loop.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use sira_store::Durability;
use sira_store::embedded::Ticket;

use crate::limits::{RESP_ACCEPT_BATCH, RESP_READ_BYTES};

use super::away::{self, Ended};
use super::balance::{Advice, Balance, Counted};
use super::connection::{Connection, Input, Wait};
use super::data::{Data, Spaces};
use super::mailbox::Message;
use super::session::{ClientInfo, Session};
use super::shared::Shared;
use super::spin::Spin;
use super::stats::{self, LoopStats};

/// Event of the listening socket.
const LISTENER: u64 = u64::MAX;
/// Event of the mailbox.
const MAILBOX: u64 = u64::MAX - 1;
/// Most events taken at once.
const EVENTS: usize = 512;
/// How long accepting rests when the process is out of descriptors.
const ACCEPT_REST: Duration = Duration::from_millis(100);
/// Most reads of one client before others are served.
const READS_MAX: usize = 16;
/// A sync that takes no longer than this is done by the loop itself when it has nothing else to do:
/// handing it to another thread and being woken by that takes about as long.
const OWN_SYNC_MAX: Duration = Duration::from_micros(500);

/// One event loop, on its own thread.
pub(crate) struct Worker<'s> {
    index: usize,
    shared: &'s Arc<Shared>,
    stats: &'s LoopStats,
    epoll: OwnedFd,
    listener: Option<TcpListener>,
    clients: slab::Slab<Box<Connection>>,
    scratch: Box<[u8]>,
    spaces: Spaces,
    generation: u64,
    /// Newest write of this tick.
    ticket: Option<Ticket>,
    /// Newest write that waits for a sync that nobody was asked for yet, and since when.
    unsynced: Option<(Ticket, Duration)>,
    /// Newest write that nobody has asked to be made durable, and when that is due.
    lazy: Option<(Ticket, Duration)>,
    /// Clients whose replies wait for an fsync.
    held: Vec<usize>,
    /// Clients that asked to wait, or are held up.
    waiting: Vec<usize>,
    accept_again: Option<Duration>,
    stop: Option<Duration>,
    spin: Spin,
    balance: Balance,
}

impl<'s> Worker<'s> {
    pub(crate) fn new(
        index: usize,
        shared: &'s Arc<Shared>,
        stats: &'s LoopStats,
        listener: Option<TcpListener>,
    ) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        if let Some(mailbox) = shared.mailboxes.get(index) {
            epoll::add(&epoll, mailbox.event(), EventData::new_u64(MAILBOX), EventFlags::IN)?;
        }
        if let Some(listener) = &listener {
            epoll::add(&epoll, listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
        }
        Ok(Self {
            index,
            shared,
            stats,
            epoll,
            listener,
            clients: slab::Slab::new(),
            scratch: vec![0; RESP_READ_BYTES].into_boxed_slice(),
            spaces: shared.spaces(),
            generation: shared.generation(),
            ticket: None,
            unsynced: None,
            lazy: None,
            held: Vec::new(),
            waiting: Vec::new(),
            accept_again: None,
            stop: None,
            spin: Spin::default(),
            balance: Balance::default(),
        })
    }

    /// Serves until it is told to stop.
    pub(crate) fn run(mut self) {
        let mut events = Vec::with_capacity(EVENTS);
        loop {
            self.poll(&mut events);
            let mut mail = false;
            let mut accept = false;
            for event in &events {
                match event.data.u64() {
                    LISTENER => accept = true,
                    MAILBOX => mail = true,
                    key => self.serve(key as usize, event.flags),
                }
            }
            if accept {
                self.accept();
            }
            if mail {
                self.read_mail();
            }
            self.settle();
            self.share_load(events.len());
            if let Some(deadline) = self.stop
                && (self.clients.is_empty() || self.now() >= deadline)
            {
                break;
            }
        }
        for key in self.clients.iter().map(|(key, _)| key).collect::<Vec<_>>() {
            self.close(key);
        }
    }

    fn now(&self) -> Duration {
        self.shared.env.monotonic()
    }

    /// Waits for events: by polling for a moment while requests keep arriving, else asleep.
    fn poll(&mut self, events: &mut Vec<Event>) {
        const NO_WAIT: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
        if self.wait(events, Some(&NO_WAIT)).is_ok() && !events.is_empty() {
            // Requests waited for the loop, not the loop for requests.
            self.hand_over_sync();
            return;
        }
        if self.unsynced.is_some() {
            // Every reply that could be held is: one sync releases them all.
            self.sync_now();
            if self.wait(events, Some(&NO_WAIT)).is_ok() && !events.is_empty() {
                return;
            }
        }
        let start = self.now();
        loop {
            match self.wait(events, Some(&NO_WAIT)) {
                Ok(()) if events.is_empty() => {}
                _ => break self.spin.found(),
            }
            if self.now().saturating_sub(start) >= self.spin.span() {
                let before = self.now();
                let deadline = self.deadline();
                let timeout = deadline.map(|deadline| timespec(deadline.saturating_sub(before)));
                // An error is one of the call itself (interrupted): look again.
                let _ = self.wait(events, timeout.as_ref());
                break self.spin.slept(self.now().saturating_sub(before));
            }
            std::hint::spin_loop();
        }
        self.balance.waited(self.now().saturating_sub(start));
    }

    fn wait(&self, events: &mut Vec<Event>, timeout: Option<&Timespec>) -> io::Result<()> {
        events.clear();
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(events), timeout) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Leaves the sync of the writes so far to the engine's thread, when requests keep coming for
    /// longer than it takes.
    fn hand_over_sync(&mut self) {
        if let Some((ticket, since)) = self.unsynced
            && self.now().saturating_sub(since) >= self.shared.engine.sync_time()
        {
            self.unsynced = None;
            self.shared.engine.request_durable(ticket);
        }
    }

    /// Makes the writes so far durable and sends the replies that waited for it.
    fn sync_now(&mut self) {
        let Some((ticket, _)) = self.unsynced.take() else { return };
        let engine = &self.shared.engine;
        if engine.sync_time() > OWN_SYNC_MAX {
            engine.request_durable(ticket);
            return;
        }
        // A failure is told to every client whose reply is held.
        let _ = engine.wait_durable(ticket);
        self.settle();
    }

    /// When something is due that no event announces.
    fn deadline(&self) -> Option<Duration> {
        let clients = self.waiting.iter().filter_map(|key| self.clients.get(*key));
        let blocked = clients.filter_map(|client| client.blocked_until());
        let pause = if self.waiting.is_empty() { None } else { self.shared.pause() };
        blocked
            .chain(pause.map(|pause| pause.until))
            .chain(self.lazy.map(|(_, due)| due))
            .chain(self.accept_again)
            .chain(self.stop)
            .min()
    }

    /// What the commands of a client work on.
    fn data(&mut self) -> Data<'s> {
        let generation = self.shared.generation();
        if generation != self.generation {
            self.generation = generation;
            self.spaces = self.shared.spaces();
        }
        Data::new(&self.shared.engine, self.spaces)
    }

    /// Deals with an event of a client.
    fn serve(&mut self, key: usize, flags: EventFlags) {
        let mut data = self.data();
        let Some(client) = self.clients.get_mut(key) else { return };
        let mut broken = flags.contains(EventFlags::ERR);
        if !broken && client.wait == Wait::No && !client.session.closing {
            for _ in 0..READS_MAX {
                let input = client.read(self.shared, self.stats, &mut data, &mut self.scratch);
                match input {
                    Ok(Input::More) => client.resume(self.shared, self.stats, &mut data),
                    Ok(Input::Some) => {
                        client.resume(self.shared, self.stats, &mut data);
                        break;
                    }
                    Ok(Input::Nothing) => break,
                    Ok(Input::Closed) => {
                        client.session.closing = true;
                        break;
                    }
                    Err(_) => {
                        broken = true;
                        break;
                    }
                }
                if client.wait != Wait::No || client.session.closing {
                    break;
                }
            }
        }
        // Hung up, and nothing can be sent any more.
        broken |= flags.contains(EventFlags::HUP);
        self.after(key, data, broken);
    }

    /// Goes on with a client whose wait is over.
    fn go_on(&mut self, key: usize) {
        let mut data = self.data();
        if let Some(client) = self.clients.get_mut(key) {
            client.wait = Wait::No;
            client.resume(self.shared, self.stats, &mut data);
            self.after(key, data, false);
        }
    }

    /// Sends, goes on where sending made room, and asks for the right events.
    fn after(&mut self, key: usize, mut data: Data<'s>, mut broken: bool) {
        let Some(client) = self.clients.get_mut(key) else { return };
        while !broken {
            match client.send(self.stats) {
                Ok(_) => {}
                Err(_) => broken = true,
            }
            let room = client.out.pending() <= self.shared.output_pause() / 2;
            if broken || client.wait != Wait::Output || !room {
                break;
            }
            client.wait = Wait::No;
            client.resume(self.shared, self.stats, &mut data);
        }
        self.ticket = self.ticket.max(client.wrote.take());
        if client.out.is_held() {
            self.held.push(key);
        }
        if matches!(client.wait, Wait::Block | Wait::Pause) {
            self.waiting.push(key);
        }
        if let Some((session, errand)) = client.take_errand() {
            away::spawn(self.shared, self.index, key, session, errand, client.out.resp3);
        }
        let idle = client.out.pending() == 0 && client.wait != Wait::Away;
        let over = client.session.closing && idle;
        if broken || over || client.session.info.killed.load(Ordering::Relaxed) {
            self.close(key);
            return;
        }
        client.shrink(self.shared.keep_bytes());
        let wanted = client.wanted();
        if wanted != client.interest {
            let data = EventData::new_u64(key as u64);
            if epoll::modify(&self.epoll, &client.stream, data, wanted).is_ok() {
                client.interest = wanted;
            } else {
                self.close(key);
            }
        }
    }

    fn close(&mut self, key: usize) {
        let Some(mut client) = self.clients.try_remove(key) else { return };
        // Closing the socket ends its events.
        client.forget(self.shared);
        self.shared.clients.lock().remove(&client.session.info.id);
        self.shared.connected.fetch_sub(1, Ordering::Relaxed);
    }

    /// Asks for this tick's writes to be made durable, and sends what is.
    fn settle(&mut self) {
        let engine = &self.shared.engine;
        if let Some(ticket) = self.ticket.take() {
            match self.shared.config.durability {
                Durability::Sync => {
                    if let Some(mailbox) = self.shared.mailboxes.get(self.index) {
                        mailbox.await_durable(true);
                    }
                    let since = self.unsynced.map_or_else(|| self.now(), |(_, since)| since);
                    self.unsynced = Some((ticket, since));
                }
                Durability::Interval(ms) => {
                    let due = self.now() + Duration::from_millis(ms);
                    let due = self.lazy.map_or(due, |(_, due)| due);
                    self.lazy = Some((ticket, due));
                }
                Durability::None => {}
            }
        }
        if let Some((ticket, due)) = self.lazy
            && self.now() >= due
        {
            engine.request_durable(ticket);
            self.lazy = None;
        }
        if !self.held.is_empty() {
            self.release_held();
        }
        if !self.waiting.is_empty() {
            self.end_waits();
        }
        if self.accept_again.is_some_and(|again| again <= self.now()) {
            self.accept_again = None;
            if let Some(listener) = &self.listener {
                let data = EventData::new_u64(LISTENER);
                // It was registered before: only memory can lack, and then it is tried again.
                if epoll::add(&self.epoll, listener, data, EventFlags::IN).is_err() {
                    self.accept_again = Some(self.now() + ACCEPT_REST);
                }
            }
        }
    }

    fn release_held(&mut self) {
        let durable = self.shared.engine.durable();
        let mut failure = None;
        let mut held = std::mem::take(&mut self.held);
        held.sort_unstable();
        held.dedup();
        for key in held {
            let Some(client) = self.clients.get_mut(key) else { continue };
            client.out.release_durable(durable);
            if client.out.is_held() {
                let failed = failure.get_or_insert_with(|| self.shared.engine.check_writable());
                if let Err(error) = failed {
                    let text = format!("MISCONF the write is not durable: {error}");
                    client.out.fail_held(text.as_bytes());
                }
            }
            let data = self.data();
            self.after(key, data, false);
        }
        if self.held.is_empty()
            && let Some(mailbox) = self.shared.mailboxes.get(self.index)
        {
            mailbox.await_durable(false);
        }
    }

    /// Goes on with clients whose wait has ended.
    fn end_waits(&mut self) {
        let now = self.now();
        let paused = self.shared.pause().is_some();
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.sort_unstable();
        waiting.dedup();
        for key in waiting {
            let Some(client) = self.clients.get_mut(key) else { continue };
            let over = match client.wait {
                Wait::Block => client.blocked_until().is_some_and(|until| until <= now),
                Wait::Pause => !paused,
                Wait::No | Wait::Output | Wait::Away => continue,
            };
            if !over {
                self.waiting.push(key);
                continue;
            }
            client.unblock(false);
            self.go_on(key);
        }
    }

    fn accept(&mut self) {
        for _ in 0..RESP_ACCEPT_BATCH {
            let Some(listener) = &self.listener else { return };
            match listener.accept() {
                Ok((stream, addr)) => self.greet(stream, addr),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    let code = error.raw_os_error();
                    let full = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
                    if full.iter().any(|errno| Some(errno.raw_os_error()) == code) {
                        // The socket stays ready: without a rest this would spin.
                        let _ = epoll::delete(&self.epoll, listener);
                        self.accept_again = Some(self.now() + ACCEPT_REST);
                        return;
                    }
                }
            }
        }
    }

    fn greet(&mut self, stream: TcpStream, addr: SocketAddr) {
        stats::add(&self.stats.accepted, 1);
        if stream.set_nonblocking(true).is_err() {
            return;
        }
        let connected = self.shared.connected.fetch_add(1, Ordering::Relaxed);
        if connected >= self.shared.config.max_connections {
            self.shared.connected.fetch_sub(1, Ordering::Relaxed);
            stats::add(&self.stats.refused, 1);
            // Told if it can be told at once.
            let _ = rustix::io::write(&stream, b"-ERR max number of clients reached\r\n");
            return;
        }
        // Without these the connection works, only less well.
        let _ = stream.set_nodelay(true);
        let _ = rustix::net::sockopt::set_socket_keepalive(&stream, true);
        let _ = rustix::net::sockopt::set_tcp_keepidle(&stream, Duration::from_secs(300));
        let laddr = stream.local_addr().unwrap_or(self.shared.addr);
        let info = Arc::new(ClientInfo::new(
            self.shared.next_client(),
            stream.as_raw_fd(),
            addr,
            laddr,
            self.now(),
            self.index,
        ));
        self.shared.clients.lock().insert(info.id, Arc::clone(&info));
        let session = Session::new(info, self.shared.authenticated_at_once());
        self.adopt(Box::new(Connection::new(stream, session)));
    }

    /// Serves a client from now on.
    fn adopt(&mut self, mut client: Box<Connection>) {
        client.session.info.home.store(self.index, Ordering::Relaxed);
        let entry = self.clients.vacant_entry();
        let key = entry.key();
        client.interest = client.wanted();
        let data = EventData::new_u64(key as u64);
        let added = epoll::add(&self.epoll, &client.stream, data, client.interest);
        entry.insert(client);
        match added {
            Ok(()) => self.go_on(key),
            Err(_) => self.close(key),
        }
    }

    fn find(&self, id: u64) -> Option<usize> {
        self.clients.iter().find(|(_, client)| client.session.info.id == id).map(|(key, _)| key)
    }

    fn read_mail(&mut self) {
        let Some(mailbox) = self.shared.mailboxes.get(self.index) else { return };
        for message in mailbox.drain() {
            match message {
                Message::Adopt(client) => self.adopt(client),
                Message::Kill(id) => {
                    if let Some(key) = self.find(id) {
                        self.close(key);
                    }
                }
                Message::Unblock(id, error) => {
                    if let Some(key) = self.find(id)
                        && let Some(client) = self.clients.get_mut(key)
                        && client.wait == Wait::Block
                    {
                        client.unblock(error);
                        self.go_on(key);
                    }
                }
                // The wake alone makes the loop look at its waiting clients.
                Message::Resume => {}
                Message::Ended(ended) => self.ended(*ended),
                Message::Pass(pass) => {
                    // Who waits may have given up.
                    let _ = pass.send(());
                }
                Message::GiveBack(owner) => self.hand_over(owner, 1),
                Message::Stop(deadline) => self.begin_stop(deadline),
            }
        }
    }

    /// Goes on with a client whose requests were run elsewhere, if it is still there.
    fn ended(&mut self, ended: Ended) {
        let key = ended.place;
        let Some(client) = self.clients.get_mut(key) else { return };
        if client.wait == Wait::Away && client.session.info.id == ended.session.info.id {
            client.ended(ended, self.stats);
            self.go_on(key);
        }
    }

    /// Takes no more clients and requests; replies go out until the deadline.
    fn begin_stop(&mut self, deadline: Duration) {
        self.stop = Some(deadline);
        self.listener = None;
        for key in self.clients.iter().map(|(key, _)| key).collect::<Vec<_>>() {
            if let Some(client) = self.clients.get_mut(key) {
                client.session.closing = true;
            }
            let data = self.data();
            self.after(key, data, false);
        }
    }

    /// Hands clients to the next loop when this one has more work than time, and takes them back
    /// where that does not help.
    fn share_load(&mut self, events: usize) {
        let next = self.index + 1;
        let Some(mailbox) = self.shared.mailboxes.get(next) else { return };
        let now = self.now();
        let advice = self.balance.tick(now, events, || {
            let commands = |stats: &LoopStats| stats.processed.load(Ordering::Relaxed);
            Counted {
                clients: self.clients.len(),
                accepted: self.stats.accepted.load(Ordering::Relaxed),
                commands: commands(self.stats) + self.shared.stats.get(next).map_or(0, commands),
            }
        });
        match advice {
            Advice::Keep => {}
            Advice::Share => self.hand_over(next, 2),
            Advice::TakeBack => mailbox.send(Message::GiveBack(self.index)),
        }
    }

    /// Hands one in `share` of the clients to another loop.
    fn hand_over(&mut self, target: usize, share: usize) {
        let Some(mailbox) = self.shared.mailboxes.get(target) else { return };
        let movable = |client: &Connection| {
            client.wait == Wait::No && !client.out.is_held() && !client.session.closing
        };
        let keys: Vec<usize> = self
            .clients
            .iter()
            .filter(|(_, client)| movable(client))
            .map(|(key, _)| key)
            .skip(share - 1)
            .step_by(share)
            .collect();
        for key in keys {
            let Some(client) = self.clients.try_remove(key) else { continue };
            if epoll::delete(&self.epoll, &client.stream).is_ok() {
                mailbox.send(Message::Adopt(client));
            } else {
                self.shared.clients.lock().remove(&client.session.info.id);
                self.shared.connected.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}
