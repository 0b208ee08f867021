//! Namespaces of plain bytes, which other clients read and write.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sira_backends::object_store::{AzureBlobBackend, GcsBackend, MinioBackend, S3Backend};
use sira_backends::redis::RedisBackend;
use sira_store::{
    Condition, ListOptions, Metadata, ReadOptions, StorageBackend, StorageError, StorageOptions,
    Version,
};

use crate::support::unique;
use crate::{object_store, redis};

fn on(condition: Condition) -> StorageOptions {
    StorageOptions { condition, ..StorageOptions::default() }
}

/// What every engine does, and what it refuses that it does not declare.
async fn contract(plain: &Arc<dyn StorageBackend>) {
    let can = plain.capabilities();
    assert!(!can.exact_versions && !can.atomic_batch && can.range);
    assert_eq!(plain.get("a/b.txt").await.unwrap(), None);
    assert!(!plain.delete("a/b.txt").await.unwrap());
    let first = plain.put("a/b.txt", Bytes::from("one two"), on(Condition::Always)).await.unwrap();
    assert!(first.is_state());
    let head = plain.head("a/b.txt").await.unwrap().unwrap();
    assert_eq!((head.version, head.size, head.expires_at_ms), (first, 7, None));
    assert_eq!(plain.get("a/b.txt").await.unwrap().as_deref(), Some(&b"one two"[..]));
    let read = |range| plain.read("a/b.txt", ReadOptions { range, ..ReadOptions::default() });
    let part = read(Some(4..100)).await.unwrap().unwrap();
    assert_eq!((&part.value[..], part.range, part.head.size), (&b"two"[..], 4..7, 7));
    assert_eq!(part.head.version, first);
    assert_eq!(&read(Some(7..9)).await.unwrap().unwrap().value[..], b"");
    assert!(matches!(read(Some(8..9)).await, Err(StorageError::InvalidInput(_))));
    plain.put("empty", Bytes::new(), on(Condition::Always)).await.unwrap();
    assert_eq!(plain.get("empty").await.unwrap().as_deref(), Some(&b""[..]));
    let second = plain.put("a/b.txt", Bytes::from("other"), on(Condition::Always)).await.unwrap();
    assert_ne!(first, second);
    let stale = ReadOptions { condition: Condition::IfMatch(first), ..ReadOptions::default() };
    let refused = plain.read("a/b.txt", stale).await;
    assert!(matches!(refused, Err(StorageError::PreconditionFailed(_))), "{refused:?}");

    let ttl = StorageOptions { ttl: Some(Duration::from_secs(60)), ..StorageOptions::default() };
    let typed = Metadata { content_type: Some("text/csv".to_owned()), ..Metadata::default() };
    let typed = StorageOptions { metadata: typed, ..StorageOptions::default() };
    let tagged =
        Metadata { user: [("a".to_owned(), "b".to_owned())].into(), ..Metadata::default() };
    let tagged = StorageOptions { metadata: tagged, ..StorageOptions::default() };
    let exact = StorageOptions { version: Some(Version::from_u64(9)), ..StorageOptions::default() };
    for (options, declared) in
        [(ttl, can.ttl), (typed, can.metadata), (tagged, false), (exact, false)]
    {
        let put = plain.put("options", Bytes::from("v"), options.clone()).await;
        match declared {
            true => drop(put.unwrap()),
            false => assert!(matches!(put, Err(StorageError::Unsupported(_))), "{options:?}"),
        }
        let head = plain.head("options").await.unwrap();
        let kept = head.map(|head| (head.expires_at_ms.is_some(), head.metadata.content_type));
        if declared {
            let wanted = (options.ttl.is_some(), options.metadata.content_type);
            assert_eq!(
                kept.map(|(expires, kind)| (
                    expires,
                    kind.filter(|_| can.metadata && wanted.1.is_some())
                )),
                Some(wanted)
            );
        }
    }
    if can.list {
        for key in ["x/1", "x/2", "x/y/3", "x0"] {
            plain.put(key, Bytes::from("12"), on(Condition::Always)).await.unwrap();
        }
        assert_eq!(plain.list_keys("x/", 10).await.unwrap(), ["x/1", "x/2", "x/y/3"]);
        let options = ListOptions {
            prefix: "x".to_owned(),
            delimiter: Some("/".to_owned()),
            limit: 1,
            ..ListOptions::default()
        };
        let page = plain.list(options.clone()).await.unwrap();
        assert_eq!(
            (page.common_prefixes, page.next.as_deref()),
            (vec!["x/".to_owned()], Some("x/"))
        );
        let page = plain.list(ListOptions { start_after: page.next, ..options }).await.unwrap();
        assert_eq!((&*page.entries[0].key, page.entries[0].size, page.next), ("x0", 2, None));
    } else {
        let refused = plain.list(ListOptions::default()).await;
        assert!(matches!(refused, Err(StorageError::Unsupported(_))), "{refused:?}");
    }
    if can.conditional {
        conditions(plain).await;
    } else {
        let refused = plain.put("c", Bytes::from("1"), on(Condition::IfAbsent)).await;
        assert!(matches!(refused, Err(StorageError::Unsupported(_))), "{refused:?}");
    }
    assert!(plain.delete("a/b.txt").await.unwrap());
    assert!(!plain.exists("a/b.txt").await.unwrap());
}

