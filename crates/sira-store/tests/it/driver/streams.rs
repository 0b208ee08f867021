//! Values that are written while they come.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_core::Stream;
use parking_lot::Mutex;
use sira_store::driver::{Area, Driver, DriverBackend, DriverProfile, Guard, Part, Place, Record};
use sira_store::{
    ByteStream, Condition, HealthStatus, Result, StorageBackend, StorageError, StorageOptions,
    Version,
};

use super::memory::{Kind, MemoryDriver};
use super::{chunked, value};

const MIB: usize = 1 << 20;

/// Waits for what goes on after its caller has left: chunks that are removed.
pub(super) async fn settled(driver: &MemoryDriver) {
    let ours = |keys: Vec<String>| keys.iter().filter(|key| !key.contains("expiry/")).count();
    for _ in 0..200 {
        if ours(driver.keys(Area::Chunks)) == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Parts, one after the other, and then an end or none.
struct Parts {
    parts: VecDeque<io::Result<Bytes>>,
    ends: bool,
}

impl Parts {
    fn of(value: &Bytes, bytes: usize) -> Self {
        let parts = value.chunks(bytes).map(|part| Ok(value.slice_ref(part)));
        Self { parts: parts.collect(), ends: true }
    }

    fn boxed(self) -> ByteStream {
        Box::pin(self)
    }
}

impl Stream for Parts {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.parts.pop_front() {
            None if !self.ends => Poll::Pending,
            part => Poll::Ready(part),
        }
    }
}

#[tokio::test]
async fn parts_of_any_size_are_one_value() {
    let (driver, backend) = chunked();
    let value = value(1);
    for bytes in [1_000, 65_535, 65_536, 65_537, 200_000, 300_000] {
        let body = Parts::of(&value, bytes).boxed();
        let version = backend.put_stream("k", body, StorageOptions::default()).await.unwrap();
        assert_eq!(backend.get("k").await.unwrap(), Some(value.clone()), "{bytes}");
        let head = backend.head("k").await.unwrap().unwrap();
        assert_eq!((head.version, head.size), (version, 300_000));
        assert_eq!(driver.keys(Area::Chunks).len(), 5, "those of the value before are gone");
    }
    // What fits lies in the record.
    for size in [0, 1, 65_536] {
        let body = Parts::of(&value.slice(..size), 1_000).boxed();
        backend.put_stream("k", body, StorageOptions::default()).await.unwrap();
        assert_eq!(backend.get("k").await.unwrap(), Some(value.slice(..size)));
        assert_eq!(driver.keys(Area::Chunks).len(), 0, "{size}");
    }
}

#[tokio::test]
async fn what_does_not_come_whole_leaves_nothing() {
    let (driver, backend) = chunked();
    let mut failing = Parts::of(&value(1), 10_000);
    failing.parts.push_back(Err(io::Error::other("cut")));
    let failed = backend.put_stream("k", failing.boxed(), StorageOptions::default()).await;
    assert!(matches!(failed, Err(StorageError::InvalidInput(_))), "{failed:?}");
    assert_eq!(driver.keys(Area::Chunks), [""; 0]);

    let endless = Parts { ends: false, ..Parts::of(&value(1), 10_000) }.boxed();
    let write = backend.put_stream("k", endless, StorageOptions::default());
    let waited = tokio::time::timeout(Duration::from_millis(50), write).await;
    assert!(waited.is_err());
    settled(&driver).await;
    assert_eq!(driver.keys(Area::Chunks), [""; 0]);
    assert_eq!(backend.get("k").await.unwrap(), None);
}

#[tokio::test]
async fn refused_streams_leave_nothing() {
    let (driver, backend) = chunked();
    backend.put("k", "held".into(), StorageOptions::default()).await.unwrap();
    let absent = StorageOptions { condition: Condition::IfAbsent, ..StorageOptions::default() };
    // Before the chunks, without the end of the value.
    let endless = Parts { ends: false, ..Parts::of(&value(1), 10_000) }.boxed();
    let refused = backend.put_stream("k", endless, absent.clone()).await;
    assert!(matches!(refused, Err(StorageError::PreconditionFailed(_))), "{refused:?}");

    // After them, by a writer that comes in between.
    let writer = DriverBackend::new(driver.clone());
    let meanwhile = futures_util::stream::once(async move {
        writer.put("new", "other".into(), StorageOptions::default()).await.unwrap();
        Ok(Bytes::from_static(b"end"))
    });
    let body = futures_util::StreamExt::chain(Parts::of(&value(1), 10_000), meanwhile);
    let refused = backend.put_stream("new", Box::pin(body), absent).await;
    assert!(matches!(refused, Err(StorageError::PreconditionFailed(_))), "{refused:?}");
    assert_eq!(backend.get("new").await.unwrap().as_deref(), Some(&b"other"[..]));
    assert_eq!(driver.keys(Area::Chunks), [""; 0]);
}

#[tokio::test]
async fn chunks_of_old_versions_are_not_taken_for_leftovers() {
    let (driver, backend) = chunked();
    let old = StorageOptions { version: Some(Version::from_u64(1 << 30)), ..Default::default() };
    backend.put("put", value(1), old.clone()).await.unwrap();
    backend.put_stream("stream", Parts::of(&value(2), 9_000).boxed(), old).await.unwrap();
    // As if their records were about to be written.
    driver.forget("put");
    driver.forget("stream");
    assert_eq!(backend.maintain().await.unwrap(), 0);
    assert_eq!(driver.keys(Area::Chunks).len(), 10);
}

#[tokio::test]
async fn a_time_to_live_counts_from_the_end_and_chunks_outlive_it() {
    let (driver, backend) = chunked();
    let brief = StorageOptions { ttl: Some(Duration::from_secs(60)), ..StorageOptions::default() };
    backend.put_stream("k", Parts::of(&value(1), 9_000).boxed(), brief).await.unwrap();
    let expires = backend.head("k").await.unwrap().unwrap().expires_at_ms.unwrap();
    let place = Place { namespace: "default".into(), area: Area::Chunks };
    for chunk in driver.keys(Area::Chunks) {
        let record = driver.get(&place, &chunk, Part::Head).await.unwrap().unwrap();
        assert!(record.expires_at_ms.unwrap() >= expires);
    }
}

/// Bytes that have come and are not stored yet.
#[derive(Debug, Default)]
struct Gauge {
    now: usize,
    most: usize,
    stored: usize,
}

/// A driver that forgets bodies, slowly, and knows how many bytes it was given.
#[derive(Clone)]
struct Sink {
    heads: MemoryDriver,
    gauge: Arc<Mutex<Gauge>>,
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sink")
    }
}

