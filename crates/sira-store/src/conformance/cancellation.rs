//! An operation whose future is dropped, at whatever point, has taken effect whole or not at all,
//! and holds up none that comes after it.

use std::io;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::context::{
    Context, Parts, cancel_after, delete_operation, ensure, fill, put_operation,
    put_operation_with, same, works,
};
use super::suite::Verdict;
use crate::backend::ReadOptions;
use crate::metadata::Metadata;
use crate::options::StorageOptions;
use crate::version::Version;

/// Polls after which an operation is dropped.
const POLLS: std::ops::Range<usize> = 0..12;

/// Looks after the drop: what goes on behind it must not be seen half done either.
const LOOKS: usize = 5;

fn value(round: usize) -> Bytes {
    fill(200_000 + round, round as u64)
}

fn described(cx: &Context, text: &str) -> StorageOptions {
    let content_type = cx.backend.capabilities().metadata.then(|| text.to_owned());
    let metadata = Metadata { content_type, ..Metadata::default() };
    StorageOptions { metadata, ..StorageOptions::default() }
}

/// What a key held before a write that was dropped, and what the write would have left there.
struct Write {
    key: String,
    before: Option<(Version, Bytes)>,
    after: Bytes,
    described: StorageOptions,
}

impl Write {
    /// A write to a key that holds nothing in even rounds, and an object in odd ones.
    async fn prepare(cx: &Context, round: usize) -> Result<Self, String> {
        let key = cx.key(round);
        let before = match round % 2 {
            0 => None,
            _ => {
                let value = Bytes::from("before");
                Some((cx.put_with(&key, value.clone(), described(cx, "a/before")).await?, value))
            }
        };
        Ok(Self { key, before, after: value(round), described: described(cx, "a/after") })
    }

    /// Checks that all of the write is there or nothing of it, and says which.
    async fn look(&self, cx: &Context) -> Result<bool, String> {
        let object =
            works("read", &self.key, cx.backend.read(&self.key, ReadOptions::default()).await)?;
        let Some(object) = object else {
            ensure!(self.before.is_none(), "expected what was there before, saw nothing");
            return Ok(false);
        };
        if let Some((version, value)) = &self.before
            && object.head.version == *version
        {
            same("value before a dropped write", &object.value, value)?;
            let metadata = described(cx, "a/before").metadata;
            same("metadata before a dropped write", &object.head.metadata, &metadata)?;
            return Ok(false);
        }
        ensure!(
            object.value == self.after,
            "expected all of a dropped write or nothing of it, saw other bytes ({} of {})",
            object.value.len(),
            self.after.len()
        );
        same("metadata of a dropped write", &object.head.metadata, &self.described.metadata)?;
        Ok(true)
    }

    /// Looks several times, and checks that the key can be written afterwards.
    async fn settle(&self, cx: &Context, finished: bool) -> Verdict {
        for _ in 0..LOOKS {
            let written = self.look(cx).await?;
            ensure!(written || !finished, "expected an acknowledged write, saw nothing of it");
            tokio::task::yield_now().await;
        }
        Ok(())
    }
}

pub(super) async fn put(cx: Context) -> Verdict {
    for polls in POLLS {
        for round in [polls * 2, polls * 2 + 1] {
            let write = Write::prepare(&cx, round).await?;
            let future = cx.backend.put(&write.key, write.after.clone(), write.described.clone());
            let finished = cancel_after(polls, future).await;
            let finished = finished.map(|result| works("put", &write.key, result)).transpose()?;
            write.settle(&cx, finished.is_some()).await?;
            later(&cx, &write.key).await?;
        }
    }
    Ok(())
}

pub(super) async fn stream(cx: Context) -> Verdict {
    for polls in POLLS {
        for round in [polls * 2, polls * 2 + 1] {
            let write = Write::prepare(&cx, round).await?;
            let parts: Vec<io::Result<Bytes>> =
                write.after.chunks(50_000).map(|part| Ok(Bytes::copy_from_slice(part))).collect();
            let body = Parts::new(parts);
            let ended = body.ended();
            let future = cx.backend.put_stream(&write.key, Box::pin(body), write.described.clone());
            let finished = cancel_after(polls, future).await;
            let finished =
                finished.map(|result| works("put_stream", &write.key, result)).transpose()?;
            if !ended.load(Ordering::Acquire) {
                let written = write.look(&cx).await?;
                ensure!(!written, "expected nothing of a body that did not end, saw an object");
            }
            write.settle(&cx, finished.is_some()).await?;
            later(&cx, &write.key).await?;
        }
    }
    Ok(())
}

pub(super) async fn remove(cx: Context) -> Verdict {
    for polls in POLLS {
        let (key, value) = (cx.key(polls), value(polls));
        cx.put(&key, value.clone()).await?;
        let finished = cancel_after(polls, cx.backend.delete(&key)).await;
        let finished = finished.map(|result| works("delete", &key, result)).transpose()?;
        for _ in 0..LOOKS {
            match cx.read(&key).await? {
                Some(object) => {
                    ensure!(finished.is_none(), "expected nothing after a delete, saw an object");
                    same("bytes after a dropped delete", &object.value, &value)?;
                }
                None => cx.absent(&key).await?,
            }
            tokio::task::yield_now().await;
        }
        later(&cx, &key).await?;
    }
    Ok(())
}

pub(super) async fn batch(cx: Context) -> Verdict {
    for polls in POLLS {
        let write = Write::prepare(&cx, polls).await?;
        let (gone, other) = (cx.key(format!("{polls}gone")), cx.key(format!("{polls}other")));
        cx.put(&gone, "before").await?;
        let operations = vec![
            put_operation_with(&write.key, write.after.clone(), write.described.clone()),
            delete_operation(&gone),
            put_operation(&other, "after"),
        ];
        let finished = cancel_after(polls, cx.backend.batch(operations)).await;
        let finished = finished.map(|result| works("batch", "", result)).transpose()?;
        write.settle(&cx, finished.is_some()).await?;
        // Nothing of the batch goes on by now, or all of it has been seen.
        let written = write.look(&cx).await?;
        same("deletion beside a dropped write", &cx.read(&gone).await?.is_none(), &written)?;
        same("write beside a dropped write", &cx.read(&other).await?.is_some(), &written)?;
        for key in [&write.key, &gone, &other] {
            later(&cx, key).await?;
        }
    }
    Ok(())
}

/// Checks that the key can be written, read and removed after all that.
async fn later(cx: &Context, key: &str) -> Verdict {
    cx.put(key, "later").await?;
    cx.holds(key, b"later").await?;
    same("delete after a dropped operation", &cx.delete(key).await?, &true)
}
