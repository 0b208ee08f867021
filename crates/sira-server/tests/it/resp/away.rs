//! Databases that a policy keeps elsewhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use sira_store::client::{NamespacePolicy, StoragePlan};
use sira_store::placement::Catalog;
use sira_store::transaction::TransactionLog;
use sira_store::{
    Bytes, Capabilities, Condition, EmbeddedBackend, MemoryBackend, Object, ReadOptions, Result,
    StorageBackend, StorageOptions, Version,
};

use super::wire::{Client, Door, request, words};

fn number(client: &mut Client, line: &str) -> i64 {
    let text = client.text(line);
    text.trim_start_matches(':').trim_end().parse().unwrap_or_else(|_| panic!("{line}: {text}"))
}

fn send(client: &mut Client, lines: &[String]) {
    let bytes: Vec<u8> = lines.iter().flat_map(|line| request(&words(line))).collect();
    client.send(&bytes);
}

#[test]
fn pipelines_are_answered_in_order() {
    let door = Door::open(|_| {});
    for direct in [true, false] {
        door.send_away(3..5, direct);
        let mut client = door.client();
        client.run("SELECT 3");
        client.run("FLUSHDB");
        let (mut lines, mut wanted) = (Vec::new(), String::new());
        for round in 0..300 {
            let key = round % 7;
            lines.push(format!("APPEND k{key} x"));
            wanted += &format!(":{}\r\n", round / 7 + 1);
            lines.push(format!("STRLEN k{key}"));
            wanted += &format!(":{}\r\n", round / 7 + 1);
            match round % 50 {
                0 => {
                    lines.extend(["SELECT 0", "SET here 1", "SELECT 3"].map(str::to_owned));
                    wanted += "+OK\r\n+OK\r\n+OK\r\n";
                }
                1 => {
                    lines.extend(["MULTI", "INCR n", "EXEC"].map(str::to_owned));
                    wanted += &format!("+OK\r\n+QUEUED\r\n*1\r\n:{}\r\n", round / 50 + 1);
                }
                2 => {
                    lines.push("FOO".to_owned());
                    wanted += "-ERR unknown command 'FOO', with args beginning with: \r\n";
                }
                3 => {
                    lines.push("MGET n here".to_owned());
                    wanted += &format!("*2\r\n$1\r\n{}\r\n$-1\r\n", round / 50 + 1);
                }
                4 => {
                    let more = ["SET x 1", "SET y 1", "DEL missing x y", "EXISTS x y k0"];
                    lines.extend(more.map(str::to_owned));
                    wanted += "+OK\r\n+OK\r\n:2\r\n:1\r\n";
                }
                _ => {}
            }
        }
        send(&mut client, &lines);
        let replies: Vec<u8> = lines.iter().flat_map(|_| client.reply()).collect();
        assert_eq!(String::from_utf8_lossy(&replies), wanted, "direct {direct}");
        assert_eq!(client.text("GET here"), "$-1\r\n");
    }
}

#[test]
fn no_increment_is_lost_among_many() {
    const CLIENTS: usize = 8;
    const ROUNDS: usize = 150;
    let door = Door::open(|_| {});
    for direct in [true, false] {
        door.send_away(2..3, direct);
        std::thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| {
                    let mut client = door.client();
                    client.run("SELECT 2");
                    for _ in 0..ROUNDS {
                        number(&mut client, "INCR n");
                        number(&mut client, "APPEND text x");
                    }
                });
            }
        });
        let mut client = door.client();
        client.run("SELECT 2");
        let total = CLIENTS * ROUNDS;
        assert_eq!(number(&mut client, "INCRBY n 0"), total as i64);
        assert_eq!(number(&mut client, "STRLEN text"), total as i64);
    }
}

