//! `CLIENT`: who is connected.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::super::client_name;
use super::super::mailbox::Message;
use super::super::number::parse_i64;
use super::super::session::{ClientInfo, Replies};
use super::super::shared::Pause;
use super::super::table;
use super::{Call, Failure, Outcome};

/// One line of `CLIENT LIST`, in Redis' fields.
fn describe(info: &ClientInfo, now: Duration, line: &mut String) {
    let mut flags = String::new();
    for (on, letter) in [
        (info.queued.load(Ordering::Relaxed) >= 0, 'x'),
        (info.blocked.load(Ordering::Relaxed), 'b'),
        (info.no_evict.load(Ordering::Relaxed), 'e'),
    ] {
        if on {
            flags.push(letter);
        }
    }
    if flags.is_empty() {
        flags.push('N');
    }
    let active = Duration::from_millis(info.active_ms.load(Ordering::Relaxed));
    let query = info.query_bytes.load(Ordering::Relaxed);
    let output = info.output_bytes.load(Ordering::Relaxed);
    let command = table::by_number(info.last_command.load(Ordering::Relaxed));
    let name = info.name.lock();
    let library = info.library.lock();
    let _ = writeln!(
        line,
        "id={} addr={} laddr={} fd={} name={} age={} idle={} flags={flags} db={} sub=0 psub=0 \
         ssub=0 multi={} qbuf={query} qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl={output} \
         oll=0 omem=0 tot-mem={} events=r cmd={} user=default redir=-1 resp={} lib-name={} \
         lib-ver={}",
        info.id,
        info.addr,
        info.laddr,
        info.fd,
        String::from_utf8_lossy(&name),
        now.saturating_sub(info.since).as_secs(),
        now.saturating_sub(active).as_secs(),
        info.database.load(Ordering::Relaxed),
        info.queued.load(Ordering::Relaxed),
        query + output,
        command.map_or("NULL", |command| command.name),
        info.protocol.load(Ordering::Relaxed),
        String::from_utf8_lossy(&library.0),
        String::from_utf8_lossy(&library.1),
    );
}

pub(in super::super) fn client_info(call: &mut Call<'_, '_>) -> Outcome {
    let mut line = String::new();
    describe(&call.session.info, call.shared.env.monotonic(), &mut line);
    call.out.verbatim(&line);
    Ok(())
}

/// Whether clients are of this type; all of them are normal ones.
fn is_normal(kind: &[u8]) -> Result<bool, Failure> {
    match kind.to_ascii_lowercase().as_slice() {
        b"normal" => Ok(true),
        b"master" | b"replica" | b"slave" | b"pubsub" => Ok(false),
        _ => Err(Failure::text([b"ERR Unknown client type '", kind, b"'"].concat())),
    }
}

pub(in super::super) fn client_list(call: &mut Call<'_, '_>) -> Outcome {
    let now = call.shared.env.monotonic();
    let mut lines = String::new();
    let clients = || call.shared.clients.lock();
    if call.args.len() == 4 && call.is(2, "TYPE") {
        if is_normal(call.arg(3))? {
            clients().values().for_each(|info| describe(info, now, &mut lines));
        }
    } else if call.args.len() > 3 && call.is(2, "ID") {
        for text in call.args.from(3) {
            let id = parse_i64(text).ok_or(Failure::fixed("ERR Invalid client ID"))?;
            if let Some(info) = u64::try_from(id).ok().and_then(|id| clients().get(&id).cloned()) {
                describe(&info, now, &mut lines);
            }
        }
    } else if call.args.len() == 2 {
        clients().values().for_each(|info| describe(info, now, &mut lines));
    } else {
        return Err(Failure::SYNTAX);
    }
    call.out.verbatim(&lines);
    Ok(())
}

pub(in super::super) fn client_id(call: &mut Call<'_, '_>) -> Outcome {
    call.out.int(call.session.info.id as i64);
    Ok(())
}

pub(in super::super) fn client_setname(call: &mut Call<'_, '_>) -> Outcome {
    client_name(call.session, call.arg(2))?;
    call.out.ok();
    Ok(())
}

pub(in super::super) fn client_getname(call: &mut Call<'_, '_>) -> Outcome {
    let name = call.session.info.name.lock().clone();
    if name.is_empty() {
        call.out.null();
    } else {
        call.out.bulk(&name);
    }
    Ok(())
}

