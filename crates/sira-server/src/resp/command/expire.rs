//! When keys expire.

use sira_store::embedded::WriteOptions;

use super::{Call, Failure, Outcome};

#[derive(Debug, Default, Clone, Copy)]
struct Conditions {
    without: bool,
    with: bool,
    later: bool,
    earlier: bool,
}

impl Conditions {
    fn parse(call: &Call<'_, '_>) -> Result<Self, Failure> {
        let mut conditions = Self::default();
        for word in call.args.from(3) {
            match word.to_ascii_lowercase().as_slice() {
                b"nx" => conditions.without = true,
                b"xx" => conditions.with = true,
                b"gt" => conditions.later = true,
                b"lt" => conditions.earlier = true,
                _ => return Err(Failure::text([b"ERR Unsupported option ", word].concat())),
            }
        }
        if conditions.without && (conditions.with || conditions.later || conditions.earlier) {
            return Err(Failure::fixed(
                "ERR NX and XX, GT or LT options at the same time are not compatible",
            ));
        }
        if conditions.later && conditions.earlier {
            return Err(Failure::fixed(
                "ERR GT and LT options at the same time are not compatible",
            ));
        }
        Ok(conditions)
    }

    fn hold(self, current: Option<u64>, new: i64) -> bool {
        match current.map(|at| i64::try_from(at).unwrap_or(i64::MAX)) {
            Some(current) => {
                let late = self.later && new <= current;
                let early = self.earlier && new >= current;
                !(self.without || late || early)
            }
            None => !self.with && !self.later,
        }
    }
}

fn expire_at(call: &mut Call<'_, '_>, base_ms: i64, unit_ms: i64) -> Outcome {
    let conditions = Conditions::parse(call)?;
    let at_ms =
        call.int(2)?.checked_mul(unit_ms).and_then(|span| span.checked_add(base_ms)).ok_or_else(
            || Failure::text(format!("ERR invalid expire time in '{}' command", call.command.name)),
        )?;
    let (space, key, now_ms) = (call.space(), call.arg(1), call.now_ms());
    let done = call.data.update(&[(space, key)], |unit| {
        let Some(head) = unit.head(space, key)? else { return Ok(false) };
        if !conditions.hold(head.expires_at_ms, at_ms) {
            return Ok(false);
        }
        match u64::try_from(at_ms) {
            Ok(at) if at_ms > now_ms => {
                let Some(object) = unit.get(space, key)? else { return Ok(false) };
                let options = WriteOptions {
                    expires_at_ms: Some(at),
                    metadata: &object.metadata,
                    ..WriteOptions::default()
                };
                unit.put(space, key, object.value.clone(), options)?;
            }
            _ => {
                unit.delete(space, key)?;
            }
        }
        Ok(true)
    })?;
    call.out.int(i64::from(done));
    Ok(())
}

pub(in super::super) fn expire(call: &mut Call<'_, '_>) -> Outcome {
    let now_ms = call.now_ms();
    expire_at(call, now_ms, 1000)
}

pub(in super::super) fn pexpire(call: &mut Call<'_, '_>) -> Outcome {
    let now_ms = call.now_ms();
    expire_at(call, now_ms, 1)
}

pub(in super::super) fn expireat(call: &mut Call<'_, '_>) -> Outcome {
    expire_at(call, 0, 1000)
}

pub(in super::super) fn pexpireat(call: &mut Call<'_, '_>) -> Outcome {
    expire_at(call, 0, 1)
}

pub(in super::super) fn persist(call: &mut Call<'_, '_>) -> Outcome {
    let (space, key) = (call.space(), call.arg(1));
    let done = call.data.update(&[(space, key)], |unit| {
        if unit.head(space, key)?.and_then(|head| head.expires_at_ms).is_none() {
            return Ok(false);
        }
        let Some(object) = unit.get(space, key)? else { return Ok(false) };
        let options = WriteOptions {
            expires_at_ms: None,
            metadata: &object.metadata,
            ..WriteOptions::default()
        };
        unit.put(space, key, object.value.clone(), options)?;
        Ok(true)
    })?;
    call.out.int(i64::from(done));
    Ok(())
}

/// Answers -2 without a key, -1 without an expiry, else the moment as `show` puts it.
fn reply_expiry(call: &mut Call<'_, '_>, show: impl FnOnce(i64) -> i64) -> Outcome {
    let answer = match call.data.head(call.space(), call.arg(1))? {
        None => -2,
        Some(head) => {
            head.expires_at_ms.map_or(-1, |at| show(i64::try_from(at).unwrap_or(i64::MAX)))
        }
    };
    call.out.int(answer);
    Ok(())
}

pub(in super::super) fn ttl(call: &mut Call<'_, '_>) -> Outcome {
    let now_ms = call.now_ms();
    reply_expiry(call, |at| ((at - now_ms).max(0) + 500) / 1000)
}

pub(in super::super) fn pttl(call: &mut Call<'_, '_>) -> Outcome {
    let now_ms = call.now_ms();
    reply_expiry(call, |at| (at - now_ms).max(0))
}

pub(in super::super) fn expiretime(call: &mut Call<'_, '_>) -> Outcome {
    reply_expiry(call, |at| ((at.unsigned_abs() + 500) / 1000) as i64)
}

pub(in super::super) fn pexpiretime(call: &mut Call<'_, '_>) -> Outcome {
    reply_expiry(call, |at| at)
}