#[test]
fn transactions_are_whole_and_watched_keys_guard_them() {
    const ACCOUNTS: usize = 4;
    let door = Door::open(|_| {});
    door.send_away(6..7, true);
    let mut setup = door.client();
    setup.run("SELECT 6");
    for account in 0..ACCOUNTS {
        setup.run(&format!("SET a{account} 100"));
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..3)
            .map(|writer| {
                let door = &door;
                scope.spawn(move || {
                    let mut client = door.client();
                    client.run("SELECT 6");
                    for round in 0..80 {
                        let (from, to) = ((round + writer) % ACCOUNTS, (round + 1) % ACCOUNTS);
                        client.run("MULTI");
                        client.run(&format!("DECRBY a{from} 7"));
                        client.run(&format!("INCRBY a{to} 7"));
                        let reply = client.text("EXEC");
                        assert!(reply.starts_with("*2"), "{reply}");
                    }
                })
            })
            .collect();
        let reader = scope.spawn(|| {
            let mut client = door.client();
            client.run("SELECT 6");
            while !stop.load(Ordering::Relaxed) {
                let reply = client.text("MGET a0 a1 a2 a3");
                let numbers = reply.lines().filter(|line| !line.starts_with(['*', '$']));
                let sum: i64 = numbers.map(|line| line.parse::<i64>().unwrap()).sum();
                assert_eq!(sum, 400, "{reply}");
            }
        });
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        stop.store(true, Ordering::Relaxed);
        reader.join().unwrap();
    });
    let mut other = door.client();
    other.run("SELECT 6");
    // Watched, and changed by another client: not only when it is written to.
    for (watched, wanted) in [("a0", "*-1\r\n"), ("a9", "*1\r\n+OK\r\n")] {
        setup.run(&format!("WATCH {watched}"));
        other.run("INCR a0");
        setup.run("MULTI");
        setup.run("SET done 1");
        assert_eq!(setup.text("EXEC"), wanted);
    }
    assert_eq!(setup.text("EXEC"), "-ERR EXEC without MULTI\r\n");
}

#[test]
fn a_step_over_several_keys_is_refused_where_there_is_none() {
    let door = Door::open(|_| {});
    door.send_away(6..8, false);
    let mut client = door.client();
    client.run("SELECT 6");
    for line in ["MSET a 1 b 2", "MSETNX a 1 b 2"] {
        let reply = client.text(line);
        assert!(reply.starts_with("-ERR ") && reply.contains("atomic batches"), "{reply}");
    }
    assert_eq!(client.text("MGET a b"), "*2\r\n$-1\r\n$-1\r\n");
    client.run("SET a 1");
    assert!(client.text("RENAME a b").starts_with("-ERR "));
    assert!(client.text("MOVE a 7").starts_with("-ERR "));
    assert_eq!(client.text("GET a"), "$1\r\n1\r\n");
    assert!(client.text("SET \"\\xff\" 1").contains("UTF-8"));
    assert_eq!(client.text("GET \"\\xff\""), "$-1\r\n");
    assert_eq!(client.text("COPY a c"), ":1\r\n");
    assert_eq!(number(&mut client, "DEL a b c"), 2);
    assert_eq!(number(&mut client, "DBSIZE"), 0);
}

#[test]
fn replies_can_be_turned_off_there_too() {
    let door = Door::open(|_| {});
    door.send_away(1..2, true);
    let mut client = door.client();
    client.run("SELECT 1");
    let lines = [
        "CLIENT REPLY SKIP",
        "SET a 1",
        "GET a",
        "CLIENT REPLY OFF",
        "INCR a",
        "INCR a",
        "CLIENT REPLY ON",
        "GET a",
    ];
    send(&mut client, &lines.map(str::to_owned));
    let replies: Vec<u8> = (0..3).flat_map(|_| client.reply()).collect();
    assert_eq!(String::from_utf8_lossy(&replies), "$1\r\n1\r\n+OK\r\n$1\r\n3\r\n");
}