pub(in super::super) fn client_setinfo(call: &mut Call<'_, '_>) -> Outcome {
    let value = call.arg(3);
    if !value.iter().all(u8::is_ascii_graphic) {
        return Err(Failure::text(format!(
            "ERR {} cannot contain spaces, newlines or special characters.",
            String::from_utf8_lossy(call.arg(2))
        )));
    }
    let mut library = call.session.info.library.lock();
    if call.is(2, "LIB-NAME") {
        library.0 = value.to_vec();
    } else if call.is(2, "LIB-VER") {
        library.1 = value.to_vec();
    } else {
        let text = [b"ERR Unrecognized option '", call.arg(2), b"'"].concat();
        return Err(Failure::text(text));
    }
    drop(library);
    call.out.ok();
    Ok(())
}

pub(in super::super) fn client_reply(call: &mut Call<'_, '_>) -> Outcome {
    if call.is(2, "ON") {
        call.session.replies = Replies::On;
        call.out.ok();
    } else if call.is(2, "OFF") {
        call.session.replies = Replies::Off;
    } else if call.is(2, "SKIP") {
        if call.session.replies == Replies::On {
            call.session.replies = Replies::SkipNext;
        }
    } else {
        return Err(Failure::SYNTAX);
    }
    Ok(())
}

/// Accepted and shown; no client is ever evicted.
pub(in super::super) fn client_no_evict(call: &mut Call<'_, '_>) -> Outcome {
    let on = call.is(2, "ON");
    if !on && !call.is(2, "OFF") {
        return Err(Failure::SYNTAX);
    }
    call.session.info.no_evict.store(on, Ordering::Relaxed);
    call.out.ok();
    Ok(())
}

#[derive(Default)]
struct Filter<'a> {
    id: Option<u64>,
    addr: Option<&'a [u8]>,
    laddr: Option<&'a [u8]>,
    nobody: bool,
    skip_me: bool,
}

impl Filter<'_> {
    fn picks(&self, info: &ClientInfo, me: u64) -> bool {
        let is = |wanted: Option<&[u8]>, addr: std::net::SocketAddr| {
            wanted.is_none_or(|wanted| wanted == addr.to_string().as_bytes())
        };
        !self.nobody
            && self.id.is_none_or(|id| id == info.id)
            && is(self.addr, info.addr)
            && is(self.laddr, info.laddr)
            && !(self.skip_me && info.id == me)
    }
}

fn filter<'a>(call: &Call<'a, '_>) -> Result<Filter<'a>, Failure> {
    if call.args.len() == 3 {
        return Ok(Filter { addr: Some(call.arg(2)), ..Filter::default() });
    }
    let mut filter = Filter { skip_me: true, ..Filter::default() };
    let mut index = 2;
    while index < call.args.len() {
        let value = call.args.try_get(index + 1).ok_or(Failure::SYNTAX)?;
        if call.is(index, "ID") {
            let id = parse_i64(value).and_then(|id| u64::try_from(id).ok()).filter(|id| *id > 0);
            filter.id = Some(id.ok_or(Failure::fixed("ERR client-id should be greater than 0"))?);
        } else if call.is(index, "TYPE") {
            filter.nobody |= !is_normal(value)?;
        } else if call.is(index, "ADDR") {
            filter.addr = Some(value);
        } else if call.is(index, "LADDR") {
            filter.laddr = Some(value);
        } else if call.is(index, "USER") {
            if value != b"default" {
                return Err(Failure::text([b"ERR No such user '", value, b"'"].concat()));
            }
        } else if call.is(index, "SKIPME") {
            filter.skip_me = match value.to_ascii_lowercase().as_slice() {
                b"yes" => true,
                b"no" => false,
                _ => return Err(Failure::SYNTAX),
            };
        } else {
            return Err(Failure::SYNTAX);
        }
        index += 2;
    }
    Ok(filter)
}

pub(in super::super) fn client_kill(call: &mut Call<'_, '_>) -> Outcome {
    let filter = filter(call)?;
    let me = call.session.info.id;
    let picked: Vec<Arc<ClientInfo>> = call
        .shared
        .clients
        .lock()
        .values()
        .filter(|info| filter.picks(info, me) && !info.killed.load(Ordering::Relaxed))
        .cloned()
        .collect();
    for info in &picked {
        if info.id == me {
            call.session.closing = true;
        } else {
            info.killed.store(true, Ordering::Relaxed);
            // A client may be on its way to another loop: all are told, one finds it.
            for mailbox in &call.shared.mailboxes {
                mailbox.send(Message::Kill(info.id));
            }
        }
    }
    if call.args.len() > 3 {
        call.out.len(picked.len());
    } else if picked.is_empty() {
        return Err(Failure::fixed("ERR No such client"));
    } else {
        call.out.ok();
    }
    Ok(())
}

