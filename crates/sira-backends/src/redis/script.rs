//! Requests: commands, and calls of the scripts that change keys as one step.

use std::sync::LazyLock;

use bytes::{BufMut, BytesMut};
use redis::{Cmd, RedisWrite, Script};
use sira_store::Condition;
use sira_store::driver::Record;

use super::layout::{Names, slot_of};

macro_rules! scripts {
    ($($name:ident = $($file:literal)+;)*) => {
        $(pub(super) static $name: LazyLock<Script> =
            LazyLock::new(|| Script::new(concat!($(include_str!($file)),+)));)*

        /// How many scripts there are.
        pub(super) const SCRIPTS: usize = [$(stringify!($name)),*].len();

        /// The text of a script by its hash.
        fn text_of(hash: &[u8]) -> Option<&'static str> {
            $(if $name.get_hash().as_bytes() == hash {
                return Some(concat!($(include_str!($file)),+));
            })*
            None
        }
    };
}

scripts! {
    PUT = "lua/replace.lua" "lua/record.lua" "lua/put.lua";
    REMOVE = "lua/record.lua" "lua/remove.lua";
    RANGE = "lua/record.lua" "lua/range.lua";
    COMMIT = "lua/record.lua" "lua/commit.lua";
    COLLECT = "lua/record.lua" "lua/collect.lua";
    PLAIN_GET = "lua/record.lua" "lua/plain_get.lua";
    PLAIN_PUT = "lua/record.lua" "lua/plain_put.lua";
    PLAIN_REMOVE = "lua/record.lua" "lua/plain_remove.lua";
}

/// A command and the hash slot that it is for.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) cmd: Cmd,
    pub(super) slot: u16,
}

impl Request {
    pub(super) fn new(name: &str, slot: u16) -> Self {
        Self { cmd: redis::cmd(name), slot }
    }

    /// A call of a script that is given the names of each key.
    pub(super) fn call(script: &Script, names: &[Names]) -> Self {
        let mut call = Self::of_script(script, names.len() * 3, names.first());
        for names in names {
            call.cmd.arg(&names.value).arg(&names.index).arg(&names.expiries);
        }
        call
    }

    /// A call of a script that is given the name of one value.
    pub(super) fn call_on_value(script: &Script, names: &Names) -> Self {
        let mut call = Self::of_script(script, 1, Some(names));
        call.cmd.arg(&names.value);
        call
    }

    /// A call of a script that is given the name of one plain value.
    pub(super) fn call_on_plain(script: &Script, name: &[u8]) -> Self {
        let mut cmd = redis::cmd("EVALSHA");
        cmd.arg(script.get_hash()).arg(1).arg(name);
        Self { cmd, slot: slot_of(name) }
    }

    fn of_script(script: &Script, keys: usize, first: Option<&Names>) -> Self {
        let mut cmd = redis::cmd("EVALSHA");
        cmd.arg(script.get_hash()).arg(keys);
        Self { cmd, slot: first.map_or(0, |names| names.slot) }
    }

    pub(super) fn arg(mut self, arg: impl redis::ToRedisArgs) -> Self {
        self.cmd.arg(arg);
        self
    }

    /// Adds an encoded record, with no copy of it in between.
    pub(super) fn record(mut self, record: &Record) -> Self {
        let len = record.encoded_bytes();
        let mut head = BytesMut::new();
        record.encode_head(&mut head);
        let padding = len.saturating_sub(head.len() + record.body.len());
        let mut arg = self.cmd.bufmut_for_next_arg(len);
        arg.put_slice(&head);
        arg.put_slice(&record.body);
        arg.put_bytes(0, padding);
        drop(arg);
        self
    }

    pub(super) fn condition(self, condition: Condition) -> Self {
        let (kind, version) = match condition {
            Condition::Always => return self.arg("a"),
            Condition::IfAbsent => return self.arg("n"),
            Condition::IfPresent => return self.arg("p"),
            Condition::IfMatch(version) => (b'm', version),
            Condition::IfNoneMatch(version) => (b'x', version),
        };
        let mut want = vec![kind];
        want.extend_from_slice(&version.as_u64().to_le_bytes());
        self.arg(want)
    }
}

/// The same call with the script's text, which the server keeps from then on; `None` for what calls
/// no script of ours.
pub(super) fn with_text(cmd: &Cmd) -> Option<Cmd> {
    let mut args = cmd.args_iter().filter_map(|arg| match arg {
        redis::Arg::Simple(bytes) => Some(bytes),
        _ => None,
    });
    args.next().filter(|name| *name == b"EVALSHA")?;
    let mut call = redis::cmd("EVAL");
    call.arg(text_of(args.next()?)?);
    for arg in args {
        call.arg(arg);
    }
    Some(call)
}
