use std::cell::Cell;
use std::collections::BTreeSet;

use super::*;

/// Lists `keys` and says how many of them the scan visited.
fn list(keys: &BTreeSet<Vec<u8>>, options: &ListOptions) -> (ListPage, usize) {
    let visited = Cell::new(0);
    let made = page(options, |after, visit| {
        for key in keys {
            if !key.starts_with(options.prefix.as_bytes())
                || after.is_some_and(|after| key.as_slice() <= after)
            {
                continue;
            }
            visited.set(visited.get() + 1);
            let found = Found { key, size: 1, version: None, expires_at_ms: None };
            if visit(found).is_break() {
                break;
            }
        }
        Ok(())
    });
    (made.unwrap(), visited.get())
}

fn keys(texts: &[&str]) -> BTreeSet<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

fn names(page: &ListPage) -> (Vec<&str>, Vec<&str>) {
    (
        page.entries.iter().map(|entry| entry.key.as_str()).collect(),
        page.common_prefixes.iter().map(String::as_str).collect(),
    )
}

fn options(prefix: &str, delimiter: Option<&str>, limit: usize) -> ListOptions {
    ListOptions {
        prefix: prefix.to_owned(),
        start_after: None,
        delimiter: delimiter.map(str::to_owned),
        limit,
    }
}

#[test]
fn folds_and_skips_what_is_under_a_common_prefix() {
    let mut all = keys(&["a", "b", "b0", "c/", "d/1"]);
    for i in 0..10_000 {
        all.insert(format!("b/{i:05}").into_bytes());
    }
    let (page, visited) = list(&all, &options("", Some("/"), 0));
    assert_eq!(names(&page), (vec!["a", "b", "b0"], vec!["b/", "c/", "d/"]));
    assert_eq!(page.next, None);
    assert_eq!(visited, 6);
}

#[test]
fn pages_join_to_the_whole_for_every_limit() {
    let all = keys(&["a", "a/", "a/b/c", "a/b/d", "a//", "a0", "b/x", "b/\u{10FFFF}", "c"]);
    for delimiter in [None, Some("/"), Some("//"), Some("")] {
        for prefix in ["", "a", "a/", "b/", "x"] {
            let (whole, _) = list(&all, &options(prefix, delimiter, 0));
            for limit in 1..6 {
                let mut joined = ListPage::default();
                let mut request = options(prefix, delimiter, limit);
                loop {
                    let (page, _) = list(&all, &request);
                    let held = page.entries.len() + page.common_prefixes.len();
                    assert!(held <= limit);
                    joined.entries.extend(page.entries);
                    joined.common_prefixes.extend(page.common_prefixes);
                    match page.next {
                        Some(next) => {
                            assert_eq!(held, limit);
                            request.start_after = Some(next);
                        }
                        None => break,
                    }
                }
                assert_eq!(joined, whole, "{prefix:?} {delimiter:?} {limit}");
            }
        }
    }
}

#[test]
fn a_common_prefix_before_start_after_is_not_listed_again() {
    let all = keys(&["a/1", "a/2", "a/3", "b"]);
    for after in ["a/", "a/1", "a/9"] {
        let request =
            ListOptions { start_after: Some(after.to_owned()), ..options("", Some("/"), 0) };
        assert_eq!(names(&list(&all, &request).0), (vec!["b"], vec![]));
    }
    let request = ListOptions { start_after: Some("a".to_owned()), ..options("", Some("/"), 0) };
    assert_eq!(names(&list(&all, &request).0), (vec!["b"], vec!["a/"]));
}

#[test]
fn leaves_out_keys_that_are_not_text() {
    let mut all = keys(&["a", "b"]);
    all.extend([vec![0xFF], b"a\xFF".to_vec(), b"x/\xFE".to_vec()]);
    let (page, _) = list(&all, &options("", Some("/"), 2));
    assert_eq!(names(&page), (vec!["a", "b"], vec![]));
    assert_eq!(page.next, None);
}

#[test]
fn limits_are_cut_to_the_largest_page() {
    let all: BTreeSet<_> =
        (0..LIST_LIMIT_MAX + 5).map(|i| format!("{i:06}").into_bytes()).collect();
    let (page, _) = list(&all, &options("", None, usize::MAX));
    assert_eq!(page.entries.len(), LIST_LIMIT_MAX);
    assert_eq!(page.next.as_deref(), Some("009999"));
    assert_eq!(list(&all, &options("", None, 0)).0.entries.len(), LIST_LIMIT_DEFAULT);
}
