//! Running a client's requests where their databases are.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use sira_store::{Result, StorageError};

use super::super::command::Failure;
use super::super::data::Data;
use super::super::executor::{Ran, run};
use super::super::mailbox::Message;
use super::super::output::Output;
use super::super::session::{Queued, Session};
use super::super::shared::Shared;
use super::super::table::Number;
use super::TURNS;
use super::fetch::satisfy;
use super::snapshot::Snapshot;
use super::write::{Written, keys, write};

/// Requests that one errand does at most.
const REQUESTS_MAX: usize = 256;

/// Times that a command begins again because what it read was overwritten.
const ATTEMPTS: usize = 64;

/// Most reads of one command: each makes it run again.
const READS_MAX: usize = 100_000;

/// A request that works on databases which are away.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) number: Number,
    pub(crate) queued: Queued,
    /// The client wants no reply.
    pub(crate) silent: bool,
}

impl Request {
    /// Its key, where it names exactly one and touches no other.
    pub(crate) fn one_key(&self) -> Option<&[u8]> {
        let (first, last, _) = self.queued.command.keys;
        let alone = first > 0 && first == last && self.queued.command.stands_alone();
        alone.then(|| self.queued.args().get(first as usize))
    }
}

/// Requests of one client, in order.
#[derive(Debug, Default)]
pub(crate) struct Errand {
    requests: Vec<Request>,
}

impl Errand {
    /// Whether another request may come along: each names one key, and they are few enough.
    pub(crate) fn takes_more(&self) -> bool {
        self.requests.len() < REQUESTS_MAX
            && self.requests.last().is_some_and(|last| last.one_key().is_some())
    }

    pub(crate) fn push(&mut self, request: Request) {
        self.requests.push(request);
    }
}

/// What an errand came to.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Where the loop finds the client.
    pub(crate) place: usize,
    pub(crate) session: Session,
    pub(crate) out: Output,
    pub(crate) failed: Vec<Number>,
    /// Commits.
    pub(crate) writes: u64,
    pub(crate) requests: u64,
    pub(crate) took: Duration,
}

/// Runs an errand on the runtime, and tells the loop of this number when it has ended.
pub(crate) fn spawn(
    shared: &Arc<Shared>,
    index: usize,
    place: usize,
    session: Session,
    errand: Errand,
    resp3: bool,
) {
    let task = Arc::clone(shared);
    shared.away.runtime.spawn(async move {
        let ended = all(&task, place, session, errand, resp3).await;
        if let Some(mailbox) = task.mailboxes.get(index) {
            mailbox.send(Message::Ended(Box::new(ended)));
        }
    });
}

async fn all(
    shared: &Shared,
    place: usize,
    mut session: Session,
    errand: Errand,
    resp3: bool,
) -> Ended {
    let start = shared.env.monotonic();
    let mut done = Vec::with_capacity(errand.requests.len());
    match errand.requests.as_slice() {
        [request] => done.push(answer(shared, &mut session, request, resp3).await),
        requests => {
            let mut rest = requests;
            while !rest.is_empty() {
                let (now, later) = rest.split_at(distinct(rest));
                rest = later;
                let (info, database) = (&session.info, session.database);
                let wave = now.iter().map(|request| async move {
                    // None of these commands changes the conversation.
                    let mut session = Session::new(Arc::clone(info), true);
                    session.database = database;
                    answer(shared, &mut session, request, resp3).await
                });
                done.extend(join_all(wave).await);
            }
        }
    }
    let (mut out, mut failed, mut writes) = (Output::default(), Vec::new(), 0);
    for (request, answer) in errand.requests.iter().zip(done) {
        if answer.failed {
            failed.push(request.number);
        }
        writes += u64::from(answer.wrote);
        if !request.silent {
            out.append(answer.out);
        }
    }
    let took = shared.env.monotonic().saturating_sub(start);
    let requests = errand.requests.len() as u64;
    Ended { place, session, out, failed, writes, requests, took }
}

/// How many of the requests, from the first on, have different keys.
fn distinct(requests: &[Request]) -> usize {
    let mut keys = BTreeSet::new();
    let known = |request: &Request| {
        request.one_key().is_none_or(|key| !keys.insert(Box::<[u8]>::from(key)))
    };
    requests.iter().position(known).unwrap_or(requests.len()).max(1)
}

/// The reply to one request.
struct Answer {
    out: Output,
    failed: bool,
    wrote: bool,
}

