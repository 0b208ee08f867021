use bytes::Bytes;

use super::digest::{CHUNK_BYTES_MAX, CHUNK_BYTES_MIN, Cutter, Digest, cut};
use super::entry::{PageBuilder, decode_page};
use super::pack::{PackBuilder, PackId, TAIL_BYTES, read_table, table_bytes};
use super::retention::Retention;
use super::{SnapshotEntry, SnapshotId, index};
use crate::env::SeededRandom;
use crate::metadata::Metadata;
use crate::seal::Cipher;
use crate::version::Version;

fn random(seed: u64, len: usize) -> Bytes {
    let mut random = SeededRandom::new(seed);
    (0..len.div_ceil(8)).flat_map(|_| random.next_u64().to_le_bytes()).take(len).collect()
}

fn entry(key: &str) -> SnapshotEntry {
    let digest = Digest::of(key.as_bytes());
    SnapshotEntry {
        key: key.as_bytes().to_vec(),
        version: Version::from_u64(7),
        expires_at_ms: None,
        size: key.len() as u64,
        metadata: Metadata::default(),
        digest,
        cipher: None,
        chunks: vec![digest],
    }
}

#[test]
fn cuts_do_not_depend_on_pieces() {
    let value = random(1, 9 << 20);
    let whole = cut(&value);
    assert!(whole.chunks.len() > 2);
    assert_eq!(whole.digest, Digest::of(&value));
    for piece in [1 << 20, (4 << 20) + 17, 100_000] {
        let mut cutter = Cutter::new();
        let mut chunks = Vec::new();
        let mut rest = value.clone();
        while !rest.is_empty() {
            chunks.extend(cutter.push(rest.split_to(piece.min(rest.len()))));
        }
        let (digest, last) = cutter.finish();
        chunks.extend(last);
        assert_eq!(digest, whole.digest);
        assert_eq!(chunks, whole.chunks, "pieces of {piece}");
    }
    let sizes = whole.chunks.iter().map(|(_, chunk)| chunk.len());
    let (last, others) = whole.chunks.split_last().unwrap();
    assert!(others.iter().all(|(_, chunk)| chunk.len() >= CHUNK_BYTES_MIN), "{last:?}");
    assert!(sizes.max() <= Some(CHUNK_BYTES_MAX));
}

#[test]
fn a_change_in_the_middle_leaves_most_chunks_as_they_are() {
    let value = random(2, 16 << 20);
    let mut changed = value.to_vec();
    changed.insert(8 << 20, 1);
    let before: std::collections::BTreeSet<_> =
        cut(&value).chunks.into_iter().map(|(digest, _)| digest).collect();
    let after = cut(&changed.into()).chunks;
    let new = after.iter().filter(|(digest, _)| !before.contains(digest)).count();
    assert!(new <= 3, "{new} of {} chunks are new", after.len());
}

#[test]
fn nothing_and_little_are_cut_too() {
    assert!(cut(&Bytes::new()).chunks.is_empty());
    let small = cut(&Bytes::from_static(b"abc"));
    assert_eq!(small.chunks, [(small.digest, Bytes::from_static(b"abc"))]);
}

#[test]
fn packs_are_read_back_by_their_tables() {
    let mut pack = PackBuilder::new(PackId(1));
    for chunk in ["one", "two", "three"] {
        pack.add(Digest::of(chunk.as_bytes()), chunk.as_bytes());
    }
    let (table, bytes) = pack.finish();
    assert_eq!(bytes.len() as u64, table.pack_bytes());
    let end = table_bytes(&bytes[bytes.len() - TAIL_BYTES..]).unwrap() as usize;
    let read = read_table(PackId(1), bytes.len() as u64, &bytes[bytes.len() - end..]).unwrap();
    assert_eq!(read, table);
    let mut damaged = bytes[bytes.len() - end..].to_vec();
    for at in 0..damaged.len() {
        damaged[at] ^= 1;
        let counted = table_bytes(&damaged[end - TAIL_BYTES..]);
        assert!(
            counted.is_err()
                || counted.unwrap() as usize != end
                || read_table(PackId(1), bytes.len() as u64, &damaged).is_err(),
            "byte {at}"
        );
        damaged[at] ^= 1;
    }
}