#[test]
fn scans_find_every_key_there() {
    let door = Door::open(|_| {});
    door.send_away(1..2, false);
    let mut client = door.client();
    client.run("SELECT 1");
    let lines: Vec<String> = (0..1500).map(|key| format!("SET key:{key:04} v")).collect();
    send(&mut client, &lines);
    lines.iter().for_each(|_| assert_eq!(client.reply(), b"+OK\r\n"));
    assert_eq!(number(&mut client, "DBSIZE"), 1500);
    assert_eq!(
        client.text("KEYS key:00*").lines().filter(|line| line.starts_with("key")).count(),
        100
    );
    let (mut cursor, mut found) = ("0".to_owned(), 0);
    loop {
        let reply = client.text(&format!("SCAN {cursor} COUNT 333"));
        found += reply.lines().filter(|line| line.starts_with("key:")).count();
        cursor = reply.lines().nth(2).unwrap().to_owned();
        if cursor == "0" {
            break;
        }
    }
    assert_eq!(found, 1500);
    assert!(client.text("RANDOMKEY").contains("key:"));
    client.run("FLUSHALL");
    assert_eq!(client.text("RANDOMKEY"), "$-1\r\n");
}

/// Writes to a key just before someone who has read it does, once.
#[derive(Debug)]
struct Overtaking {
    inner: Arc<dyn StorageBackend>,
    done: Arc<AtomicBool>,
}

#[async_trait]
impl StorageBackend for Overtaking {
    fn capabilities(&self) -> Capabilities {
        Capabilities { atomic_batch: false, ..self.inner.capabilities() }
    }
    async fn put(&self, key: &str, value: Bytes, options: StorageOptions) -> Result<Version> {
        if options.condition != Condition::Always && !self.done.swap(true, Ordering::Relaxed) {
            self.inner.put(key, Bytes::from("10"), StorageOptions::default()).await?;
        }
        self.inner.put(key, value, options).await
    }
    async fn read(&self, key: &str, options: ReadOptions) -> Result<Option<Object>> {
        self.inner.read(key, options).await
    }
    async fn remove(&self, key: &str, condition: Condition) -> Result<bool> {
        self.inner.remove(key, condition).await
    }
    async fn namespace(&self, name: &str) -> Result<Arc<dyn StorageBackend>> {
        let inner = self.inner.namespace(name).await?;
        Ok(Arc::new(Self { inner, done: Arc::clone(&self.done) }))
    }
}

#[test]
fn a_command_that_is_overtaken_begins_again_and_a_refused_transaction_does_not() {
    let door = Door::open(|_| {});
    let inner = Arc::new(MemoryBackend::new(1 << 20));
    let backend = Arc::new(Overtaking { inner, done: Arc::default() });
    let mut plan = StoragePlan::default();
    plan.backends.insert("memory".to_owned(), backend.clone());
    let policy = NamespacePolicy { direct: true, ..NamespacePolicy::on("memory") };
    plan.namespaces.insert("db5".to_owned(), policy);
    door.storage.apply(plan).unwrap();
    let mut client = door.client();
    for line in ["SELECT 5", "MULTI", "SET a 1", "SET b 1"] {
        client.run(line);
    }
    assert!(client.text("EXEC").contains("atomic batches"));
    assert_eq!(number(&mut client, "INCR n"), 11);
    assert!(backend.done.load(Ordering::Relaxed));
    assert_eq!(client.text("GET n"), "$2\r\n11\r\n");
    assert_eq!(client.text("GET a"), "$-1\r\n");
}

/// Databases 6 and 7 on backends of their own, with a log of transactions on the engine.
fn apart(door: &Door) {
    let mut plan = StoragePlan::default();
    for (name, database) in [("one", "db6"), ("two", "db7")] {
        plan.backends.insert(name.to_owned(), Arc::new(MemoryBackend::new(64 << 20)));
        plan.namespaces.insert(database.to_owned(), NamespacePolicy::on(name));
    }
    let engine = || Arc::new(EmbeddedBackend::new(Arc::clone(&door.storage.engine)));
    plan.catalog = Some(Catalog::new(engine()).unwrap());
    let log = TransactionLog::open(engine(), Arc::clone(door.storage.engine.env()));
    plan.transaction_log = Some(door.block_on(log).unwrap());
    door.storage.apply(plan).unwrap();
}

