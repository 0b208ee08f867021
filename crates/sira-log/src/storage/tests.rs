use std::time::Duration;

use super::*;
use crate::record::ContentKind;

fn options(root: &Path) -> LogStorageOptions {
    LogStorageOptions {
        segment_bytes: 16 << 10,
        durability: LogDurability::None,
        background: false,
        ..LogStorageOptions::new(root)
    }
}

fn open(root: &Path) -> LogStorage {
    LogStorage::open(options(root)).unwrap()
}

fn texts(log: &LogStorage, read: &LogReadOptions) -> Vec<String> {
    let records = log.read(read).unwrap();
    records.map(|record| String::from_utf8(record.unwrap().data.to_vec()).unwrap()).collect()
}

fn at(time_ms: u64) -> AppendOptions<'static> {
    AppendOptions { time_ms: Some(time_ms), ..AppendOptions::default() }
}

#[test]
fn kinds_batches_and_directions() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    log.append(LogItem::text("one"), &at(1)).unwrap();
    log.append_json(&vec![2, 3], &at(2)).unwrap();
    let batch =
        [LogItem::binary(b"a"), LogItem::with_metadata(b"meta", b"b"), LogItem::custom(b"")];
    let receipt = log.append_batch(&batch, &at(3)).unwrap();
    assert_eq!((receipt.sequence, receipt.count, log.next_sequence()), (2, 3, 5));
    let all: Vec<_> = log.read(&LogReadOptions::default()).unwrap().collect::<Result<_>>().unwrap();
    assert_eq!(all.iter().map(|r| r.sequence).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    assert_eq!(all[1].json::<Vec<u32>>().unwrap(), [2, 3]);
    assert_eq!((&all[3].metadata[..], &all[3].data[..]), (&b"meta"[..], &b"b"[..]));
    assert_eq!(all[2].position, all[4].position);
    let mut back: Vec<_> = log
        .read(&LogReadOptions { direction: ReadDirection::Backward, ..Default::default() })
        .unwrap()
        .collect::<Result<_>>()
        .unwrap();
    back.reverse();
    assert_eq!(back, all);
    let kinds = vec![ContentKind::Json, ContentKind::Custom];
    let some = log.read(&LogReadOptions { kinds, limit: 1, ..Default::default() }).unwrap();
    assert_eq!(some.map(|r| r.unwrap().sequence).collect::<Vec<_>>(), [1]);
    let wrong = LogItem { kind: ContentKind::Json, metadata: &[], data: b"{" };
    assert!(matches!(log.append(wrong, &at(4)), Err(LogError::InvalidInput(_))));
    assert!(log.append_batch(&[], &at(4)).is_err());
}

#[test]
fn reads_by_time_sequence_and_position_across_segments() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let mut positions = Vec::new();
    for n in 0..200_u64 {
        let receipt = log.append(LogItem::text(&format!("{n:0>500}")), &at(n * 10)).unwrap();
        positions.push(receipt.position);
    }
    assert!(log.segments().segments().len() > 4);
    let number = |text: String| text.trim_start_matches('0').parse::<u64>().unwrap_or(0);
    let window = LogReadOptions { since_ms: Some(500), until_ms: Some(620), ..Default::default() };
    let found: Vec<_> = texts(&log, &window).into_iter().map(number).collect();
    assert_eq!(found, (50..62).collect::<Vec<_>>());
    let from = LogReadOptions { sequence_min: Some(190), ..Default::default() };
    assert_eq!(texts(&log, &from).len(), 10);
    assert_eq!(log.read_from(positions[150]).unwrap().count(), 50);
    let back = LogReadOptions {
        from: Some(positions[150]),
        direction: ReadDirection::Backward,
        limit: 2,
        ..Default::default()
    };
    assert_eq!(texts(&log, &back).into_iter().map(number).collect::<Vec<_>>(), [149, 148]);
    log.close().unwrap();
    drop(log);
    // A damaged index is made again.
    let month = std::fs::read_dir(dir.path()).unwrap().filter_map(|e| e.ok()).map(|e| e.path());
    let index = month.map(|m| m.join("messages.idx")).find(|path| path.exists()).unwrap();
    let mut bytes = std::fs::read(&index).unwrap();
    bytes[20] ^= 1;
    std::fs::write(&index, bytes).unwrap();
    assert_eq!(texts(&open(dir.path()), &window).len(), 12);
}

