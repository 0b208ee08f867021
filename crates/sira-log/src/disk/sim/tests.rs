use std::io;
use std::path::Path;
use std::sync::Arc;

use super::super::{Disk, DiskFile, OpenMode, SECTOR_BYTES, read_all, write_atomically};
use super::{PowerLost, SimDisk, SimFaults};

const SEEDS: u64 = 300;

fn path(text: &str) -> &Path {
    Path::new(text)
}

fn durable_folder(disk: &SimDisk, at: &str) {
    disk.create_dir_all(path(at)).unwrap();
    for folder in path(at).ancestors() {
        disk.sync_dir(folder).unwrap();
    }
}

fn file_of(disk: &SimDisk, at: &str, content: &[u8]) -> Arc<dyn DiskFile> {
    let file = disk.open(path(at), OpenMode::CreateNew, 1 << 20).unwrap();
    file.allocate(content.len() as u64, false).unwrap();
    file.write_at(0, &[content]).unwrap();
    file
}

fn content(disk: &SimDisk, at: &str) -> io::Result<Vec<u8>> {
    read_all(disk, path(at)).map(|bytes| bytes.to_vec())
}

fn is_power_loss(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<PowerLost>())
}

#[test]
fn what_was_synced_survives_every_crash() {
    let disk = SimDisk::new(1);
    durable_folder(&disk, "/a/b");
    file_of(&disk, "/a/b/f", b"kept").sync().unwrap();
    disk.sync_dir(path("/a/b")).unwrap();
    for seed in 0..SEEDS {
        assert_eq!(content(&disk.crash(seed), "/a/b/f").unwrap(), b"kept");
    }
}

#[test]
fn an_unsynced_entry_is_sometimes_lost_and_sometimes_kept() {
    let disk = SimDisk::new(1);
    durable_folder(&disk, "/a");
    file_of(&disk, "/a/f", b"kept").sync().unwrap();
    let found = (0..SEEDS).filter(|seed| disk.crash(*seed).exists(path("/a/f"))).count();
    assert!(found > 0 && found < SEEDS as usize, "{found}");
}

#[test]
fn an_unsynced_folder_takes_its_content_with_it() {
    let disk = SimDisk::new(1);
    disk.create_dir_all(path("/a")).unwrap();
    file_of(&disk, "/a/f", b"x").sync().unwrap();
    disk.sync_dir(path("/a")).unwrap();
    assert!((0..SEEDS).any(|seed| !disk.crash(seed).exists(path("/a"))));
    disk.sync_dir(path("/")).unwrap();
    assert!((0..SEEDS).all(|seed| disk.crash(seed).exists(path("/a/f"))));
}

#[test]
fn unsynced_sectors_are_old_new_or_torn_one_by_one() {
    let disk = SimDisk::new(1);
    durable_folder(&disk, "/a");
    let sectors = 8;
    let file = file_of(&disk, "/a/f", &vec![1; sectors * SECTOR_BYTES]);
    file.sync().unwrap();
    disk.sync_dir(path("/a")).unwrap();
    file.write_at(0, &[&vec![2; sectors * SECTOR_BYTES]]).unwrap();
    let (mut mixed, mut torn) = (false, false);
    for seed in 0..SEEDS {
        let found = content(&disk.crash(seed), "/a/f").unwrap();
        let mut whole = Vec::new();
        for sector in found.chunks(SECTOR_BYTES) {
            let new = sector.iter().take_while(|byte| **byte == 2).count();
            assert!(sector[new..].iter().all(|byte| *byte == 1), "a torn sector begins new");
            match new {
                0 => whole.push(1),
                SECTOR_BYTES => whole.push(2),
                _ => torn = true,
            }
        }
        mixed |= whole.windows(2).any(|pair| pair == [1, 2]);
    }
    assert!(mixed && torn);
}

#[test]
fn an_unsynced_length_is_lost_or_kept() {
    let disk = SimDisk::new(1);
    durable_folder(&disk, "/a");
    let file = file_of(&disk, "/a/f", &[7; 100]);
    file.sync().unwrap();
    disk.sync_dir(path("/a")).unwrap();
    file.allocate(3000, true).unwrap();
    file.truncate(50).unwrap();
    file.allocate(200, false).unwrap();
    let mut lengths = std::collections::BTreeSet::new();
    for seed in 0..SEEDS {
        let found = content(&disk.crash(seed), "/a/f").unwrap();
        let kept = if found.len() == 200 || found.len() == 50 { 50 } else { 100 };
        assert!(found[..kept].iter().all(|byte| *byte == 7));
        assert!(found[kept..].iter().all(|byte| *byte == 0), "allocated reads as zeros");
        lengths.insert(found.len());
    }
    assert_eq!(lengths.into_iter().collect::<Vec<_>>(), [50, 100, 200, 3000]);
}

