//! Listings are complete, in byte order, and page without gaps or repeats.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::context::{Context, Outcome, ensure, race, same, works};
use super::suite::Verdict;
use crate::backend::{ListOptions, ListPage};

/// Pages of a listing after which it has run in circles.
const PAGES_MAX: usize = 10_000;

/// Names whose byte order is not that of words, numbers or letters.
const NAMES: &[&str] = &[
    "b",
    "a",
    "a/b",
    "a/b/c",
    "a/b/d",
    "a/",
    "a//",
    "a0",
    "a.",
    "a-",
    "A",
    "Z",
    "10",
    "9",
    "é",
    "e",
    "e\u{301}",
    "z",
    "日本",
    "\u{10FFFF}",
    "\u{E000}",
    "\u{7F}",
    "~",
    "\0",
    "\0\0",
    "a\0",
    " ",
    "aa",
    "c/1",
    "c/2",
    "c/3",
    "d/e/f/g",
];

/// A page of names as the trait defines it: keys and common prefixes are one sorted sequence, of
/// which those after `start_after` are listed.
fn model(keys: &BTreeSet<String>, options: &ListOptions) -> (Vec<String>, Vec<String>) {
    let after = |name: &str| options.start_after.as_deref().is_none_or(|after| name > after);
    let (mut entries, mut prefixes) = (Vec::new(), BTreeSet::new());
    for key in keys {
        let Some(rest) = key.strip_prefix(options.prefix.as_str()) else { continue };
        let folded =
            options.delimiter.as_deref().filter(|text| !text.is_empty()).and_then(|text| {
                let (first, _) = rest.split_once(text)?;
                Some(format!("{}{first}{text}", options.prefix))
            });
        match folded {
            Some(prefix) if after(&prefix) => {
                prefixes.insert(prefix);
            }
            None if after(key) => entries.push(key.clone()),
            Some(_) | None => {}
        }
    }
    (entries, prefixes.into_iter().collect())
}

/// All pages of a listing in one, each of them checked.
async fn pages(cx: &Context, mut options: ListOptions) -> Outcome<ListPage> {
    let mut all = ListPage::default();
    for _ in 0..PAGES_MAX {
        let page = works("list", &options.prefix, cx.backend.list(options.clone()).await)?;
        let held = page.entries.len() + page.common_prefixes.len();
        ensure!(
            options.limit == 0 || held <= options.limit,
            "expected up to {} names on a page, saw {held}",
            options.limit
        );
        let keys: Vec<_> = page.entries.iter().map(|entry| &entry.key).collect();
        ensure!(keys.is_sorted_by(|a, b| a < b), "expected keys in byte order, saw {keys:?}");
        ensure!(
            page.common_prefixes.is_sorted_by(|a, b| a < b),
            "expected common prefixes in byte order, saw {:?}",
            page.common_prefixes
        );
        all.entries.extend(page.entries);
        all.common_prefixes.extend(page.common_prefixes);
        let Some(next) = page.next else { return Ok(all) };
        ensure!(
            options.start_after.as_ref().is_none_or(|after| *after < next),
            "expected a page to lead on, saw {next:?} after {:?}",
            options.start_after
        );
        options.start_after = Some(next);
    }
    Err(format!("expected a listing to end, saw {PAGES_MAX} pages of it"))
}

/// Checks all pages of a listing against the model.
async fn agrees(cx: &Context, keys: &BTreeSet<String>, options: ListOptions) -> Verdict {
    let (entries, prefixes) = model(keys, &options);
    let what = format!(
        "prefix {:?}, start_after {:?}, delimiter {:?}, limit {}",
        options.prefix, options.start_after, options.delimiter, options.limit
    );
    let seen = pages(cx, options).await?;
    let keys: Vec<_> = seen.entries.into_iter().map(|entry| entry.key).collect();
    same(&format!("keys listed with {what}"), &keys, &entries)?;
    same(&format!("common prefixes listed with {what}"), &seen.common_prefixes, &prefixes)
}

