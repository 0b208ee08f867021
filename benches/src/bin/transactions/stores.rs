//! The stores, each with the transactions that its documentation shows.

use std::path::Path;
use std::sync::Arc;

use fjall::{
    KeyspaceCreateOptions, OptimisticTxDatabase, OptimisticTxKeyspace, PersistMode, Readable,
    SingleWriterTxDatabase, SingleWriterTxKeyspace,
};
use redb::{ReadableDatabase, ReadableTable, TableDefinition};
use sira_benches::data::key;
use sira_benches::unsynced::Unsynced;
use sira_store::embedded::{EmbeddedBackend, Engine, EngineOptions};
use sira_store::{BatchOperation, Durability, StorageClient, StorageOptions};

use crate::{CHANGED, count_of, value};

/// Cache of stores that have one of their own, in bytes.
const CACHE_BYTES: usize = 64 << 20;

/// One store under test.
pub trait Store: Sync {
    /// Writes each key with a count of 0.
    fn fill(&self, keys: u32);

    /// Counts up the keys of each transaction, again where another one was faster.
    fn count_up(&self, transactions: &mut dyn Iterator<Item = [u32; CHANGED]>);

    /// The sum of all counts.
    fn sum(&self, keys: u32) -> u64;
}

/// Opens a new store in a folder, with or without an fsync for each transaction.
pub type Open = fn(&Path, bool) -> Box<dyn Store>;

/// All stores; the first is ours.
pub fn all() -> Vec<(&'static str, Open)> {
    vec![
        ("sira", |path, sync| Box::new(Sira::open(path, sync))),
        ("fjall, optimistic", |path, sync| Box::new(Optimistic::open(path, sync))),
        ("fjall, one writer", |path, sync| Box::new(OneWriter::open(path, sync))),
        ("redb", |path, sync| Box::new(Redb::open(path, sync))),
    ]
}

/// The settings, in words.
pub fn notes() -> Vec<String> {
    [
        "100,000 keys of 16 bytes, values of 100; a transaction reads 5 keys at random and writes \
         each with a count that is greater by one; the sum of all counts is checked afterwards",
        "without fsync, all write to the operating system at each commit; redb on a file that \
         ignores syncs",
        "sira: `StorageClient::transact` over the embedded engine, a current-thread runtime a thread",
        "fjall: `OptimisticTxDatabase` (run again after a conflict) and `SingleWriterTxDatabase`, \
         defaults but for a cache of 64 MiB and `PersistMode::SyncData` where there is an fsync",
        "redb: `begin_write`, a cache of 64 MiB",
    ]
    .map(str::to_owned)
    .to_vec()
}

struct Sira {
    client: StorageClient,
    durability: Durability,
}

impl Sira {
    fn open(path: &Path, sync: bool) -> Self {
        let engine = Engine::open(path, EngineOptions::default()).expect("sira opens");
        let client = StorageClient::new();
        let backend = Arc::new(EmbeddedBackend::new(engine));
        client.register_backend("embedded", backend).expect("a backend");
        Self { client, durability: if sync { Durability::Sync } else { Durability::None } }
    }

    fn options(&self) -> StorageOptions {
        StorageOptions { durability: Some(self.durability), ..StorageOptions::default() }
    }

    fn run<T>(&self, work: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        runtime.expect("a runtime").block_on(work)
    }
}

fn name(id: u32) -> String {
    String::from_utf8(key(id).to_vec()).expect("keys are text")
}

impl Store for Sira {
    fn fill(&self, keys: u32) {
        self.run(async {
            let put = |id| BatchOperation::Put {
                key: name(id),
                value: value(0).to_vec().into(),
                options: StorageOptions { durability: Some(Durability::None), ..self.options() },
            };
            self.client.batch((0..keys).map(put).collect()).await.expect("sira writes");
        });
    }

    fn count_up(&self, transactions: &mut dyn Iterator<Item = [u32; CHANGED]>) {
        self.run(async {
            for ids in transactions {
                let options = self.options();
                let counted = self.client.transact(|transaction| {
                    let options = options.clone();
                    Box::pin(async move {
                        for id in ids {
                            let name = name(id);
                            let held = transaction.get(&name).await?.expect("the key is there");
                            let counted = value(count_of(&held) + 1).to_vec();
                            transaction.put(&name, counted, options.clone())?;
                        }
                        Ok(())
                    })
                });
                counted.await.expect("sira commits");
            }
        });
    }

    fn sum(&self, keys: u32) -> u64 {
        self.run(async {
            let mut sum = 0;
            for id in 0..keys {
                let held = self.client.retrieve(&name(id)).await.expect("sira reads");
                sum += count_of(&held.expect("the key is there"));
            }
            sum
        })
    }
}

fn mode(sync: bool) -> Option<PersistMode> {
    Some(if sync { PersistMode::SyncData } else { PersistMode::Buffer })
}