pub(in super::super) fn client_unblock(call: &mut Call<'_, '_>) -> Outcome {
    let error = match call.args.try_get(3).map(<[u8]>::to_ascii_lowercase).as_deref() {
        None | Some(b"timeout") => false,
        Some(b"error") => true,
        _ => {
            return Err(Failure::fixed("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR"));
        }
    };
    if call.args.len() > 4 {
        return Err(Failure::SYNTAX);
    }
    let id = u64::try_from(call.int(2)?).unwrap_or(0);
    let info = call.shared.clients.lock().get(&id).cloned();
    let blocked = info.is_some_and(|info| info.blocked.swap(false, Ordering::AcqRel));
    if blocked {
        for mailbox in &call.shared.mailboxes {
            mailbox.send(Message::Unblock(id, error));
        }
    }
    call.out.int(i64::from(blocked));
    Ok(())
}

pub(in super::super) fn client_pause(call: &mut Call<'_, '_>) -> Outcome {
    let writes_only = match call.args.try_get(3).map(<[u8]>::to_ascii_lowercase).as_deref() {
        None | Some(b"all") => false,
        Some(b"write") => true,
        _ => return Err(Failure::fixed("ERR CLIENT PAUSE mode must be WRITE or ALL")),
    };
    let timeout = parse_i64(call.arg(2))
        .ok_or(Failure::fixed("ERR timeout is not an integer or out of range"))?;
    let timeout = u64::try_from(timeout).map_err(|_| Failure::fixed("ERR timeout is negative"))?;
    let until = call.shared.env.monotonic().saturating_add(Duration::from_millis(timeout));
    call.shared.set_pause(Some(Pause { until, writes_only }));
    call.out.ok();
    Ok(())
}

pub(in super::super) fn client_unpause(call: &mut Call<'_, '_>) -> Outcome {
    call.shared.set_pause(None);
    call.out.ok();
    Ok(())
}

pub(in super::super) fn client_tracking(call: &mut Call<'_, '_>) -> Outcome {
    if call.is(2, "OFF") {
        call.out.ok();
        Ok(())
    } else if call.is(2, "ON") {
        Err(Failure::fixed(
            "ERR client-side caching is not supported: read the key's version over HTTP instead",
        ))
    } else {
        Err(Failure::SYNTAX)
    }
}

pub(in super::super) fn client_trackinginfo(call: &mut Call<'_, '_>) -> Outcome {
    call.out.map(3);
    call.out.text("flags");
    call.out.set(1);
    call.out.text("off");
    call.out.text("redirect");
    call.out.int(-1);
    call.out.text("prefixes");
    call.out.array(0);
    Ok(())
}

pub(in super::super) fn client_getredir(call: &mut Call<'_, '_>) -> Outcome {
    call.out.int(-1);
    Ok(())
}

pub(in super::super) fn client_caching(_call: &mut Call<'_, '_>) -> Outcome {
    Err(Failure::fixed(
        "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or \
         OPTOUT mode enabled",
    ))
}

pub(in super::super) fn client_help(call: &mut Call<'_, '_>) -> Outcome {
    call.help(
        "CLIENT",
        &[
            "GETNAME, SETNAME <name>, SETINFO <LIB-NAME|LIB-VER> <value>",
            "    Names of this connection.",
            "ID, INFO, LIST [TYPE <type>|ID <id> [<id> ...]]",
            "    This connection and the others.",
            "KILL <ip:port>, KILL <option> <value> [<option> <value> ...]",
            "    Disconnects clients by ID, TYPE, ADDR, LADDR, USER; SKIPME (yes|no).",
            "PAUSE <milliseconds> [WRITE|ALL], UNPAUSE",
            "    Holds up clients.",
            "REPLY (ON|OFF|SKIP)",
            "    Whether this connection gets replies.",
            "UNBLOCK <id> [TIMEOUT|ERROR]",
            "    Ends a client's waiting.",
        ],
    )
}