/// Writes the names of this module, in an order of its own.
async fn write_names(cx: &Context) -> Outcome<BTreeSet<String>> {
    for name in NAMES {
        cx.put(&cx.key(name), (*name).to_owned()).await?;
    }
    Ok(NAMES.iter().map(|name| cx.key(name)).collect())
}

fn under(cx: &Context, prefix: &str) -> ListOptions {
    ListOptions { prefix: format!("{}{prefix}", cx.tag), ..ListOptions::default() }
}

pub(super) async fn ordered(cx: Context) -> Verdict {
    let keys = write_names(&cx).await?;
    agrees(&cx, &keys, under(&cx, "")).await?;
    let page = works("list", &cx.tag, cx.backend.list(under(&cx, "")).await)?;
    same("what follows the last page", &page.next, &None)?;
    for entry in page.entries {
        let head = cx.head(&entry.key).await?;
        let head = head.ok_or_else(|| format!("{:?} is listed and not there", entry.key))?;
        if cx.backend.capabilities().list_sizes {
            same("size in a listing", &entry.size, &head.size)?;
        }
        if let Some(version) = entry.version {
            same("version in a listing", &version, &head.version)?;
        }
        if entry.expires_at_ms.is_some() {
            same("expiry in a listing", &entry.expires_at_ms, &head.expires_at_ms)?;
        }
    }
    let sorted: Vec<_> = keys.into_iter().collect();
    let all = works("list_keys", &cx.tag, cx.backend.list_keys(&cx.tag, usize::MAX).await)?;
    same("list_keys without a limit", &all, &sorted)?;
    for limit in [0, 1, 5, sorted.len(), sorted.len() + 1] {
        let some = works("list_keys", &cx.tag, cx.backend.list_keys(&cx.tag, limit).await)?;
        let expected: Vec<_> = sorted.iter().take(limit).cloned().collect();
        same(&format!("list_keys up to {limit}"), &some, &expected)?;
    }
    Ok(())
}

pub(super) async fn paged(cx: Context) -> Verdict {
    let keys = write_names(&cx).await?;
    for limit in [1, 2, 3, 7, keys.len() - 1, keys.len(), keys.len() + 1, usize::MAX] {
        agrees(&cx, &keys, ListOptions { limit, ..under(&cx, "") }).await?;
    }
    let exact = ListOptions { limit: keys.len(), ..under(&cx, "") };
    let page = works("list", &cx.tag, cx.backend.list(exact).await)?;
    same("what follows a page that holds the last key", &page.next, &None)
}

pub(super) async fn prefix(cx: Context) -> Verdict {
    let keys = write_names(&cx).await?;
    let prefixes =
        ["a", "a/", "a/b", "a/b/", "a/b/c", "aa", "\0", "é", "e", "日", "b", "none", "Z"];
    for prefix in prefixes {
        for limit in [0, 2] {
            agrees(&cx, &keys, ListOptions { limit, ..under(&cx, prefix) }).await?;
        }
    }
    let long = "k".repeat(2000);
    agrees(&cx, &keys, under(&cx, &long)).await
}

pub(super) async fn start_after(cx: Context) -> Verdict {
    let keys = write_names(&cx).await?;
    let froms = ["", "a", "a/b", "a/b/c\0", "b", "c", "c/1", "c/9", "zzz", "\u{10FFFF}", "missing"];
    for prefix in ["", "a", "c/"] {
        for from in froms {
            for delimiter in [None, Some("/".to_owned())] {
                let start_after = Some(format!("{}{from}", cx.tag));
                let options = ListOptions { start_after, delimiter, ..under(&cx, prefix) };
                agrees(&cx, &keys, options).await?;
            }
        }
    }
    // Before and after everything with the prefix.
    for start_after in ["\0", "\u{10FFFF}\u{10FFFF}"] {
        let start_after = Some(start_after.to_owned());
        agrees(&cx, &keys, ListOptions { start_after, ..under(&cx, "") }).await?;
    }
    Ok(())
}

