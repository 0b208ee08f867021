//! Strings: reading, writing, ranges.

use bytes::{Bytes, BytesMut};
use sira_store::embedded::{StoredObject, WriteOptions};

use crate::limits::{RESP_BULK_BYTES_MAX, RESP_SHARED_REPLY_BYTES_MIN};

use super::super::data::{KeyIn, Space, Unit};
use super::super::number::parse_i64;
use super::{Call, Failure, Outcome};

/// Answers the value under a key. Small values are copied while the store lends them, large ones
/// are sent from its memory.
#[inline]
pub(super) fn reply_value(call: &mut Call<'_, '_>, space: Space, key: &[u8]) -> Outcome {
    let out = &mut *call.out;
    let copied = call.data.read(space, key, |object| {
        let small = object.value.len() < RESP_SHARED_REPLY_BYTES_MIN;
        if small {
            out.bulk(object.value);
        }
        small
    })?;
    match copied {
        Some(true) => {}
        Some(false) => match call.data.get(space, key)? {
            Some(object) => call.out.value(object.value),
            None => call.out.null(),
        },
        None => call.out.null(),
    }
    Ok(())
}

fn reply_object(call: &mut Call<'_, '_>, object: Option<StoredObject>) {
    match object {
        Some(object) => call.out.value(object.value),
        None => call.out.null(),
    }
}

pub(in super::super) fn get(call: &mut Call<'_, '_>) -> Outcome {
    reply_value(call, call.space(), call.arg(1))
}

/// Options that `SET` and `GETEX` share.
#[derive(Debug, Default, Clone, Copy)]
struct Options<'a> {
    absent: bool,
    present: bool,
    get: bool,
    keep: bool,
    persist: bool,
    expiry: Option<Expiry<'a>>,
}

#[derive(Debug, Clone, Copy)]
struct Expiry<'a> {
    text: &'a [u8],
    unit_ms: i64,
    relative: bool,
}

impl<'a> Options<'a> {
    fn parse(call: &Call<'a, '_>, first: usize, setting: bool) -> Result<Self, Failure> {
        let mut options = Self::default();
        let mut index = first;
        while index < call.args.len() {
            let word = call.arg(index);
            let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
            let next = call.args.try_get(index + 1);
            let free = !options.keep && !options.persist;
            let expiry =
                [("EX", 1000, true), ("PX", 1, true), ("EXAT", 1000, false), ("PXAT", 1, false)]
                    .into_iter()
                    .find(|(name, ..)| is(name));
            if setting && is("NX") && !options.present {
                options.absent = true;
            } else if setting && is("XX") && !options.absent {
                options.present = true;
            } else if setting && is("GET") {
                options.get = true;
            } else if setting && is("KEEPTTL") && options.expiry.is_none() {
                options.keep = true;
            } else if !setting && is("PERSIST") && options.expiry.is_none() {
                options.persist = true;
            } else if let (Some((_, unit_ms, relative)), Some(text), true) = (expiry, next, free)
                && options
                    .expiry
                    .is_none_or(|had| had.unit_ms == unit_ms && had.relative == relative)
            {
                options.expiry = Some(Expiry { text, unit_ms, relative });
                index += 1;
            } else {
                return Err(Failure::SYNTAX);
            }
            index += 1;
        }
        Ok(options)
    }
}

impl Expiry<'_> {
    /// The moment, in milliseconds since the Unix epoch.
    fn at_ms(&self, call: &Call<'_, '_>) -> Result<u64, Failure> {
        let invalid =
            || Failure::text(format!("ERR invalid expire time in '{}' command", call.command.name));
        let number = parse_i64(self.text).ok_or(Failure::NOT_INTEGER)?;
        if number <= 0 {
            return Err(invalid());
        }
        let span = number.checked_mul(self.unit_ms).ok_or_else(invalid)?;
        let at = if self.relative { span.checked_add(call.now_ms()) } else { Some(span) };
        at.and_then(|at| u64::try_from(at).ok()).ok_or_else(invalid)
    }
}

/// Writes a value that expires at `at`; one that has expired by then is removed instead.
fn write(
    unit: &mut Unit<'_>,
    space: Space,
    key: &[u8],
    value: &[u8],
    at: Option<u64>,
    now_ms: i64,
) -> Outcome {
    if at.is_some_and(|at| i64::try_from(at).unwrap_or(i64::MAX) <= now_ms) {
        unit.delete(space, key)?;
        return Ok(());
    }
    let options = WriteOptions { expires_at_ms: at, metadata: &[], ..WriteOptions::default() };
    unit.put(space, key, Bytes::copy_from_slice(value), options)
}

