//! Any UTF-8 text of 1 to 1,024 bytes is a key, and no two keys are the same.

use super::context::{Context, delete_operation, fails, get_operation, put_operation, same, works};
use super::suite::Verdict;
use crate::backend::{BatchResult, ReadOptions};
use crate::limits::KEY_BYTES_MAX;
use crate::options::{Condition, StorageOptions};

/// Texts that path handling, escaping, folding and C strings tend to break.
const ODD: &[&str] = &[
    "/",
    "//",
    "a//b",
    "a/",
    ".",
    "..",
    "../..",
    "./a",
    "a/../b",
    " ",
    "  ",
    " a",
    "a ",
    "\t",
    "\n",
    "\r\n",
    "\0",
    "a\0b",
    "a\0",
    "%",
    "%2F",
    "%00",
    "?",
    "?a=b",
    "#",
    "*",
    "[a]",
    "{a}",
    "\\",
    "\"",
    "'",
    ":",
    ";",
    ",",
    "=",
    "&",
    "+",
    "-",
    "_",
    "~",
    "|",
    "<>",
    "$(a)",
    "`a`",
    "A",
    "a",
    "É",
    "é",
    "e\u{301}",
    "ß",
    "ss",
    "İ",
    "i",
    "\u{7F}",
    "\u{80}",
    "\u{FEFF}",
    "\u{202E}",
    "\u{FFFD}",
    "\u{D7FF}",
    "\u{E000}",
    "\u{10FFFF}",
    "🦀",
    "日本",
    "CON",
    "con.",
    "null",
];

pub(super) async fn longest(cx: Context) -> Verdict {
    let pad = |last: char| {
        let rest = KEY_BYTES_MAX - cx.tag.len() - last.len_utf8();
        cx.own(format!("{}{}{last}", cx.tag, "k".repeat(rest)))
    };
    let keys = [pad('a'), pad('b'), pad('é'), pad('/'), pad('\u{10FFFF}')];
    for (number, key) in keys.iter().enumerate() {
        same("length of the key", &key.len(), &KEY_BYTES_MAX)?;
        cx.put(key, vec![number as u8]).await?;
    }
    for (number, key) in keys.iter().enumerate() {
        cx.holds(key, &[number as u8]).await?;
        same("delete", &cx.delete(key).await?, &true)?;
        cx.absent(key).await?;
    }
    Ok(())
}

pub(super) async fn refused_keys(cx: &Context, key: &str) -> Verdict {
    let codes = &["invalid_input", "too_large"];
    let what = |operation: &str| format!("{operation} of a key of {} bytes", key.len());
    let backend = &cx.backend;
    let put = backend.put(key, "v".into(), StorageOptions::default()).await;
    fails(&what("put"), put, codes)?;
    fails(&what("read"), backend.read(key, ReadOptions::default()).await, codes)?;
    fails(&what("remove"), backend.remove(key, Condition::Always).await, codes)?;
    fails(&what("get"), backend.get(key).await, codes)?;
    fails(&what("delete"), backend.delete(key).await, codes)?;
    fails(&what("head"), backend.head(key).await, codes)?;
    fails(&what("exists"), backend.exists(key).await, codes)?;
    let operations = [get_operation(key), put_operation(key, "v"), delete_operation(key)];
    for operation in operations {
        let result = works("batch", "", backend.batch(vec![operation]).await)?.pop();
        match result {
            Some(BatchResult::Error(error)) => {
                fails::<()>(&what("batch"), Err(error), codes)?;
            }
            other => return Err(format!("{}: expected an error, saw {other:?}", what("batch"))),
        }
    }
    Ok(())
}

pub(super) async fn refused(cx: Context) -> Verdict {
    refused_keys(&cx, "").await?;
    refused_keys(&cx, &"k".repeat(KEY_BYTES_MAX + 1)).await?;
    refused_keys(&cx, &"é".repeat(KEY_BYTES_MAX / 2 + 1)).await?;
    refused_keys(&cx, &"k".repeat(KEY_BYTES_MAX * 70)).await
}

pub(super) async fn odd(cx: Context) -> Verdict {
    let mut keys = Vec::new();
    for text in ODD {
        keys.push(cx.own(format!("{}{text}", cx.tag)));
        keys.push(cx.own(format!("{text}{}", cx.tag)));
        keys.push(cx.own(format!("{}{text}x", cx.tag)));
    }
    keys.sort_unstable();
    keys.dedup();
    let value = |number: usize| format!("value {number}");
    for (number, key) in keys.iter().enumerate() {
        cx.put(key, value(number)).await?;
    }
    for (number, key) in keys.iter().enumerate() {
        cx.holds(key, value(number).as_bytes()).await?;
    }
    for (number, key) in keys.iter().enumerate() {
        if number % 2 == 0 {
            same(&format!("delete of {key:?}"), &cx.delete(key).await?, &true)?;
        }
    }
    for (number, key) in keys.iter().enumerate() {
        if number % 2 == 0 {
            cx.absent(key).await?;
        } else {
            cx.holds(key, value(number).as_bytes()).await?;
        }
    }
    Ok(())
}

pub(super) async fn apart(cx: Context) -> Verdict {
    let names = ["a", "ab", "a/", "a/b", "a\0", "a ", "A", "b"];
    for name in names {
        cx.put(&cx.key(name), name).await?;
    }
    for (number, name) in names.iter().enumerate() {
        same("delete", &cx.delete(&cx.key(name)).await?, &true)?;
        cx.absent(&cx.key(name)).await?;
        for other in names.iter().skip(number + 1) {
            cx.holds(&cx.key(other), other.as_bytes()).await?;
        }
    }
    Ok(())
}

pub(super) async fn shortest(cx: Context) -> Verdict {
    let view = works("namespace", "", cx.backend.namespace("conformance").await)?;
    let cx = cx.on(view);
    for key in ["k", "/", "\0", "."] {
        cx.put(&cx.own(key.to_owned()), key).await?;
        cx.holds(key, key.as_bytes()).await?;
        same("delete", &cx.delete(key).await?, &true)?;
        cx.absent(key).await?;
    }
    Ok(())
}
