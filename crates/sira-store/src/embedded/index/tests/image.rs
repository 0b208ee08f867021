//! Images: their bytes, their damage.

use super::*;

fn sample(keys: u32) -> Index {
    let index = Index::new();
    for number in 0..keys {
        let key = format!("user:{:04}", number * 7 % keys);
        index.insert(key.as_bytes(), location(number)).unwrap();
    }
    index.insert(b"", location(1)).unwrap();
    index.insert(&[0xFF; 300], location(2)).unwrap();
    index.remove(b"user:0003");
    index
}

#[test]
fn an_image_loads_as_what_it_was_made_of() {
    for keys in [0, 1, 200, 3_000] {
        let index = if keys == 0 { Index::new() } else { sample(keys) };
        let (image, saved) = image_of(&index);
        assert_eq!((saved.keys, saved.bytes), (index.len(), image.len() as u64));
        let loaded = Index::load(&image).unwrap();
        let model: BTreeMap<_, _> = all(&index, Bound::Unbounded).into_iter().collect();
        assert_same(&loaded, &model);
        // Saved again, it is the same to the byte, and it takes keys like any other.
        assert_eq!(image_of(&loaded).0, image);
        for number in 0..keys {
            loaded.insert(format!("v{number}").as_bytes(), location(number)).unwrap();
        }
        check_shape(&loaded);
        assert_eq!(loaded.len(), index.len() + u64::from(keys));
    }
}

#[test]
fn the_golden_image_is_read_and_written() {
    let golden = include_bytes!("golden.index");
    let index = sample(150);
    assert_eq!(image_of(&index).0, golden, "the format of images has changed");
    let loaded = Index::load(golden).unwrap();
    assert_eq!(all(&loaded, Bound::Unbounded), all(&index, Bound::Unbounded));
}

#[test]
fn every_damaged_byte_is_found() {
    let (image, saved) = image_of(&sample(400));
    assert!(saved.pages > 2);
    for at in 0..image.len() {
        for flip in [0x01, 0x80, 0xFF] {
            let mut damaged = image.clone();
            damaged[at] ^= flip;
            match Index::load(&damaged) {
                Err(IndexError::Corrupt { .. }) => {}
                other => panic!("byte {at} flipped by {flip}: {other:?}"),
            }
        }
    }
}

#[test]
fn every_cut_and_every_addition_is_found() {
    let (image, _) = image_of(&sample(100));
    for end in 0..image.len() {
        assert!(matches!(Index::load(&image[..end]), Err(IndexError::Corrupt { .. })), "{end}");
    }
    let longer = [&image[..], &[0]].concat();
    assert!(matches!(Index::load(&longer), Err(IndexError::Corrupt { .. })));
}

/// Where records begin, from the sizes in them.
fn records(image: &[u8]) -> Vec<std::ops::Range<usize>> {
    let mut at = 16;
    let mut found = Vec::new();
    loop {
        let size = u32::from_le_bytes(image[at..at + 4].try_into().unwrap()) as usize;
        if size == 0 {
            return found;
        }
        found.push(at..at + 8 + size);
        at += 8 + size;
    }
}

#[test]
fn pages_that_are_missing_doubled_or_exchanged_are_found() {
    let (image, _) = image_of(&sample(1_000));
    let found = records(&image);
    let (a, b) = (found[1].clone(), found[2].clone());
    let (before, after) = (&image[..a.start], &image[b.end..]);
    let (a, b) = (&image[a], &image[b]);
    for middle in [vec![b, a], vec![a], vec![b], vec![a, a, b]] {
        let damaged = [&[before], &middle[..], &[after]].concat().concat();
        assert!(matches!(Index::load(&damaged), Err(IndexError::Corrupt { .. })));
    }
}

#[test]
fn a_page_with_a_right_checksum_and_wrong_contents_is_refused_or_safe() {
    let (image, _) = image_of(&sample(30));
    let record = records(&image)[0].clone();
    let body = record.start + 8..record.end;
    for at in body.clone() {
        for flip in [0x01, 0x10, 0x80, 0xFF] {
            let mut leaf = page::Body::empty();
            let mut bytes = image[body.clone()].to_vec();
            bytes[at - body.start] ^= flip;
            if leaf.read_record(&bytes).is_ok() {
                let mut keys = page::KeyBuffer::new(&leaf);
                for entry in 0..leaf.count() {
                    let key = keys.key(&leaf, entry).to_vec();
                    assert_eq!(leaf.search(&key), Ok(entry));
                    let _ = leaf.location(entry);
                }
            }
        }
    }
}