pub(in super::super) fn set(call: &mut Call<'_, '_>) -> Outcome {
    let (space, key, value) = (call.space(), call.arg(1), call.arg(2));
    if call.args.len() == 3 {
        call.data.put(space, key, value, WriteOptions::default())?;
        call.out.ok();
        return Ok(());
    }
    let options = Options::parse(call, 3, true)?;
    let mut at = match &options.expiry {
        Some(expiry) => Some(expiry.at_ms(call)?),
        None => None,
    };
    let now_ms = call.now_ms();
    let unconditional = !options.absent && !options.present && !options.get && !options.keep;
    if unconditional && at.is_none_or(|at| i64::try_from(at).unwrap_or(i64::MAX) > now_ms) {
        call.data.put(
            space,
            key,
            value,
            WriteOptions { expires_at_ms: at, metadata: &[], ..WriteOptions::default() },
        )?;
        call.out.ok();
        return Ok(());
    }
    let (old, done) = call.data.update(&[(space, key)], |unit| {
        let old = if options.get { unit.get(space, key)? } else { unit.head(space, key)? };
        let done = if old.is_some() { !options.absent } else { !options.present };
        if done {
            if options.keep {
                at = old.as_ref().and_then(|old| old.expires_at_ms);
            }
            write(unit, space, key, value, at, now_ms)?;
        }
        Ok((old, done))
    })?;
    if options.get {
        reply_object(call, old);
    } else if done {
        call.out.ok();
    } else {
        call.out.null();
    }
    Ok(())
}

pub(in super::super) fn setnx(call: &mut Call<'_, '_>) -> Outcome {
    let (space, key, value) = (call.space(), call.arg(1), call.arg(2));
    let now_ms = call.now_ms();
    let done = call.data.update(&[(space, key)], |unit| {
        let free = !unit.exists(space, key)?;
        if free {
            write(unit, space, key, value, None, now_ms)?;
        }
        Ok(free)
    })?;
    call.out.int(i64::from(done));
    Ok(())
}

fn set_expiring(call: &mut Call<'_, '_>, unit_ms: i64) -> Outcome {
    let expiry = Expiry { text: call.arg(2), unit_ms, relative: true };
    let at = expiry.at_ms(call)?;
    let options =
        WriteOptions { expires_at_ms: Some(at), metadata: &[], ..WriteOptions::default() };
    call.data.put(call.space(), call.arg(1), call.arg(3), options)?;
    call.out.ok();
    Ok(())
}

pub(in super::super) fn setex(call: &mut Call<'_, '_>) -> Outcome {
    set_expiring(call, 1000)
}

pub(in super::super) fn psetex(call: &mut Call<'_, '_>) -> Outcome {
    set_expiring(call, 1)
}

pub(in super::super) fn getset(call: &mut Call<'_, '_>) -> Outcome {
    let (space, key, value) = (call.space(), call.arg(1), call.arg(2));
    let now_ms = call.now_ms();
    let old = call.data.update(&[(space, key)], |unit| {
        let old = unit.get(space, key)?;
        write(unit, space, key, value, None, now_ms)?;
        Ok(old)
    })?;
    reply_object(call, old);
    Ok(())
}

pub(in super::super) fn getdel(call: &mut Call<'_, '_>) -> Outcome {
    let (space, key) = (call.space(), call.arg(1));
    let old = call.data.update(&[(space, key)], |unit| {
        let old = unit.get(space, key)?;
        if old.is_some() {
            unit.delete(space, key)?;
        }
        Ok(old)
    })?;
    reply_object(call, old);
    Ok(())
}

pub(in super::super) fn getex(call: &mut Call<'_, '_>) -> Outcome {
    let options = Options::parse(call, 2, false)?;
    let (space, key) = (call.space(), call.arg(1));
    if options.expiry.is_none() && !options.persist {
        return reply_value(call, space, key);
    }
    let now_ms = call.now_ms();
    // An expiry is looked at only where there is a key, as Redis does.
    let at = options.expiry.map(|expiry| expiry.at_ms(call));
    let old = call.data.update(&[(space, key)], |unit| {
        let Some(old) = unit.get(space, key)? else { return Ok(None) };
        match at.transpose()? {
            Some(at) if i64::try_from(at).unwrap_or(i64::MAX) <= now_ms => {
                unit.delete(space, key)?;
            }
            None if old.expires_at_ms.is_none() => {}
            at => {
                let options = WriteOptions {
                    expires_at_ms: at,
                    metadata: &old.metadata,
                    ..WriteOptions::default()
                };
                unit.put(space, key, old.value.clone(), options)?;
            }
        }
        Ok(Some(old))
    })?;
    reply_object(call, old);
    Ok(())
}

pub(in super::super) fn mget(call: &mut Call<'_, '_>) -> Outcome {
    let space = call.space();
    call.out.array(call.args.len() - 1);
    for key in call.args.from(1) {
        reply_value(call, space, key)?;
    }
    Ok(())
}

