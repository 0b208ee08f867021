//! The connection: authentication, protocol, database.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::super::number::parse_i64;
use super::super::session::{Block, BlockReply, Replies};
use super::super::{REDIS_VERSION, client_name};
use super::keys::database;
use super::{Call, Failure, Outcome};

const WRONG_PASS: Failure =
    Failure::fixed("WRONGPASS invalid username-password pair or user is disabled.");

pub(in super::super) fn select(call: &mut Call<'_, '_>) -> Outcome {
    let number = database(call.arg(1))?;
    call.session.select(number);
    call.out.ok();
    Ok(())
}

pub(in super::super) fn ping(call: &mut Call<'_, '_>) -> Outcome {
    match call.args.len() {
        1 => call.out.simple("PONG"),
        2 => call.out.bulk(call.args.get(1)),
        _ => return Err(call.arity_error()),
    }
    Ok(())
}

pub(in super::super) fn echo(call: &mut Call<'_, '_>) -> Outcome {
    call.out.bulk(call.args.get(1));
    Ok(())
}

pub(in super::super) fn quit(call: &mut Call<'_, '_>) -> Outcome {
    call.session.closing = true;
    call.out.ok();
    Ok(())
}

pub(in super::super) fn reset(call: &mut Call<'_, '_>) -> Outcome {
    call.session.discard();
    call.session.select(0);
    call.session.replies = Replies::On;
    call.session.authenticated = call.shared.authenticated_at_once();
    call.session.info.name.lock().clear();
    call.session.info.no_evict.store(false, Ordering::Relaxed);
    call.session.info.protocol.store(2, Ordering::Relaxed);
    call.out.resp3 = false;
    call.out.simple("RESET");
    Ok(())
}

pub(in super::super) fn auth(call: &mut Call<'_, '_>) -> Outcome {
    let (user, token) = match call.args.len() {
        2 if call.shared.config.token.is_none() => {
            return Err(Failure::fixed(
                "ERR AUTH <password> called without any password configured for the default \
                 user. Are you sure your configuration is correct?",
            ));
        }
        2 => (&b"default"[..], call.arg(1)),
        3 => (call.arg(1), call.arg(2)),
        _ => return Err(Failure::SYNTAX),
    };
    if !call.shared.check_token(user, token) {
        return Err(WRONG_PASS);
    }
    call.session.authenticated = true;
    call.out.ok();
    Ok(())
}

pub(in super::super) fn hello(call: &mut Call<'_, '_>) -> Outcome {
    let mut protocol = None;
    if call.args.len() > 1 {
        protocol = match parse_i64(call.arg(1)) {
            None => {
                return Err(Failure::fixed(
                    "ERR Protocol version is not an integer or out of range",
                ));
            }
            Some(2) => Some(false),
            Some(3) => Some(true),
            Some(_) => return Err(Failure::fixed("NOPROTO unsupported protocol version")),
        };
    }
    let mut index = 2;
    while index < call.args.len() {
        let rest = call.args.len() - index - 1;
        if call.is(index, "AUTH") && rest >= 2 {
            if !call.shared.check_token(call.arg(index + 1), call.arg(index + 2)) {
                return Err(WRONG_PASS);
            }
            call.session.authenticated = true;
            index += 3;
        } else if call.is(index, "SETNAME") && rest >= 1 {
            client_name(call.session, call.arg(index + 1))?;
            index += 2;
        } else {
            let text = [b"ERR Syntax error in HELLO option '", call.arg(index), b"'"].concat();
            return Err(Failure::text(text));
        }
    }
    if !call.session.authenticated {
        return Err(Failure::fixed(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the \
             HELLO AUTH <user> <pass> option can be used to authenticate the client and select \
             the RESP protocol version at the same time",
        ));
    }
    if let Some(resp3) = protocol {
        call.out.resp3 = resp3;
        call.session.info.protocol.store(if resp3 { 3 } else { 2 }, Ordering::Relaxed);
    }
    let id = call.session.info.id;
    let out = &mut *call.out;
    out.map(7);
    out.text("server");
    out.text("redis");
    out.text("version");
    out.text(REDIS_VERSION);
    out.text("proto");
    out.int(if out.resp3 { 3 } else { 2 });
    out.text("id");
    out.int(id as i64);
    out.text("mode");
    out.text("standalone");
    out.text("role");
    out.text("master");
    out.text("modules");
    out.array(0);
    Ok(())
}

pub(in super::super) fn cluster_only(_call: &mut Call<'_, '_>) -> Outcome {
    Err(Failure::fixed("ERR This instance has cluster support disabled"))
}

/// There are no replicas: waits for the time that is given unless none are asked for.
pub(in super::super) fn wait(call: &mut Call<'_, '_>) -> Outcome {
    let replicas = call.int(1)?;
    let timeout = parse_i64(call.arg(2))
        .ok_or(Failure::fixed("ERR timeout is not an integer or out of range"))?;
    let timeout = u64::try_from(timeout).map_err(|_| Failure::fixed("ERR timeout is negative"))?;
    if replicas <= 0 || call.data.in_unit() {
        call.out.int(0);
        return Ok(());
    }
    let until = (timeout > 0)
        .then(|| call.shared.env.monotonic().saturating_add(Duration::from_millis(timeout)));
    call.session.block = Some(Block { until, reply: BlockReply::Zero });
    Ok(())
}
