//! Errors: a coarse kind, whether a retry helps, and where it happened.

use std::error::Error;
use std::fmt;

/// Result of a storage operation.
pub type Result<T, E = StorageError> = std::result::Result<T, E>;

/// Whether trying the same operation again can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Retry {
    /// The same operation fails again until something else is changed.
    Permanent,
    /// The operation had no effect; the same one may succeed later.
    Temporary,
    /// Whether the operation had its effect is unknown: read back before trying again.
    Ambiguous,
}

/// Where an error happened, what was wrong, and what it came from.
#[derive(Debug)]
pub struct ErrorDetail {
    /// What was wrong and what to do, as one sentence.
    pub message: String,
    /// Whether trying again helps.
    pub retry: Retry,
    /// Key of the object, where one was named.
    pub key: Option<String>,
    /// Namespace of the object, where one was named.
    pub namespace: Option<String>,
    /// Backend that failed.
    pub backend: Option<String>,
    /// Error underneath.
    pub source: Option<Box<dyn Error + Send + Sync>>,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident, $constructor:ident, $code:literal, $retry:ident;)*) => {
        /// What went wrong in a storage operation.
        ///
        /// Kinds are coarse: there is one for each way that a caller would react.
        #[derive(Debug)]
        #[non_exhaustive]
        pub enum StorageError {
            $($(#[$doc])* $variant(Box<ErrorDetail>),)*
        }

        impl StorageError {
            $($(#[$doc])*
            #[must_use]
            pub fn $constructor(message: impl Into<String>) -> Self {
                Self::$variant(Box::new(ErrorDetail {
                    message: message.into(),
                    retry: Retry::$retry,
                    key: None,
                    namespace: None,
                    backend: None,
                    source: None,
                }))
            })*

            /// The code of every kind.
            pub const CODES: [&'static str; [$($code),*].len()] = [$($code),*];

            /// Stable name of the kind, as the wire formats carry it.
            #[must_use]
            pub const fn code(&self) -> &'static str {
                match self { $(Self::$variant(_) => $code,)* }
            }

            /// An error of the same kind and retry rule, about something else.
            #[must_use]
            pub fn same_kind(&self, message: String) -> Self {
                match self { $(Self::$variant(_) => Self::$constructor(message),)* }
                    .with_retry(self.retry())
            }

            /// Where it happened and why.
            #[must_use]
            pub fn detail(&self) -> &ErrorDetail {
                match self { $(Self::$variant(detail) => detail,)* }
            }

            fn detail_mut(&mut self) -> &mut ErrorDetail {
                match self { $(Self::$variant(detail) => detail,)* }
            }
        }
    };
}

kinds! {
    /// A key, an option or a request that can never be right.
    InvalidInput, invalid_input, "invalid_input", Permanent;
    /// A key, value or request over a limit.
    TooLarge, too_large, "too_large", Permanent;
    /// The object, namespace or backend that the operation needs is not there.
    NotFound, not_found, "not_found", Permanent;
    /// A condition on the version did not hold; nothing was changed.
    PreconditionFailed, precondition_failed, "precondition_failed", Permanent;
    /// Another writer was in the way; nothing was changed.
    Conflict, conflict, "conflict", Temporary;
    /// No room on the medium or within the configured size; nothing was changed.
    OutOfSpace, out_of_space, "out_of_space", Temporary;
    /// Stored bytes do not match their checksum; they were not served.
    Corrupt, corrupt, "corrupt", Permanent;
    /// The engine takes no writes: it stopped after an I/O error, found corruption, or was opened
    /// for reading.
    ReadOnly, read_only, "read_only", Permanent;
    /// The engine cannot do what was asked.
    Unsupported, unsupported, "unsupported", Permanent;
    /// The caller may not do this.
    PermissionDenied, permission_denied, "permission_denied", Permanent;
    /// Another process holds the data folder, or another owner the lock.
    Locked, locked, "locked", Permanent;
    /// The engine is down, closing or overloaded.
    Unavailable, unavailable, "unavailable", Temporary;
    /// No answer in time.
    Timeout, timeout, "timeout", Ambiguous;
    /// The operating system's error.
    Io, io, "io", Ambiguous;
}

impl StorageError {
    /// Whether trying again helps.
    #[must_use]
    pub fn retry(&self) -> Retry {
        self.detail().retry
    }

    /// Adds the key that the operation was about.
    #[must_use]
    pub fn with_key(mut self, key: impl Into<String>) -> Self {
        self.detail_mut().key = Some(key.into());
        self
    }

    /// Adds the namespace that the operation was about.
    #[must_use]
    pub fn with_namespace(mut self, namespace: impl Into<String>) -> Self {
        self.detail_mut().namespace = Some(namespace.into());
        self
    }

    /// Adds the backend that failed.
    #[must_use]
    pub fn with_backend(mut self, backend: impl Into<String>) -> Self {
        self.detail_mut().backend = Some(backend.into());
        self
    }

    /// Says whether trying again helps, where it differs from the kind's rule.
    #[must_use]
    pub fn with_retry(mut self, retry: Retry) -> Self {
        self.detail_mut().retry = retry;
        self
    }

    /// Adds the error underneath.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.detail_mut().source = Some(source.into());
        self
    }
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let detail = self.detail();
        f.write_str(&detail.message)?;
        let mut open = false;
        for (label, text) in
            [("namespace", &detail.namespace), ("key", &detail.key), ("backend", &detail.backend)]
        {
            if let Some(text) = text {
                f.write_str(if open { ", " } else { " (" })?;
                write!(f, "{label} {text:?}")?;
                open = true;
            }
        }
        if open {
            f.write_str(")")?;
        }
        Ok(())
    }
}

impl Error for StorageError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.detail().source.as_deref().map(|source| source as _)
    }
}

impl From<std::io::Error> for StorageError {
    fn from(error: std::io::Error) -> Self {
        use std::io::ErrorKind;
        let message = error.to_string();
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::out_of_space(message),
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
                Self::permission_denied(message)
            }
            ErrorKind::NotFound => Self::not_found(message),
            _ => Self::io(message),
        }
        .with_source(error)
    }
}
