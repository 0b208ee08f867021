//! How a run of the command fails: exit codes, and errors that say what to do.

use std::fmt;
use std::io;

use sira_store::{Retry, StorageError};

/// Exit codes of the command. The numbers are a contract (`docs/cli.md`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// All went well.
    Ok = 0,
    /// Failed in a way that no other code covers.
    Other = 1,
    /// The command line, a setting or a key is wrong.
    Usage = 2,
    /// An object, namespace, file or folder is not there.
    NotFound = 3,
    /// A condition did not hold, or another process or writer is in the way.
    Conflict = 4,
    /// The same command may succeed later.
    Retryable = 5,
    /// The token is missing or wrong.
    Auth = 6,
    /// The store needs mending: corrupt data, or writes refused until it is repaired.
    Fatal = 7,
    /// Stopped by SIGINT.
    Interrupted = 130,
    /// Stopped by SIGTERM before it was done.
    Terminated = 143,
}

impl Exit {
    /// The list that `--help` and the manual show.
    pub const HELP: &'static str = "\
Exit codes:
    0  all went well
    1  failed in a way that no other code covers
    2  the command line, a setting or a key is wrong
    3  an object, namespace, file or folder is not there
    4  a condition did not hold, or another process or writer is in the way
    5  the same command may succeed later
    6  the token is missing or wrong
    7  the store needs mending: corrupt data, or writes refused until it is repaired
  130  stopped by SIGINT
  143  stopped by SIGTERM before it was done";

    /// The number.
    pub const fn code(self) -> u8 {
        self as u8
    }
}

/// Why a verb failed: what was wrong, what mends it, and the exit code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Exit code.
    pub exit: Exit,
    /// Stable name of the kind, the same as the wire formats carry.
    pub code: String,
    /// What was wrong.
    pub message: String,
    /// The command or change that mends it.
    pub hint: Option<String>,
}

impl Failure {
    fn new(exit: Exit, code: &str, message: impl Into<String>) -> Self {
        Self { exit, code: code.to_owned(), message: message.into(), hint: None }
    }

    /// A wrong command line or setting.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "usage", message)
    }

    /// Something that is not there.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Exit::NotFound, "not_found", message)
    }

    /// Anything else.
    pub fn other(message: impl Into<String>) -> Self {
        Self::new(Exit::Other, "failed", message)
    }

    /// The store needs mending.
    pub fn fatal(message: impl Into<String>) -> Self {
        Self::new(Exit::Fatal, "fatal", message)
    }

    /// A failed call of the operating system; `what` names the file and what was done to it.
    pub fn io(what: impl fmt::Display, error: &io::Error) -> Self {
        let (exit, code) = match error.kind() {
            io::ErrorKind::NotFound => (Exit::NotFound, "not_found"),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                (Exit::Retryable, "out_of_space")
            }
            _ => (Exit::Other, "io"),
        };
        Self::new(exit, code, format!("{what}: {}", plain(error)))
    }

    /// The reader of our output went away (`sira ls | head`): the run ends without a word.
    pub fn closed_pipe() -> Self {
        Self::new(Exit::Ok, "closed_pipe", "")
    }

    /// A failed write to standard output.
    pub fn output(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::closed_pipe(),
            _ => Self::io("cannot write to standard output", error),
        }
    }

    /// Adds what mends it.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Puts where it happened before the message.
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.message = format!("{context}: {}", self.message);
        self
    }

    /// Replaces the exit code.
    pub fn exit(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }
}

/// The operating system's text without Rust's `(os error 2)`.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    match text.rfind(" (os error ") {
        Some(at) if text.ends_with(')') => text[..at].to_owned(),
        _ => text,
    }
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Self {
        use StorageError as E;
        let exit = match &error {
            E::InvalidInput(_) | E::TooLarge(_) | E::Unsupported(_) => Exit::Usage,
            E::NotFound(_) => Exit::NotFound,
            E::PreconditionFailed(_) | E::Conflict(_) | E::Locked(_) => Exit::Conflict,
            E::PermissionDenied(_) => Exit::Auth,
            E::Corrupt(_) | E::ReadOnly(_) => Exit::Fatal,
            E::OutOfSpace(_) | E::Unavailable(_) | E::Timeout(_) => Exit::Retryable,
            _ if error.retry() == Retry::Temporary => Exit::Retryable,
            _ => Exit::Other,
        };
        Self::new(exit, error.code(), error.to_string())
    }
}

/// Result of a verb.
pub type Outcome<T = ()> = Result<T, Failure>;

#[cfg(test)]
mod tests;