#[test]
fn a_killed_process_loses_nothing_and_its_lock() {
    let disk = SimDisk::new(1);
    disk.create_dir_all(path("/a")).unwrap();
    let file = file_of(&disk, "/a/f", b"unsynced");
    let guard = disk.lock(path("/a/lock"), "process 1").unwrap();
    let error = disk.lock(path("/a/lock"), "process 2").err().unwrap();
    assert_eq!(
        (error.kind(), error.to_string().as_str()),
        (io::ErrorKind::WouldBlock, "process 1")
    );
    let next = disk.kill();
    assert_eq!(content(&next, "/a/f").unwrap(), b"unsynced");
    let held = next.lock(path("/a/lock"), "process 2").unwrap();
    drop(guard);
    assert!(next.lock(path("/a/lock"), "process 3").is_err(), "an old guard frees no new lock");
    drop(held);
    assert!(next.lock(path("/a/lock"), "process 3").is_ok());
    file.write_at(0, &[b"late"]).unwrap();
    assert_eq!(content(&next, "/a/f").unwrap(), b"unsynced", "the dead process writes nothing");
}

#[test]
fn power_goes_at_the_call_that_was_named() {
    for at in 0..8 {
        let disk = SimDisk::new(1);
        disk.set_faults(SimFaults { power_loss_in: Some(at), ..SimFaults::default() });
        let attempt = || -> io::Result<()> {
            disk.create_dir_all(path("/a"))?; // 0
            let file = disk.open(path("/a/f"), OpenMode::CreateNew, 4096)?; // 1
            file.allocate(4096, true)?; // 2
            file.write_at(0, &[b"x", b"y"])?; // 3
            file.sync()?; // 4
            disk.rename(path("/a/f"), path("/a/g"))?; // 5
            disk.sync_dir(path("/a"))?; // 6
            disk.remove_file(path("/a/g")) // 7
        };
        assert!(is_power_loss(&attempt().unwrap_err()));
        assert!(disk.is_off());
        assert_eq!(disk.counters().changes, at + 1);
        assert!(is_power_loss(&disk.list(path("/")).unwrap_err()));
        assert!(disk.crash(1).list(path("/")).is_ok());
    }
}

#[test]
fn a_failed_sync_takes_pages_for_clean_that_are_lost() {
    let mut lost = false;
    for seed in 0..SEEDS {
        let disk = SimDisk::new(seed);
        durable_folder(&disk, "/a");
        let file = file_of(&disk, "/a/f", &[1; SECTOR_BYTES]);
        file.sync().unwrap();
        disk.sync_dir(path("/a")).unwrap();
        file.write_at(0, &[&[2; SECTOR_BYTES]]).unwrap();
        disk.set_faults(SimFaults { sync_error_in: Some(0), ..SimFaults::default() });
        assert_eq!(file.sync().unwrap_err().raw_os_error(), Some(libc::EIO));
        file.sync().unwrap();
        assert_eq!(file.read(0, 1).unwrap()[0], 2, "the page cache shows the write");
        assert_eq!(content(&disk.kill(), "/a/f").unwrap()[0], 2);
        lost |= content(&disk.crash(seed), "/a/f").unwrap()[0] == 1;
    }
    assert!(lost);
}

