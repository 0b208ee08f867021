//! The server: durability, time, diagnostics.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::super::output::Output;
use super::super::session::{Block, BlockReply};
use super::{Call, Failure, Outcome};

pub(in super::super) fn time(call: &mut Call<'_, '_>) -> Outcome {
    // The door to the clock gives milliseconds.
    let now = call.shared.env.now_ms();
    call.out.array(2);
    call.out.text(itoa::Buffer::new().format(now / 1000));
    call.out.text(itoa::Buffer::new().format(now % 1000 * 1000));
    Ok(())
}

pub(in super::super) fn lastsave(call: &mut Call<'_, '_>) -> Outcome {
    call.out.int(call.shared.saved_s.load(Ordering::Relaxed) as i64);
    Ok(())
}

/// Makes everything so far durable; the log needs no other saving.
fn flush(call: &mut Call<'_, '_>) -> Outcome {
    if !call.data.in_unit() {
        call.data.engine().flush()?;
    }
    let writes = call.shared.snapshot().writes;
    call.shared.saved_writes.store(writes, Ordering::Relaxed);
    call.shared.saved_s.store(call.shared.env.now_ms() / 1000, Ordering::Relaxed);
    Ok(())
}

pub(in super::super) fn save(call: &mut Call<'_, '_>) -> Outcome {
    flush(call)?;
    call.out.ok();
    Ok(())
}

pub(in super::super) fn bgsave(call: &mut Call<'_, '_>) -> Outcome {
    if call.args.len() > 2 || call.args.len() == 2 && !call.is(1, "SCHEDULE") {
        return Err(Failure::SYNTAX);
    }
    flush(call)?;
    call.out.simple("Background saving started");
    Ok(())
}

pub(in super::super) fn bgrewriteaof(call: &mut Call<'_, '_>) -> Outcome {
    flush(call)?;
    call.out.simple("Background append only file rewriting started");
    Ok(())
}

pub(in super::super) fn role(call: &mut Call<'_, '_>) -> Outcome {
    call.out.array(3);
    call.out.text("master");
    call.out.int(0);
    call.out.array(0);
    Ok(())
}

pub(in super::super) fn shutdown(call: &mut Call<'_, '_>) -> Outcome {
    let words = ["NOSAVE", "SAVE", "NOW", "FORCE", "ABORT"];
    let known = |word: &[u8]| words.iter().any(|w| w.as_bytes().eq_ignore_ascii_case(word));
    if !call.args.from(1).all(known) {
        return Err(Failure::SYNTAX);
    }
    if call.args.from(1).any(|word| word.eq_ignore_ascii_case(b"ABORT")) {
        return Err(Failure::fixed("ERR No shutdown in progress."));
    }
    match &call.shared.config.on_shutdown {
        Some(stop) => {
            stop.0();
            call.session.closing = true;
            Ok(())
        }
        None => Err(Failure::fixed(
            "ERR Errors trying to SHUTDOWN: this server is stopped by the program that runs it",
        )),
    }
}

pub(in super::super) fn debug(call: &mut Call<'_, '_>) -> Outcome {
    match call.arg(1).to_ascii_lowercase().as_slice() {
        b"sleep" if call.args.len() == 3 => sleep(call),
        b"set-active-expire" | b"set-disable-deny-scripts" if call.args.len() == 3 => {
            call.out.ok();
            Ok(())
        }
        b"jmap" | b"change-repl-id" | b"log" => {
            call.out.ok();
            Ok(())
        }
        b"reload" | b"loadaof" => {
            flush(call)?;
            call.out.ok();
            Ok(())
        }
        b"object" if call.args.len() == 3 => object(call),
        b"protocol" if call.args.len() == 3 => protocol(call),
        b"help" => call.help(
            "DEBUG",
            &[
                "OBJECT <key>",
                "    How a value is kept.",
                "PROTOCOL <type>",
                "    A reply of that type, for tests of clients.",
                "SLEEP <seconds>",
                "    Holds up this connection.",
            ],
        ),
        name => {
            let mut text = b"ERR unknown subcommand or wrong number of arguments for '".to_vec();
            text.extend_from_slice(name);
            text.extend_from_slice(b"'. Try DEBUG HELP.");
            Err(Failure::text(text))
        }
    }
}