#[test]
fn a_step_over_several_databases_is_one_where_there_is_a_log() {
    let door = Door::open(|_| {});
    apart(&door);
    let mut client = door.client();
    client.run("SELECT 6");
    assert_eq!(client.text("MSET a 1 b 2"), "+OK\r\n");
    assert_eq!(client.text("MSETNX b 1 c 2"), ":0\r\n");
    assert_eq!(client.text("RENAME b c"), "+OK\r\n");
    assert_eq!(client.text("MGET a b c"), "*3\r\n$1\r\n1\r\n$-1\r\n$1\r\n2\r\n");
    // The third database lies on the engine.
    for line in ["MULTI", "INCR a", "SELECT 7", "SET a seven", "SELECT 0", "SET a zero"] {
        client.run(line);
    }
    assert_eq!(client.text("EXEC"), "*5\r\n:2\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n");
    for (database, value) in [("0", "zero"), ("7", "seven"), ("6", "2")] {
        client.run(&format!("SELECT {database}"));
        assert_eq!(client.text("GET a"), format!("${}\r\n{value}\r\n", value.len()));
    }
    let committed = door.storage.client.plan().transaction_log.as_ref().unwrap().figures();
    assert_eq!(committed.committed, 3, "{committed:?}");
}

#[test]
#[allow(clippy::disallowed_methods, reason = "clients are threads")]
fn what_was_watched_in_another_database_holds() {
    const CLIENTS: usize = 4;
    const EACH: usize = 25;
    let door = Door::open(|_| {});
    apart(&door);
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut client = door.client();
                let mut done = 0;
                while done < EACH {
                    for line in ["SELECT 6", "WATCH n", "SELECT 7", "WATCH n", "MULTI"] {
                        client.run(line);
                    }
                    for line in ["APPEND n x", "SELECT 6", "APPEND n x"] {
                        client.run(line);
                    }
                    done += usize::from(client.text("EXEC") != "*-1\r\n");
                }
            });
        }
    });
    let mut client = door.client();
    for database in ["6", "7"] {
        client.run(&format!("SELECT {database}"));
        assert_eq!(number(&mut client, "STRLEN n"), (CLIENTS * EACH) as i64);
    }
}

/// Stops the writers whatever becomes of the test.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_database_leaves_the_engine_while_it_is_written_to() {
    let door = Door::open(|_| {});
    let memory = Arc::new(MemoryBackend::new(64 << 20));
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..3)
            .map(|writer| {
                let (door, stop) = (&door, &stop);
                scope.spawn(move || {
                    let mut client = door.client();
                    client.run("SELECT 4");
                    let mut count = 0;
                    while !stop.load(Ordering::Relaxed) || count < 300 {
                        count += 1;
                        let total = number(&mut client, &format!("INCR own:{writer}"));
                        assert_eq!(total, count, "an increment of writer {writer} was lost");
                        client.run("INCR shared");
                    }
                    count
                })
            })
            .collect();
        let stopper = StopOnDrop(&stop);
        door.block_on(async { tokio::time::sleep(Duration::from_millis(50)).await });
        let engine = EmbeddedBackend::new(Arc::clone(&door.storage.engine));
        let catalog = Catalog::new(Arc::new(engine)).unwrap();
        door.block_on(catalog.adopt("db4", "embedded")).unwrap();
        let mut plan = StoragePlan { catalog: Some(catalog), ..StoragePlan::default() };
        plan.backends.insert("memory".to_owned(), memory.clone());
        plan.namespaces.insert("db4".to_owned(), NamespacePolicy::on("memory"));
        door.storage.apply(plan).unwrap();
        door.block_on(async { tokio::time::sleep(Duration::from_millis(50)).await });
        drop(stopper);
        let total: i64 = writers.into_iter().map(|writer| writer.join().unwrap()).sum();
        let mut client = door.client();
        client.run("SELECT 4");
        assert_eq!(number(&mut client, "INCRBY shared 0"), total);
    });
}
