//! What a command is, and finding one by name.

use std::sync::LazyLock;

use super::command::Handler;
use super::commands::COMMANDS;

/// Properties of commands; names follow Redis' `COMMAND` where clients see them.
pub(crate) mod flag {
    pub(crate) const NONE: u32 = 0;
    pub(crate) const WRITE: u32 = 1 << 0;
    pub(crate) const READONLY: u32 = 1 << 1;
    pub(crate) const DENYOOM: u32 = 1 << 2;
    pub(crate) const ADMIN: u32 = 1 << 3;
    pub(crate) const NOSCRIPT: u32 = 1 << 4;
    pub(crate) const LOADING: u32 = 1 << 5;
    pub(crate) const STALE: u32 = 1 << 6;
    pub(crate) const SKIP_SLOWLOG: u32 = 1 << 7;
    pub(crate) const FAST: u32 = 1 << 8;
    pub(crate) const NO_AUTH: u32 = 1 << 9;
    pub(crate) const NO_ASYNC_LOADING: u32 = 1 << 10;
    pub(crate) const NO_MULTI: u32 = 1 << 11;
    pub(crate) const ALLOW_BUSY: u32 = 1 << 12;
    /// Has subcommands.
    pub(crate) const CONTAINER: u32 = 1 << 13;
    /// Touches keys that its arguments do not name.
    pub(crate) const WHOLE: u32 = 1 << 14;

    /// Names of the flags that clients see, in Redis' order.
    pub(crate) const NAMES: &[(u32, &str)] = &[
        (WRITE, "write"),
        (READONLY, "readonly"),
        (DENYOOM, "denyoom"),
        (ADMIN, "admin"),
        (NOSCRIPT, "noscript"),
        (LOADING, "loading"),
        (STALE, "stale"),
        (SKIP_SLOWLOG, "skip_slowlog"),
        (FAST, "fast"),
        (NO_AUTH, "no_auth"),
        (NO_ASYNC_LOADING, "no_async_loading"),
        (NO_MULTI, "no_multi"),
        (ALLOW_BUSY, "allow_busy"),
    ];
}

/// First and last key among the arguments (negative counts from the end) and the step between.
pub(crate) type KeySpec = (i32, i32, i32);

/// One command, or one subcommand by its name `container|name`.
pub(crate) struct Command {
    pub(crate) name: &'static str,
    /// Number of arguments with the name; negative is the least.
    pub(crate) arity: i32,
    pub(crate) flags: u32,
    pub(crate) keys: KeySpec,
    /// Categories, separated by commas.
    pub(crate) categories: &'static str,
    pub(crate) group: &'static str,
    pub(crate) since: &'static str,
    pub(crate) summary: &'static str,
    pub(crate) run: Handler,
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl Command {
    pub(super) const fn new(
        name: &'static str,
        arity: i32,
        flags: u32,
        keys: KeySpec,
        categories: &'static str,
        group: &'static str,
        since: &'static str,
        summary: &'static str,
        run: Handler,
    ) -> Self {
        Self { name, arity, flags, keys, categories, group, since, summary, run }
    }

    #[inline]
    pub(crate) fn has(&self, flags: u32) -> bool {
        self.flags & flags != 0
    }

    /// Whether a request of this many arguments is right.
    #[inline]
    pub(crate) fn takes(&self, arguments: usize) -> bool {
        let least = self.arity.unsigned_abs() as usize;
        if self.arity > 0 { arguments == least } else { arguments >= least }
    }

    /// Whether it touches its keys and nothing else, the conversation neither.
    pub(crate) fn stands_alone(&self) -> bool {
        !self.has(flag::WHOLE) && self.has(flag::WRITE | flag::READONLY)
    }

    /// Which arguments of a request of `arguments` are keys.
    pub(crate) fn key_positions(&self, arguments: usize) -> impl Iterator<Item = usize> + use<> {
        let (first, last, step) = self.keys;
        let first = usize::try_from(first).unwrap_or(0);
        let end = if last < 0 {
            (arguments + 1).saturating_sub(last.unsigned_abs() as usize)
        } else {
            arguments.min(last as usize + 1)
        };
        let range = if first == 0 { 0..0 } else { first..end };
        range.step_by(step.max(1) as usize)
    }
}

/// Slots of the table of names; a power of two, sparse.
const SLOTS: usize = 1024;

/// Longest name that is looked up, in bytes.
const NAME_BYTES_MAX: usize = 40;

static INDEX: LazyLock<Box<[u16; SLOTS]>> = LazyLock::new(|| {
    let mut slots = Box::new([u16::MAX; SLOTS]);
    for (number, command) in COMMANDS.iter().enumerate() {
        let mut slot = hash(command.name.as_bytes());
        while slots.get(slot).is_some_and(|entry| *entry != u16::MAX) {
            slot = (slot + 1) % SLOTS;
        }
        if let Some(entry) = slots.get_mut(slot) {
            *entry = number as u16;
        }
    }
    slots
});

#[inline]
fn hash(name: &[u8]) -> usize {
    let mut state = 0xcbf2_9ce4_8422_2325_u64;
    for byte in name {
        state = (state ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    (state ^ (state >> 29)) as usize % SLOTS
}

/// A command's place in the table: what counters are indexed by.
pub(crate) type Number = u16;

/// Commands that there are, subcommands included.
pub(crate) fn count() -> usize {
    COMMANDS.len()
}

/// The command of this number.
#[inline]
pub(crate) fn by_number(number: Number) -> Option<&'static Command> {
    COMMANDS.get(usize::from(number))
}

/// All commands without their subcommands.
pub(crate) fn top_level() -> impl Iterator<Item = &'static Command> {
    COMMANDS.iter().filter(|command| !command.name.contains('|'))
}

/// Subcommands of a command.
pub(crate) fn subcommands(container: &str) -> impl Iterator<Item = &'static Command> {
    COMMANDS.iter().filter(move |command| {
        command.name.split_once('|').is_some_and(|(parent, _)| parent == container)
    })
}

