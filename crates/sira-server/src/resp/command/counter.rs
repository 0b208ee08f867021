//! Numbers: `INCR` and its kin.

use bytes::Bytes;

use super::super::number::{Extended, FloatError, parse_i64};
use super::{Call, Failure, Outcome};

fn add(call: &mut Call<'_, '_>, by: i64) -> Outcome {
    let (space, key) = (call.space(), call.arg(1));
    let value = call.data.update(&[(space, key)], |unit| {
        let old = unit.get(space, key)?;
        let value = match &old {
            Some(old) => parse_i64(&old.value).ok_or(Failure::NOT_INTEGER)?,
            None => 0,
        };
        let value = value
            .checked_add(by)
            .ok_or(Failure::fixed("ERR increment or decrement would overflow"))?;
        let mut buffer = itoa::Buffer::new();
        let text = Bytes::copy_from_slice(buffer.format(value).as_bytes());
        unit.replace(space, key, text, old.as_ref())?;
        Ok(value)
    })?;
    call.out.int(value);
    Ok(())
}

pub(in super::super) fn incr(call: &mut Call<'_, '_>) -> Outcome {
    add(call, 1)
}

pub(in super::super) fn decr(call: &mut Call<'_, '_>) -> Outcome {
    add(call, -1)
}

pub(in super::super) fn incrby(call: &mut Call<'_, '_>) -> Outcome {
    let by = call.int(2)?;
    add(call, by)
}

pub(in super::super) fn decrby(call: &mut Call<'_, '_>) -> Outcome {
    let by = call.int(2)?.checked_neg().ok_or(Failure::fixed("ERR decrement would overflow"))?;
    add(call, by)
}

pub(in super::super) fn incrbyfloat(call: &mut Call<'_, '_>) -> Outcome {
    let (space, key, by) = (call.space(), call.arg(1), call.arg(2));
    let failure = |error| match error {
        FloatError::Invalid => Failure::NOT_FLOAT,
        FloatError::Infinite => Failure::fixed("ERR increment would produce NaN or Infinity"),
    };
    let text = call.data.update(&[(space, key)], |unit| {
        let old = unit.get(space, key)?;
        let value = match &old {
            Some(old) => Extended::parse(&old.value).map_err(failure)?,
            None => Extended::ZERO,
        };
        let by = Extended::parse(by).map_err(failure)?;
        let text = Bytes::from(value.add(by).map_err(failure)?.format());
        unit.replace(space, key, text.clone(), old.as_ref())?;
        Ok(text)
    })?;
    call.out.bulk(&text);
    Ok(())
}
