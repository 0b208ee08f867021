//! Parts of an object are the same bytes as the whole has there.

use std::ops::Range;

use bytes::Bytes;

use super::context::{Context, fails, fill, same, same_bytes, works};
use super::suite::Verdict;
use crate::backend::ReadOptions;

const SIZES: [usize; 5] = [0, 1, 1000, 64 << 10, 300_001];

fn part(range: Range<u64>) -> ReadOptions {
    ReadOptions { range: Some(range), ..ReadOptions::default() }
}

async fn check(cx: &Context, key: &str, whole: &Bytes, range: Range<u64>) -> Verdict {
    let size = whole.len() as u64;
    let cut = range.start..range.end.min(size);
    let found = works("read", key, cx.backend.read(key, part(range.clone())).await)?;
    let object = found.ok_or_else(|| format!("{range:?}: expected bytes, saw no object"))?;
    let expected = whole.get(cut.start as usize..cut.end as usize).unwrap_or_default();
    same_bytes(&format!("{range:?} of {size}"), &object.value, expected)?;
    same(&format!("bytes told for {range:?} of {size}"), &object.range, &cut)?;
    same("size of the whole", &object.head.size, &size)?;
    let head = cx.head(key).await?;
    same("head of a part", &Some(object.head), &head)
}

pub(super) async fn cut(cx: Context) -> Verdict {
    for size in SIZES {
        let (key, whole, end) = (cx.key(size), fill(size, 7), size as u64);
        cx.put(&key, whole.clone()).await?;
        let middle = end / 2;
        let ranges = [
            0..0,
            0..end,
            0..end + 1,
            0..u64::MAX,
            0..middle,
            middle..middle,
            middle..end,
            middle..end + 100,
            end..end,
            end..end + 1,
            end..u64::MAX,
            end.saturating_sub(1)..end,
            end.saturating_sub(1)..u64::MAX,
        ];
        for range in ranges {
            check(&cx, &key, &whole, range).await?;
        }
    }
    Ok(())
}

pub(super) async fn refused_ranges(cx: &Context, key: &str, size: u64) -> Verdict {
    let reversed = Range { start: size.min(5), end: size.min(5).wrapping_sub(1) };
    let past = [size + 1..size + 1, size + 1..size + 2, size + 1000..u64::MAX];
    for range in past.into_iter().chain((reversed.end < reversed.start).then_some(reversed)) {
        let what = format!("{range:?} of {size} bytes");
        fails(&what, cx.backend.read(key, part(range)).await, &["invalid_input"])?;
    }
    Ok(())
}

pub(super) async fn refused(cx: Context) -> Verdict {
    for size in SIZES {
        let key = cx.key(size);
        cx.put(&key, fill(size, 7)).await?;
        refused_ranges(&cx, &key, size as u64).await?;
    }
    let key = cx.key("absent");
    let found = works("read", &key, cx.backend.read(&key, part(0..5)).await)?;
    same("part of nothing", &found.map(|object| object.range), &None)
}

pub(super) async fn random(cx: Context) -> Verdict {
    let (key, whole) = (cx.key("k"), fill(300_001, 9));
    cx.put(&key, whole.clone()).await?;
    let size = whole.len() as u64;
    let numbers = fill(16 * 200, 11);
    for pair in numbers.chunks_exact(16) {
        let number = |bytes: &[u8]| {
            bytes.iter().fold(0_u64, |number, byte| number.wrapping_mul(256) + u64::from(*byte))
        };
        let (left, right) = pair.split_at(8);
        let start = number(left) % (size + 1);
        let end = start + number(right) % 150_000;
        check(&cx, &key, &whole, start..end).await?;
    }
    Ok(())
}
