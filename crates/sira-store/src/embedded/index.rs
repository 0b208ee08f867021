//! Stand-in for the packed index, same interface.
#![allow(missing_docs)]
use std::collections::BTreeMap;
use std::io;
use std::ops::{Bound, ControlFlow};

use parking_lot::RwLock;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Location {
    pub segment: u32,
    pub offset: u32,
    pub item: u32,
    pub size: u32,
    pub expiry: u32,
}
#[derive(Debug, thiserror::Error)]
#[error("index")]
pub struct IndexError;
#[derive(Debug, Default)]
pub struct Index {
    map: RwLock<BTreeMap<Vec<u8>, Location>>,
}
#[derive(Debug)]
pub struct SavedIndex {
    pub keys: u64,
    pub bytes: u64,
}
impl Index {
    pub fn new() -> Index {
        Self::default()
    }
    pub fn get(&self, key: &[u8]) -> Option<Location> {
        self.map.read().get(key).copied()
    }
    pub fn insert(&self, key: &[u8], location: Location) -> Result<Option<Location>, IndexError> {
        Ok(self.map.write().insert(key.to_vec(), location))
    }
    pub fn replace(&self, key: &[u8], expected: Location, new: Location) -> bool {
        let mut m = self.map.write();
        match m.get_mut(key) {
            Some(l) if *l == expected => {
                *l = new;
                true
            }
            _ => false,
        }
    }
    pub fn remove(&self, key: &[u8]) -> Option<Location> {
        self.map.write().remove(key)
    }
    pub fn remove_if(&self, key: &[u8], expected: Location) -> bool {
        let mut m = self.map.write();
        if m.get(key) == Some(&expected) { m.remove(key).is_some() } else { false }
    }
    pub fn scan(
        &self,
        from: Bound<&[u8]>,
        visit: &mut dyn FnMut(&[u8], Location) -> ControlFlow<()>,
    ) {
        let mut cursor: Bound<Vec<u8>> = from.map(<[u8]>::to_vec);
        loop {
            let page: Vec<_> = self
                .map
                .read()
                .range((cursor.clone(), Bound::Unbounded))
                .take(64)
                .map(|(k, l)| (k.clone(), *l))
                .collect();
            let Some(last) = page.last() else { return };
            cursor = Bound::Excluded(last.0.clone());
            for (k, l) in &page {
                if visit(k, *l).is_break() {
                    return;
                }
            }
        }
    }
    pub fn remove_range(&self, from: &[u8], to: &[u8]) -> u64 {
        let mut m = self.map.write();
        let keys: Vec<_> = m.range(from.to_vec()..to.to_vec()).map(|(k, _)| k.clone()).collect();
        for k in &keys {
            m.remove(k);
        }
        keys.len() as u64
    }
    pub fn len(&self) -> u64 {
        self.map.read().len() as u64
    }
    pub fn memory_bytes(&self) -> u64 {
        self.len() * 100
    }
    pub fn save(&self, sink: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<SavedIndex> {
        let mut keys = 0;
        let mut bytes = 0;
        let mut result = Ok(());
        self.scan(Bound::Unbounded, &mut |k, l| {
            let mut out = (k.len() as u32).to_le_bytes().to_vec();
            out.extend_from_slice(k);
            for v in [l.segment, l.offset, l.item, l.size, l.expiry] {
                out.extend_from_slice(&v.to_le_bytes());
            }
            let crc = crc32c::crc32c(&out);
            out.extend_from_slice(&crc.to_le_bytes());
            keys += 1;
            bytes += out.len() as u64;
            result = sink(&out);
            if result.is_err() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        result?;
        Ok(SavedIndex { keys, bytes })
    }
    pub fn load(mut image: &[u8]) -> Result<Index, IndexError> {
        let index = Index::new();
        while !image.is_empty() {
            let len = u32::from_le_bytes(*image.first_chunk().ok_or(IndexError)?) as usize;
            let entry = image.get(..len + 28).ok_or(IndexError)?;
            let (body, crc) = entry.split_at(len + 24);
            if crc32c::crc32c(body).to_le_bytes() != crc {
                return Err(IndexError);
            }
            let w = |n: usize| u32::from_le_bytes(*body[4 + len + n * 4..].first_chunk().unwrap());
            let loc =
                Location { segment: w(0), offset: w(1), item: w(2), size: w(3), expiry: w(4) };
            index.insert(&body[4..4 + len], loc)?;
            image = &image[len + 28..];
        }
        Ok(index)
    }
}
