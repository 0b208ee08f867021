//! Query parameters, read strictly: an unknown name, or one that is given twice, is an error.

use sira_store::StorageError;

use crate::http::path::percent_decode;

/// Calls `accept` with each parameter's decoded name and value; it says whether it knows the name.
///
/// # Errors
/// [`StorageError::InvalidInput`] for malformed encoding, for names that are not in `known` and for
/// those that are given twice.
pub fn read(
    query: Option<&str>,
    known: &[&str],
    mut accept: impl FnMut(&str, String) -> Result<(), StorageError>,
) -> Result<(), StorageError> {
    let mut given = Vec::new();
    for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let decode = |text: &str| percent_decode(&text.replace('+', " "));
        let name = decode(name)?;
        if !known.contains(&name.as_str()) {
            let known = match known {
                [] => "there are none here".to_owned(),
                known => format!("known are {}", known.join(", ")),
            };
            return Err(StorageError::invalid_input(format!(
                "the query parameter {name:?} is not known; {known}"
            )));
        }
        if given.contains(&name) {
            return Err(StorageError::invalid_input(format!(
                "the query parameter {name:?} is given twice"
            )));
        }
        accept(&name, decode(value)?)?;
        given.push(name);
    }
    Ok(())
}

/// Checks that there are no parameters.
///
/// # Errors
/// As [`read`].
pub fn none(query: Option<&str>) -> Result<(), StorageError> {
    read(query, &[], |_, _| Ok(()))
}

/// A flag: present without a value, or `true` or `false`.
///
/// # Errors
/// [`StorageError::InvalidInput`].
pub fn flag(name: &str, value: &str) -> Result<bool, StorageError> {
    match value {
        "" | "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(StorageError::invalid_input(format!("{name} is `true` or `false`"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(query: &str) -> Result<Vec<(String, String)>, StorageError> {
        let mut pairs = Vec::new();
        read(Some(query), &["a", "b c"], |name, value| {
            pairs.push((name.to_owned(), value));
            Ok(())
        })?;
        Ok(pairs)
    }

    #[test]
    fn parameters_are_decoded_strictly() {
        let expected = |list: &[(&str, &str)]| -> Vec<(String, String)> {
            list.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
        };
        assert_eq!(pairs("").unwrap(), expected(&[]));
        assert_eq!(pairs("a=&&b+c=x%2By+z=").unwrap(), expected(&[("a", ""), ("b c", "x+y z=")]));
        for query in ["x=1", "a=%", "a=%ff", "%zz=1", "a=1&%61"] {
            assert_eq!(pairs(query).unwrap_err().code(), "invalid_input", "{query}");
        }
    }

    #[test]
    fn flags_are_true_false_or_bare() {
        assert!(flag("f", "").unwrap() && flag("f", "true").unwrap());
        assert!(!flag("f", "false").unwrap());
        assert!(flag("f", "maybe").is_err());
    }
}