#[test]
fn exactly_once_expected_sequence_and_fencing() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let keyed = AppendOptions { idempotency_key: Some(b"k1"), ..Default::default() };
    let first = log.append(LogItem::text("once"), &keyed).unwrap();
    let again = log.append(LogItem::text("once"), &keyed).unwrap();
    assert!(!first.repeated && again.repeated && again.sequence == first.sequence);
    let expected = AppendOptions { expected_sequence: Some(5), ..Default::default() };
    let refused = log.append(LogItem::text("x"), &expected);
    assert!(matches!(refused, Err(LogError::SequenceMismatch { expected: 5, actual: 1 })));
    let epoch = |epoch| AppendOptions { epoch: Some(epoch), ..Default::default() };
    log.append(LogItem::text("two"), &epoch(2)).unwrap();
    assert!(matches!(log.append(LogItem::text("x"), &epoch(1)), Err(LogError::Fenced { .. })));
    log.close().unwrap();
    drop(log);
    let log = open(dir.path());
    assert!(matches!(log.append(LogItem::text("x"), &epoch(1)), Err(LogError::Fenced { .. })));
    assert!(log.append(LogItem::text("once"), &keyed).unwrap().repeated);
    assert_eq!(texts(&log, &LogReadOptions::default()), ["once", "two"]);
}

#[test]
fn streams_are_whole_or_not_there() {
    struct Failing(usize);
    impl std::io::Read for Failing {
        fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
            if self.0 == 0 {
                return Err(std::io::ErrorKind::ConnectionReset.into());
            }
            let count = out.len().min(self.0);
            self.0 -= count;
            out[..count].fill(1);
            Ok(count)
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    log.append(LogItem::text("before"), &at(1)).unwrap();
    let refused = log.append_stream(ContentKind::Binary, b"", &mut Failing(900_000), &at(2));
    assert!(matches!(refused, Err(LogError::InvalidInput(_))));
    let data: Vec<u8> = (0..1_000_000_u32).map(|n| n as u8).collect();
    log.append_stream(ContentKind::MetadataData, b"m", &mut data.as_slice(), &at(3)).unwrap();
    log.append(LogItem::text("after"), &at(4)).unwrap();
    drop(log);
    let log = open(dir.path());
    let all: Vec<_> = log.read(&LogReadOptions::default()).unwrap().collect::<Result<_>>().unwrap();
    assert_eq!(all.len(), 3);
    assert!(all[1].data == data && all[1].metadata == b"m"[..]);
    assert_eq!(log.verify().unwrap().primary.damage, []);
}

#[test]
fn a_stream_that_takes_its_time_keeps_no_reader_waiting() {
    struct Looking<'a>(&'a LogStorage, usize);
    impl std::io::Read for Looking<'_> {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            self.1 = texts(self.0, &LogReadOptions::default()).len();
            Ok(0)
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    log.append(LogItem::text("first"), &at(0)).unwrap();
    let mut data = Looking(&log, 0);
    log.append_stream(ContentKind::Text, &[], &mut data, &at(1)).unwrap();
    assert_eq!(data.1, 1);
}