#[test]
fn a_full_disk_refuses_allocation_and_nothing_else() {
    let disk = SimDisk::new(1);
    disk.create_dir_all(path("/a")).unwrap();
    let full = SimFaults { capacity_bytes: Some(1000), ..SimFaults::default() };
    disk.set_faults(full);
    let file = disk.open(path("/a/f"), OpenMode::CreateNew, 4096).unwrap();
    file.allocate(1000, false).unwrap();
    assert_eq!(file.allocate(1001, false).unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert_eq!((file.len(), disk.free_bytes(path("/a"))), (1000, Some(0)));
    file.write_at(900, &[&[1; 100]]).unwrap();
    disk.remove_file(path("/a/f")).unwrap();
    assert_eq!(disk.free_bytes(path("/a")), Some(0), "an open file keeps its space");
    drop(file);
    assert_eq!(disk.free_bytes(path("/a")), Some(1000));
}

#[test]
fn bounds_are_those_of_a_mapped_file() {
    let disk = SimDisk::new(1);
    let file = disk.open(path("/f"), OpenMode::CreateNew, 100).unwrap();
    file.allocate(100, false).unwrap();
    let reader = disk.open(path("/f"), OpenMode::Read, 0).unwrap();
    assert_eq!(file.allocate(101, false).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    assert_eq!(file.write_at(99, &[b"xy"]).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    assert_eq!(file.read(99, 2).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    assert!(reader.write_at(0, &[b"x"]).is_err());
    file.truncate(10).unwrap();
    assert_eq!(reader.len(), 100, "a handle has its own length");
    assert!(reader.read(0, 100).is_err());
    assert_eq!(
        disk.open(path("/f"), OpenMode::CreateNew, 0).unwrap_err().kind(),
        io::ErrorKind::AlreadyExists
    );
    assert_eq!(
        disk.open(path("/g"), OpenMode::Write, 0).unwrap_err().kind(),
        io::ErrorKind::NotFound
    );
}

#[test]
fn an_atomic_write_is_old_or_new_at_every_crash() {
    for at in 0..8 {
        for seed in 0..SEEDS {
            let disk = SimDisk::new(seed);
            durable_folder(&disk, "/a");
            write_atomically(&disk, path("/a/f"), &[1; 700]).unwrap();
            disk.set_faults(SimFaults {
                power_loss_in: Some(at),
                writeback_one_in: 2,
                ..SimFaults::default()
            });
            let done = write_atomically(&disk, path("/a/f"), &[2; 900]).is_ok();
            let found = content(&disk.crash(seed), "/a/f").unwrap();
            assert!(
                found == [2; 900] || (!done && found == [1; 700]),
                "crash at {at}, seed {seed}"
            );
        }
    }
}

#[test]
fn a_rename_is_whole_and_a_file_never_has_two_names() {
    let disk = SimDisk::new(1);
    durable_folder(&disk, "/a");
    durable_folder(&disk, "/b");
    file_of(&disk, "/a/1", b"x").sync().unwrap();
    disk.sync_dir(path("/a")).unwrap();
    disk.rename(path("/a/1"), path("/a/2")).unwrap();
    disk.rename(path("/a/2"), path("/b/3")).unwrap();
    let names = ["/a/1", "/a/2", "/b/3"];
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..SEEDS {
        let after = disk.crash(seed);
        let found: Vec<_> = names.iter().filter(|name| after.exists(path(name))).collect();
        assert_eq!(found.len(), 1);
        seen.insert(*found[0]);
    }
    assert_eq!(seen.len(), 3);
    disk.sync_dir(path("/b")).unwrap();
    assert!((0..SEEDS).all(|seed| disk.crash(seed).exists(path("/b/3"))));
}

#[test]
fn flipped_bits_stay() {
    let disk = SimDisk::new(1);
    file_of(&disk, "/f", &[0; 10]).sync().unwrap();
    disk.sync_dir(path("/")).unwrap();
    disk.flip_bit(path("/f"), 3, 5).unwrap();
    assert_eq!(content(&disk, "/f").unwrap()[3], 32);
    assert_eq!(content(&disk.crash(1), "/f").unwrap()[3], 32);
    assert!(disk.flip_bit(path("/f"), 10, 0).is_err());
    assert_eq!(disk.files(), [(path("/f").to_owned(), 10)]);
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let run = |seed| {
        let disk = SimDisk::new(seed);
        disk.record_text();
        disk.set_faults(SimFaults { writeback_one_in: 3, ..SimFaults::default() });
        durable_folder(&disk, "/a");
        let file = file_of(&disk, "/a/f", &[3; 5000]);
        for turn in 0..50 {
            file.write_at(turn * 90, &[&[turn as u8; 90]]).unwrap();
        }
        let after = disk.crash(seed);
        let _ = content(&after, "/a/f");
        (after.trace(), after.recorded_text(), content(&after, "/a/f").ok())
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7).0, run(8).0);
}