async fn conditions(plain: &Arc<dyn StorageBackend>) {
    let put = |value: &'static str, condition| plain.put("c", Bytes::from(value), on(condition));
    let failed = |result: Result<_, _>| match result {
        Err(StorageError::PreconditionFailed(_)) => {}
        other => panic!("{other:?}"),
    };
    failed(put("0", Condition::IfPresent).await.map(drop));
    let first = put("0", Condition::IfAbsent).await.unwrap();
    failed(put("1", Condition::IfAbsent).await.map(drop));
    failed(put("1", Condition::IfNoneMatch(first)).await.map(drop));
    let second = put("1", Condition::IfMatch(first)).await.unwrap();
    failed(put("2", Condition::IfMatch(first)).await.map(drop));
    failed(put("2", Condition::IfMatch(Version::from_u64(7))).await.map(drop));
    assert_ne!(first, second);
    let third = put("2", Condition::IfPresent).await.unwrap();
    failed(plain.remove("c", Condition::IfMatch(first)).await.map(drop));
    assert!(plain.remove("c", Condition::IfMatch(third)).await.unwrap());
    // Sixteen who count up lose nothing.
    put("0", Condition::Always).await.unwrap();
    let mut racers = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let plain = Arc::clone(plain);
        racers.spawn(async move {
            for _ in 0..3 {
                loop {
                    let held = plain.read("c", ReadOptions::default()).await.unwrap().unwrap();
                    let number: u32 = std::str::from_utf8(&held.value).unwrap().parse().unwrap();
                    let value = Bytes::from((number + 1).to_string());
                    match plain.put("c", value, on(Condition::IfMatch(held.head.version))).await {
                        Ok(_) => break,
                        Err(StorageError::PreconditionFailed(_) | StorageError::Conflict(_)) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            }
        });
    }
    racers.join_all().await;
    assert_eq!(plain.get("c").await.unwrap().as_deref(), Some(&b"48"[..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn strings_of_redis() {
    let prefix = redis::prefix();
    for options in [redis::single(&prefix), redis::cluster(&prefix)] {
        let backend = RedisBackend::connect(options).await.unwrap();
        contract(&backend.plain("shared").await.unwrap()).await;
    }
    let backend = RedisBackend::connect(redis::single(&prefix)).await.unwrap();
    let plain = backend.plain("shared").await.unwrap();
    plain.put("k", Bytes::from("ours"), on(Condition::Always)).await.unwrap();
    let name = format!("{prefix}shared:k");
    assert_eq!(redis::ask::<String>(&["GET", &name]).await.unwrap(), "ours");
    redis::ask::<String>(&["SET", &name, "theirs", "PX", "60000"]).await.unwrap();
    let object = plain.read("k", ReadOptions::default()).await.unwrap().unwrap();
    assert_eq!(&object.value[..], b"theirs");
    let left = object.head.expires_at_ms.unwrap().saturating_sub(crate::support::now_ms());
    assert!((50_000..=61_000).contains(&left), "{left}");
    redis::ask::<i64>(&["PEXPIRE", &name, "1"]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert_eq!(plain.get("k").await.unwrap(), None);
    // What is no string is no object.
    redis::ask::<i64>(&["HSET", &name, "field", "v"]).await.unwrap();
    assert!(plain.get("k").await.is_err());
    redis::clean(&prefix).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_of_every_store() {
    let prefix = unique("plain");
    let backends: [Arc<dyn StorageBackend>; 4] = [
        Arc::new(S3Backend::new(object_store::s3(&prefix)).await.unwrap()),
        Arc::new(MinioBackend::new(object_store::minio(&prefix)).await.unwrap()),
        Arc::new(AzureBlobBackend::new(object_store::azure(&prefix)).await.unwrap()),
        Arc::new(GcsBackend::new(object_store::gcs(&prefix)).await.unwrap()),
    ];
    for backend in backends {
        let plain = backend.plain("shared").await.unwrap();
        contract(&plain).await;
        for key in ["/a", "a//b", "a/", "a/../b", "./a", "a\nb"] {
            let refused = plain.put(key, Bytes::from("v"), on(Condition::Always)).await;
            assert!(matches!(refused, Err(StorageError::InvalidInput(_))), "{key:?} {refused:?}");
        }
        // The records of the same name are others.
        let records = backend.namespace("records").await.unwrap();
        records.put("k", Bytes::from("v"), on(Condition::Always)).await.unwrap();
        assert_eq!(plain.get("k").await.unwrap(), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_client_of_the_bucket_sees_the_bytes() {
    let prefix = unique("plain");
    let backend = S3Backend::new(object_store::s3(&prefix)).await.unwrap();
    let plain = backend.plain("shared").await.unwrap();
    let other = object_store::other_client();
    let metadata = Metadata { content_type: Some("text/csv".into()), ..Metadata::default() };
    let options = StorageOptions { metadata, ..StorageOptions::default() };
    plain.put("day 1/ä.csv", Bytes::from("a,b"), options).await.unwrap();
    let path = format!("{prefix}/shared/day 1/ä.csv");
    assert_eq!(other.read(&path).await.unwrap().to_vec(), b"a,b");
    assert_eq!(other.stat(&path).await.unwrap().content_type(), Some("text/csv"));
    let large = vec![7_u8; 9 << 20];
    other.write(&format!("{prefix}/shared/theirs"), large.clone()).await.unwrap();
    other.create_dir(&format!("{prefix}/shared/folder/")).await.unwrap();
    assert!(plain.get("theirs").await.unwrap().unwrap() == large);
    assert_eq!(plain.list_keys("", 10).await.unwrap(), ["day 1/ä.csv", "theirs"]);
    assert!(plain.delete("theirs").await.unwrap());
    assert!(other.stat(&format!("{prefix}/shared/theirs")).await.is_err());
}

#[tokio::test]
async fn engines_without_plain_bytes_say_so() {
    let memory = sira_store::MemoryBackend::new(1 << 20);
    let refused = memory.plain("a").await.unwrap_err();
    assert!(refused.to_string().contains("plain bytes"), "{refused}");
}