#[test]
fn payloads_that_are_logs_are_never_believed_at_any_cut() {
    let dir = tempfile::tempdir().unwrap();
    let inner = open(&dir.path().join("inner"));
    for n in 0..3 {
        inner.append(LogItem::text(&format!("forged {n}")), &at(n)).unwrap();
    }
    inner.close().unwrap();
    let forged = std::fs::read(&inner.segments().active_segment().path).unwrap();

    let root = dir.path().join("outer");
    let log = open(&root);
    log.append(LogItem::text("kept"), &at(1)).unwrap();
    // The outer log's own bytes so far are in the payload too: salt and numbers are right there,
    // only the place is not.
    let own = std::fs::read(&log.segments().active_segment().path).unwrap();
    let kept_end = log.position().offset as usize;
    let payload = [&forged[..], &own[..kept_end], &forged[..]].concat();
    log.append(LogItem::binary(&payload), &at(2)).unwrap();
    let end = log.position().offset as usize;
    let path = log.segments().active_segment().path.clone();
    drop(log);
    let whole = std::fs::read(&path).unwrap();
    for cut in kept_end..=end {
        std::fs::write(&path, &whole[..cut]).unwrap();
        let _ = std::fs::remove_file(root.join(".metadata/messages.mark"));
        let log = open(&root);
        let seen: Vec<_> =
            log.read(&LogReadOptions::default()).unwrap().map(|r| r.unwrap().sequence).collect();
        let expected: &[u64] = if cut == end { &[0, 1] } else { &[0] };
        assert_eq!(seen, expected, "cut at {cut}");
        let backward = LogReadOptions { direction: ReadDirection::Backward, ..Default::default() };
        assert_eq!(log.read(&backward).unwrap().count(), expected.len());
    }
}

#[test]
fn compaction_removes_the_oldest_whole_segments() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    for n in 0..200_u64 {
        log.append(LogItem::text(&format!("{n:0>500}")), &at(n)).unwrap();
    }
    let before = log.segments().segments().len();
    let report = log.compact(100).unwrap();
    assert!(report.segments > 0 && (report.segments as usize) < before);
    let left: Vec<_> =
        log.read(&LogReadOptions::default()).unwrap().map(|r| r.unwrap().sequence).collect();
    assert!(left[0] > 0 && left[0] <= 100 && *left.last().unwrap() == 199);
    drop(log);
    let log = open(dir.path());
    assert_eq!(log.read(&LogReadOptions::default()).unwrap().count(), left.len());
    assert_eq!(log.next_sequence(), 200);
}

#[test]
fn tails_see_what_comes() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    log.append(LogItem::text("old"), &at(1)).unwrap();
    let mut tail = log.tail(log.position());
    assert_eq!(tail.next(Duration::ZERO).unwrap(), None);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..100 {
                log.append(LogItem::text(&format!("{n:0>500}")), &at(n)).unwrap();
            }
        });
        for n in 0..100 {
            let record = tail.next(Duration::from_secs(30)).unwrap().unwrap();
            assert_eq!(record.sequence, n + 1);
        }
    });
}

#[test]
fn damage_without_a_mirror_is_given_up_by_repair_only() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let mut receipts = Vec::new();
    for n in 0..5 {
        receipts.push(log.append(LogItem::text(&format!("record {n}")), &at(n)).unwrap());
    }
    log.close().unwrap();
    let path = log.segments().active_segment().path.clone();
    drop(log);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = receipts[2].position.offset as usize + 70;
    bytes[middle] ^= 4;
    std::fs::write(&path, &bytes).unwrap();
    let log = open(dir.path());
    let results: Vec<_> = log.read(&LogReadOptions::default()).unwrap().collect();
    assert_eq!(results.iter().filter(|r| r.is_ok()).count(), 4);
    assert!(matches!(results[2], Err(LogError::Corrupt { .. })));
    let backward = LogReadOptions { direction: ReadDirection::Backward, ..Default::default() };
    let results: Vec<_> = log.read(&backward).unwrap().collect();
    assert!(results[2].is_err() && results.len() == 5, "{results:?}");
    assert_eq!(log.verify().unwrap().primary.damage.len(), 1);
    log.close().unwrap();
    drop(log);
    let log = open(dir.path());
    assert_eq!(log.open_report().damage.len(), 1, "damage is not forgotten");
    assert!(matches!(log.append(LogItem::text("x"), &at(9)), Err(LogError::Damaged { .. })));
    let report = log.repair().unwrap();
    assert_eq!((report.lost.len(), report.restored.len()), (1, 0));
    assert!(std::fs::read(&report.saved_to[0]).unwrap().len() > 40);
    log.append(LogItem::text("x"), &at(9)).unwrap();
    drop(log);
    let log = open(dir.path());
    assert_eq!(texts(&log, &LogReadOptions::default()).len(), 5);
    assert_eq!(texts(&log, &backward).len(), 5);
    let report = log.verify().unwrap().primary;
    assert!(report.damage.is_empty() && report.holes == 1);
}

