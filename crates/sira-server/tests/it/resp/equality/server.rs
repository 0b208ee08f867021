//! Connections, clients, settings, and what does not exist.

pub const SCRIPT: &str = r#"
PING
PING hello
PING a b
ECHO "hello world"
ECHO
ECHO a b
foo
foo bar "b\x0d\x0aaz"
"f\x0d\x0aoo" a
aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa b
foo aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa b
foo aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb c
""
CLIENT
CLIENT foo
CLIENT id x
CLIENT GETNAME
CLIENT SETNAME me
CLIENT GETNAME
CLIENT SETNAME "a b"
CLIENT SETNAME ""
CLIENT GETNAME
CLIENT REPLY foo
CLIENT NO-EVICT on
CLIENT NO-EVICT x
CLIENT KILL 1.2.3.4:5
CLIENT KILL ID x
CLIENT KILL ID 0
CLIENT KILL TYPE foo
CLIENT KILL USER nobody
CLIENT KILL ADDR 1.2.3.4:5
CLIENT KILL SKIPME foo
CLIENT KILL FOO bar
CLIENT UNBLOCK 12345
CLIENT UNBLOCK x
CLIENT UNBLOCK 1 foo
CLIENT PAUSE x
CLIENT PAUSE -1
CLIENT PAUSE 1 foo
CLIENT UNPAUSE
CLIENT TRACKING off
CLIENT TRACKINGINFO
CLIENT GETREDIR
CLIENT CACHING yes
CLIENT LIST TYPE foo
CLIENT LIST ID x
CLIENT LIST foo
CLIENT LIST ID 123456
AUTH
AUTH a
AUTH a b
AUTH default b
AUTH a b c
HELLO 1
HELLO 4
HELLO x
HELLO 2 foo
OBJECT
OBJECT foo
OBJECT ENCODING
OBJECT ENCODING missing
OBJECT FREQ missing
SET o 12
OBJECT ENCODING o
OBJECT FREQ o
SET o abc
OBJECT ENCODING o
OBJECT REFCOUNT o
SET o aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
OBJECT ENCODING o
CONFIG
CONFIG foo
CONFIG GET
CONFIG GET nothing-like-it
CONFIG GET databases
CONFIG GET proto-max-bulk-len
CONFIG SET a
CONFIG SET a b c
CONFIG SET nothing-like-it 1
CONFIG SET hz 10
CONFIG RESETSTAT
COMMAND foo
COMMAND INFO nothing
COMMAND GETKEYS get a
COMMAND GETKEYS mset a 1 b 2
COMMAND GETKEYS nothing a
COMMAND GETKEYS ping a
COMMAND GETKEYS get a b
COMMAND LIST foo
MEMORY USAGE missing
MEMORY foo
MEMORY USAGE o SAMPLES x
SLOWLOG LEN
SLOWLOG GET x
SLOWLOG RESET
SLOWLOG foo
LATENCY LATEST
LATENCY RESET
LATENCY HISTORY a
LATENCY foo
WAIT 0 0
WAIT x 0
WAIT 0 x
WAIT 0 -1
WAIT 1 1
ROLE
READONLY
READWRITE
TIME a
LASTSAVE a
DBSIZE a
DEBUG SLEEP 0
ACL WHOAMI
ACL foo
SHUTDOWN foo
BGSAVE foo
RESET
PING
"#;