pub(super) async fn delimiter(cx: Context) -> Verdict {
    let keys = write_names(&cx).await?;
    for delimiter in ["/", "/b", "//", "\0", "é", "", "none"] {
        for prefix in ["", "a", "a/", "a/b", "c/", "d/", "none"] {
            let delimiter = Some(delimiter.to_owned());
            agrees(&cx, &keys, ListOptions { delimiter, ..under(&cx, prefix) }).await?;
        }
    }
    Ok(())
}

pub(super) async fn delimiter_pages(cx: Context) -> Verdict {
    let mut keys = write_names(&cx).await?;
    for number in 0..150 {
        for folder in ["many", "many2"] {
            let key = cx.key(format!("{folder}/{number:03}"));
            cx.put(&key, "v").await?;
            keys.insert(key);
        }
    }
    for limit in [1, 2, 3, 5, 100] {
        for prefix in ["", "many", "many/", "a/", "c"] {
            let delimiter = Some("/".to_owned());
            agrees(&cx, &keys, ListOptions { delimiter, limit, ..under(&cx, prefix) }).await?;
        }
    }
    Ok(())
}

pub(super) async fn follows_writes(cx: Context) -> Verdict {
    let mut keys = write_names(&cx).await?;
    for (number, name) in NAMES.iter().enumerate() {
        let key = cx.key(name);
        if number % 3 == 0 {
            cx.delete(&key).await?;
            keys.remove(&key);
        } else if number % 3 == 1 {
            cx.put(&key, vec![0; 1000]).await?;
        }
    }
    agrees(&cx, &keys, under(&cx, "")).await?;
    if cx.backend.capabilities().list_sizes {
        for entry in pages(&cx, under(&cx, "")).await?.entries {
            let object = cx.object(&entry.key).await?;
            same("size in a listing after writes", &entry.size, &(object.value.len() as u64))?;
        }
    }
    for key in &keys {
        cx.delete(key).await?;
    }
    agrees(&cx, &BTreeSet::new(), under(&cx, "")).await
}

pub(super) async fn while_writing(cx: Context) -> Verdict {
    const STABLE: usize = 200;
    let mut stable = BTreeSet::new();
    for number in 0..STABLE {
        let key = cx.key(format!("{number:04}"));
        cx.put(&key, "v").await?;
        stable.insert(key);
    }
    let (stable, over) = (Arc::new(stable), Arc::new(AtomicBool::new(false)));
    let verdicts = race(3, |number| {
        let (cx, stable, over) = (cx.clone(), Arc::clone(&stable), Arc::clone(&over));
        async move {
            if number > 0 {
                return churn(&cx, number, STABLE, &over).await;
            }
            let verdict = pages_hold(&cx, &stable).await;
            over.store(true, Ordering::Release);
            verdict
        }
    });
    verdicts.await?.into_iter().collect()
}

/// Overwrites the stable keys, and writes and removes keys between them, until `over`.
async fn churn(cx: &Context, number: usize, stable: usize, over: &AtomicBool) -> Verdict {
    let mut round = number;
    while !over.load(Ordering::Acquire) {
        round = (round * 7 + 13) % 100_003;
        let at = round % stable;
        cx.put(&cx.key(format!("{at:04}")), format!("round {round}")).await?;
        let between = cx.key(format!("{at:04}-{number}"));
        cx.put(&between, "v").await?;
        tokio::task::yield_now().await;
        cx.delete(&between).await?;
    }
    Ok(())
}

async fn pages_hold(cx: &Context, stable: &BTreeSet<String>) -> Verdict {
    for limit in [1, 3, 7, 50, 1000, 7, 3, 7] {
        let seen = pages(cx, ListOptions { limit, ..under(cx, "") }).await?;
        let keys: Vec<_> = seen.entries.into_iter().map(|entry| entry.key).collect();
        ensure!(keys.is_sorted_by(|a, b| a < b), "expected each key once and in order: {keys:?}");
        let seen: Vec<_> = keys.iter().filter(|key| stable.contains(*key)).collect();
        same("keys listed of those that were there all the time", &seen.len(), &stable.len())?;
        tokio::task::yield_now().await;
    }
    Ok(())
}
