//! Patterns of `KEYS`, `SCAN` and `CONFIG GET`.

#[cfg(test)]
mod tests;

/// Most stars that are followed at once; deeper ones match nothing.
const NESTING_MAX: usize = 1000;

/// Whether the whole text matches: `*`, `?`, `[a-z]`, `[^a-z]` and `\` before a literal.
pub(crate) fn matches(pattern: &[u8], text: &[u8], ignore_case: bool) -> bool {
    let mut give_up = false;
    matches_from(pattern, text, ignore_case, &mut give_up, 0)
}

/// The literal text that every match begins with.
pub(crate) fn literal_prefix(pattern: &[u8]) -> &[u8] {
    let special = |byte: &u8| matches!(byte, b'*' | b'?' | b'[' | b'\\');
    pattern.iter().position(special).and_then(|end| pattern.get(..end)).unwrap_or(pattern)
}

fn fold(byte: u8, ignore_case: bool) -> u8 {
    if ignore_case { byte.to_ascii_lowercase() } else { byte }
}

/// `give_up` is set once the rest of the text has been tried behind a star in vain: trying it
/// behind an earlier star cannot help, and would take exponential time.
fn matches_from(
    mut pattern: &[u8],
    mut text: &[u8],
    ignore_case: bool,
    give_up: &mut bool,
    depth: usize,
) -> bool {
    if depth > NESTING_MAX {
        return false;
    }
    while let Some((first, rest)) = pattern.split_first() {
        let Some((byte, text_rest)) = text.split_first() else {
            return pattern.iter().all(|byte| *byte == b'*');
        };
        match first {
            b'*' => {
                let stars = pattern.iter().take_while(|byte| **byte == b'*').count();
                let after = pattern.get(stars..).unwrap_or(&[]);
                if after.is_empty() {
                    return true;
                }
                let mut tail = text;
                loop {
                    if matches_from(after, tail, ignore_case, give_up, depth + 1) {
                        return true;
                    }
                    if *give_up {
                        return false;
                    }
                    match tail.split_first() {
                        Some((_, rest)) => tail = rest,
                        None => break,
                    }
                }
                *give_up = true;
                return false;
            }
            b'?' => pattern = rest,
            b'[' => {
                let (found, rest) = in_class(rest, *byte, ignore_case);
                if !found {
                    return false;
                }
                pattern = rest;
            }
            literal => {
                let (literal, rest) = match (literal, rest.split_first()) {
                    (b'\\', Some((escaped, rest))) => (escaped, rest),
                    _ => (literal, rest),
                };
                if fold(*literal, ignore_case) != fold(*byte, ignore_case) {
                    return false;
                }
                pattern = rest;
            }
        }
        text = text_rest;
    }
    text.is_empty()
}

/// Whether a byte is in the class that begins here, and what follows the class. A class without
/// an end goes to the end of the pattern.
fn in_class(class: &[u8], byte: u8, ignore_case: bool) -> (bool, &[u8]) {
    let byte = fold(byte, ignore_case);
    let (negated, mut rest) = match class {
        [b'^', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let mut found = false;
    loop {
        rest = match rest {
            [] => break,
            [b']', after @ ..] => {
                rest = after;
                break;
            }
            [b'\\', literal, after @ ..] => {
                found |= fold(*literal, ignore_case) == byte;
                after
            }
            [low, b'-', high, after @ ..] => {
                let (low, high) = (fold(*low, ignore_case), fold(*high, ignore_case));
                found |= (low.min(high)..=low.max(high)).contains(&byte);
                after
            }
            [literal, after @ ..] => {
                found |= fold(*literal, ignore_case) == byte;
                after
            }
        };
    }
    (found != negated, rest)
}
