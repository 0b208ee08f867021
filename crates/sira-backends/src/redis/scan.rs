//! Listings: the buckets' indexes, merged.

use std::collections::VecDeque;

use redis::Value;
use sira_store::driver::{Listed, Place, RecordHead, Scan};
use sira_store::{Result, StorageError};

use super::error::Effect;
use super::layout::{Bucket, Layout};
use super::link::Link;
use super::reply;
use super::script::{COLLECT, Request};

/// Most members that one bucket is asked for at once.
const PAGE_MAX: usize = 1_000;

/// The members of one bucket's index, in order.
struct Cursor<'a> {
    bucket: &'a Bucket,
    /// Where the next page begins, as the server takes it.
    min: Vec<u8>,
    members: VecDeque<Vec<u8>>,
    /// The index holds no more after these.
    ended: bool,
}

pub(super) async fn scan(
    link: &Link,
    layout: &Layout,
    place: &Place,
    scan: Scan,
) -> Result<Vec<Listed>> {
    let root = format!("{}/", place.namespace);
    let begin = [root.as_bytes(), scan.prefix.as_bytes()].concat();
    // No UTF-8 text holds the byte 0xFF.
    let max = [b"(", &begin[..], b"\xFF"].concat();
    let after = scan.after.as_ref().map(|after| [root.as_bytes(), &after.to_bytes()].concat());
    let min = match after {
        Some(after) if after >= begin => [b"(", &after[..]].concat(),
        _ => [b"[", &begin[..]].concat(),
    };
    let mut cursors: Vec<_> = layout
        .buckets()
        .iter()
        .map(|bucket| Cursor { bucket, min: min.clone(), members: VecDeque::new(), ended: false })
        .collect();
    let mut listed = Vec::new();
    while listed.len() < scan.limit {
        let wanted = scan.limit - listed.len();
        fill(link, place, &mut cursors, &max, wanted).await?;
        let members = merge(&mut cursors, wanted);
        if members.is_empty() {
            break;
        }
        describe(link, place, &root, members, &mut listed).await?;
    }
    Ok(listed)
}

/// Asks the indexes whose members have run out for more.
async fn fill(
    link: &Link,
    place: &Place,
    cursors: &mut [Cursor<'_>],
    max: &[u8],
    wanted: usize,
) -> Result<()> {
    let page = if cursors.len() == 1 { wanted } else { wanted / cursors.len() * 5 / 4 + 8 };
    let page = page.min(PAGE_MAX);
    let mut empty: Vec<_> =
        cursors.iter_mut().filter(|cursor| cursor.members.is_empty() && !cursor.ended).collect();
    let requests = empty.iter().map(|cursor| {
        Request::new("ZRANGEBYLEX", cursor.bucket.slot())
            .arg(cursor.bucket.index(place.area))
            .arg(&cursor.min)
            .arg(max)
            .arg("LIMIT")
            .arg(0)
            .arg(page)
    });
    let answers = link.run_all(requests.collect(), Effect::Read).await;
    for (cursor, answer) in empty.iter_mut().zip(answers) {
        for member in reply::array(answer?)? {
            cursor.members.push_back(reply::bytes(member)?.into());
        }
        cursor.ended = cursor.members.len() < page;
        if let Some(last) = cursor.members.back() {
            cursor.min = [b"(", &last[..]].concat();
        }
    }
    Ok(())
}

/// Takes the smallest members, up to `wanted`, until a cursor has run out that may have more.
fn merge<'a>(cursors: &mut [Cursor<'a>], wanted: usize) -> Vec<(&'a Bucket, Vec<u8>)> {
    let mut members = Vec::new();
    while members.len() < wanted
        && cursors.iter().all(|cursor| cursor.ended || !cursor.members.is_empty())
    {
        let first = cursors
            .iter_mut()
            .filter(|cursor| !cursor.members.is_empty())
            .min_by(|a, b| a.members.front().cmp(&b.members.front()));
        let Some(cursor) = first else { break };
        members.extend(cursor.members.pop_front().map(|member| (cursor.bucket, member)));
    }
    members
}

/// Reads the heads of the members' records. Members whose record the server has dropped by itself
/// leave the index.
async fn describe(
    link: &Link,
    place: &Place,
    root: &str,
    members: Vec<(&Bucket, Vec<u8>)>,
    listed: &mut Vec<Listed>,
) -> Result<()> {
    let names: Vec<_> =
        members.iter().map(|(bucket, member)| bucket.names(place.area, member)).collect();
    let requests = names.iter().map(|names| {
        Request::new("GETRANGE", names.slot)
            .arg(&names.value)
            .arg(0)
            .arg(sira_store::driver::HEAD_BYTES - 1)
    });
    let heads = link.run_all(requests.collect(), Effect::Read).await;
    let mut dangling = Vec::new();
    for ((names, (_, member)), head) in names.into_iter().zip(members).zip(heads) {
        let head = reply::bytes(head?)?;
        if head.is_empty() {
            dangling.push(Request::call(&COLLECT, &[names]).arg(0));
            continue;
        }
        let head = RecordHead::decode(&head)?;
        listed.push(Listed {
            key: key_of(member, root)?,
            size: head.size,
            version: Some(head.version),
            expiry: head.expires_at_ms.into(),
        });
    }
    for answer in link.run_all(dangling, Effect::Write).await {
        let _: Value = answer?;
    }
    Ok(())
}

fn key_of(member: Vec<u8>, root: &str) -> Result<String> {
    let member = String::from_utf8(member).ok();
    let key = member.as_deref().and_then(|member| member.strip_prefix(root));
    key.map(str::to_owned).ok_or_else(|| {
        StorageError::corrupt("the index on the Redis server holds a key that is not UTF-8")
    })
}