/// Holds up this connection alone.
fn sleep(call: &mut Call<'_, '_>) -> Outcome {
    let seconds = std::str::from_utf8(call.arg(2))
        .ok()
        .and_then(|text| text.parse::<f64>().ok())
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .unwrap_or_default();
    if call.data.in_unit() {
        return Err(Failure::fixed("ERR DEBUG SLEEP is not supported inside MULTI"));
    }
    let until = call.shared.env.monotonic().saturating_add(seconds);
    call.session.block = Some(Block { until: Some(until), reply: BlockReply::Ok });
    Ok(())
}

fn object(call: &mut Call<'_, '_>) -> Outcome {
    let Some(object) = call.data.head(call.space(), call.arg(2))? else {
        return Err(Failure::NO_SUCH_KEY);
    };
    call.out.simple(&format!(
        "Value at:0x{:x} refcount:1 encoding:raw serializedlength:{} lru:0 lru_seconds_idle:0",
        object.version.as_u64(),
        object.size
    ));
    Ok(())
}

fn protocol(call: &mut Call<'_, '_>) -> Outcome {
    let resp3 = call.out.resp3;
    let out = &mut *call.out;
    let raw = |out: &mut Output, resp3_text: &str, resp2_text: &str| {
        let text = if resp3 { resp3_text } else { resp2_text };
        out.raw().extend_from_slice(text.as_bytes());
    };
    match call.args.get(2).to_ascii_lowercase().as_slice() {
        b"string" => out.text("Hello World"),
        b"integer" => out.int(12345),
        b"double" => raw(out, ",3.141\r\n", "$5\r\n3.141\r\n"),
        b"null" => out.null(),
        b"array" => {
            out.array(3);
            (0..3).for_each(|number| out.int(number));
        }
        b"set" => {
            out.set(3);
            (0..3).for_each(|number| out.int(number));
        }
        b"map" => {
            out.map(3);
            for number in 0..3 {
                out.int(number);
                out.raw().extend_from_slice(match (resp3, number == 1) {
                    (true, true) => b"#t\r\n",
                    (true, false) => b"#f\r\n",
                    (false, true) => b":1\r\n",
                    (false, false) => b":0\r\n",
                });
            }
        }
        b"attrib" => raw(
            out,
            "|1\r\n$14\r\nkey-popularity\r\n*2\r\n$7\r\nkey:123\r\n:90\r\n$39\r\nSome real reply \
             following the attribute\r\n",
            "$39\r\nSome real reply following the attribute\r\n",
        ),
        b"bignum" => raw(
            out,
            "(1234567999999999999999999999999999999\r\n",
            "$37\r\n1234567999999999999999999999999999999\r\n",
        ),
        b"true" => raw(out, "#t\r\n", ":1\r\n"),
        b"false" => raw(out, "#f\r\n", ":0\r\n"),
        b"verbatim" => out.verbatim("This is a verbatim\nstring"),
        _ => {
            return Err(Failure::fixed(
                "ERR Wrong protocol type name. Please use one of the following: \
                 string|integer|double|null|array|set|map|attrib|push|verbatim|true|false",
            ));
        }
    }
    Ok(())
}

/// Bytes of memory for a key: its key and its place in the index; values lie in the log.
pub(in super::super) fn memory_usage(call: &mut Call<'_, '_>) -> Outcome {
    const INDEX_BYTES: i64 = 40;
    let mut index = 3;
    while index < call.args.len() {
        if !call.is(index, "SAMPLES") || index + 1 >= call.args.len() {
            return Err(Failure::SYNTAX);
        }
        if call.int(index + 1)? < 0 {
            return Err(Failure::SYNTAX);
        }
        index += 2;
    }
    match call.data.head(call.space(), call.arg(2))? {
        Some(_) => call.out.int(call.arg(2).len() as i64 + INDEX_BYTES),
        None => call.out.null(),
    }
    Ok(())
}

pub(in super::super) fn memory_doctor(call: &mut Call<'_, '_>) -> Outcome {
    call.out.verbatim("No memory problems are known. Values lie in the log, not in memory.");
    Ok(())
}

pub(in super::super) fn memory_purge(call: &mut Call<'_, '_>) -> Outcome {
    call.out.ok();
    Ok(())
}

