//! Keys, whatever they hold.

use crate::limits::RESP_DATABASES;

use super::super::data::{KeyIn, Space};
use super::super::number::parse_i64;
use super::{Call, Failure, Outcome};

pub(in super::super) fn del(call: &mut Call<'_, '_>) -> Outcome {
    let space = call.space();
    let args = call.args;
    let delete = |call: &mut Call<'_, '_>, keys: &[KeyIn<'_>]| {
        call.data.update(keys, |unit| {
            let mut removed = 0;
            for (space, key) in keys {
                removed += usize::from(unit.delete(*space, key)?);
            }
            Ok(removed)
        })
    };
    let removed = if args.len() == 2 {
        delete(call, &[(space, args.get(1))])?
    } else {
        let keys: Vec<KeyIn<'_>> = args.from(1).map(|key| (space, key)).collect();
        delete(call, &keys)?
    };
    call.out.len(removed);
    Ok(())
}

pub(in super::super) fn exists(call: &mut Call<'_, '_>) -> Outcome {
    let space = call.space();
    let mut found = 0;
    for key in call.args.from(1) {
        found += usize::from(call.data.head(space, key)?.is_some());
    }
    call.out.len(found);
    Ok(())
}

pub(in super::super) fn kind(call: &mut Call<'_, '_>) -> Outcome {
    let there = call.data.head(call.space(), call.arg(1))?.is_some();
    call.out.simple(if there { "string" } else { "none" });
    Ok(())
}

fn rename_to(call: &mut Call<'_, '_>, only_free: bool) -> Result<bool, Failure> {
    let (space, from, to) = (call.space(), call.arg(1), call.arg(2));
    call.data.update(&[(space, from), (space, to)], |unit| {
        let Some(object) = unit.get(space, from)? else { return Err(Failure::NO_SUCH_KEY) };
        if from == to {
            return Ok(!only_free);
        }
        if only_free && unit.exists(space, to)? {
            return Ok(false);
        }
        unit.replace(space, to, object.value.clone(), Some(&object))?;
        unit.delete(space, from)?;
        Ok(true)
    })
}

pub(in super::super) fn rename(call: &mut Call<'_, '_>) -> Outcome {
    rename_to(call, false)?;
    call.out.ok();
    Ok(())
}

pub(in super::super) fn renamenx(call: &mut Call<'_, '_>) -> Outcome {
    let done = rename_to(call, true)?;
    call.out.int(i64::from(done));
    Ok(())
}

/// The number of a database.
pub(in super::super) fn database(text: &[u8]) -> Result<u8, Failure> {
    let number = parse_i64(text).ok_or(Failure::NOT_INTEGER)?;
    if i32::try_from(number).is_err() {
        return Err(Failure::fixed(
            "ERR value is out of range, value must between -2147483648 and 2147483647",
        ));
    }
    u8::try_from(number)
        .ok()
        .filter(|number| usize::from(*number) < RESP_DATABASES)
        .ok_or(Failure::DATABASE_RANGE)
}

pub(in super::super) fn copy(call: &mut Call<'_, '_>) -> Outcome {
    let (mut target, mut replace) = (call.session.database, false);
    let mut index = 3;
    while index < call.args.len() {
        if call.is(index, "REPLACE") {
            replace = true;
        } else if call.is(index, "DB") && index + 1 < call.args.len() {
            target = database(call.arg(index + 1))?;
            index += 1;
        } else {
            return Err(Failure::SYNTAX);
        }
        index += 1;
    }
    let (from, to) = ((call.space(), call.arg(1)), (call.data.space(target), call.arg(2)));
    if from == to {
        return Err(Failure::SAME_OBJECT);
    }
    let done = call.data.update(&[from, to], |unit| {
        let Some(object) = unit.get(from.0, from.1)? else { return Ok(false) };
        if !replace && unit.exists(to.0, to.1)? {
            return Ok(false);
        }
        unit.replace(to.0, to.1, object.value.clone(), Some(&object))?;
        Ok(true)
    })?;
    call.out.int(i64::from(done));
    Ok(())
}

pub(in super::super) fn move_key(call: &mut Call<'_, '_>) -> Outcome {
    let target = database(call.arg(2))?;
    if target == call.session.database {
        return Err(Failure::SAME_OBJECT);
    }
    let (from, to, key) = (call.space(), call.data.space(target), call.arg(1));
    let done = call.data.update(&[(from, key), (to, key)], |unit| {
        let Some(object) = unit.get(from, key)? else { return Ok(false) };
        if unit.exists(to, key)? {
            return Ok(false);
        }
        unit.replace(to, key, object.value.clone(), Some(&object))?;
        unit.delete(from, key)?;
        Ok(true)
    })?;
    call.out.int(i64::from(done));
    Ok(())
}

/// Keys that `RANDOMKEY` chooses among where choosing among all takes a listing of them.
const RANDOM_KEYS: usize = 1000;

fn some_key(call: &Call<'_, '_>, space: Space) -> Result<Option<bytes::Bytes>, Failure> {
    let mut keys = Vec::new();
    call.data.scan(space, b"", None, |key| {
        keys.push(bytes::Bytes::copy_from_slice(key));
        if keys.len() < RANDOM_KEYS {
            std::ops::ControlFlow::Continue(())
        } else {
            std::ops::ControlFlow::Break(())
        }
    })?;
    let chosen = call.shared.env.random_u64() % (keys.len() as u64).max(1);
    Ok(keys.get(chosen as usize).cloned())
}

