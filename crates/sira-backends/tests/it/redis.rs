//! Redis, single and as a cluster.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sira_backends::redis::{RedisBackend, RedisDriver, RedisOptions};
use sira_store::driver::{Area, Change, Driver, Guard, Part, Place, Record, Scan};
use sira_store::{HealthStatus, Retry, StorageError, Version};

use crate::conform::conforms;
use crate::support::{env, unique};
use crate::{contract, edges};

pub fn single(prefix: &str) -> RedisOptions {
    RedisOptions::new(env("SIRA_TEST_REDIS_URL"), prefix)
}

pub fn cluster(prefix: &str) -> RedisOptions {
    RedisOptions::cluster(env("SIRA_TEST_REDIS_CLUSTER_URLS").split(','), prefix)
}

pub fn prefix() -> String {
    format!("{}:", unique("sira"))
}

async fn connect(options: &RedisOptions) -> Arc<dyn Driver> {
    Arc::new(RedisDriver::connect(options.clone()).await.unwrap())
}

fn place() -> Place {
    Place { namespace: "test".into(), area: Area::Objects }
}

fn record(version: u64) -> Record {
    Record {
        version: Version::from_u64(version),
        body: Bytes::from_static(b"body"),
        ..Record::default()
    }
}

/// Answer of the bare server.
pub async fn ask<T: redis::FromRedisValue>(command: &[&str]) -> redis::RedisResult<T> {
    let client = redis::Client::open(env("SIRA_TEST_REDIS_URL"))?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    let mut cmd = redis::Cmd::new();
    cmd.arg(command).query_async(&mut connection).await
}

