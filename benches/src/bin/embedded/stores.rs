//! The engines, each with settings fit for production.

use std::path::Path;
use std::sync::Arc;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, PersistMode};
use redb::{ReadableDatabase, TableDefinition};
use sira_benches::data::{Values, key};
use sira_benches::unsynced::Unsynced;
use sira_store::embedded::{Engine, EngineOptions, NamespaceId, WriteOptions};

/// Values from this size on are kept apart from the keys where an engine can.
const APART_BYTES: usize = 64 << 10;
/// Cache of engines that have one of their own, in bytes.
const CACHE_BYTES: usize = 64 << 20;
/// Writes of one redb transaction without fsync, and reads of one read transaction: its writes are
/// transactions of one writer, which redb's documentation says to batch.
const REDB_BATCH: usize = 100;

/// One engine under test.
pub trait Store: Sync {
    /// Writes the values of these numbers, one operation each; with `sync`, each is on the medium
    /// before the next begins.
    fn write(&self, ids: &[u32], values: &Values, sync: bool);

    /// Reads the value of each number as bytes of its own, which may outlive the read, and lends
    /// them to `visit`.
    fn read(&self, ids: &[u32], visit: &mut dyn FnMut(u32, &[u8]));
}

/// Opens a new store in a folder, for values of this size, with or without an fsync for each write.
pub type Open = fn(&Path, usize, bool) -> Box<dyn Store>;

/// All engines; the first is ours.
pub fn all() -> Vec<(&'static str, Open)> {
    vec![
        ("sira", |path, _, _| Box::new(Sira::open(path))),
        ("fjall", |path, size, _| Box::new(Fjall::open(path, size))),
        ("redb", |path, _, sync| Box::new(Redb::open(path, sync))),
        #[cfg(feature = "rocksdb")]
        ("RocksDB", |path, size, _| Box::new(Rocks::open(path, size))),
    ]
}

/// The settings, in words.
pub fn notes() -> Vec<String> {
    let mut notes = vec![
        "keys of 16 bytes in random order, values that do not compress; a read gives bytes that \
         outlive it, and every byte is looked at; afterwards every value is compared with what was \
         written"
            .to_owned(),
        format!(
            "a cache of {} MiB for engines that have one; the sets of 1 KiB and more are larger, \
             everything is in the page cache of the OS",
            CACHE_BYTES >> 20
        ),
        "sira: `EngineOptions::default()`, reads by `Engine::get`".to_owned(),
        "fjall: values of 64 KiB and more apart (`KvSeparationOptions`), else defaults (LZ4, journal \
         written to the OS at each write)"
            .to_owned(),
        format!(
            "redb: without fsync, {REDB_BATCH} writes a transaction on a file that \
             ignores syncs; with it, one; {REDB_BATCH} reads a transaction, copied out"
        ),
    ];
    if cfg!(feature = "rocksdb") {
        notes.push(
            "RocksDB: Bloom filter of 10 bits, LZ4, 2 background jobs, pipelined writes, WAL on, \
             blob files for values of 64 KiB and more"
                .to_owned(),
        );
    }
    notes
}

struct Sira {
    engine: Arc<Engine>,
    namespace: NamespaceId,
}

impl Sira {
    fn open(path: &Path) -> Self {
        let engine = Engine::open(path, EngineOptions::default()).expect("sira opens");
        let namespace = engine.namespace("bench").expect("a namespace");
        Self { engine, namespace }
    }
}

impl Store for Sira {
    fn write(&self, ids: &[u32], values: &Values, sync: bool) {
        let options = WriteOptions::default();
        for id in ids {
            let commit = self
                .engine
                .put(self.namespace, &key(*id), values.of(*id), options)
                .expect("sira writes");
            if sync {
                self.engine.wait_durable(commit.ticket).expect("sira syncs");
            }
        }
    }

    fn read(&self, ids: &[u32], visit: &mut dyn FnMut(u32, &[u8])) {
        for id in ids {
            let found = self.engine.get(self.namespace, &key(*id)).expect("sira reads");
            visit(*id, &found.expect("the key is there").value);
        }
    }
}

struct Fjall {
    database: Database,
    keyspace: Keyspace,
}

