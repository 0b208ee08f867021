//! Every write has a version of its own, and versions only grow.

use std::collections::BTreeSet;

use super::context::{Context, Outcome, ensure, race, same, works};
use super::suite::Verdict;
use crate::version::Version;

pub(super) async fn told(cx: Context) -> Verdict {
    let key = cx.key("k");
    for round in 0..3 {
        let value = format!("round {round}");
        let version = cx.put(&key, value.clone()).await?;
        ensure!(version != Version::default(), "expected a version above 0, saw {version}");
        let object = cx.holds(&key, value.as_bytes()).await?;
        same("version that a read tells", &object.head.version, &version)?;
        let again = cx.object(&key).await?;
        same("version of a second read", &again.head.version, &version)?;
    }
    Ok(())
}

pub(super) async fn grow(cx: Context) -> Verdict {
    let mut last = Version::default();
    for round in 0..200 {
        // The same bytes again are a new version too.
        let version = cx.put(&cx.key(round % 3), "v").await?;
        ensure!(version > last, "expected a version above {last}, saw {version}");
        last = version;
    }
    Ok(())
}

pub(super) async fn grow_past_delete(cx: Context) -> Verdict {
    let key = cx.key("k");
    let mut last = Version::default();
    for _ in 0..20 {
        let version = cx.put(&key, "v").await?;
        ensure!(version > last, "expected a version above {last} after a delete, saw {version}");
        last = version;
        same("delete", &cx.delete(&key).await?, &true)?;
    }
    Ok(())
}

pub(super) async fn unique(cx: Context) -> Verdict {
    const ROUNDS: usize = 20;
    let tasks = cx.options.racing_writers;
    let versions: Vec<Outcome<Vec<Version>>> = race(tasks, |number| {
        let cx = cx.clone();
        async move {
            let mut versions = Vec::new();
            for round in 0..ROUNDS {
                let key = cx.key((number + round) % 5);
                versions.push(cx.put(&key, "v").await?);
                tokio::task::yield_now().await;
            }
            Ok(versions)
        }
    })
    .await?;
    let mut all = BTreeSet::new();
    for versions in versions {
        let versions = versions?;
        ensure!(versions.is_sorted(), "versions of one writer do not grow: {versions:?}");
        all.extend(versions);
    }
    same("versions that differ", &all.len(), &(tasks * ROUNDS))
}

pub(super) async fn delete_says_what_was_there(cx: Context) -> Verdict {
    let key = cx.key("k");
    same("delete of nothing", &cx.delete(&key).await?, &false)?;
    cx.put(&key, "v").await?;
    same("delete of an object", &cx.delete(&key).await?, &true)?;
    same("second delete", &cx.delete(&key).await?, &false)?;
    cx.absent(&key).await?;

    // Of many that remove at once, one removes.
    for round in 0..10 {
        let key = cx.key(round);
        cx.put(&key, "v").await?;
        let there = race(cx.options.racing_writers, |_| {
            let (cx, key) = (cx.clone(), key.clone());
            async move { works("delete", &key, cx.backend.delete(&key).await) }
        })
        .await?;
        let there: Vec<bool> = there.into_iter().collect::<Outcome<_>>()?;
        let removed = there.into_iter().filter(|there| *there).count();
        same("racing deletes that removed the object", &removed, &1)?;
    }
    Ok(())
}
