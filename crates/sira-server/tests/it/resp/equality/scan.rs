//! `KEYS`, `SCAN`, and emptying databases.

pub const SCRIPT: &str = r#"
SET k\x00e\x0d\x0ay "b\x00i\x0d\x0an"
GET k\x00e\x0d\x0ay
KEYS *
KEYS k?e??y
KEYS nothing*
SCAN 0
SCAN 0 MATCH k* COUNT 100 TYPE string
SCAN 0 TYPE list
SCAN x
SCAN 0 COUNT 0
SCAN 0 COUNT x
SCAN 0 FOO
SCAN 0 MATCH
FLUSHDB
RANDOMKEY
DBSIZE
FLUSHDB ASYNC
FLUSHALL SYNC
FLUSHALL foo
FLUSHDB foo bar
"#;
