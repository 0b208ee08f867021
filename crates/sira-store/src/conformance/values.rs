//! Values come back as they were written.

use std::io;

use bytes::Bytes;

use super::context::{Context, Outcome, Parts, ensure, fails, fill, race, same, same_bytes, works};
use super::suite::Verdict;
use crate::backend::ReadOptions;
use crate::options::StorageOptions;
use crate::version::Version;

/// Sizes at which engines change their ways: inline, page, block, chunk.
const SIZES: &[usize] = &[
    1,
    2,
    3,
    7,
    100,
    1 << 10,
    (4 << 10) - 1,
    4 << 10,
    (4 << 10) + 1,
    (64 << 10) - 1,
    64 << 10,
    (64 << 10) + 1,
    (128 << 10) + 17,
    1 << 20,
    (4 << 20) + 1,
    16 << 20,
    64 << 20,
    256 << 20,
];

pub(super) async fn empty(cx: Context) -> Verdict {
    let key = cx.key("k");
    cx.put(&key, Bytes::new()).await?;
    cx.holds(&key, b"").await?;
    same("delete of an empty object", &cx.delete(&key).await?, &true)?;
    cx.absent(&key).await
}

pub(super) async fn binary(cx: Context) -> Verdict {
    let every: Vec<u8> = (0..=255).collect();
    let values: [&[u8]; 6] = [&every, b"\0", b"\0\0\0\0", b"\xFF\xFE", b"\r\n\r\n", b"\xC3\x28"];
    for (number, value) in values.into_iter().enumerate() {
        let key = cx.key(number);
        cx.put(&key, value.to_vec()).await?;
        cx.holds(&key, value).await?;
    }
    Ok(())
}

pub(super) async fn sizes(cx: Context) -> Verdict {
    let largest = cx.options.value_bytes_max.min(cx.backend.capabilities().value_bytes_max);
    for &size in SIZES.iter().filter(|size| **size as u64 <= largest) {
        let (key, value) = (cx.key(size), fill(size, size as u64));
        cx.put(&key, value.clone()).await?;
        let object = cx.object(&key).await?;
        same_bytes(&key, &object.value, &value)?;
        same("size of the object", &object.head.size, &(size as u64))?;
        let tail =
            ReadOptions { range: Some(size as u64 - 1..size as u64), ..ReadOptions::default() };
        let tail = works("read", &key, cx.backend.read(&key, tail).await)?;
        let tail = tail.map(|object| object.value);
        same("last byte", &tail.as_deref(), &value.get(size - 1..))?;
        same("delete", &cx.delete(&key).await?, &true)?;
    }
    Ok(())
}

pub(super) async fn overwrite(cx: Context) -> Verdict {
    let key = cx.key("k");
    for (round, size) in [10, 100_000, 5, 0, 300, 300].into_iter().enumerate() {
        let value = fill(size, round as u64);
        cx.put(&key, value.clone()).await?;
        cx.holds(&key, &value).await?;
    }
    Ok(())
}

async fn stream(cx: &Context, key: &str, parts: Vec<io::Result<Bytes>>) -> crate::Result<Version> {
    cx.backend.put_stream(key, Box::pin(Parts::new(parts)), StorageOptions::default()).await
}

pub(super) async fn streamed(cx: Context) -> Verdict {
    let shapes: [&[usize]; 6] =
        [&[], &[0], &[1], &[0, 5, 0, 7, 0], &[1; 50], &[64 << 10, 3, 200_000, 1]];
    for (number, sizes) in shapes.into_iter().enumerate() {
        let key = cx.key(number);
        let parts: Vec<_> =
            sizes.iter().enumerate().map(|(part, size)| fill(*size, part as u64)).collect();
        let whole = parts.concat();
        let version = stream(&cx, &key, parts.into_iter().map(Ok).collect()).await;
        let version = works("put_stream", &key, version)?;
        let object = cx.holds(&key, &whole).await?;
        same("version of a streamed write", &object.head.version, &version)?;
    }
    Ok(())
}

pub(super) async fn failed_stream(cx: Context) -> Verdict {
    let broken = || {
        let error = io::Error::new(io::ErrorKind::ConnectionReset, "the sender went away");
        vec![Ok(fill(1000, 1)), Ok(fill(100_000, 2)), Err(error)]
    };
    let key = cx.key("k");
    let failed = stream(&cx, &key, broken()).await;
    fails("a stream that fails", failed, &["invalid_input"])?;
    cx.absent(&key).await?;
    let version = cx.put(&key, "before").await?;
    let failed = stream(&cx, &key, broken()).await;
    fails("a stream that fails", failed, &["invalid_input"])?;
    let object = cx.holds(&key, b"before").await?;
    same("version after a stream that fails", &object.head.version, &version)
}

pub(super) async fn whole_while_overwritten(cx: Context) -> Verdict {
    const ROUNDS: u64 = 100;
    // The seed of a value stands in its length, so a reader knows what it must hold.
    let value = |round: u64| fill(20_000 + round as usize, round);
    let key = cx.key("k");
    // By the handle that goes on: the versions of unconditional writes of several clocks need not grow.
    cx.racer(0).put(&key, value(0)).await?;
    let verdicts = race(4, |number| {
        let (cx, key) = (cx.racer(number), key.clone());
        async move {
            let mut last = Version::default();
            for round in 1..=ROUNDS {
                if number == 0 {
                    cx.put(&key, value(round)).await?;
                } else {
                    let object = cx.object(&key).await?;
                    let round = (object.value.len() as u64).saturating_sub(20_000).min(ROUNDS);
                    same_bytes("a value read while overwritten", &object.value, &value(round))?;
                    let version = object.head.version;
                    ensure!(version >= last, "version went back from {last} to {version}");
                    last = version;
                }
                tokio::task::yield_now().await;
            }
            Ok(())
        }
    });
    verdicts.await?.into_iter().collect::<Verdict>()?;
    cx.holds(&key, &value(ROUNDS)).await.map(|_| ())
}

pub(super) async fn tasks_read_their_own_writes(cx: Context) -> Verdict {
    let verdicts: Vec<Outcome<()>> = race(32, |number| {
        let (cx, key) = (cx.clone(), cx.key(number));
        async move {
            for round in 0..10 {
                let value = fill(200 + number * 10 + round, number as u64);
                cx.put(&key, value.clone()).await?;
                cx.holds(&key, &value).await?;
                tokio::task::yield_now().await;
            }
            same("delete", &cx.delete(&key).await?, &true)?;
            cx.absent(&key).await
        }
    })
    .await?;
    verdicts.into_iter().collect()
}
