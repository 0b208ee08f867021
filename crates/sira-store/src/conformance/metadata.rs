//! What is kept beside the bytes comes back as it was written.

use std::collections::BTreeMap;

use super::context::{Context, Parts, fails, fill, put_operation_with, same, works};
use super::suite::Verdict;
use crate::limits::METADATA_BYTES_MAX;
use crate::metadata::Metadata;
use crate::options::StorageOptions;

fn metadata(content_type: Option<&str>, user: &[(&str, &str)]) -> Metadata {
    let pairs = user.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Metadata {
        content_type: content_type.map(str::to_owned),
        user: pairs.collect(),
        ..Metadata::default()
    }
}

fn with(metadata: &Metadata) -> StorageOptions {
    StorageOptions { metadata: metadata.clone(), ..StorageOptions::default() }
}

pub(super) async fn kept(cx: Context) -> Verdict {
    let many: BTreeMap<_, _> =
        (0..100).map(|number| (format!("name-{number}"), format!("value {number}"))).collect();
    let kinds = [
        metadata(Some("text/plain; charset=utf-8"), &[]),
        metadata(Some(""), &[]),
        metadata(None, &[("a", "")]),
        metadata(None, &[("a", "1"), ("b", "two"), ("content-type", "x/y"), ("a.b_c-d", "é\0\n")]),
        metadata(Some("application/x-tensor"), &[("shape", "[1,2,3]"), ("dtype", "f32")]),
        metadata(None, &[("large", &"v".repeat(8000))]),
        Metadata { user: many, ..Metadata::default() },
    ];
    for (number, metadata) in kinds.iter().enumerate() {
        for (way, size) in [("put", 10), ("large", 100_000), ("stream", 100), ("batch", 10)] {
            let (key, value) = (cx.key(format!("{way}{number}")), fill(size, 3));
            match way {
                "stream" => {
                    let body = Box::pin(Parts::new([Ok(value.clone())]));
                    let written = cx.backend.put_stream(&key, body, with(metadata)).await;
                    works("put_stream", &key, written)?;
                }
                "batch" => {
                    let operation = put_operation_with(&key, value.clone(), with(metadata));
                    cx.batch(vec![operation]).await?;
                }
                _ => {
                    cx.put_with(&key, value.clone(), with(metadata)).await?;
                }
            }
            let object = cx.holds(&key, &value).await?;
            same(&format!("metadata by {way}"), &object.head.metadata, metadata)?;
        }
    }
    Ok(())
}

pub(super) async fn replaced(cx: Context) -> Verdict {
    let key = cx.key("k");
    let kinds = [
        metadata(Some("a/b"), &[("one", "1"), ("two", "2")]),
        metadata(None, &[("two", "22")]),
        Metadata::default(),
    ];
    for metadata in &kinds {
        cx.put_with(&key, "v", with(metadata)).await?;
        let object = cx.holds(&key, b"v").await?;
        same("metadata after a write over other metadata", &object.head.metadata, metadata)?;
    }
    Ok(())
}

pub(super) async fn refused_metadata(cx: &Context, metadata: &Metadata, code: &str) -> Verdict {
    let key = cx.key("refused");
    let result = cx.backend.put(&key, "v".into(), with(metadata)).await;
    fails("malformed or oversize metadata", result, &[code])?;
    cx.absent(&key).await
}

pub(super) async fn refused(cx: Context) -> Verdict {
    for name in ["", "Upper", "with space", "é", "tab\t", "nul\0"] {
        refused_metadata(&cx, &metadata(None, &[(name, "v")]), "invalid_input").await?;
    }
    let large = "v".repeat(METADATA_BYTES_MAX);
    refused_metadata(&cx, &metadata(None, &[("large", &large)]), "too_large").await?;
    refused_metadata(&cx, &metadata(Some(&large), &[]), "too_large").await
}