pub(in super::super) fn memory_stats(call: &mut Call<'_, '_>) -> Outcome {
    let stats = call.data.engine().stats();
    call.out.map(1);
    call.out.text("keys.count");
    call.out.int(stats.keys as i64);
    Ok(())
}

pub(in super::super) fn memory_malloc_stats(call: &mut Call<'_, '_>) -> Outcome {
    call.out.verbatim("Stats not supported for the current allocator");
    Ok(())
}

pub(in super::super) fn memory_help(call: &mut Call<'_, '_>) -> Outcome {
    call.help("MEMORY", &["USAGE <key> [SAMPLES <count>]", "    Bytes of memory that a key takes."])
}

/// No slow commands are recorded: the latency histogram in `INFO` and `/metrics` covers them.
pub(in super::super) fn slowlog_get(call: &mut Call<'_, '_>) -> Outcome {
    if call.args.len() > 3 {
        return Err(call.arity_error());
    }
    if call.args.len() == 3 && !call.int(2).is_ok_and(|count| count >= -1) {
        return Err(Failure::fixed("ERR count should be greater than or equal to -1"));
    }
    call.out.array(0);
    Ok(())
}

pub(in super::super) fn slowlog_len(call: &mut Call<'_, '_>) -> Outcome {
    call.out.int(0);
    Ok(())
}

pub(in super::super) fn slowlog_reset(call: &mut Call<'_, '_>) -> Outcome {
    call.out.ok();
    Ok(())
}

pub(in super::super) fn slowlog_help(call: &mut Call<'_, '_>) -> Outcome {
    call.help("SLOWLOG", &["GET [<count>], LEN, RESET", "    Always empty here."])
}

pub(in super::super) fn latency_latest(call: &mut Call<'_, '_>) -> Outcome {
    call.out.array(0);
    Ok(())
}

pub(in super::super) fn latency_history(call: &mut Call<'_, '_>) -> Outcome {
    call.out.array(0);
    Ok(())
}

pub(in super::super) fn latency_reset(call: &mut Call<'_, '_>) -> Outcome {
    call.out.int(0);
    Ok(())
}

pub(in super::super) fn latency_histogram(call: &mut Call<'_, '_>) -> Outcome {
    call.out.map(0);
    Ok(())
}

pub(in super::super) fn latency_graph(call: &mut Call<'_, '_>) -> Outcome {
    let event = String::from_utf8_lossy(call.arg(2)).into_owned();
    Err(Failure::text(format!("ERR No samples available for event '{event}'")))
}

pub(in super::super) fn latency_doctor(call: &mut Call<'_, '_>) -> Outcome {
    call.out.verbatim("No latency events are recorded here: see the histogram in /metrics.");
    Ok(())
}

pub(in super::super) fn latency_help(call: &mut Call<'_, '_>) -> Outcome {
    call.help(
        "LATENCY",
        &["LATEST, HISTORY <event>, RESET [<event> ...]", "    Always empty here."],
    )
}

/// There are no scripts and functions: forgetting them is done.
pub(in super::super) fn no_scripts(call: &mut Call<'_, '_>) -> Outcome {
    call.out.ok();
    Ok(())
}

pub(in super::super) fn acl_whoami(call: &mut Call<'_, '_>) -> Outcome {
    call.out.text("default");
    Ok(())
}

pub(in super::super) fn acl_users(call: &mut Call<'_, '_>) -> Outcome {
    call.out.array(1);
    call.out.text("default");
    Ok(())
}

pub(in super::super) fn acl_list(call: &mut Call<'_, '_>) -> Outcome {
    let secret = if call.shared.config.token.is_some() { "" } else { "nopass " };
    call.out.array(1);
    call.out.text(&format!("user default on {secret}~* &* +@all"));
    Ok(())
}

pub(in super::super) fn acl_cat(call: &mut Call<'_, '_>) -> Outcome {
    let categories = [
        "keyspace",
        "read",
        "write",
        "string",
        "bitmap",
        "admin",
        "fast",
        "slow",
        "dangerous",
        "connection",
        "transaction",
    ];
    call.out.array(categories.len());
    for category in categories {
        call.out.text(category);
    }
    Ok(())
}

pub(in super::super) fn acl_help(call: &mut Call<'_, '_>) -> Outcome {
    call.help("ACL", &["WHOAMI, USERS, LIST, CAT", "    There is one user, default."])
}
