//! The same key in two namespaces is two objects.

use super::context::{Context, Outcome, fails, get_operation, put_operation, same, works};
use super::suite::Verdict;
use crate::backend::ListOptions;
use crate::limits::NAMESPACE_BYTES_MAX;

async fn enter(cx: &Context, name: &str) -> Outcome<Context> {
    Ok(cx.on(works("namespace", name, cx.backend.namespace(name).await)?))
}

pub(super) async fn apart(cx: Context) -> Verdict {
    let (a, b) = (enter(&cx, "conformance-a").await?, enter(&cx, "conformance-b").await?);
    let spaces = [(&cx, "whole"), (&a, "a"), (&b, "b")];
    let key = cx.key("k");
    for (space, value) in spaces {
        space.put(&key, value).await?;
    }
    for (space, value) in spaces {
        space.holds(&key, value.as_bytes()).await?;
        if space.backend.capabilities().list {
            let options = ListOptions { prefix: cx.tag.clone(), ..ListOptions::default() };
            let page = works("list", &cx.tag, space.backend.list(options).await)?;
            let sizes: Vec<_> = page.entries.iter().map(|entry| entry.size).collect();
            same("objects listed in a namespace", &sizes.len(), &1)?;
            if space.backend.capabilities().list_sizes {
                same("sizes listed in a namespace", &sizes, &vec![value.len() as u64])?;
            }
        }
    }
    // The same name is the same namespace.
    let again = enter(&cx, "conformance-a").await?;
    again.holds(&key, b"a").await?;
    a.batch(vec![put_operation(&key, "a2"), get_operation(&key)]).await?;
    again.holds(&key, b"a2").await?;
    b.holds(&key, b"b").await?;

    same("delete in a namespace", &again.delete(&key).await?, &true)?;
    a.absent(&key).await?;
    b.holds(&key, b"b").await?;
    cx.holds(&key, b"whole").await?;
    same("delete outside", &cx.delete(&key).await?, &true)?;
    b.holds(&key, b"b").await?;
    same("delete in the other", &b.delete(&key).await?, &true)
}

pub(super) async fn refused(cx: Context) -> Verdict {
    let long = "n".repeat(NAMESPACE_BYTES_MAX + 1);
    for name in ["", ".", "..", "_a", "a/b", "/", "a\0b", "a\nb", &long] {
        let result = cx.backend.namespace(name).await.map(|_| ());
        fails(&format!("namespace {name:?}"), result, &["invalid_input", "too_large"])?;
    }
    Ok(())
}
