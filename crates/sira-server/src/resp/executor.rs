//! From a request to its reply: finding the command, checking it, queueing or running it.

use std::sync::atomic::Ordering;

use crate::limits::RESP_QUERY_BUFFER_BYTES_MAX;

use super::command::{Call, Failure, unknown_subcommand};
use super::data::Data;
use super::output::Output;
use super::parser::Args;
use super::session::{Queued, Replies, Session};
use super::shared::Shared;
use super::stats::LoopStats;
use super::table::{self, Command, Number, flag};

/// Whether a request was dealt with.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Flow {
    Done,
    /// A pause holds it up: give it again when that is over.
    Postponed,
    /// It works on databases that are away: run it there.
    Away(Number, &'static Command),
    /// It cannot go along with those that are to be run elsewhere: give it again afterwards.
    Apart,
}

/// What running a command came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ran {
    Well,
    /// It answered an error.
    Failed,
    /// It needs what lies away, or more of it than was read, and answered nothing.
    Away,
}

/// Deals with one request; its reply, if there is one, is in `out` afterwards.
pub(crate) fn execute(
    shared: &Shared,
    stats: &LoopStats,
    session: &mut Session,
    data: &mut Data<'_>,
    out: &mut Output,
    args: Args<'_>,
) -> Flow {
    let place = out.place();
    let before = session.replies;
    match find(args) {
        Ok((number, command)) => {
            if let Some(pause) = shared.pause()
                && (!pause.writes_only
                    || command.has(flag::WRITE)
                    || command.name == "exec" && queue_writes(session))
            {
                return Flow::Postponed;
            }
            session.info.last_command.store(number, Ordering::Relaxed);
            match admit(session, args, command) {
                Err(failure) => {
                    stats.rejected(Some(number));
                    reject(session, out, command.name == "exec", failure);
                }
                Ok(true) => {
                    enqueue(shared, session, out, command, args);
                }
                Ok(false) => {
                    let timed = stats.called(number).then(|| shared.env.monotonic());
                    match run(shared, session, data, out, args, command) {
                        Ran::Well => {}
                        Ran::Failed => stats.failed(number),
                        Ran::Away => {
                            if before == Replies::SkipNext {
                                session.replies = Replies::On;
                            }
                            return Flow::Away(number, command);
                        }
                    }
                    if let Some(start) = timed {
                        stats.timed(number, shared.env.monotonic().saturating_sub(start));
                    }
                }
            }
        }
        Err(failure) => {
            stats.rejected(None);
            reject(session, out, false, failure);
        }
    }
    if before != Replies::On && session.replies != Replies::On {
        out.truncate(place);
        if before == Replies::SkipNext && session.replies == before {
            session.replies = Replies::On;
        }
    }
    Flow::Done
}

/// Whether a request may go along with the one before it, which is to be run where its database is:
/// it names one key of the same database and touches nothing else.
pub(crate) fn follow(
    shared: &Shared,
    stats: &LoopStats,
    session: &Session,
    args: Args<'_>,
) -> Flow {
    let Ok((number, command)) = find(args) else { return Flow::Apart };
    let (first, last, _) = command.keys;
    let goes = first > 0
        && first == last
        && command.stands_alone()
        && shared.databases.is_away(session.database.into())
        && shared.pause().is_none()
        && matches!(admit(session, args, command), Ok(false));
    if !goes {
        return Flow::Apart;
    }
    session.info.last_command.store(number, Ordering::Relaxed);
    stats.called(number);
    Flow::Away(number, command)
}

/// Runs a command.
#[inline]
pub(crate) fn run(
    shared: &Shared,
    session: &mut Session,
    data: &mut Data<'_>,
    out: &mut Output,
    args: Args<'_>,
    command: &'static Command,
) -> Ran {
    let place = out.place();
    let mut call = Call { shared, session, data, out, args, command };
    let mut outcome = (command.run)(&mut call);
    if matches!(&outcome, Err(Failure::Storage(sira_store::StorageError::NotFound(_))))
        && !call.data.in_unit()
        && shared.reload_spaces().is_ok()
    {
        // The database was dropped through another door; it is there again now, and empty.
        call.data.set_spaces(shared.spaces());
        call.out.truncate(place);
        outcome = (command.run)(&mut call);
    }
    match outcome {
        Ok(()) => Ran::Well,
        Err(Failure::Away) => {
            out.truncate(place);
            Ran::Away
        }
        Err(failure) => {
            out.truncate(place);
            out.error(&failure.into_text());
            Ran::Failed
        }
    }
}

