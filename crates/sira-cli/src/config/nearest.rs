//! The right name that a wrong one was meant to be.

/// The nearest of the names, if one is near enough to have been meant.
pub fn nearest<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_ascii_lowercase().replace('-', "_");
    let measured = names.into_iter().map(|of| {
        let plain = of.to_ascii_lowercase().replace('-', "_");
        (distance(&name, &plain), of)
    });
    measured.min().filter(|(distance, of)| *distance <= of.len() / 2).map(|(_, of)| of)
}

/// Edits (insert, remove, replace, swap of neighbours) that turn one word into the other.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1; b.len() + 1];
        for (j, y) in b.iter().enumerate() {
            let mut best = (last[j] + usize::from(x != y)).min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                best = best.min(before[j - 1] + 1);
            }
            row[j + 1] = best;
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        assert_eq!(distance("root", "root"), 0);
        assert_eq!(distance("rooot", "root"), 1);
        assert_eq!(distance("orot", "root"), 1);
        assert_eq!(distance("", "root"), 4);
    }

    #[test]
    fn far_names_are_not_meant() {
        let names = ["backends", "routing", "compression"];
        assert_eq!(nearest("backend", names), Some("backends"));
        assert_eq!(nearest("Routing", names), Some("routing"));
        assert_eq!(nearest("xyzzy", names), None);
    }
}