/// The command of this name in any case, and its number.
#[inline]
pub(crate) fn find(name: &[u8]) -> Option<(Number, &'static Command)> {
    let mut lower = [0_u8; NAME_BYTES_MAX];
    let lower = lower.get_mut(..name.len())?;
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    find_lower(lower)
}

/// The subcommand of a container, in any case, and its number.
pub(crate) fn find_subcommand(
    container: &Command,
    name: &[u8],
) -> Option<(Number, &'static Command)> {
    let mut full = Vec::with_capacity(NAME_BYTES_MAX);
    full.extend_from_slice(container.name.as_bytes());
    full.push(b'|');
    full.extend_from_slice(name);
    find(&full)
}

#[inline]
fn find_lower(name: &[u8]) -> Option<(Number, &'static Command)> {
    let mut slot = hash(name);
    loop {
        let number = *INDEX.get(slot)?;
        let command = by_number(number)?;
        if command.name.as_bytes() == name {
            return Some((number, command));
        }
        slot = (slot + 1) % SLOTS;
    }
}

/// Commands of Redis that work on what Sira's RESP door does not keep.
const FOREIGN: &[(&str, &[&str])] = &[
    (
        "list",
        &[
            "lpush",
            "rpush",
            "lpushx",
            "rpushx",
            "lpop",
            "rpop",
            "llen",
            "lrange",
            "lindex",
            "lset",
            "lrem",
            "ltrim",
            "linsert",
            "lpos",
            "lmove",
            "lmpop",
            "blpop",
            "brpop",
            "blmove",
            "blmpop",
            "rpoplpush",
            "brpoplpush",
            "sort",
            "sort_ro",
        ],
    ),
    (
        "hash",
        &[
            "hset",
            "hget",
            "hmset",
            "hmget",
            "hgetall",
            "hdel",
            "hexists",
            "hlen",
            "hkeys",
            "hvals",
            "hincrby",
            "hincrbyfloat",
            "hsetnx",
            "hstrlen",
            "hscan",
            "hrandfield",
        ],
    ),
    (
        "set",
        &[
            "sadd",
            "srem",
            "smembers",
            "sismember",
            "smismember",
            "scard",
            "spop",
            "srandmember",
            "smove",
            "sinter",
            "sintercard",
            "sinterstore",
            "sunion",
            "sunionstore",
            "sdiff",
            "sdiffstore",
            "sscan",
        ],
    ),
    (
        "sorted set",
        &[
            "zadd",
            "zrem",
            "zscore",
            "zmscore",
            "zrange",
            "zrangebyscore",
            "zrangebylex",
            "zrangestore",
            "zrevrange",
            "zrevrangebyscore",
            "zrevrangebylex",
            "zrank",
            "zrevrank",
            "zcard",
            "zcount",
            "zlexcount",
            "zincrby",
            "zpopmin",
            "zpopmax",
            "bzpopmin",
            "bzpopmax",
            "zmpop",
            "bzmpop",
            "zunion",
            "zunionstore",
            "zinter",
            "zinterstore",
            "zintercard",
            "zdiff",
            "zdiffstore",
            "zrandmember",
            "zremrangebyrank",
            "zremrangebyscore",
            "zremrangebylex",
            "zscan",
        ],
    ),
    (
        "stream",
        &[
            "xadd",
            "xlen",
            "xrange",
            "xrevrange",
            "xread",
            "xreadgroup",
            "xgroup",
            "xack",
            "xdel",
            "xtrim",
            "xinfo",
            "xpending",
            "xclaim",
            "xautoclaim",
            "xsetid",
        ],
    ),
    (
        "geo",
        &[
            "geoadd",
            "geodist",
            "geohash",
            "geopos",
            "georadius",
            "georadius_ro",
            "georadiusbymember",
            "georadiusbymember_ro",
            "geosearch",
            "geosearchstore",
        ],
    ),
    ("HyperLogLog", &["pfadd", "pfcount", "pfmerge", "pfdebug", "pfselftest"]),
    (
        "publish/subscribe",
        &[
            "subscribe",
            "unsubscribe",
            "psubscribe",
            "punsubscribe",
            "publish",
            "pubsub",
            "ssubscribe",
            "sunsubscribe",
            "spublish",
            "monitor",
        ],
    ),
    (
        "scripting",
        &["eval", "eval_ro", "evalsha", "evalsha_ro", "script", "function", "fcall", "fcall_ro"],
    ),
    (
        "replication and cluster",
        &[
            "replicaof",
            "slaveof",
            "psync",
            "sync",
            "replconf",
            "failover",
            "cluster",
            "asking",
            "migrate",
            "restore-asking",
            "module",
        ],
    ),
];

/// What a command that Sira does not have works on, where Redis has it.
pub(crate) fn foreign(name: &[u8]) -> Option<&'static str> {
    let known = |names: &&[&str]| names.iter().any(|n| n.as_bytes().eq_ignore_ascii_case(name));
    FOREIGN.iter().find(|(_, names)| known(names)).map(|(kind, _)| *kind)
}
