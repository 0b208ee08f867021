//! `MULTI`, `EXEC`, `WATCH`.
//!
//! A watched key is compared by its version when `EXEC` runs: a key that was made and removed again
//! since, and so is absent as it was, does not fail `EXEC` as it would in Redis.

use std::sync::atomic::Ordering;

use super::super::data::KeyIn;
use super::super::executor::{Ran, run};
use super::super::session::{Parked, Queue, Queued, Watched};
use super::super::table::flag;
use super::keys::database;
use super::{Call, Failure, Outcome};

pub(in super::super) fn multi(call: &mut Call<'_, '_>) -> Outcome {
    if call.session.queue.is_some() {
        return Err(Failure::fixed("ERR MULTI calls can not be nested"));
    }
    call.session.queue = Some(Queue::default());
    call.session.info.queued.store(0, Ordering::Relaxed);
    call.out.ok();
    Ok(())
}

pub(in super::super) fn discard(call: &mut Call<'_, '_>) -> Outcome {
    if call.session.queue.is_none() {
        return Err(Failure::fixed("ERR DISCARD without MULTI"));
    }
    call.session.discard();
    call.out.ok();
    Ok(())
}

pub(in super::super) fn watch(call: &mut Call<'_, '_>) -> Outcome {
    if call.session.queue.is_some() {
        return Err(Failure::fixed("ERR WATCH inside MULTI is not allowed"));
    }
    let (space, database) = (call.space(), call.session.database);
    for key in call.args.from(1) {
        let known = |had: &Watched| had.database == database && *had.key == *key;
        if !call.session.watched.iter().any(known) {
            let version = call.data.head(space, key)?.map(|head| head.version);
            call.session.watched.push(Watched { database, key: key.into(), version });
        }
    }
    call.out.ok();
    Ok(())
}

pub(in super::super) fn unwatch(call: &mut Call<'_, '_>) -> Outcome {
    call.session.watched.clear();
    call.out.ok();
    Ok(())
}

/// Takes all keys of the queue and of the watch list.
fn begin(call: &mut Call<'_, '_>, commands: &[Queued], watched: &[Watched]) -> Result<(), Failure> {
    let mut keys: Vec<KeyIn<'_>> =
        watched.iter().map(|watch| (call.data.space(watch.database), &*watch.key)).collect();
    let mut current = call.session.database;
    for queued in commands {
        let args = queued.args();
        if queued.command.has(flag::WHOLE) {
            call.data.begin_exclusive();
            return Ok(());
        }
        if queued.command.name == "select" {
            current = database(args.get(1)).unwrap_or(current);
        }
        let space = call.data.space(current);
        keys.extend(queued.command.key_positions(args.len()).map(|index| (space, args.get(index))));
    }
    // A key that is too long holds nothing: its command answers for itself.
    keys.retain(|(_, key)| key.len() <= sira_store::limits::KEY_BYTES_MAX);
    if keys.is_empty() { Ok(()) } else { call.data.begin(&keys) }
}

pub(in super::super) fn exec(call: &mut Call<'_, '_>) -> Outcome {
    let Some(queue) = call.session.queue.take() else {
        return Err(Failure::fixed("ERR EXEC without MULTI"));
    };
    let watched = std::mem::take(&mut call.session.watched);
    let database = call.session.database;
    call.session.discard();
    if queue.broken {
        return Err(Failure::fixed("EXECABORT Transaction discarded because of previous errors."));
    }
    let done = begin(call, &queue.commands, &watched)
        .and_then(|()| run_queue(call, &queue.commands, &watched));
    call.data.abandon();
    let again = matches!(done, Err(Failure::Away));
    if again || call.data.is_away() {
        call.session.parked = Some(Parked { queue, watched, database });
    }
    if again {
        // It begins again where its databases are, or with more of them read.
        call.session.unpark();
    }
    done
}

fn run_queue(call: &mut Call<'_, '_>, commands: &[Queued], watched: &[Watched]) -> Outcome {
    for watch in watched {
        let space = call.data.space(watch.database);
        if call.data.head(space, &watch.key)?.map(|head| head.version) != watch.version {
            call.out.null_array();
            return Ok(());
        }
    }
    call.out.array(commands.len());
    let place = call.out.place();
    for queued in commands {
        let (args, command) = (queued.args(), queued.command);
        if run(call.shared, call.session, call.data, call.out, args, command) == Ran::Away {
            return Err(Failure::Away);
        }
    }
    let committed = call.data.commit();
    if committed.is_err() {
        call.out.truncate(place);
    }
    committed
}
