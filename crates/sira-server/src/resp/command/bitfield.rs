//! `BITFIELD`: integers of any width within a string.

use super::super::number::parse_i64;
use super::bits::{grown, offset};
use super::{Call, Failure, Outcome};

#[derive(Debug, Clone, Copy)]
enum Action {
    Get,
    Set(i64),
    Add(i64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Overflow {
    Wrap,
    Saturate,
    Fail,
}

#[derive(Debug, Clone, Copy)]
struct Field {
    action: Action,
    signed: bool,
    bits: u32,
    offset: usize,
    overflow: Overflow,
}

fn field_type(text: &[u8]) -> Result<(bool, u32), Failure> {
    let parsed = match text {
        [b'i', width @ ..] => Some((true, width, 64)),
        [b'u', width @ ..] => Some((false, width, 63)),
        _ => None,
    };
    parsed
        .and_then(|(signed, width, most)| {
            let width = u32::try_from(parse_i64(width)?).ok()?;
            (1..=most).contains(&width).then_some((signed, width))
        })
        .ok_or(Failure::fixed(
            "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not \
             supported but i64 is.",
        ))
}

fn parse(call: &Call<'_, '_>) -> Result<Vec<Field>, Failure> {
    let mut fields = Vec::new();
    let mut overflow = Overflow::Wrap;
    let mut index = 2;
    while index < call.args.len() {
        let rest = call.args.len() - index - 1;
        let action = call.arg(index).to_ascii_lowercase();
        let arguments = match action.as_slice() {
            b"get" if rest >= 2 => 2,
            b"set" | b"incrby" if rest >= 3 => 3,
            b"overflow" if rest >= 1 => {
                overflow = match call.arg(index + 1).to_ascii_lowercase().as_slice() {
                    b"wrap" => Overflow::Wrap,
                    b"sat" => Overflow::Saturate,
                    b"fail" => Overflow::Fail,
                    _ => return Err(Failure::fixed("ERR Invalid OVERFLOW type specified")),
                };
                index += 2;
                continue;
            }
            _ => return Err(Failure::SYNTAX),
        };
        let (signed, bits) = field_type(call.arg(index + 1))?;
        let offset = offset(call.arg(index + 2), i64::from(bits))?;
        let action = match action.as_slice() {
            b"get" => Action::Get,
            b"set" => Action::Set(call.int(index + 3)?),
            _ => Action::Add(call.int(index + 3)?),
        };
        fields.push(Field { action, signed, bits, offset, overflow });
        index += arguments + 1;
    }
    Ok(fields)
}

impl Field {
    fn load(&self, value: &[u8]) -> i128 {
        let mut number = 0_u64;
        for bit in self.offset..self.offset + self.bits as usize {
            let set = value.get(bit / 8).is_some_and(|byte| byte & (0x80 >> (bit % 8)) != 0);
            number = number << 1 | u64::from(set);
        }
        self.wrap(i128::from(number))
    }

    fn store(&self, value: &mut [u8], number: i128) {
        for place in 0..self.bits {
            let bit = self.offset + (self.bits - 1 - place) as usize;
            let mask = 0x80_u8 >> (bit % 8);
            if let Some(byte) = value.get_mut(bit / 8) {
                *byte = if number >> place & 1 == 1 { *byte | mask } else { *byte & !mask };
            }
        }
    }

    fn range(&self) -> (i128, i128) {
        if self.signed {
            (-(1_i128 << (self.bits - 1)), (1_i128 << (self.bits - 1)) - 1)
        } else {
            (0, (1_i128 << self.bits) - 1)
        }
    }

    fn wrap(&self, number: i128) -> i128 {
        let low = number & ((1_i128 << self.bits) - 1);
        let (_, most) = self.range();
        if low > most { low - (1_i128 << self.bits) } else { low }
    }

    /// What is stored for a number, or nothing where that fails.
    fn fit(&self, number: i128) -> Option<i128> {
        let (least, most) = self.range();
        if (least..=most).contains(&number) {
            return Some(number);
        }
        match self.overflow {
            Overflow::Wrap => Some(self.wrap(number)),
            Overflow::Saturate => Some(number.clamp(least, most)),
            Overflow::Fail => None,
        }
    }

    /// Runs the action; answers what the client is told, and what is to be stored.
    fn run(&self, value: &[u8]) -> (Option<i128>, Option<i128>) {
        let old = self.load(value);
        match self.action {
            Action::Get => (Some(old), None),
            Action::Set(number) => {
                // An unsigned field takes a negative number by its bits.
                let number = i128::from(number);
                let number = if self.signed { number } else { number & i128::from(u64::MAX) };
                let new = self.fit(number);
                (new.map(|_| old), new)
            }
            Action::Add(by) => {
                let new = self.fit(old + i128::from(by));
                (new, new)
            }
        }
    }
}

fn reply(call: &mut Call<'_, '_>, answers: Vec<Option<i128>>) {
    call.out.array(answers.len());
    for answer in answers {
        match answer {
            Some(number) => call.out.int(number as i64),
            None => call.out.null(),
        }
    }
}

fn read_only(call: &mut Call<'_, '_>, fields: &[Field]) -> Outcome {
    let answers = call
        .data
        .read(call.space(), call.arg(1), |object| {
            fields.iter().map(|field| field.run(object.value).0).collect::<Vec<_>>()
        })?
        .unwrap_or_else(|| fields.iter().map(|_| Some(0)).collect());
    reply(call, answers);
    Ok(())
}

pub(in super::super) fn bitfield(call: &mut Call<'_, '_>) -> Outcome {
    let fields = parse(call)?;
    let writes = |field: &&Field| !matches!(field.action, Action::Get);
    let end = fields.iter().filter(writes).map(|field| field.offset + field.bits as usize).max();
    let Some(end) = end else { return read_only(call, &fields) };
    let (space, key) = (call.space(), call.arg(1));
    let answers = call.data.update(&[(space, key)], |unit| {
        let old = unit.get(space, key)?;
        let before = old.as_ref().map_or(0, |old| old.value.len());
        let mut value = grown(old.as_ref(), end.div_ceil(8));
        let mut changed = value.len() > before;
        let mut answers = Vec::with_capacity(fields.len());
        for field in &fields {
            let (answer, new) = field.run(&value);
            if let Some(new) = new {
                changed |= field.load(&value) != new;
                field.store(&mut value, new);
            }
            answers.push(answer);
        }
        if changed {
            unit.replace(space, key, value.freeze(), old.as_ref())?;
        }
        Ok(answers)
    })?;
    reply(call, answers);
    Ok(())
}

pub(in super::super) fn bitfield_ro(call: &mut Call<'_, '_>) -> Outcome {
    let fields = parse(call)?;
    if fields.iter().any(|field| !matches!(field.action, Action::Get)) {
        return Err(Failure::fixed("ERR BITFIELD_RO only supports the GET subcommand"));
    }
    read_only(call, &fields)
}
