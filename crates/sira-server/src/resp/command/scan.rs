//! `KEYS` and `SCAN`.

use std::ops::ControlFlow;

use super::super::glob;
use super::super::number::parse_cursor;
use super::{Call, Failure, Outcome};

/// Keys of one page where the client names no number.
const COUNT_DEFAULT: i64 = 10;

pub(in super::super) fn keys(call: &mut Call<'_, '_>) -> Outcome {
    let pattern = call.arg(1);
    let mut found = Vec::new();
    let mut count = 0;
    call.data.scan(call.space(), glob::literal_prefix(pattern), None, |key| {
        if glob::matches(pattern, key, false) {
            count += 1;
            push_bulk(&mut found, key);
        }
        ControlFlow::Continue(())
    })?;
    call.out.array(count);
    call.out.raw().extend_from_slice(&found);
    Ok(())
}

fn push_bulk(out: &mut Vec<u8>, bytes: &[u8]) {
    let mut buffer = itoa::Buffer::new();
    out.push(b'$');
    out.extend_from_slice(buffer.format(bytes.len()).as_bytes());
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

pub(in super::super) fn scan(call: &mut Call<'_, '_>) -> Outcome {
    let cursor = parse_cursor(call.arg(1)).ok_or(Failure::fixed("ERR invalid cursor"))?;
    let (mut count, mut pattern, mut strings) = (COUNT_DEFAULT, &b"*"[..], true);
    let mut index = 2;
    while index < call.args.len() {
        let more = index + 1 < call.args.len();
        if call.is(index, "COUNT") && more {
            count = call.int(index + 1)?;
            if count < 1 {
                return Err(Failure::SYNTAX);
            }
        } else if call.is(index, "MATCH") && more {
            pattern = call.arg(index + 1);
        } else if call.is(index, "TYPE") && more {
            strings = call.is(index + 1, "string");
        } else {
            return Err(Failure::SYNTAX);
        }
        index += 2;
    }
    let after = match cursor {
        0 => None,
        cursor => match call.shared.load_cursor(cursor) {
            Some(after) => Some(after),
            // Going on from nowhere would leave keys out in silence.
            None => {
                return Err(Failure::fixed(
                    "ERR invalid cursor: unknown or too old, begin again with 0",
                ));
            }
        },
    };
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let prefix = glob::literal_prefix(pattern);
    let (mut seen, mut found, mut page) = (0, 0, Vec::new());
    let mut last = Vec::new();
    let mut more = false;
    call.data.scan(call.space(), prefix, after.as_deref(), |key| {
        if seen == count {
            more = true;
            return ControlFlow::Break(());
        }
        seen += 1;
        if strings && glob::matches(pattern, key, false) {
            found += 1;
            push_bulk(&mut page, key);
        }
        if seen == count {
            last = key.to_vec();
        }
        ControlFlow::Continue(())
    })?;
    let next = if more { call.shared.save_cursor(&last, cursor) } else { 0 };
    reply_page(call, next, found, &page);
    Ok(())
}

fn reply_page(call: &mut Call<'_, '_>, next: u64, found: usize, page: &[u8]) {
    call.out.array(2);
    call.out.text(itoa::Buffer::new().format(next));
    call.out.array(found);
    call.out.raw().extend_from_slice(page);
}