/// What is stored today is read for ever: these bytes never change.
#[test]
fn formats_are_what_they_were() {
    let mut pack = PackBuilder::new(PackId(0x0102));
    pack.add(Digest::of(b"abc"), b"abc");
    let (table, bytes) = pack.finish();
    assert_eq!(
        hex(&bytes),
        "616263ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad03000000\
         01000000"
            .to_owned()
            + &hex(&crc32c::crc32c(&bytes[3..39]).to_le_bytes())
            + "53425031"
    );
    let file = index::encode(&[table]);
    assert_eq!(
        hex(&file[..file.len() - 32]),
        "534258310100000002010000000000000000000000000000\
         01000000ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad03000000"
    );
    assert_eq!(index::decode(&file).unwrap()[0].id, PackId(0x0102));
    let mut page = PageBuilder::default();
    let whole = entry("abc");
    let parts = SnapshotEntry {
        key: vec![0xff],
        expires_at_ms: Some(9),
        cipher: Some(Cipher::ChaCha20Poly1305),
        chunks: Vec::new(),
        ..entry("")
    };
    assert!(page.push(&whole).unwrap().is_none());
    assert!(page.push(&parts).unwrap().is_none());
    let page = page.finish().unwrap();
    assert_eq!(
        hex(&page),
        "01030000000000070000000000000000000000000000000300000000000000\
         ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad616263\
         04010000000000070000000000000009000000000000000000000000000000\
         e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b85500000000ff"
    );
    assert_eq!(decode_page(&page).unwrap(), [whole, parts]);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_change_leaves_other_pages_as_they_are() {
    let pages = |changed: usize| {
        let mut builder = PageBuilder::default();
        let mut pages = Vec::new();
        for number in 0..20_000 {
            let mut entry = entry(&format!("key/{number:06}"));
            entry.version = Version::from_u64(if number == changed { 8 } else { 7 });
            pages.extend(builder.push(&entry).unwrap());
        }
        pages.extend(builder.finish());
        pages
    };
    let (before, after) = (pages(usize::MAX), pages(10_000));
    assert!(before.len() > 10, "{} pages", before.len());
    let same = before.iter().zip(&after).filter(|(a, b)| a == b).count();
    assert_eq!((same, after.len()), (before.len() - 1, before.len()));
}

const DAY: u64 = 24 * 3600 * 1000;

fn nights(count: u64) -> Vec<SnapshotId> {
    // 2026-01-01 03:00 UTC, a Thursday.
    (0..count)
        .map(|day| SnapshotId { begun_ms: 1_767_236_400_000 + day * DAY, random: 0 })
        .collect()
}

#[test]
fn retention_keeps_what_each_rule_keeps() {
    let all = nights(400);
    let now = all.last().unwrap().begun_ms + 1;
    let nothing = Retention {
        last: 0,
        days: 0,
        daily: 0,
        weekly: 0,
        monthly: 0,
        yearly: 0,
        ..Retention::default()
    };
    let kept = |rule: Retention| 400 - rule.expired(&all, now).len();
    assert_eq!(kept(nothing.clone()), 1, "the newest is always kept");
    assert_eq!(kept(Retention { last: 5, ..nothing.clone() }), 5);
    assert_eq!(kept(Retention { days: 10, ..nothing.clone() }), 10);
    assert_eq!(kept(Retention { daily: 10, ..nothing.clone() }), 10);
    assert_eq!(kept(Retention { weekly: 8, ..nothing.clone() }), 8);
    assert_eq!(kept(Retention { monthly: 12, ..nothing.clone() }), 12);
    assert_eq!(kept(Retention { yearly: 5, ..nothing.clone() }), 2);
    // Of a month the newest is kept.
    let monthly = Retention { monthly: 2, ..nothing }.expired(&all, now);
    let stay: Vec<_> = all.iter().filter(|id| !monthly.contains(id)).collect();
    assert_eq!(stay, [&all[395], &all[399]], "31 January and 4 February 2027");
}

#[test]
fn days_begin_by_the_time_zone() {
    // 23:30 and 00:30 of Tokyo, on one day of UTC.
    let ids =
        [1_767_191_400_000, 1_767_195_000_000].map(|begun_ms| SnapshotId { begun_ms, random: 0 });
    let daily = |zone| {
        let time_zone = jiff::tz::TimeZone::get(zone).unwrap();
        let rule =
            Retention { last: 0, days: 0, daily: 2, weekly: 0, monthly: 0, yearly: 0, time_zone };
        rule.expired(&ids, ids[1].begun_ms).len()
    };
    assert_eq!((daily("UTC"), daily("Asia/Tokyo")), (1, 0));
}

#[test]
fn names_of_snapshots_are_read_back() {
    let id = SnapshotId { begun_ms: 1_767_236_400_000, random: 0xAB };
    assert_eq!(id.to_string(), format!("{:012x}-000000ab", id.begun_ms));
    assert_eq!(id.to_string().parse::<SnapshotId>().unwrap(), id);
    for wrong in
        ["", "1-2", "019b77807300-000000aB", "019b77807300000000ab", "+19b77807300-000000ab"]
    {
        assert!(wrong.parse::<SnapshotId>().is_err(), "{wrong:?}");
    }
}