struct Optimistic {
    database: OptimisticTxDatabase,
    keyspace: OptimisticTxKeyspace,
    sync: bool,
}

impl Optimistic {
    fn open(path: &Path, sync: bool) -> Self {
        let builder = OptimisticTxDatabase::builder(path).cache_size(CACHE_BYTES as u64);
        let database = builder.open().expect("fjall opens");
        let keyspace = database.keyspace("bench", KeyspaceCreateOptions::default);
        Self { keyspace: keyspace.expect("a keyspace"), database, sync }
    }
}

impl Store for Optimistic {
    fn fill(&self, keys: u32) {
        for id in 0..keys {
            self.keyspace.insert(key(id), value(0)).expect("fjall writes");
        }
    }

    fn count_up(&self, transactions: &mut dyn Iterator<Item = [u32; CHANGED]>) {
        for ids in transactions {
            loop {
                let transaction = self.database.write_tx().expect("a transaction");
                let mut transaction = transaction.durability(mode(self.sync));
                for id in ids {
                    let held = transaction.get(&self.keyspace, key(id)).expect("fjall reads");
                    let held = held.expect("the key is there");
                    transaction.insert(&self.keyspace, key(id), value(count_of(&held) + 1));
                }
                if transaction.commit().expect("fjall commits").is_ok() {
                    break;
                }
            }
        }
    }

    fn sum(&self, keys: u32) -> u64 {
        let held = |id| self.keyspace.get(key(id)).expect("fjall reads").expect("the key is there");
        (0..keys).map(|id| count_of(&held(id))).sum()
    }
}

struct OneWriter {
    database: SingleWriterTxDatabase,
    keyspace: SingleWriterTxKeyspace,
    sync: bool,
}

impl OneWriter {
    fn open(path: &Path, sync: bool) -> Self {
        let builder = SingleWriterTxDatabase::builder(path).cache_size(CACHE_BYTES as u64);
        let database = builder.open().expect("fjall opens");
        let keyspace = database.keyspace("bench", KeyspaceCreateOptions::default);
        Self { keyspace: keyspace.expect("a keyspace"), database, sync }
    }
}

impl Store for OneWriter {
    fn fill(&self, keys: u32) {
        for id in 0..keys {
            self.keyspace.insert(key(id), value(0)).expect("fjall writes");
        }
    }

    fn count_up(&self, transactions: &mut dyn Iterator<Item = [u32; CHANGED]>) {
        for ids in transactions {
            let mut transaction = self.database.write_tx().durability(mode(self.sync));
            for id in ids {
                let held = transaction.get(&self.keyspace, key(id)).expect("fjall reads");
                let held = held.expect("the key is there");
                transaction.insert(&self.keyspace, key(id), value(count_of(&held) + 1));
            }
            transaction.commit().expect("fjall commits");
        }
    }

    fn sum(&self, keys: u32) -> u64 {
        let held = |id| self.keyspace.get(key(id)).expect("fjall reads").expect("the key is there");
        (0..keys).map(|id| count_of(&held(id))).sum()
    }
}

const TABLE: TableDefinition<&[u8], &[u8]> = TableDefinition::new("bench");

struct Redb {
    database: redb::Database,
}

impl Redb {
    fn open(path: &Path, sync: bool) -> Self {
        let mut builder = redb::Database::builder();
        builder.set_cache_size(CACHE_BYTES);
        let path = path.join("redb");
        let database = match sync {
            true => builder.create(path),
            false => builder.create_with_backend(Unsynced::create(&path).expect("a file")),
        };
        Self { database: database.expect("redb opens") }
    }
}

impl Store for Redb {
    fn fill(&self, keys: u32) {
        let write = self.database.begin_write().expect("a transaction");
        {
            let mut table = write.open_table(TABLE).expect("the table");
            for id in 0..keys {
                table.insert(key(id).as_slice(), value(0).as_slice()).expect("redb writes");
            }
        }
        write.commit().expect("redb commits");
    }

    fn count_up(&self, transactions: &mut dyn Iterator<Item = [u32; CHANGED]>) {
        for ids in transactions {
            let write = self.database.begin_write().expect("a transaction");
            {
                let mut table = write.open_table(TABLE).expect("the table");
                for id in ids {
                    let held = table.get(key(id).as_slice()).expect("redb reads");
                    let held = count_of(held.expect("the key is there").value());
                    let counted = value(held + 1);
                    table.insert(key(id).as_slice(), counted.as_slice()).expect("redb writes");
                }
            }
            write.commit().expect("redb commits");
        }
    }

    fn sum(&self, keys: u32) -> u64 {
        let read = self.database.begin_read().expect("a transaction");
        let table = read.open_table(TABLE).expect("the table");
        let count = |id| {
            let held = table.get(key(id).as_slice()).expect("redb reads");
            count_of(held.expect("the key is there").value())
        };
        (0..keys).map(count).sum()
    }
}
