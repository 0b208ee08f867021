//! Random requests.

use sira_store::env::SeededRandom;

use super::super::wire::{Client, Door, Redis, words};
use super::difference;

/// Shapes of requests: `k` a key, `v` a value, `n` a number, `o` an option, others as they are.
const SHAPES: &[&str] = &[
    "SET k v",
    "SET k v o",
    "SET k v o o n",
    "SET k v PXAT n",
    "SETNX k v",
    "GETSET k v",
    "GET k",
    "GETDEL k",
    "GETEX k PXAT n",
    "GETEX k PERSIST",
    "MSET k v k v",
    "MSETNX k v k v",
    "MGET k k k",
    "APPEND k v",
    "STRLEN k",
    "INCR k",
    "DECR k",
    "INCRBY k n",
    "DECRBY k n",
    "INCRBYFLOAT k v",
    "INCRBYFLOAT k n",
    "GETRANGE k n n",
    "SETRANGE k s v",
    "LCS k k",
    "LCS k k IDX WITHMATCHLEN",
    "LCS k k LEN",
    "SETBIT k s n",
    "SETBIT k s 1",
    "GETBIT k n",
    "BITCOUNT k",
    "BITCOUNT k n n",
    "BITCOUNT k n n BIT",
    "BITPOS k 1",
    "BITPOS k 0",
    "BITPOS k 0 n",
    "BITPOS k 1 n n",
    "BITPOS k 0 n n BIT",
    "BITPOS k 1 n n BIT",
    "BITOP AND k k k",
    "BITOP OR k k k",
    "BITOP XOR k k k",
    "BITOP NOT k k",
    "BITFIELD k GET t s GET t s",
    "BITFIELD k SET t s n GET t s",
    "BITFIELD k OVERFLOW FAIL INCRBY t s n",
    "BITFIELD k OVERFLOW SAT INCRBY t s n",
    "BITFIELD k INCRBY t s n",
    "DEL k k",
    "EXISTS k k",
    "TYPE k",
    "RENAME k k",
    "RENAMENX k k",
    "COPY k k",
    "COPY k k REPLACE",
    "PEXPIREAT k n",
    "PEXPIREAT k n o",
    "PERSIST k",
    "PEXPIRETIME k",
    "EXPIRETIME k",
    "MULTI",
    "EXEC",
    "DISCARD",
    "UNWATCH",
    "MOVE k 1",
    "SELECT 0",
    "SELECT 1",
    "SWAPDB 0 1",
    "FLUSHDB",
];

#[test]
fn random_requests_are_answered_as_by_redis() {
    let (door, redis) = (Door::open(|_| {}), Redis::start());
    let keys = ["a", "b", "c", "d"];
    let values =
        ["", "0", "1", "-1", "10", "1.5", "-0.1", "1e5", "abc", "hello world", "\\xff\\x00"];
    let numbers = [
        "0",
        "1",
        "-1",
        "2",
        "7",
        "8",
        "-8",
        "100",
        "-100",
        "x",
        "",
        "9223372036854775807",
        "-9223372036854775808",
        "99999999999999",
        "4294967296",
    ];
    let small = ["0", "1", "5", "9", "64", "#3", "-1", "x"];
    let options = ["NX", "XX", "GET", "KEEPTTL", "GT", "LT", "PXAT", "foo"];
    let types = ["u8", "i8", "u1", "i64", "u63", "i5", "u64"];
    for seed in 1..=4 {
        let mut random = SeededRandom::new(seed);
        let (mut ours, mut theirs) = (door.client(), Client::connect(redis.addr));
        for client in [&mut ours, &mut theirs] {
            client.run("FLUSHALL");
        }
        for step in 0..5_000 {
            let shape = random.pick(SHAPES);
            let mut line = Vec::new();
            for word in shape.split(' ') {
                line.push(match word {
                    "k" => random.pick(&keys).to_owned(),
                    "v" => format!("\"{}\"", random.pick(&values)),
                    "n" => format!("\"{}\"", random.pick(&numbers)),
                    "s" => random.pick(&small).to_owned(),
                    "o" => random.pick(&options).to_owned(),
                    "t" => random.pick(&types).to_owned(),
                    word => word.to_owned(),
                });
            }
            let line = line.join(" ");
            let told = format!("seed {seed} step {step}: {line}");
            let difference = difference(&mut ours, &mut theirs, &words(&line), &told);
            assert!(difference.is_none(), "{}", difference.unwrap_or_default());
        }
    }
}
