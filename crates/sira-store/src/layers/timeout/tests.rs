use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::*;
use crate::backend::{
    BatchOperation, BatchResult, ByteStream, Capabilities, Object, ObjectHead, ReadOptions,
    StorageBackend,
};
use crate::memory::MemoryBackend;
use crate::metadata::Metadata;
use crate::options::{Condition, StorageOptions};
use crate::version::Version;

/// An engine that takes its time, and knows an object of 10 MiB.
#[derive(Debug)]
struct Slow {
    takes: Duration,
    head_takes: Duration,
}

const LARGE: u64 = 10 << 20;

#[async_trait]
impl StorageBackend for Slow {
    fn capabilities(&self) -> Capabilities {
        MemoryBackend::new(0).capabilities()
    }

    async fn put(&self, _: &str, _: Bytes, _: StorageOptions) -> Result<Version> {
        sleep(self.takes).await;
        Ok(Version::default())
    }

    async fn put_stream(
        &self,
        _: &str,
        mut body: ByteStream,
        _: StorageOptions,
    ) -> Result<Version> {
        while let Some(part) = poll_fn(|cx| body.as_mut().poll_next(cx)).await {
            let _ = part;
        }
        sleep(self.takes).await;
        Ok(Version::default())
    }

    async fn read(&self, _: &str, _: ReadOptions) -> Result<Option<Object>> {
        sleep(self.takes).await;
        Ok(None)
    }

    async fn head(&self, _: &str) -> Result<Option<ObjectHead>> {
        sleep(self.head_takes).await;
        let metadata = Metadata::default();
        Ok(Some(ObjectHead {
            version: Version::default(),
            size: LARGE,
            expires_at_ms: None,
            metadata,
        }))
    }

    async fn remove(&self, _: &str, _: Condition) -> Result<bool> {
        sleep(self.takes).await;
        Ok(true)
    }

    async fn batch(&self, _: Vec<BatchOperation>) -> Result<Vec<BatchResult>> {
        sleep(self.takes).await;
        Ok(Vec::new())
    }

    async fn health_check(&self) -> HealthStatus {
        sleep(self.takes).await;
        HealthStatus::Healthy
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// An engine behind deadlines of 2 s for reads, 4 s for writes and 1 MiB/s.
fn store(takes: Duration, head_takes: Duration) -> Arc<dyn StorageBackend> {
    let options = TimeoutOptions {
        read: seconds(2),
        write: seconds(4),
        list: seconds(6),
        batch: seconds(8),
        bytes_per_second_min: 1 << 20,
    };
    let slow = Arc::new(Slow { takes, head_takes });
    Arc::new(TimeoutLayer::new(slow, Arc::new(Timeouts::new(options))))
}

fn late<T: std::fmt::Debug>(result: Result<T>, retry: Retry) {
    let error = result.unwrap_err();
    assert_eq!((error.code(), error.retry()), ("timeout", retry), "{error}");
}

fn put(bytes: usize) -> (Bytes, StorageOptions) {
    (vec![0; bytes].into(), StorageOptions::default())
}

#[tokio::test(start_paused = true)]
async fn writes_that_run_out_are_ambiguous_and_reads_temporary() {
    let in_time = store(Duration::from_millis(1900), seconds(0));
    let (value, options) = put(0);
    in_time.put("key", value.clone(), options.clone()).await.unwrap();
    in_time.get("key").await.unwrap();
    assert_eq!(in_time.health_check().await, HealthStatus::Healthy);

    let never = store(seconds(3600), seconds(3600));
    late(never.put("key", value.clone(), options.clone()).await, Retry::Ambiguous);
    late(never.remove("key", Condition::Always).await, Retry::Ambiguous);
    late(never.get("key").await, Retry::Temporary);
    late(never.head("key").await, Retry::Temporary);
    let get = BatchOperation::Get { key: "key".into() };
    late(never.batch(vec![get.clone()]).await, Retry::Temporary);
    let put = BatchOperation::Put { key: "key".into(), value, options };
    late(never.batch(vec![get, put]).await, Retry::Ambiguous);
    assert!(matches!(never.health_check().await, HealthStatus::Critical(_)));
}

#[tokio::test(start_paused = true)]
async fn large_values_get_the_time_that_they_need() {
    // 10 MiB at 1 MiB/s on top of 4 s.
    let (value, options) = put(LARGE as usize);
    store(seconds(13), seconds(0)).put("key", value.clone(), options.clone()).await.unwrap();
    late(store(seconds(15), seconds(0)).put("key", value, options).await, Retry::Ambiguous);
    let range = |end| ReadOptions { range: Some(0..end), ..ReadOptions::default() };
    store(seconds(11), seconds(0)).read("key", range(LARGE)).await.unwrap();
    late(store(seconds(11), seconds(0)).read("key", range(1024)).await, Retry::Temporary);
    // The size of a whole value is asked for, and an end that means "all" is no size.
    store(seconds(11), seconds(0)).read("key", ReadOptions::default()).await.unwrap();
    store(seconds(11), seconds(0)).read("key", range(u64::MAX)).await.unwrap();
    late(store(seconds(13), seconds(0)).get("key").await, Retry::Temporary);
    late(store(seconds(11), seconds(3)).get("key").await, Retry::Temporary);
}

/// A body of parts, with a pause before each.
fn body(parts: usize, pause: Duration, then_never: bool) -> ByteStream {
    struct Body(usize, Duration, Pin<Box<tokio::time::Sleep>>, bool);
    impl futures_core::Stream for Body {
        type Item = std::io::Result<Bytes>;
        fn poll_next(
            mut self: Pin<&mut Self>,
            cx: &mut std::task::Context<'_>,
        ) -> Poll<Option<Self::Item>> {
            std::task::ready!(self.2.as_mut().poll(cx));
            if self.0 == 0 {
                return if self.3 { Poll::Pending } else { Poll::Ready(None) };
            }
            self.0 -= 1;
            self.2 = Box::pin(sleep(self.1));
            Poll::Ready(Some(Ok(Bytes::from_static(b"part"))))
        }
    }
    Box::pin(Body(parts, pause, Box::pin(sleep(pause)), then_never))
}

#[tokio::test(start_paused = true)]
async fn a_stream_may_take_as_long_as_its_value_arrives() {
    let options = StorageOptions::default();
    let quick = store(seconds(0), seconds(0));
    quick.put_stream("key", body(20, seconds(3), false), options.clone()).await.unwrap();
    // The engine waits for the caller, however long.
    let waiting = quick.put_stream("key", body(1, seconds(0), true), options.clone());
    assert!(timeout(seconds(600), waiting).await.is_err());
    let slow = store(seconds(3600), seconds(0));
    late(slow.put_stream("key", body(20, seconds(3), false), options).await, Retry::Ambiguous);
}

#[test]
fn without_a_runtime_there_is_no_deadline() {
    let memory = Arc::new(MemoryBackend::new(1 << 20));
    let timeouts = Arc::new(Timeouts::new(TimeoutOptions::default()));
    let store = TimeoutLayer::new(memory, timeouts);
    pollster::block_on(async {
        let (value, options) = put(3);
        store.put("key", value, options).await.unwrap();
        assert_eq!(store.health_check().await, HealthStatus::Healthy);
    });
}
