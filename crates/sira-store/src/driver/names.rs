//! Names of files and objects for keys: safe in every file system and object store, and in the byte
//! order of the keys.
//!
//! A key is escaped byte by byte into printable ASCII without `/`, then cut into folders of 200
//! characters, since file systems take names of up to 255.
//!
//! | byte of the key | in the name |
//! |---|---|
//! | `00` to `2C` (controls, blank, `!"#$%&'()*+,`) | `!` and two hexadecimal digits |
//! | `-`, digits, `:`, `@`, letters | itself |
//! | `.`, `/` | `.-`, `._` |
//! | `;`, `<`, `=`, `>`, `?` | `=0` to `=4` |
//! | `[`, `\`, `]`, `^`, `_`, `` ` `` | `_0`, `_1`, `_2`, `_3`, `__`, `_a` |
//! | `7B` to `FF` (`{`, `\|`, `}`, `~`, all but ASCII) | `~` and two hexadecimal digits |
//!
//! No code begins another one and the codes sort as the bytes do, so names sort as keys do, and the
//! names of keys with a common prefix begin with the escaped prefix. A folder is named by 200
//! characters and a `_`, one more than any file, so no name is both a file and a folder, and no
//! segment is empty, `.`, `..` or ends with a dot. Letters keep their case: a store that folds case
//! cannot tell all keys apart.

use std::cmp::Ordering;

/// Characters of a folder's name before its mark, and most of a file's name.
const SEGMENT_BYTES: usize = 200;

/// Last character of every folder's name.
const FOLDER: char = '_';

const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// Last bytes whose codes begin with `!`, and first whose codes begin with `~`.
const LOW_END: u8 = 0x2C;
const HIGH_START: u8 = 0x7B;

/// The path of a key: [`fold`] of [`escape`]. Of any bytes, the path marks their place among the
/// paths of keys.
#[must_use]
pub fn encode(key: impl AsRef<[u8]>) -> String {
    fold(&escape(key.as_ref()))
}

/// The key of a path, if it is one's.
#[must_use]
pub fn decode(path: &str) -> Option<String> {
    String::from_utf8(unescape(&unfold(path)?)?).ok()
}

/// Bytes as printable ASCII without `/`, in the same order.
#[must_use]
pub fn escape(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() + bytes.len() / 4);
    for &byte in bytes {
        match byte {
            0..=LOW_END => push_hex(&mut out, '!', byte),
            b'.' => out.push_str(".-"),
            b'/' => out.push_str("._"),
            b';'..=b'?' => {
                out.push('=');
                out.push(char::from(byte - b';' + b'0'));
            }
            b'['..=b'^' => {
                out.push('_');
                out.push(char::from(byte - b'[' + b'0'));
            }
            b'_' => out.push_str("__"),
            b'`' => out.push_str("_a"),
            HIGH_START.. => push_hex(&mut out, '~', byte),
            _ => out.push(char::from(byte)),
        }
    }
    out
}

fn push_hex(out: &mut String, lead: char, byte: u8) {
    out.push(lead);
    for nibble in [byte >> 4, byte & 0xF] {
        out.push(char::from(HEX[usize::from(nibble)]));
    }
}

/// What [`escape`] was given; `None` for text that it never gives.
#[must_use]
pub fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(lead) = rest.next() {
        bytes.push(match lead {
            b'!' => hex(&mut rest).filter(|byte| *byte <= LOW_END)?,
            b'.' => match rest.next()? {
                b'-' => b'.',
                b'_' => b'/',
                _ => return None,
            },
            b'=' => match rest.next()? {
                digit @ b'0'..=b'4' => b';' + (digit - b'0'),
                _ => return None,
            },
            b'_' => match rest.next()? {
                digit @ b'0'..=b'3' => b'[' + (digit - b'0'),
                b'_' => b'_',
                b'a' => b'`',
                _ => return None,
            },
            b'~' => hex(&mut rest).filter(|byte| *byte >= HIGH_START)?,
            b'-' | b':' | b'@' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => lead,
            _ => return None,
        });
    }
    Some(bytes)
}

fn hex(rest: &mut impl Iterator<Item = u8>) -> Option<u8> {
    let mut nibble = || {
        let digit = rest.next()?;
        HEX.iter().position(|hex| *hex == digit).and_then(|value| u8::try_from(value).ok())
    };
    Some(nibble()? << 4 | nibble()?)
}

/// Escaped text as a path: cut into folders wherever a file's name is full. The paths of texts sort
/// as the texts do, both as a whole and folder by folder, and the path of a text begins with that of
/// each of its prefixes.
#[must_use]
pub fn fold(escaped: &str) -> String {
    let mut out = String::with_capacity(escaped.len() + 2 * (escaped.len() / SEGMENT_BYTES));
    let mut rest = escaped;
    while rest.len() > SEGMENT_BYTES {
        let Some((segment, more)) = rest.split_at_checked(SEGMENT_BYTES) else { break };
        out.push_str(segment);
        out.push(FOLDER);
        out.push('/');
        rest = more;
    }
    out.push_str(rest);
    out
}

/// What [`fold`] was given; `None` for a path that it never gives.
#[must_use]
pub fn unfold(path: &str) -> Option<String> {
    let mut out = String::with_capacity(path.len());
    let mut segments = path.split('/').peekable();
    while let Some(segment) = segments.next() {
        if segments.peek().is_none() {
            let full = segment.is_empty() || segment.len() > SEGMENT_BYTES;
            if full {
                return None;
            }
            out.push_str(segment);
        } else {
            out.push_str(segment.strip_suffix(FOLDER).filter(|name| name.len() == SEGMENT_BYTES)?);
        }
    }
    Some(out)
}

/// Whether a segment of a path names a folder that goes on the name, not a file.
#[must_use]
pub fn is_folder(segment: &str) -> bool {
    segment.len() == SEGMENT_BYTES + 1 && segment.ends_with(FOLDER)
}

/// How all paths below `folder`, which ends with a `/` or is empty, lie to the path `bound`: all
/// before it, all after it, or on both sides.
#[must_use]
pub fn folder_order(folder: &str, bound: &str) -> Ordering {
    if bound.starts_with(folder) { Ordering::Equal } else { folder.cmp(bound) }
}

#[cfg(test)]
mod tests;
