use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::page::{PageRef, Table, decode_page, encode_page};
use super::{Entry, Ledger, OpenLedger, PAGE_KEYS_MAX, Pending, number};
use crate::backend::StorageBackend;
use crate::env::SeededRandom;
use crate::error::StorageError;
use crate::memory::MemoryBackend;
use crate::migration::Side;
use crate::options::StorageOptions;
use crate::version::Version;

fn agreed(version: u64) -> Entry {
    Entry { agreed: Some(Version::from_u64(version)), pending: None }
}

fn entries() -> Vec<(String, Entry)> {
    let pending = |version, to| Some(Pending { version: Version::from_u64(version), to });
    vec![
        (String::new(), agreed(1)),
        ("cache:a".to_owned(), agreed(0x0123_4567_89AB_CDEF)),
        ("cache:b".to_owned(), Entry { agreed: None, pending: pending(7, Side::Target) }),
        ("cache:bä".to_owned(), Entry { pending: pending(9, Side::Source), ..agreed(8) }),
        ("data".to_owned(), agreed(3)),
    ]
}

fn table() -> Table {
    let page = |from: &str, number| PageRef { from: from.to_owned(), number };
    Table {
        epoch: 3,
        made: 2,
        pages: vec![page("", number(3, 0)), page("cache:", number(1, 4))],
        retired: vec![number(2, 1)],
    }
}

/// Format 1: every later version must read these bytes.
#[test]
fn format_1_is_read_and_written() {
    let folder: PathBuf =
        [env!("CARGO_MANIFEST_DIR"), "tests", "golden", "ledger-v1"].iter().collect();
    let written = [
        ("table", table().encode().unwrap()),
        ("page", encode_page(number(3, 0), &entries()).unwrap()),
    ];
    for (name, bytes) in written {
        let file = folder.join(name);
        if std::env::var_os("SIRA_WRITE_GOLDEN").is_some() {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(&file, &bytes).unwrap();
        }
        assert_eq!(std::fs::read(&file).unwrap(), bytes, "{name}");
    }
    assert_eq!(Table::decode(&std::fs::read(folder.join("table")).unwrap()).unwrap(), table());
    let page = std::fs::read(folder.join("page")).unwrap();
    assert_eq!(decode_page(&page, number(3, 0)).unwrap(), entries());
    let error = decode_page(&page, number(3, 1)).unwrap_err();
    assert!(matches!(error, StorageError::Corrupt(_)), "{error}");
}

#[test]
fn bytes_that_are_none_are_refused() {
    let good = encode_page(0, &entries()).unwrap();
    let refused = |bytes: &[u8]| decode_page(bytes, 0).is_err() && Table::decode(bytes).is_err();
    for len in 0..good.len() {
        assert!(refused(&good[..len]), "{len} bytes");
    }
    let mut unordered = entries();
    unordered.swap(1, 2);
    assert!(refused(&encode_page(0, &unordered).unwrap()));
    assert!(Table::decode(&good).is_err() && decode_page(&table().encode().unwrap(), 0).is_err());
    let mut gap = table();
    gap.pages.remove(0);
    assert!(Table::decode(&gap.encode().unwrap()).is_err());
}

fn store() -> Arc<dyn StorageBackend> {
    Arc::new(MemoryBackend::new(1 << 30))
}

async fn all(ledger: &Ledger) -> BTreeMap<String, Entry> {
    let mut open = OpenLedger::open(ledger, true).await.unwrap();
    let mut from = Some(String::new());
    let mut all = BTreeMap::new();
    while let Some(key) = from {
        let (entries, next) = open.read(&key).await.unwrap();
        let count = all.len() + entries.len();
        all.extend(entries);
        assert_eq!(all.len(), count, "a key is there twice");
        from = next;
    }
    all
}

#[tokio::test]
async fn what_is_put_down_is_found_again() {
    let (backend, mut random) = (store(), SeededRandom::new(4));
    let ledger = Ledger::new(Arc::clone(&backend), "l");
    let mut model: BTreeMap<String, Entry> = BTreeMap::new();
    for round in 0..120 {
        let mut open = OpenLedger::open(&ledger, false).await.unwrap();
        let first = random.below(20_000);
        let removes = round > 60 && random.chance(2, 3);
        let changes: BTreeMap<String, Entry> = (0..random.below(1_500))
            .map(|step| {
                let entry = if removes { Entry::default() } else { agreed(1 + random.below(9)) };
                (format!("{:08}", first + step), entry)
            })
            .collect();
        let list: Vec<_> = changes.iter().map(|(key, entry)| (key.clone(), *entry)).collect();
        open.update(&list).await.unwrap();
        model.extend(changes);
        model.retain(|_, entry| *entry != Entry::default());
        assert_eq!(all(&ledger).await, model);
        let prefix = format!("{:04}", random.below(2_000));
        let known = model.keys().any(|key| key.starts_with(&prefix));
        assert_eq!(open.is_empty(&prefix).await.unwrap(), !known, "{prefix}");
        let objects = backend.list_keys("", 1_000).await.unwrap().len();
        assert!(objects <= 2 + model.len() * 40 / PAGE_KEYS_MAX, "{objects} for {}", model.len());
    }
    ledger.delete().await.unwrap();
    assert_eq!(backend.list_keys("", 10).await.unwrap(), [""; 0]);
}

#[tokio::test]
async fn what_a_dead_run_left_is_removed() {
    let backend = store();
    let ledger = Ledger::new(Arc::clone(&backend), "l");
    let mut open = OpenLedger::open(&ledger, false).await.unwrap();
    open.update(&[("a".to_owned(), agreed(1))]).await.unwrap();
    // Pages that were made and are not named: the run died on its way to the table.
    for made in 1..4 {
        let key = ledger.page_key(number(1, made));
        backend.put(&key, "page".into(), StorageOptions::default()).await.unwrap();
    }
    OpenLedger::open(&ledger, true).await.unwrap();
    assert_eq!(backend.list_keys("", 10).await.unwrap().len(), 5, "it was only looked at");
    OpenLedger::open(&ledger, false).await.unwrap();
    assert_eq!(backend.list_keys("", 10).await.unwrap(), ["l", "l/0000000100000000"]);
    assert_eq!(all(&ledger).await, [("a".to_owned(), agreed(1))].into());
}

#[tokio::test]
async fn a_run_that_was_taken_over_writes_nothing_more() {
    let ledger = Ledger::new(store(), "l");
    let mut old = OpenLedger::open(&ledger, false).await.unwrap();
    old.update(&[("a".to_owned(), agreed(1))]).await.unwrap();
    let mut new = OpenLedger::open(&ledger, false).await.unwrap();
    new.update(&[("a".to_owned(), agreed(2))]).await.unwrap();
    let many: Vec<_> = (0..=PAGE_KEYS_MAX).map(|n| (format!("{n:05}"), agreed(1))).collect();
    for changes in [&[("b".to_owned(), agreed(1))][..], &many] {
        let error = old.update(changes).await.unwrap_err();
        assert!(matches!(error, StorageError::Conflict(_)), "{error}");
    }
    new.update(&many).await.unwrap();
    assert_eq!(all(&ledger).await.len(), many.len() + 1);
}
