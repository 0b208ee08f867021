use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::FmtSpan;

use tracing::Level;

use super::*;
use crate::backend::StorageBackend;
use crate::memory::MemoryBackend;
use crate::options::{Condition, StorageOptions};

#[derive(Debug, Clone, Default)]
struct Text(Arc<Mutex<Vec<u8>>>);

impl io::Write for Text {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Text {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// The log of a write, a refused write and a read, at a level.
fn log(level: Level) -> String {
    let text = Text::default();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(text.clone())
        .with_ansi(false)
        .with_max_level(level)
        .with_span_events(FmtSpan::CLOSE)
        .finish();
    tracing::subscriber::with_default(subscriber, || {
        pollster::block_on(async {
            let memory = Arc::new(MemoryBackend::new(1 << 20));
            let store = TracingLayer::new(memory, Arc::new(Tracer::new("hot")));
            let store = store.namespace("tenant").await.unwrap();
            let absent = StorageOptions { condition: Condition::IfAbsent, ..Default::default() };
            store.put("secret-key", "secret-value".into(), absent.clone()).await.unwrap();
            store.put("secret-key", "secret-value".into(), absent).await.unwrap_err();
            store.get("secret-key").await.unwrap();
        });
    });
    let bytes = text.0.lock().clone();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn spans_tell_what_happened_and_no_keys_at_info() {
    let text = log(Level::INFO);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 4, "{text}");
    for (line, fields) in lines[1..].iter().zip([
        [r#"otel.name="put tenant""#, "sira.value.bytes=12", r#"db.operation.name="put""#],
        [
            r#"db.operation.name="put""#,
            r#"error.type="precondition_failed""#,
            r#"otel.status_code="ERROR""#,
        ],
        [r#"otel.name="read tenant""#, "sira.value.bytes=12", r#"db.operation.name="read""#],
    ]) {
        for field in fields.iter().chain(&[
            r#"sira.backend="hot""#,
            r#"db.namespace="tenant""#,
            r#"db.system.name="memory""#,
            "sira.key.bytes=10",
        ]) {
            assert!(line.contains(field), "{field} is not in {line}");
        }
    }
    assert!(!text.contains("secret"), "{text}");
}

#[test]
fn keys_stand_in_spans_at_debug_and_values_never() {
    let text = log(Level::DEBUG);
    assert!(text.contains(r#"key="secret-key""#), "{text}");
    assert!(!text.contains("secret-value"), "{text}");
}
