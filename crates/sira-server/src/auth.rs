//! Tokens: who may come in.

use subtle::ConstantTimeEq;

use crate::config::Secret;

/// Whether a presented token is the right one. Takes the same time wherever the two differ; only
/// the length shows.
#[must_use]
pub fn token_matches(expected: &Secret, presented: &[u8]) -> bool {
    expected.expose().as_bytes().ct_eq(presented).into()
}

/// The token of an `Authorization: Bearer` header; the scheme's name is case-insensitive (RFC 9110).
#[must_use]
pub fn bearer(header: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = header.split_at_checked(6)?;
    let token = rest.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"bearer") && rest.first() == Some(&b' ') && !token.is_empty())
        .then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_token_matches() {
        let secret = Secret::new("abc");
        assert!(token_matches(&secret, b"abc"));
        for wrong in ["", "ab", "abd", "abcd", "ABC"] {
            assert!(!token_matches(&secret, wrong.as_bytes()), "{wrong}");
        }
    }

    #[test]
    fn bearer_headers_are_parsed() {
        assert_eq!(bearer(b"Bearer abc"), Some(&b"abc"[..]));
        assert_eq!(bearer(b"bEARER   abc "), Some(&b"abc"[..]));
        for wrong in ["", "Bearer", "Bearer ", "Bearerabc", "Basic abc", "abc"] {
            assert_eq!(bearer(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
