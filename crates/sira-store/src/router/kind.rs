//! Places by the kind and the size of the data.

use std::collections::BTreeMap;
use std::fmt;

use super::request::{Route, RouteRequest};
use super::stats::RoutingStats;
use super::strategy::{RoutingStrategy, simple_form};

/// What an object is, as its media type or its key's extension tells.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum DataKind {
    /// Prose, logs, source.
    Text,
    /// JSON, YAML, XML and their like.
    Document,
    /// Pictures.
    Image,
    /// Sound.
    Audio,
    /// Films.
    Video,
    /// Weights, checkpoints and arrays.
    Tensor,
    /// Columns and tables: Parquet, Arrow, CSV.
    Table,
    /// Compressed or bundled files.
    Archive,
    /// Anything else.
    Binary,
}

impl DataKind {
    /// The kind that a media type names, if it names one.
    #[must_use]
    pub fn of_content_type(content_type: &str) -> Option<Self> {
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        let essence = essence.to_ascii_lowercase();
        let (class, name) = essence.split_once('/')?;
        let kind = match (class, name) {
            ("text", "csv" | "tab-separated-values") => Self::Table,
            ("text", "xml") => Self::Document,
            ("text", _) => Self::Text,
            ("image", _) => Self::Image,
            ("audio", _) => Self::Audio,
            ("video", _) => Self::Video,
            ("application", "json" | "xml" | "yaml" | "toml" | "cbor" | "x-ndjson") => {
                Self::Document
            }
            ("application", "vnd.apache.parquet" | "vnd.apache.arrow.file") => Self::Table,
            ("application", "vnd.apache.arrow.stream") => Self::Table,
            ("application", "zip" | "gzip" | "zstd" | "x-tar" | "x-7z-compressed") => Self::Archive,
            ("application", name) if name.ends_with("+json") || name.ends_with("+xml") => {
                Self::Document
            }
            // Says nothing: the extension may.
            _ => return None,
        };
        Some(kind)
    }

    /// The kind that the extension of a key tells, if it tells one.
    #[must_use]
    pub fn of_extension(key: &str) -> Option<Self> {
        let file = key.rsplit(['/', ':']).next().unwrap_or(key);
        let (_, extension) = file.rsplit_once('.')?;
        let kind = match extension.to_ascii_lowercase().as_str() {
            "txt" | "md" | "log" | "rs" | "py" | "html" | "css" | "js" => Self::Text,
            "json" | "jsonl" | "ndjson" | "yaml" | "yml" | "xml" | "toml" | "cbor" => {
                Self::Document
            }
            "png" | "jpg" | "jpeg" | "gif" | "webp" | "avif" | "svg" | "tiff" | "bmp" => {
                Self::Image
            }
            "mp3" | "wav" | "flac" | "ogg" | "opus" | "m4a" => Self::Audio,
            "mp4" | "mkv" | "webm" | "mov" | "avi" => Self::Video,
            "safetensors" | "gguf" | "npy" | "npz" | "pt" | "pth" | "ckpt" | "onnx" | "h5" => {
                Self::Tensor
            }
            "parquet" | "arrow" | "feather" | "csv" | "tsv" | "orc" | "avro" => Self::Table,
            "zip" | "gz" | "tgz" | "zst" | "tar" | "bz2" | "xz" | "7z" | "lz4" => Self::Archive,
            "bin" | "dat" => Self::Binary,
            _ => return None,
        };
        Some(kind)
    }

    /// The kind of an object: by its media type, else by its key, else [`DataKind::Binary`].
    #[must_use]
    pub fn of(key: &str, content_type: Option<&str>) -> Self {
        content_type
            .and_then(Self::of_content_type)
            .or_else(|| Self::of_extension(key))
            .unwrap_or(Self::Binary)
    }
}

impl fmt::Display for DataKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Document => "document",
            Self::Image => "image",
            Self::Audio => "audio",
            Self::Video => "video",
            Self::Tensor => "tensor",
            Self::Table => "table",
            Self::Archive => "archive",
            Self::Binary => "binary",
        })
    }
}

/// Each kind of data on a backend of its own. Kinds without one are left to the next strategy.
#[derive(Debug, Clone, Default)]
pub struct DataTypeBased {
    places: BTreeMap<DataKind, String>,
}

impl DataTypeBased {
    /// No kind has a backend yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the backend of a kind.
    #[must_use]
    pub fn with(mut self, kind: DataKind, backend: impl Into<String>) -> Self {
        self.places.insert(kind, backend.into());
        self
    }
}

impl RoutingStrategy for DataTypeBased {
    fn name(&self) -> &str {
        "data_type"
    }

    simple_form!();

    fn route(&self, request: &RouteRequest<'_>, _stats: &RoutingStats) -> Option<Route> {
        let kind = DataKind::of(request.key, request.content_type());
        let backend = self.places.get(&kind)?;
        Some(Route::to([backend]).because(request.reason(|| format!("the data is of kind {kind}"))))
    }
}

/// Sizes in classes, each with a backend: small values where access is quick, large ones where
/// room is cheap.
#[derive(Debug, Clone, Default)]
pub struct SizeBased {
    /// Largest size of each class and its backend, smallest first.
    classes: Vec<(u64, String)>,
}

impl SizeBased {
    /// No classes yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts values of at most `size_max` bytes, which no smaller class takes, on a backend;
    /// `u64::MAX` takes every other value.
    #[must_use]
    pub fn with(mut self, size_max: u64, backend: impl Into<String>) -> Self {
        let at = self.classes.partition_point(|(max, _)| *max <= size_max);
        self.classes.insert(at, (size_max, backend.into()));
        self
    }
}

impl RoutingStrategy for SizeBased {
    fn name(&self) -> &str {
        "size"
    }

    simple_form!();

    /// Classes for larger values stand in for the class of the value.
    fn route(&self, request: &RouteRequest<'_>, _stats: &RoutingStats) -> Option<Route> {
        let size = request.size?;
        let at = self.classes.partition_point(|(max, _)| *max < size);
        let classes = self.classes.get(at..).filter(|classes| !classes.is_empty())?;
        let route = Route::to(classes.iter().map(|(_, backend)| backend));
        Some(route.because(request.reason(|| {
            let max = classes.first().map_or(u64::MAX, |(max, _)| *max);
            format!("{size} bytes are in the class of up to {max} bytes")
        })))
    }
}
