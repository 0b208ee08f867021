//! The commands, and what each of them is given.

pub(super) mod bitfield;
pub(super) mod bits;
pub(super) mod client;
pub(super) mod config;
pub(super) mod connection;
pub(super) mod counter;
pub(super) mod expire;
pub(super) mod info;
pub(super) mod introspect;
pub(super) mod keys;
pub(super) mod lcs;
pub(super) mod scan;
pub(super) mod server;
pub(super) mod string;
pub(super) mod transaction;

use std::borrow::Cow;

use sira_store::StorageError;

use super::data::{Data, Space};
use super::number::parse_i64;
use super::output::Output;
use super::parser::Args;
use super::session::Session;
use super::shared::Shared;
use super::table::Command;

/// Why a command answers an error.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The error's text with its code.
    Text(Cow<'static, [u8]>),
    /// The store's error.
    Storage(StorageError),
    /// It needs what lies away, or what has not been read from there yet: no client sees this.
    Away,
}

impl Failure {
    pub(crate) const SYNTAX: Self = Self::fixed("ERR syntax error");
    pub(crate) const NOT_INTEGER: Self = Self::fixed("ERR value is not an integer or out of range");
    pub(crate) const NOT_FLOAT: Self = Self::fixed("ERR value is not a valid float");
    pub(crate) const NO_SUCH_KEY: Self = Self::fixed("ERR no such key");
    pub(crate) const DATABASE_RANGE: Self = Self::fixed("ERR DB index is out of range");
    pub(crate) const SAME_OBJECT: Self =
        Self::fixed("ERR source and destination objects are the same");
    pub(crate) const TOO_LONG: Self =
        Self::fixed("ERR string exceeds maximum allowed size (proto-max-bulk-len)");

    pub(crate) const fn fixed(text: &'static str) -> Self {
        Self::Text(Cow::Borrowed(text.as_bytes()))
    }

    pub(crate) fn text(text: impl Into<Vec<u8>>) -> Self {
        Self::Text(Cow::Owned(text.into()))
    }

    pub(crate) fn arity(command: &str) -> Self {
        Self::text(format!("ERR wrong number of arguments for '{command}' command"))
    }

    /// The error reply without its first byte.
    pub(crate) fn into_text(self) -> Cow<'static, [u8]> {
        match self {
            Self::Text(text) => text,
            Self::Away => Cow::Borrowed(b"ERR the database does not lie on this server's engine"),
            Self::Storage(error) => {
                let code = match error {
                    StorageError::OutOfSpace(_) => "OOM",
                    StorageError::ReadOnly(_) | StorageError::Io(_) => "MISCONF",
                    _ => "ERR",
                };
                Cow::Owned(format!("{code} {error}").into_bytes())
            }
        }
    }
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

/// What running a command came to; on success it has written its reply.
pub(crate) type Outcome = Result<(), Failure>;

/// Runs a command.
pub(crate) type Handler = for<'a, 'e> fn(&mut Call<'a, 'e>) -> Outcome;

/// One command under way.
pub(crate) struct Call<'a, 'e> {
    pub(crate) shared: &'a Shared,
    pub(crate) session: &'a mut Session,
    pub(crate) data: &'a mut Data<'e>,
    pub(crate) out: &'a mut Output,
    pub(crate) args: Args<'a>,
    pub(crate) command: &'static Command,
}

impl<'a> Call<'a, '_> {
    /// Where the client's database lies.
    #[inline]
    pub(crate) fn space(&self) -> Space {
        self.data.space(self.session.database)
    }

    #[inline]
    pub(crate) fn arg(&self, index: usize) -> &'a [u8] {
        self.args.get(index)
    }

    pub(crate) fn int(&self, index: usize) -> Result<i64, Failure> {
        parse_i64(self.arg(index)).ok_or(Failure::NOT_INTEGER)
    }

    /// Whether an argument is this word, in any case.
    pub(crate) fn is(&self, index: usize, word: &str) -> bool {
        self.arg(index).eq_ignore_ascii_case(word.as_bytes())
    }

    /// Wall clock in milliseconds.
    pub(crate) fn now_ms(&self) -> i64 {
        i64::try_from(self.shared.env.now_ms()).unwrap_or(i64::MAX)
    }

    pub(crate) fn arity_error(&self) -> Failure {
        Failure::arity(self.command.name)
    }

    /// A line of help, as the `HELP` subcommands answer them.
    pub(crate) fn help(&mut self, container: &str, lines: &[&str]) -> Outcome {
        self.out.array(lines.len() + 3);
        self.out.simple(&format!(
            "{container} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"
        ));
        for line in lines {
            self.out.simple(line);
        }
        self.out.simple("HELP");
        self.out.simple("    Prints this help.");
        Ok(())
    }
}

/// Runs a command that is nothing without a subcommand.
pub(super) fn container(call: &mut Call<'_, '_>) -> Outcome {
    Err(unknown_subcommand(call.command, call.arg(1)))
}

/// The error for a subcommand that is not there.
pub(crate) fn unknown_subcommand(command: &Command, name: &[u8]) -> Failure {
    let shown = name.get(..128).unwrap_or(name);
    let mut text = b"ERR unknown subcommand '".to_vec();
    text.extend_from_slice(shown);
    text.extend_from_slice(b"'. Try ");
    text.extend_from_slice(command.name.to_ascii_uppercase().as_bytes());
    text.extend_from_slice(b" HELP.");
    Failure::text(text)
}