/// Removes what a test has left under its prefix.
pub async fn clean(prefix: &str) {
    let keys: Vec<String> = ask(&["KEYS", &format!("{prefix}*")]).await.unwrap();
    for key in keys {
        let _: i64 = ask(&["DEL", &key]).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn single_driver() {
    for buckets in [None, Some(5)] {
        let options = RedisOptions { buckets, ..single(&prefix()) };
        let (driver, peer) = (connect(&options).await, connect(&options).await);
        assert!(driver.profile().atomic_batch);
        edges::check(&*driver, &*peer).await;
        let left: Vec<String> = ask(&["KEYS", &format!("{}*", options.prefix)]).await.unwrap();
        assert_eq!(left, [format!("{}{{sira}}", options.prefix)], "nothing else stays behind");
        contract::check(&[driver, peer]).await;
        clean(&options.prefix).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn single_conforms() {
    let options = single(&prefix());
    let (url, name) = (env("SIRA_TEST_REDIS_URL"), options.prefix.clone());
    let first = Arc::new(RedisBackend::new(url, name).await.unwrap());
    let second = Arc::new(RedisBackend::connect(options.clone()).await.unwrap());
    let third = Arc::new(RedisBackend::connect(options.clone()).await.unwrap());
    conforms("redis", vec![first, second, third]).await;
    clean(&options.prefix).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cluster_driver() {
    let options = cluster(&prefix());
    let (driver, peer) = (connect(&options).await, connect(&options).await);
    assert!(!driver.profile().atomic_batch);
    edges::check(&*driver, &*peer).await;
    contract::check(&[driver, peer]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cluster_conforms() {
    let options = cluster(&prefix());
    let first = Arc::new(RedisBackend::connect(options.clone()).await.unwrap());
    let second = Arc::new(RedisBackend::connect(options).await.unwrap());
    conforms("redis", vec![first, second]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_counts_the_keys_of_all_nodes() {
    let driver = connect(&cluster(&prefix())).await;
    let changes = (0..1000).map(|number| Change::Put {
        key: number.to_string(),
        record: record(1),
        guard: Guard::always(0),
    });
    for result in driver.apply_many(&place(), changes.collect()).await {
        result.unwrap();
    }
    let stats = driver.stats().await.unwrap();
    assert_eq!(stats.keys, 1000);
    assert!(stats.used_bytes > 0);
    let removals =
        (0..1000).map(|number| Change::Remove { key: number.to_string(), guard: Guard::always(0) });
    for result in driver.apply_many(&place(), removals.collect()).await {
        result.unwrap();
    }
    assert_eq!(driver.stats().await.unwrap().keys, 0);
}

#[tokio::test]
async fn scripts_that_the_server_forgot_are_sent_again() {
    let options = single(&prefix());
    let driver = connect(&options).await;
    driver.put(&place(), "a", record(1), Guard::always(0)).await.unwrap();
    let _: () = ask(&["SCRIPT", "FLUSH"]).await.unwrap();
    driver.put(&place(), "a", record(2), Guard::always(0)).await.unwrap();
    let _: () = ask(&["SCRIPT", "FLUSH"]).await.unwrap();
    let put =
        |key: &str| Change::Put { key: key.into(), record: record(3), guard: Guard::always(0) };
    let remove = |key: &str| Change::Remove { key: key.into(), guard: Guard::always(0) };
    let changes = vec![put("b"), remove("a"), put("c"), remove("b2")];
    let results = driver.apply_many(&place(), changes).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    let keys = ["a", "b", "c"].map(String::from);
    assert_eq!(
        driver.get_many(&place(), &keys).await.unwrap(),
        [None, Some(record(3)), Some(record(3))]
    );
    clean(&options.prefix).await;
}

#[tokio::test]
async fn the_server_drops_what_has_long_expired() {
    let options = single(&prefix());
    let driver = connect(&options).await;
    let now_ms = 1_800_000_000_000;
    let expiring = Record { expires_at_ms: Some(now_ms + 500), ..record(1) };
    driver.put(&place(), "key", expiring, Guard::always(now_ms)).await.unwrap();
    let value = format!("{}{{0}}o/test/key", options.prefix);
    let ttl: i64 = ask(&["PTTL", &value]).await.unwrap();
    assert!((50_000..=60_500).contains(&ttl), "{ttl}");

    let _: i64 = ask(&["DEL", &value]).await.unwrap();
    let all = || Scan { limit: 10, ..Scan::default() };
    assert_eq!(driver.scan(&place(), all()).await.unwrap(), []);
    let index: i64 = ask(&["ZCARD", &format!("{}{{0}}o", options.prefix)]).await.unwrap();
    let expiries: i64 = ask(&["ZCARD", &format!("{}{{0}}ox", options.prefix)]).await.unwrap();
    assert_eq!((index, expiries), (0, 0), "a scan drops what names a record that is gone");

    let lasting = Record { expires_at_ms: Some(u64::MAX), ..record(2) };
    driver.put(&place(), "key", lasting, Guard::always(now_ms)).await.unwrap();
    let ttl: i64 = ask(&["PTTL", &value]).await.unwrap();
    assert_eq!(ttl, -1);
    clean(&options.prefix).await;
}

#[tokio::test]
async fn a_user_of_few_rights_whose_connections_break() {
    let user = unique("user");
    let prefix = prefix();
    let keys = format!("~{prefix}*");
    let rights = ["+@read", "+@write", "+@scripting", "+@connection", "-@dangerous"];
    let command = [&["ACL", "SETUSER", &user, "on", ">secret", &keys][..], &rights].concat();
    let _: () = ask(&command).await.unwrap();
    let options = RedisOptions {
        username: Some(user.clone()),
        password: Some("secret".into()),
        ..single(&prefix)
    };
    let driver = connect(&options).await;
    assert_eq!(driver.health_check().await, HealthStatus::Healthy);
    driver.put(&place(), "key", record(1), Guard::always(0)).await.unwrap();

    let killed: i64 = ask(&["CLIENT", "KILL", "USER", &user]).await.unwrap();
    assert_eq!(killed, options.pool_size as i64);
    // Each connection of the pool may tell that it was lost, and is made anew.
    let mut version = 2;
    for _ in 0..4 * options.pool_size {
        match driver.put(&place(), "key", record(version), Guard::always(0)).await {
            Ok(_) => version += 1,
            Err(error) => assert_eq!(error.code(), "unavailable", "{error}"),
        }
    }
    assert!(version > 2 * options.pool_size as u64, "{version}");
    let held = driver.get(&place(), "key", Part::Whole).await.unwrap().unwrap();
    assert!(held.version.as_u64() >= version - 1);

    let other = RedisOptions { prefix: "elsewhere:".into(), ..options };
    let refused = RedisDriver::connect(other).await;
    assert!(matches!(refused, Err(StorageError::PermissionDenied(_))), "{refused:?}");
    let _: i64 = ask(&["ACL", "DELUSER", &user]).await.unwrap();
    clean(&prefix).await;
}

#[tokio::test]
async fn bytes_of_others_are_corrupt() {
    let options = single(&prefix());
    let driver = connect(&options).await;
    let value = format!("{}{{0}}o/test/key", options.prefix);
    let _: () = ask(&["SET", &value, "nothing of ours"]).await.unwrap();
    for part in [Part::Whole, Part::Head, Part::Range(0..1)] {
        let read = driver.get(&place(), "key", part).await;
        assert!(matches!(read, Err(StorageError::Corrupt(_))), "{read:?}");
    }
    let written = driver.put(&place(), "key", record(1), Guard::always(0)).await;
    assert!(matches!(written, Err(StorageError::Corrupt(_))), "{written:?}");
    assert!(driver.remove(&place(), "key", Guard::always(0)).await.unwrap());
    let _: i64 = ask(&["LPUSH", &value, "a list"]).await.unwrap();
    let read = driver.get(&place(), "key", Part::Whole).await;
    assert!(matches!(read, Err(StorageError::Corrupt(_))), "{read:?}");
    clean(&options.prefix).await;
}

#[tokio::test]
async fn the_number_of_buckets_is_kept() {
    let options = single(&prefix());
    let eight = RedisOptions { buckets: Some(8), ..options.clone() };
    let both = tokio::join!(RedisDriver::connect(eight.clone()), RedisDriver::connect(eight));
    both.0.unwrap();
    both.1.unwrap().put(&place(), "a", record(1), Guard::always(0)).await.unwrap();
    let follower = connect(&options).await;
    assert_eq!(follower.get(&place(), "a", Part::Whole).await.unwrap(), Some(record(1)));
    let other = RedisDriver::connect(RedisOptions { buckets: Some(9), ..options.clone() }).await;
    assert!(matches!(other, Err(StorageError::InvalidInput(_))), "{other:?}");

    let description = format!("{}{{sira}}", options.prefix);
    let _: i64 = ask(&["HSET", &description, "format", "2"]).await.unwrap();
    let newer = RedisDriver::connect(options.clone()).await;
    assert!(matches!(newer, Err(StorageError::Unsupported(_))), "{newer:?}");
    clean(&options.prefix).await;
}

#[tokio::test]
async fn what_cannot_be_reached_or_is_refused() {
    let refused = RedisDriver::connect(RedisOptions::new("redis://127.0.0.1:1", "x:")).await;
    let error = refused.unwrap_err();
    assert!(matches!(error, StorageError::Unavailable(_)), "{error}");
    assert_eq!(error.retry(), Retry::Temporary);
    let refused = RedisDriver::connect(RedisOptions::cluster(["redis://127.0.0.1:1"], "x:")).await;
    assert!(matches!(refused, Err(StorageError::Unavailable(_))), "{refused:?}");

    let options = RedisOptions {
        username: Some("nobody".into()),
        password: Some("hunter2".into()),
        connect_timeout: Duration::from_secs(2),
        ..single(&prefix())
    };
    let error = RedisDriver::connect(options.clone()).await.unwrap_err();
    assert!(matches!(error, StorageError::PermissionDenied(_)), "{error}");
    assert!(!format!("{options:?} {error} {error:?}").contains("hunter2"));

    let hidden = RedisOptions::new("redis://user:hunter2@127.0.0.1:1/0", "x:");
    let error = RedisDriver::connect(hidden.clone()).await.unwrap_err();
    let wrong = RedisDriver::connect(RedisOptions::new("redis:user:hunter2@", "x:")).await;
    let texts = format!("{hidden:?} {error} {error:?} {wrong:?}");
    assert!(!texts.contains("hunter2"), "{texts}");
    assert!(matches!(wrong, Err(StorageError::InvalidInput(_))), "{wrong:?}");
    for options in [
        RedisOptions { urls: Vec::new(), ..single("x:") },
        RedisOptions { pool_size: 0, ..single("x:") },
        RedisOptions { buckets: Some(0), ..single("x:") },
        RedisOptions { prefix: "{x}".into(), ..RedisOptions::cluster(["redis://h:1"], "") },
    ] {
        let error = RedisDriver::connect(options).await.unwrap_err();
        assert!(matches!(error, StorageError::InvalidInput(_)), "{error}");
    }
}