fn queue_writes(session: &Session) -> bool {
    session
        .queue
        .as_ref()
        .is_some_and(|queue| queue.commands.iter().any(|queued| queued.command.has(flag::WRITE)))
}

/// The command that a request names.
#[inline]
fn find(args: Args<'_>) -> Result<(Number, &'static Command), Failure> {
    let name = args.get(0);
    let Some((number, command)) = table::find(name).filter(|_| !name.contains(&b'|')) else {
        return Err(unknown(args));
    };
    if command.has(flag::CONTAINER) && args.len() > 1 {
        return match table::find_subcommand(command, args.get(1)) {
            Some(found) => Ok(found),
            None if table::foreign(args.get(0)).is_some() => Err(unknown(args)),
            None => Err(unknown_subcommand(command, args.get(1))),
        };
    }
    Ok((number, command))
}

/// Bytes of a text that error replies repeat.
const ECHO_BYTES_MAX: usize = 128;

#[cold]
fn unknown(args: Args<'_>) -> Failure {
    let name = args.get(0);
    if let Some(kind) = table::foreign(name) {
        return Failure::text(format!(
            "ERR '{}' is a {kind} command: Sira's RESP door keeps strings",
            String::from_utf8_lossy(name).to_ascii_lowercase()
        ));
    }
    // As C strings: up to the first zero byte.
    let shown = |text: &'_ [u8], most: usize| -> Vec<u8> {
        text.iter().copied().take(most).take_while(|byte| *byte != 0).collect()
    };
    let mut text = b"ERR unknown command '".to_vec();
    text.extend_from_slice(&shown(name, ECHO_BYTES_MAX));
    text.extend_from_slice(b"', with args beginning with: ");
    let start = text.len();
    for arg in args.from(1) {
        let used = text.len() - start;
        if used >= ECHO_BYTES_MAX {
            break;
        }
        text.push(b'\'');
        text.extend_from_slice(&shown(arg, ECHO_BYTES_MAX - used));
        text.extend_from_slice(b"' ");
    }
    Failure::text(text)
}

/// Whether a command may go on; `true` when it is to be queued.
#[inline]
fn admit(session: &Session, args: Args<'_>, command: &Command) -> Result<bool, Failure> {
    if !command.takes(args.len()) {
        return Err(Failure::arity(command.name));
    }
    if !session.authenticated && !command.has(flag::NO_AUTH) {
        return Err(Failure::fixed("NOAUTH Authentication required."));
    }
    if session.queue.is_none() {
        return Ok(false);
    }
    if command.has(flag::NO_MULTI) {
        return Err(Failure::fixed("ERR Command not allowed inside a transaction"));
    }
    Ok(!matches!(command.name, "exec" | "discard" | "multi" | "watch" | "quit" | "reset"))
}

/// Answers why a command did not get to run.
fn reject(session: &mut Session, out: &mut Output, exec: bool, failure: Failure) {
    let text = failure.into_text();
    if exec && session.queue.is_some() {
        session.discard();
        let reason = [b"EXECABORT Transaction discarded because of: ", &*text].concat();
        // Redis leaves the general code out of the reason.
        let plain = text
            .strip_prefix(b"ERR ")
            .map(|rest| [b"EXECABORT Transaction discarded because of: ", rest].concat());
        out.error(&plain.unwrap_or(reason));
        return;
    }
    session.break_queue();
    out.error(&text);
}

fn enqueue(
    shared: &Shared,
    session: &mut Session,
    out: &mut Output,
    command: &'static Command,
    args: Args<'_>,
) {
    let Some(queue) = &mut session.queue else { return };
    if queue.broken {
        // It will not run: only the reply matters.
        out.simple("QUEUED");
        return;
    }
    let queued = Queued::new(command, args);
    let size = queued.size();
    if queue.bytes + size > RESP_QUERY_BUFFER_BYTES_MAX
        || shared.query_bytes.load(Ordering::Relaxed) + size > shared.config.query_bytes_max
    {
        queue.broken = true;
        queue.commands = Vec::new();
        out.error(b"OOM the transaction is too large: send it in parts");
        return;
    }
    queue.bytes += size;
    queue.commands.push(queued);
    session.info.queued.store(queue.commands.len() as i64, Ordering::Relaxed);
    out.simple("QUEUED");
}