fn set_many(call: &mut Call<'_, '_>, only_absent: bool) -> Result<bool, Failure> {
    if call.args.len().is_multiple_of(2) {
        return Err(call.arity_error());
    }
    let space = call.space();
    let keys: Vec<KeyIn<'_>> = call.args.from(1).step_by(2).map(|key| (space, key)).collect();
    let args = call.args;
    call.data.update(&keys, |unit| {
        if only_absent {
            for (space, key) in &keys {
                if unit.exists(*space, key)? {
                    return Ok(false);
                }
            }
        }
        for (index, (space, key)) in keys.iter().enumerate() {
            let value = Bytes::copy_from_slice(args.get(index * 2 + 2));
            unit.put(*space, key, value, WriteOptions::default())?;
        }
        Ok(true)
    })
}

pub(in super::super) fn mset(call: &mut Call<'_, '_>) -> Outcome {
    set_many(call, false)?;
    call.out.ok();
    Ok(())
}

pub(in super::super) fn msetnx(call: &mut Call<'_, '_>) -> Outcome {
    let done = set_many(call, true)?;
    call.out.int(i64::from(done));
    Ok(())
}

pub(in super::super) fn append(call: &mut Call<'_, '_>) -> Outcome {
    let (space, key, tail) = (call.space(), call.arg(1), call.arg(2));
    let len = call.data.update(&[(space, key)], |unit| {
        let old = unit.get(space, key)?;
        let head = old.as_ref().map_or(&[][..], |old| &old.value);
        let len = head.len() + tail.len();
        if len > RESP_BULK_BYTES_MAX {
            return Err(Failure::TOO_LONG);
        }
        let mut value = BytesMut::with_capacity(len);
        value.extend_from_slice(head);
        value.extend_from_slice(tail);
        unit.replace(space, key, value.freeze(), old.as_ref())?;
        Ok(len)
    })?;
    call.out.len(len);
    Ok(())
}

pub(in super::super) fn strlen(call: &mut Call<'_, '_>) -> Outcome {
    let len = call.data.head(call.space(), call.arg(1))?.map_or(0, |object| object.size);
    call.out.int(len as i64);
    Ok(())
}

/// The bytes from `start` to `end`, both within and counted from the end where negative.
pub(super) fn clamp(start: i64, end: i64, len: i64) -> Option<std::ops::Range<usize>> {
    if start < 0 && end < 0 && start > end {
        return None;
    }
    let from_end = |index: i64| if index < 0 { (len + index).max(0) } else { index };
    let (start, end) = (from_end(start), from_end(end).min(len - 1));
    if start > end || len == 0 {
        return None;
    }
    Some(usize::try_from(start).ok()?..usize::try_from(end).ok()? + 1)
}

pub(in super::super) fn getrange(call: &mut Call<'_, '_>) -> Outcome {
    let (start, end) = (call.int(2)?, call.int(3)?);
    let (space, key) = (call.space(), call.arg(1));
    let out = &mut *call.out;
    let copied = call.data.read(space, key, |object| {
        let range = clamp(start, end, object.value.len() as i64).unwrap_or(0..0);
        if range.len() < RESP_SHARED_REPLY_BYTES_MIN {
            out.bulk(object.value.get(range).unwrap_or(&[]));
            true
        } else {
            false
        }
    })?;
    match copied {
        Some(true) => {}
        Some(false) => {
            let value = call.data.get(space, key)?.map(|object| object.value).unwrap_or_default();
            let range = clamp(start, end, value.len() as i64).unwrap_or(0..0);
            call.out.value(value.slice(range));
        }
        None => call.out.bulk(b""),
    }
    Ok(())
}

pub(in super::super) fn setrange(call: &mut Call<'_, '_>) -> Outcome {
    let offset = call.int(2)?;
    let Ok(offset) = usize::try_from(offset) else {
        return Err(Failure::fixed("ERR offset is out of range"));
    };
    let (space, key, part) = (call.space(), call.arg(1), call.arg(3));
    let len = call.data.update(&[(space, key)], |unit| {
        let old = unit.get(space, key)?;
        let head = old.as_ref().map_or(&[][..], |old| &old.value);
        if part.is_empty() {
            return Ok(head.len());
        }
        let end = offset.saturating_add(part.len());
        if end > RESP_BULK_BYTES_MAX {
            return Err(Failure::TOO_LONG);
        }
        let mut value = BytesMut::zeroed(head.len().max(end));
        for (range, bytes) in [(0..head.len(), head), (offset..end, part)] {
            if let Some(place) = value.get_mut(range) {
                place.copy_from_slice(bytes);
            }
        }
        let len = value.len();
        unit.replace(space, key, value.freeze(), old.as_ref())?;
        Ok(len)
    })?;
    call.out.len(len);
    Ok(())
}