#[async_trait]
impl Driver for Sink {
    fn profile(&self) -> DriverProfile {
        DriverProfile { value_bytes_max: 512 * MIB as u64, ..self.heads.profile() }
    }

    async fn put(&self, place: &Place, key: &str, record: Record, guard: Guard) -> Result<Version> {
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        let bytes = record.body.len();
        let head = Record { body: Bytes::new(), ..record };
        let version = self.heads.put(place, key, head, guard).await;
        let mut gauge = self.gauge.lock();
        gauge.now -= bytes;
        gauge.stored += bytes;
        version
    }

    async fn get(&self, place: &Place, key: &str, part: Part) -> Result<Option<Record>> {
        self.heads.get(place, key, part).await
    }

    async fn remove(&self, place: &Place, key: &str, guard: Guard) -> Result<bool> {
        self.heads.remove(place, key, guard).await
    }

    async fn health_check(&self) -> HealthStatus {
        HealthStatus::Healthy
    }
}

#[tokio::test]
async fn memory_stays_at_a_few_chunks() {
    const VALUE_MIB: usize = 256;
    let kind = Kind { body_bytes_max: 8 * MIB as u64, ..Kind::default() };
    let gauge = Arc::new(Mutex::new(Gauge::default()));
    let sink = Sink { heads: MemoryDriver::new(kind), gauge: Arc::clone(&gauge) };
    let backend = DriverBackend::new(sink);
    let parts = (0..VALUE_MIB * 16).map({
        let gauge = Arc::clone(&gauge);
        move |number| {
            let part = Bytes::from(vec![number as u8; MIB / 16]);
            let mut gauge = gauge.lock();
            gauge.now += part.len();
            gauge.most = gauge.most.max(gauge.now);
            Ok(part)
        }
    });
    let body = Box::pin(futures_util::stream::iter(parts));
    backend.put_stream("k", body, StorageOptions::default()).await.unwrap();
    let head = backend.head("k").await.unwrap().unwrap();
    assert_eq!(head.size, (VALUE_MIB * MIB) as u64);
    let gauge = gauge.lock();
    assert_eq!(gauge.stored, VALUE_MIB * MIB);
    // Four chunks under way, one that fills, and parts of another.
    assert!(gauge.most <= 6 * 8 * MIB, "{gauge:?}");
}