impl Fjall {
    fn open(path: &Path, size: usize) -> Self {
        let database =
            Database::builder(path).cache_size(CACHE_BYTES as u64).open().expect("fjall opens");
        let apart = (size >= APART_BYTES).then(KvSeparationOptions::default);
        let keyspace = database
            .keyspace("bench", || KeyspaceCreateOptions::default().with_kv_separation(apart))
            .expect("a keyspace");
        Self { database, keyspace }
    }
}

impl Store for Fjall {
    fn write(&self, ids: &[u32], values: &Values, sync: bool) {
        for id in ids {
            self.keyspace.insert(key(*id), values.of(*id)).expect("fjall writes");
            if sync {
                self.database.persist(PersistMode::SyncData).expect("fjall syncs");
            }
        }
    }

    fn read(&self, ids: &[u32], visit: &mut dyn FnMut(u32, &[u8])) {
        for id in ids {
            let found = self.keyspace.get(key(*id)).expect("fjall reads");
            visit(*id, &found.expect("the key is there"));
        }
    }
}

const TABLE: TableDefinition<&[u8], &[u8]> = TableDefinition::new("bench");

struct Redb {
    database: redb::Database,
}

impl Redb {
    fn open(path: &Path, sync: bool) -> Self {
        let path = path.join("redb");
        let mut builder = redb::Database::builder();
        builder.set_cache_size(CACHE_BYTES);
        let database = if sync {
            builder.create(path)
        } else {
            builder.create_with_backend(Unsynced::create(&path).expect("a file of our own"))
        };
        let database = database.expect("redb opens");
        let write = database.begin_write().expect("a transaction");
        write.open_table(TABLE).expect("a table");
        write.commit().expect("redb commits");
        Self { database }
    }
}

impl Store for Redb {
    fn write(&self, ids: &[u32], values: &Values, sync: bool) {
        for ids in ids.chunks(if sync { 1 } else { REDB_BATCH }) {
            let write = self.database.begin_write().expect("a transaction");
            {
                let mut table = write.open_table(TABLE).expect("the table");
                for id in ids {
                    table.insert(key(*id).as_slice(), values.of(*id)).expect("redb writes");
                }
            }
            write.commit().expect("redb commits");
        }
    }

    fn read(&self, ids: &[u32], visit: &mut dyn FnMut(u32, &[u8])) {
        for ids in ids.chunks(REDB_BATCH) {
            let read = self.database.begin_read().expect("a transaction");
            let table = read.open_table(TABLE).expect("the table");
            for id in ids {
                let found = table.get(key(*id).as_slice()).expect("redb reads");
                visit(*id, &found.expect("the key is there").value().to_vec());
            }
        }
    }
}

#[cfg(feature = "rocksdb")]
struct Rocks {
    database: rocksdb::DB,
}

#[cfg(feature = "rocksdb")]
impl Rocks {
    fn open(path: &Path, size: usize) -> Self {
        let mut table = rocksdb::BlockBasedOptions::default();
        table.set_block_cache(&rocksdb::Cache::new_lru_cache(CACHE_BYTES));
        table.set_bloom_filter(10.0, false);
        table.set_format_version(5);
        let mut options = rocksdb::Options::default();
        options.create_if_missing(true);
        options.set_block_based_table_factory(&table);
        options.set_compression_type(rocksdb::DBCompressionType::Lz4);
        options.set_max_background_jobs(2);
        options.set_bytes_per_sync(1 << 20);
        options.set_enable_pipelined_write(true);
        if size >= APART_BYTES {
            options.set_enable_blob_files(true);
            options.set_min_blob_size(APART_BYTES as u64);
        }
        Self { database: rocksdb::DB::open(&options, path).expect("RocksDB opens") }
    }
}

#[cfg(feature = "rocksdb")]
impl Store for Rocks {
    fn write(&self, ids: &[u32], values: &Values, sync: bool) {
        let mut options = rocksdb::WriteOptions::default();
        options.set_sync(sync);
        for id in ids {
            self.database.put_opt(key(*id), values.of(*id), &options).expect("RocksDB writes");
        }
    }

    fn read(&self, ids: &[u32], visit: &mut dyn FnMut(u32, &[u8])) {
        for id in ids {
            let found = self.database.get(key(*id)).expect("RocksDB reads");
            visit(*id, &found.expect("the key is there"));
        }
    }
}
