//! An inner node: fences in order and what lies behind each. Nodes never change; a change makes a
//! new one.

use super::page::common_prefix;

/// `len` key ranges that touch: range `i` begins at fence `i` and ends before fence `i + 1`; the
/// end of the last one is the node's own.
pub(super) struct Node<V> {
    values: Box<[V]>,
    /// All fences, one after the other.
    fences: Box<[u8]>,
    /// Where each fence ends.
    ends: Box<[u32]>,
    /// Length of the prefix that all fences but the first share.
    prefix: usize,
    /// Eight bytes after the prefix, of all fences but the first.
    heads: Box<[u64]>,
}

impl<V> Node<V> {
    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    pub(super) fn value(&self, at: usize) -> &V {
        &self.values[at]
    }

    pub(super) fn fence(&self, at: usize) -> &[u8] {
        let start = if at == 0 { 0 } else { self.ends[at - 1] as usize };
        &self.fences[start..self.ends[at] as usize]
    }

    /// The range that `key` lies in. The first fence is not looked at: whoever comes here with a
    /// key has found that the node is responsible for it.
    pub(super) fn find(&self, key: &[u8]) -> usize {
        let Some(second) = (self.len() > 1).then(|| self.fence(1)) else { return 0 };
        let prefix = &second[..self.prefix];
        let Some(suffix) = key.strip_prefix(prefix) else {
            return if key < prefix { 0 } else { self.len() - 1 };
        };
        let head = head(suffix);
        let mut low = self.heads.partition_point(|other| *other < head);
        let mut high = low;
        if self.heads.get(low) == Some(&head) {
            high += self.heads[low..].partition_point(|other| *other == head);
        }
        // Fences with the same head: `low` of them are known to be at or before the key.
        while low < high {
            let middle = low.midpoint(high);
            if self.fence(middle + 1) <= key { low = middle + 1 } else { high = middle }
        }
        low
    }

    /// Bytes of memory that the node takes.
    pub(super) fn memory_bytes(&self) -> usize {
        size_of::<Self>()
            + size_of_val(&*self.values)
            + self.fences.len()
            + size_of_val(&*self.ends)
            + size_of_val(&*self.heads)
    }
}

/// Eight bytes to compare first, zeros for those that are not there.
fn head(suffix: &[u8]) -> u64 {
    match suffix.first_chunk::<8>() {
        Some(bytes) => u64::from_be_bytes(*bytes),
        None => {
            let mut bytes = [0; 8];
            bytes[..suffix.len()].copy_from_slice(suffix);
            u64::from_be_bytes(bytes)
        }
    }
}

/// Makes a node from parts of others and from new ranges.
pub(super) struct Builder<V> {
    values: Vec<V>,
    fences: Vec<u8>,
    ends: Vec<u32>,
}

impl<V: Clone> Builder<V> {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            values: Vec::with_capacity(capacity),
            fences: Vec::with_capacity(capacity * 16),
            ends: Vec::with_capacity(capacity),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    pub(super) fn push(&mut self, fence: &[u8], value: V) {
        self.fences.extend_from_slice(fence);
        self.ends.push(self.fences.len() as u32);
        self.values.push(value);
    }

    pub(super) fn extend(&mut self, node: &Node<V>, range: std::ops::Range<usize>) {
        if range.is_empty() {
            return;
        }
        let start = if range.start == 0 { 0 } else { node.ends[range.start - 1] };
        let end = node.ends[range.end - 1];
        let base = self.fences.len() as u32;
        self.fences.extend_from_slice(&node.fences[start as usize..end as usize]);
        self.ends.extend(node.ends[range.clone()].iter().map(|end| end - start + base));
        self.values.extend_from_slice(&node.values[range]);
    }

    pub(super) fn finish(self) -> Node<V> {
        let mut node = Node {
            values: self.values.into(),
            fences: self.fences.into(),
            ends: self.ends.into(),
            prefix: 0,
            heads: Box::default(),
        };
        if node.len() > 1 {
            node.prefix = common_prefix(node.fence(1), node.fence(node.len() - 1));
            node.heads = (1..node.len()).map(|at| head(&node.fence(at)[node.prefix..])).collect();
        }
        node
    }
}