#[test]
fn a_mirror_heals_reads_and_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let with_mirror = LogStorageOptions {
        mirror_path: Some(dir.path().join("mirror")),
        verify_mirror_on_read: true,
        auto_repair_inconsistency: true,
        ..options(&dir.path().join("log"))
    };
    let log = LogStorage::open(with_mirror.clone()).unwrap();
    let mut receipts = Vec::new();
    for n in 0..100 {
        receipts.push(log.append(LogItem::text(&format!("{n:0>500}")), &at(n)).unwrap());
    }
    log.sync().unwrap();
    log.sync_mirror().unwrap();
    assert_eq!(log.mirror_state().unwrap().durable, log.position());
    let report = log.verify().unwrap();
    assert_eq!(report.mirror.unwrap().differences, []);
    let expected = texts(&log, &LogReadOptions::default());

    // Damage of the log is healed from the mirror, damage of the mirror from the log.
    let first = log.segments().segments()[0].path.clone();
    let copy = dir.path().join("mirror").join(first.strip_prefix(dir.path().join("log")).unwrap());
    for (path, receipt) in [(&first, receipts[3]), (&copy, receipts[7])] {
        let mut bytes = std::fs::read(path).unwrap();
        bytes[receipt.position.offset as usize + 100] ^= 1;
        use std::os::unix::fs::FileExt;
        let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
        file.write_all_at(&bytes, 0).unwrap();
    }
    assert_eq!(texts(&log, &LogReadOptions::default()), expected);
    let report = log.verify().unwrap();
    assert_eq!((report.primary.damage, report.mirror.unwrap().differences), (vec![], vec![]));

    // A lost mirror folder is made again while the log serves.
    std::fs::remove_dir_all(dir.path().join("mirror")).unwrap();
    log.append(LogItem::text("more"), &at(200)).unwrap();
    log.sync().unwrap();
    log.sync_mirror().unwrap();
    assert_eq!(log.verify().unwrap().mirror.unwrap().differences, []);
    log.close().unwrap();
    drop(log);

    // A lost log is put back from the mirror.
    std::fs::remove_dir_all(dir.path().join("log")).unwrap();
    let refused = LogStorage::open(LogStorageOptions {
        auto_repair_inconsistency: false,
        ..with_mirror.clone()
    });
    assert!(matches!(refused, Err(LogError::InvalidInput(_))));
    let log = LogStorage::open(with_mirror).unwrap();
    let all = texts(&log, &LogReadOptions::default());
    assert_eq!((all.len(), &all[..100]), (101, &expected[..]));
}

#[test]
fn a_mirror_follows_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let log = LogStorage::open(LogStorageOptions {
        mirror_path: Some(dir.path().join("mirror")),
        background: true,
        durability: LogDurability::Sync,
        ..options(&dir.path().join("log"))
    })
    .unwrap();
    for n in 0..50 {
        log.append(LogItem::text(&format!("{n:0>500}")), &at(n)).unwrap();
    }
    let end = log.position();
    let mut tries = 0;
    while log.mirror_state().unwrap().durable < end {
        tries += 1;
        assert!(tries < 1000, "{:?}", log.mirror_state());
        SystemEnv.sleep(Duration::from_millis(10));
    }
}
