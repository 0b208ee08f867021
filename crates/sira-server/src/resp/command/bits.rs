//! Bits of strings.

use bytes::{Bytes, BytesMut};
use sira_store::embedded::StoredObject;

use crate::limits::RESP_BULK_BYTES_MAX;

use super::super::data::KeyIn;
use super::super::number::parse_i64;
use super::{Call, Failure, Outcome};

/// Number of a bit in a text, `#` counting in units of `width` bits where that is not 0.
pub(super) fn offset(text: &[u8], width: i64) -> Result<usize, Failure> {
    let (text, unit) = match text {
        [b'#', rest @ ..] if width > 0 => (rest, width),
        text => (text, 1),
    };
    parse_i64(text)
        .and_then(|number| number.checked_mul(unit))
        .and_then(|number| usize::try_from(number).ok())
        .filter(|number| number / 8 < RESP_BULK_BYTES_MAX)
        .ok_or(Failure::fixed("ERR bit offset is not an integer or out of range"))
}

/// A copy of the old value, long enough to hold `len` bytes.
pub(super) fn grown(old: Option<&StoredObject>, len: usize) -> BytesMut {
    let old = old.map_or(&[][..], |old| &old.value);
    let mut value = BytesMut::with_capacity(old.len().max(len));
    value.extend_from_slice(old);
    value.resize(old.len().max(len), 0);
    value
}

pub(in super::super) fn setbit(call: &mut Call<'_, '_>) -> Outcome {
    let at = offset(call.arg(2), 0)?;
    let on = match parse_i64(call.arg(3)) {
        Some(bit @ (0 | 1)) => bit == 1,
        _ => return Err(Failure::fixed("ERR bit is not an integer or out of range")),
    };
    let (space, key) = (call.space(), call.arg(1));
    let was = call.data.update(&[(space, key)], |unit| {
        let old = unit.get(space, key)?;
        let mask = 0x80_u8 >> (at % 8);
        let byte = old.as_ref().and_then(|old| old.value.get(at / 8).copied());
        let was = byte.is_some_and(|byte| byte & mask != 0);
        if byte.is_none() || was != on {
            let mut value = grown(old.as_ref(), at / 8 + 1);
            if let Some(byte) = value.get_mut(at / 8) {
                *byte = if on { *byte | mask } else { *byte & !mask };
            }
            unit.replace(space, key, value.freeze(), old.as_ref())?;
        }
        Ok(was)
    })?;
    call.out.int(i64::from(was));
    Ok(())
}

pub(in super::super) fn getbit(call: &mut Call<'_, '_>) -> Outcome {
    let at = offset(call.arg(2), 0)?;
    let set = call.data.read(call.space(), call.arg(1), |object| {
        object.value.get(at / 8).is_some_and(|byte| byte & (0x80 >> (at % 8)) != 0)
    })?;
    call.out.int(i64::from(set.unwrap_or(false)));
    Ok(())
}

/// Bits from `start` to `end` (not included) of a value, seen as runs of whole bytes and two edges.
fn count_bits(value: &[u8], start: usize, end: usize) -> u64 {
    let bits = |index: usize| {
        u64::from(value.get(index / 8).map_or(0, |byte| byte >> (7 - index % 8) & 1))
    };
    let (first_byte, last_byte) = (start.div_ceil(8), end / 8);
    if first_byte > last_byte {
        return (start..end).map(bits).sum();
    }
    let whole = value.get(first_byte..last_byte).unwrap_or(&[]);
    let mut words = whole.chunks_exact(8);
    let mut total = 0_u64;
    for word in &mut words {
        let word = word.first_chunk().map_or(0, |word| u64::from_ne_bytes(*word));
        total += u64::from(word.count_ones());
    }
    total += words.remainder().iter().map(|byte| u64::from(byte.count_ones())).sum::<u64>();
    total
        + (start..first_byte * 8).map(bits).sum::<u64>()
        + (last_byte * 8..end).map(bits).sum::<u64>()
}

/// First bit of this kind from `start` to `end` (not included).
fn find_bit(value: &[u8], start: usize, end: usize, set: bool) -> Option<usize> {
    let is = |index: &usize| {
        value.get(index / 8).is_some_and(|byte| (byte >> (7 - index % 8) & 1 == 1) == set)
    };
    let (first_byte, last_byte) = (start.div_ceil(8), end / 8);
    if first_byte > last_byte {
        return (start..end).find(is);
    }
    let skipped = if set { 0x00 } else { 0xff };
    (start..first_byte * 8).find(is).or_else(|| {
        let whole = value.get(first_byte..last_byte).unwrap_or(&[]);
        let byte = whole.iter().position(|byte| *byte != skipped);
        let from = byte.map_or(last_byte, |byte| first_byte + byte) * 8;
        (from..end.min(if byte.is_some() { from + 8 } else { end })).find(is)
    })
}