async fn answer(shared: &Shared, session: &mut Session, request: &Request, resp3: bool) -> Answer {
    match split(shared, session, request).await {
        Ok(None) => {}
        Ok(Some(parts)) => return sum(shared, session, &parts, resp3).await,
        Err(error) => return refused(error, resp3),
    }
    let performed = perform(shared, session, request, resp3).await;
    // Whatever became of a transaction, a later command must not begin it again.
    session.parked = None;
    performed.unwrap_or_else(|error| refused(error, resp3))
}

fn refused(error: StorageError, resp3: bool) -> Answer {
    let mut out = Output::speaking(resp3);
    out.error(&Failure::from(error).into_text());
    Answer { out, failed: true, wrote: false }
}

/// A removal of several keys as removals of one each, where the engine does not change several as
/// one step.
async fn split(
    shared: &Shared,
    session: &Session,
    request: &Request,
) -> Result<Option<Vec<Request>>> {
    let (command, args) = (request.queued.command, request.queued.args());
    if !matches!(command.name, "del" | "unlink") || args.len() <= 2 {
        return Ok(None);
    }
    let namespace = shared.away.open(session.database).await?;
    if namespace.backend.capabilities().atomic_batch {
        return Ok(None);
    }
    let part = |key: &[u8]| Request {
        number: request.number,
        queued: Queued::of(command, &[args.get(0), key]),
        silent: false,
    };
    Ok(Some(args.from(1).map(part).collect()))
}

/// Runs requests that each answer a number, and answers their sum, or the first error.
async fn sum(shared: &Shared, session: &mut Session, requests: &[Request], resp3: bool) -> Answer {
    let (mut total, mut wrote) = (0, false);
    for request in requests {
        let answer = match perform(shared, session, request, resp3).await {
            Ok(answer) => answer,
            Err(error) => return Answer { wrote, ..refused(error, resp3) },
        };
        wrote |= answer.wrote;
        match answer.out.as_number() {
            Some(number) => total += number,
            None => return Answer { wrote, ..answer },
        }
    }
    let mut out = Output::speaking(resp3);
    out.int(total);
    Answer { out, failed: false, wrote }
}

async fn perform(
    shared: &Shared,
    session: &mut Session,
    request: &Request,
    resp3: bool,
) -> Result<Answer> {
    let mut snapshot = Box::<Snapshot>::default();
    let (mut attempts, mut reads) = (0, 0);
    let mut turn = None;
    loop {
        let (ran, out, after) = attempt(shared, session, request, resp3, snapshot);
        snapshot = after;
        match ran {
            Ran::Failed => return Ok(Answer { out, failed: true, wrote: false }),
            Ran::Away => {
                reads += 1;
                if reads > READS_MAX {
                    return Err(StorageError::too_large("the command looks at too many keys"));
                }
                satisfy(shared, session, request, &mut snapshot).await?;
            }
            Ran::Well => match write(shared, &snapshot).await? {
                Written::Done(objects) => {
                    let wrote = objects > 0 || snapshot.flushed.is_some();
                    return Ok(Answer { out, failed: false, wrote });
                }
                Written::Overtaken => {
                    session.unpark();
                    attempts += 1;
                    if attempts == ATTEMPTS {
                        return Err(StorageError::conflict(
                            "others wrote the same keys each time that the command was tried; try \
                             again",
                        ));
                    }
                    if turn.is_none() {
                        turn = take_turn(shared, &snapshot).await;
                    }
                    *snapshot = Snapshot::default();
                }
            },
        }
    }
}

/// Waits for who writes the same keys through this door.
async fn take_turn<'s>(
    shared: &'s Shared,
    snapshot: &Snapshot,
) -> Option<tokio::sync::MutexGuard<'s, ()>> {
    let mut hasher = DefaultHasher::new();
    keys(snapshot).first().hash(&mut hasher);
    let turn = shared.away.turns.get(hasher.finish() as usize % TURNS)?;
    Some(turn.lock().await)
}

/// Runs the command on what is known.
fn attempt(
    shared: &Shared,
    session: &mut Session,
    request: &Request,
    resp3: bool,
    mut snapshot: Box<Snapshot>,
) -> (Ran, Output, Box<Snapshot>) {
    snapshot.begin();
    let mut data = Data::away(&shared.engine, snapshot);
    let mut out = Output::speaking(resp3);
    let (args, command) = (request.queued.args(), request.queued.command);
    let ran = run(shared, session, &mut data, &mut out, args, command);
    (ran, out, data.into_snapshot().unwrap_or_default())
}