pub(in super::super) fn randomkey(call: &mut Call<'_, '_>) -> Outcome {
    let space = call.space();
    let key = if call.data.is_away() {
        some_key(call, space)?
    } else if call.data.in_unit() {
        let mut first = None;
        call.data.scan(space, b"", None, |key| {
            first = Some(bytes::Bytes::copy_from_slice(key));
            std::ops::ControlFlow::Break(())
        })?;
        first
    } else {
        let Space::Here(space) = space else { return Err(Failure::Away) };
        call.data.engine().random_key(space)?
    };
    match key {
        Some(key) => call.out.bulk(&key),
        None => call.out.null(),
    }
    Ok(())
}

pub(in super::super) fn dbsize(call: &mut Call<'_, '_>) -> Outcome {
    let count = call.data.count(call.space())?;
    call.out.int(count as i64);
    Ok(())
}

fn flush(call: &mut Call<'_, '_>, databases: std::ops::Range<usize>) -> Outcome {
    let known =
        call.args.len() == 1 || call.args.len() == 2 && (call.is(1, "SYNC") || call.is(1, "ASYNC"));
    if !known {
        return Err(Failure::SYNTAX);
    }
    if call.data.is_away() {
        call.data.flush_away(databases)?;
    } else if databases.clone().any(|database| call.data.space(database as u8).is_away()) {
        return Err(Failure::Away);
    } else if call.data.in_unit() {
        for database in databases {
            call.data.clear(call.data.space(database as u8))?;
        }
    } else {
        call.shared.flush(databases)?;
        call.data.set_spaces(call.shared.spaces());
    }
    call.out.ok();
    Ok(())
}

pub(in super::super) fn flushdb(call: &mut Call<'_, '_>) -> Outcome {
    let database = usize::from(call.session.database);
    flush(call, database..database + 1)
}

pub(in super::super) fn flushall(call: &mut Call<'_, '_>) -> Outcome {
    flush(call, 0..RESP_DATABASES)
}

pub(in super::super) fn swapdb(call: &mut Call<'_, '_>) -> Outcome {
    let number = |index, message| {
        parse_i64(call.arg(index))
            .filter(|number| i32::try_from(*number).is_ok())
            .ok_or(Failure::fixed(message))
    };
    let left = number(1, "ERR invalid first DB index")?;
    let right = number(2, "ERR invalid second DB index")?;
    let within = |number: i64| {
        usize::try_from(number)
            .ok()
            .filter(|number| *number < RESP_DATABASES)
            .ok_or(Failure::DATABASE_RANGE)
    };
    let (left, right) = (within(left)?, within(right)?);
    if left != right {
        let spaces = [left, right].map(|number| call.data.space(number as u8));
        if spaces.into_iter().any(Space::is_away) {
            return Err(Failure::fixed(
                "ERR a database with a policy of its own cannot change places with another",
            ));
        }
        if call.data.in_unit() {
            let [left, right] = spaces;
            call.data.swap(left, right)?;
        } else {
            call.shared.swap(left, right)?;
            call.data.set_spaces(call.shared.spaces());
        }
    }
    call.out.ok();
    Ok(())
}

const NOT_PORTABLE: Failure = Failure::fixed(
    "ERR DUMP and RESTORE are not supported: copy values with GET and SET, or with 'sira cp'",
);

pub(in super::super) fn dump(_call: &mut Call<'_, '_>) -> Outcome {
    Err(NOT_PORTABLE)
}

pub(in super::super) fn restore(_call: &mut Call<'_, '_>) -> Outcome {
    Err(NOT_PORTABLE)
}

/// Longest value that Redis keeps in one piece with its header.
const EMBEDDED_BYTES_MAX: usize = 44;

/// Answers with `show`, or null where the key is not there.
fn inspect(
    call: &mut Call<'_, '_>,
    show: impl FnOnce(&mut Call<'_, '_>, sira_store::embedded::StoredObject) -> Outcome,
) -> Outcome {
    match call.data.get(call.space(), call.arg(2))? {
        Some(object) => show(call, object),
        None => {
            call.out.null();
            Ok(())
        }
    }
}

pub(in super::super) fn object_encoding(call: &mut Call<'_, '_>) -> Outcome {
    inspect(call, |call, object| {
        call.out.text(match object.value.len() {
            0..=20 if parse_i64(&object.value).is_some() => "int",
            0..=EMBEDDED_BYTES_MAX => "embstr",
            _ => "raw",
        });
        Ok(())
    })
}

pub(in super::super) fn object_refcount(call: &mut Call<'_, '_>) -> Outcome {
    inspect(call, |call, _| {
        call.out.int(1);
        Ok(())
    })
}

/// Reads are not recorded: the time since the last write is the best bound there is.
pub(in super::super) fn object_idletime(call: &mut Call<'_, '_>) -> Outcome {
    inspect(call, |call, object| {
        let written = i64::try_from(object.version.time_ms()).unwrap_or(i64::MAX);
        let idle = (call.now_ms() - written).max(0) / 1000;
        call.out.int(idle);
        Ok(())
    })
}

pub(in super::super) fn object_freq(call: &mut Call<'_, '_>) -> Outcome {
    inspect(call, |_, _| {
        Err(Failure::fixed(
            "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please \
             note that when switching between policies at runtime LRU and LFU data will take some \
             time to adjust.",
        ))
    })
}

pub(in super::super) fn object_help(call: &mut Call<'_, '_>) -> Outcome {
    call.help(
        "OBJECT",
        &[
            "ENCODING <key>",
            "    How Redis would keep the value: int, embstr or raw.",
            "IDLETIME <key>",
            "    Seconds since the value was written.",
            "REFCOUNT <key>",
            "    Always 1.",
        ],
    )
}