/// Whether an argument asks for a range in bits.
fn in_bits(call: &Call<'_, '_>, index: usize) -> Result<bool, Failure> {
    match call.args.try_get(index) {
        None => Ok(false),
        Some(word) if word.eq_ignore_ascii_case(b"bit") => Ok(true),
        Some(word) if word.eq_ignore_ascii_case(b"byte") => Ok(false),
        Some(_) => Err(Failure::SYNTAX),
    }
}

/// A range given in bytes or bits, in bits; `None` when it is empty.
fn bit_range(start: i64, end: i64, len: usize, bits: bool) -> Option<(usize, usize)> {
    let total = len as i64 * if bits { 8 } else { 1 };
    let place = |index: i64| if index < 0 { (total + index).max(0) } else { index };
    let (start, end) = (place(start), place(end).min(total - 1));
    if start > end {
        return None;
    }
    let unit = if bits { 1 } else { 8 };
    Some((usize::try_from(start).ok()? * unit, (usize::try_from(end).ok()? + 1) * unit))
}

pub(in super::super) fn bitcount(call: &mut Call<'_, '_>) -> Outcome {
    let Some(object) = call.data.get(call.space(), call.arg(1))? else {
        call.out.int(0);
        return Ok(());
    };
    let value = &object.value;
    let range = match call.args.len() {
        2 => Some((0, value.len() * 8)),
        4 | 5 => {
            let (start, end) = (call.int(2)?, call.int(3)?);
            if start < 0 && end < 0 && start > end {
                None
            } else {
                bit_range(start, end, value.len(), in_bits(call, 4)?)
            }
        }
        _ => return Err(Failure::SYNTAX),
    };
    let count = range.map_or(0, |(start, end)| count_bits(value, start, end));
    call.out.int(count as i64);
    Ok(())
}

pub(in super::super) fn bitpos(call: &mut Call<'_, '_>) -> Outcome {
    let set = match call.int(2)? {
        0 => false,
        1 => true,
        _ => return Err(Failure::fixed("ERR The bit argument must be 1 or 0.")),
    };
    let Some(object) = call.data.get(call.space(), call.arg(1))? else {
        call.out.int(if set { -1 } else { 0 });
        return Ok(());
    };
    let value = &object.value;
    let (range, bounded) = match call.args.len() {
        3 => ((!value.is_empty()).then_some((0, value.len() * 8)), false),
        4..=6 => {
            let start = call.int(3)?;
            let bits = in_bits(call, 5)?;
            let bounded = call.args.len() >= 5;
            let end = if bounded { call.int(4)? } else { i64::MAX };
            (bit_range(start, end, value.len(), bits), bounded)
        }
        _ => return Err(Failure::SYNTAX),
    };
    let found = match range {
        None => None,
        Some((start, end)) => find_bit(value, start, end, set)
            // A value without an end goes on with clear bits.
            .or_else(|| (!set && !bounded).then_some(end)),
    };
    call.out.int(found.map_or(-1, |at| at as i64));
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    And,
    Or,
    Xor,
    Not,
}

fn combine(operation: Operation, sources: &[Bytes]) -> BytesMut {
    let len = sources.iter().map(Bytes::len).max().unwrap_or(0);
    let mut result = BytesMut::zeroed(len);
    let mut rest = sources.iter();
    if let Some(first) = rest.next() {
        for (to, from) in result.iter_mut().zip(first.iter()) {
            *to = *from;
        }
    }
    match operation {
        Operation::Not => result.iter_mut().for_each(|byte| *byte = !*byte),
        Operation::Or => rest.for_each(|source| {
            result.iter_mut().zip(source.iter()).for_each(|(to, from)| *to |= from);
        }),
        Operation::Xor => rest.for_each(|source| {
            result.iter_mut().zip(source.iter()).for_each(|(to, from)| *to ^= from);
        }),
        Operation::And => rest.for_each(|source| {
            let from = source.iter().chain(std::iter::repeat(&0));
            result.iter_mut().zip(from).for_each(|(to, from)| *to &= from);
        }),
    }
    result
}

pub(in super::super) fn bitop(call: &mut Call<'_, '_>) -> Outcome {
    let operation = match call.arg(1).to_ascii_lowercase().as_slice() {
        b"and" => Operation::And,
        b"or" => Operation::Or,
        b"xor" => Operation::Xor,
        b"not" => Operation::Not,
        _ => return Err(Failure::SYNTAX),
    };
    if operation == Operation::Not && call.args.len() != 4 {
        return Err(Failure::fixed("ERR BITOP NOT must be called with a single source key."));
    }
    let space = call.space();
    let keys: Vec<KeyIn<'_>> = call.args.from(2).map(|key| (space, key)).collect();
    let target = call.arg(2);
    let len = call.data.update(&keys, |unit| {
        let mut sources = Vec::with_capacity(keys.len());
        for (space, key) in keys.iter().skip(1) {
            sources.push(unit.get(*space, key)?.map(|object| object.value).unwrap_or_default());
        }
        let result = combine(operation, &sources);
        let len = result.len();
        if len == 0 {
            unit.delete(space, target)?;
        } else {
            unit.replace(space, target, result.freeze(), None)?;
        }
        Ok(len)
    })?;
    call.out.len(len);
    Ok(())
}
