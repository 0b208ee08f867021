//! Folders, files and calls of a simulated disk.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;

use super::super::{DiskEntry, OpenMode};
use super::file::FileNode;
use super::rng::Rng;
use super::trace::Trace;
use super::{PowerLost, SimCounters, SimFaults};

/// Number of the root folder.
const ROOT: u64 = 0;

#[derive(Debug, Clone)]
enum Node {
    File(FileNode),
    Dir(DirNode),
}

#[derive(Debug, Clone, Default)]
struct DirNode {
    entries: BTreeMap<String, u64>,
    durable: BTreeMap<String, u64>,
}

/// A change to folders that is on the medium whole or not at all.
#[derive(Debug, Clone)]
struct DirChange {
    edits: Vec<(u64, String, Option<u64>)>,
}

/// Everything about a disk.
#[derive(Debug, Clone)]
pub(super) struct State {
    nodes: BTreeMap<u64, Node>,
    next_node: u64,
    /// Changes to folders that are not synced, in order.
    pending: Vec<DirChange>,
    pub(super) faults: SimFaults,
    pub(super) counters: SimCounters,
    pub(super) trace: Trace,
    rng: Rng,
    pub(super) off: bool,
}

impl State {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            nodes: BTreeMap::from([(ROOT, Node::Dir(DirNode::default()))]),
            next_node: ROOT + 1,
            pending: Vec::new(),
            faults: SimFaults::default(),
            counters: SimCounters::default(),
            trace: Trace::default(),
            rng: Rng::new(seed),
            off: false,
        }
    }

    // Power and process.

    fn check_power(&self) -> io::Result<()> {
        if self.off { Err(io::Error::other(PowerLost)) } else { Ok(()) }
    }

    /// Counts a call that changes the medium; true when the power goes with it.
    fn change(&mut self) -> io::Result<bool> {
        self.check_power()?;
        self.counters.changes += 1;
        if strikes(&mut self.faults.power_loss_in) {
            self.off = true;
        }
        Ok(self.off)
    }

    pub(super) fn after_kill(&self) -> Self {
        let mut after = self.clone();
        for node in after.nodes.values_mut() {
            if let Node::File(file) = node {
                file.handles = 0;
                file.locked_by = None;
            }
        }
        after.trace.path("kill", "", "");
        after.off = self.off;
        after
    }

    pub(super) fn after_power_loss(&self, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let percent = rng.survival();
        let mut tree: BTreeMap<u64, BTreeMap<String, u64>> = BTreeMap::new();
        for (id, node) in &self.nodes {
            if let Node::Dir(dir) = node {
                tree.insert(*id, dir.durable.clone());
            }
        }
        for change in &self.pending {
            if rng.chance(percent) {
                apply(&mut tree, change);
            }
        }
        let mut after = Self::new(rng.next());
        after.nodes.clear();
        let mut found = vec![ROOT];
        while let Some(id) = found.pop() {
            let node = match self.nodes.get(&id) {
                Some(Node::File(file)) => {
                    let mut file = file.after_power_loss(&mut rng);
                    file.links = 1;
                    Node::File(file)
                }
                _ => {
                    let entries = tree.remove(&id).unwrap_or_default();
                    found.extend(entries.values());
                    Node::Dir(DirNode { durable: entries.clone(), entries })
                }
            };
            after.nodes.insert(id, node);
        }
        after.next_node = self.next_node;
        after.faults = SimFaults {
            capacity_bytes: self.faults.capacity_bytes,
            writeback_one_in: self.faults.writeback_one_in,
            ..SimFaults::default()
        };
        after.counters = self.counters;
        after.trace = self.trace.clone();
        after.trace.file("power loss", 0, seed, 0, 0);
        after
    }

    // Paths.

    fn find(&self, path: &Path) -> io::Result<u64> {
        let mut at = ROOT;
        for name in names(path)? {
            at = *self.dir(at)?.entries.get(name).ok_or(io::ErrorKind::NotFound)?;
        }
        Ok(at)
    }

    /// The folder that holds the path's last name, and that name.
    fn find_parent<'a>(&self, path: &'a Path) -> io::Result<(u64, &'a str)> {
        let mut parts = names(path)?;
        let name = parts.pop().ok_or(io::ErrorKind::InvalidInput)?;
        let mut at = ROOT;
        for part in parts {
            at = *self.dir(at)?.entries.get(part).ok_or(io::ErrorKind::NotFound)?;
        }
        self.dir(at)?;
        Ok((at, name))
    }

    fn dir(&self, id: u64) -> io::Result<&DirNode> {
        match self.nodes.get(&id) {
            Some(Node::Dir(dir)) => Ok(dir),
            Some(Node::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn file(&mut self, id: u64) -> io::Result<&mut FileNode> {
        match self.nodes.get_mut(&id) {
            Some(Node::File(file)) => Ok(file),
            Some(Node::Dir(_)) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn edit(&mut self, edits: Vec<(u64, String, Option<u64>)>) {
        for (dir, name, node) in &edits {
            let Some(Node::Dir(dir)) = self.nodes.get_mut(dir) else { continue };
            let before = match node {
                Some(id) => dir.entries.insert(name.clone(), *id),
                None => dir.entries.remove(name),
            };
            if let Some(Node::File(file)) = before.and_then(|id| self.nodes.get_mut(&id)) {
                file.links -= 1;
            }
            if let Some(Node::File(file)) = node.and_then(|id| self.nodes.get_mut(&id)) {
                file.links += 1;
            }
        }
        self.pending.push(DirChange { edits });
    }

    fn add(&mut self, dir: u64, name: &str, node: Node) -> u64 {
        let id = self.next_node;
        self.next_node += 1;
        self.nodes.insert(id, node);
        self.edit(vec![(dir, name.to_owned(), Some(id))]);
        id
    }

    /// Forgets nodes that nothing names and nobody has open.
    fn collect(&mut self) {
        let mut named = BTreeSet::from([ROOT]);
        for node in self.nodes.values() {
            if let Node::Dir(dir) = node {
                named.extend(dir.entries.values().chain(dir.durable.values()));
            }
        }
        for change in &self.pending {
            named.extend(change.edits.iter().filter_map(|(_, _, id)| *id));
        }
        self.nodes.retain(|id, node| {
            named.contains(id) || matches!(node, Node::File(file) if file.handles > 0)
        });
    }

    // Calls on paths.

    pub(super) fn open(&mut self, path: &Path, mode: OpenMode) -> io::Result<(u64, u64)> {
        self.check_power()?;
        self.counters.opens += 1;
        self.trace.path(
            match mode {
                OpenMode::Read => "open read",
                OpenMode::Write => "open write",
                OpenMode::CreateNew => "create",
                OpenMode::Truncate => "create or empty",
            },
            &path.to_string_lossy(),
            "",
        );
        let (dir, name) = self.find_parent(path)?;
        let id = match (self.dir(dir)?.entries.get(name).copied(), mode) {
            (Some(_), OpenMode::CreateNew) => return Err(io::ErrorKind::AlreadyExists.into()),
            (None, OpenMode::Read | OpenMode::Write) => {
                return Err(io::ErrorKind::NotFound.into());
            }
            (Some(id), OpenMode::Truncate) => {
                self.file(id)?;
                let lost = self.change()?;
                let file = self.file(id)?;
                if file.cache.len() > 0 {
                    file.set_len(0);
                }
                if lost {
                    return Err(io::Error::other(PowerLost));
                }
                id
            }
            (Some(id), _) => id,
            (None, _) => {
                let lost = self.change()?;
                let id = self.add(dir, name, Node::File(FileNode::default()));
                if lost {
                    return Err(io::Error::other(PowerLost));
                }
                id
            }
        };
        let file = self.file(id)?;
        file.handles += 1;
        Ok((id, file.cache.len() as u64))
    }

    pub(super) fn closed(&mut self, id: u64) {
        if let Ok(file) = self.file(id) {
            file.handles = file.handles.saturating_sub(1);
        }
    }

    pub(super) fn create_dir_all(&mut self, path: &Path) -> io::Result<()> {
        self.check_power()?;
        self.trace.path("create folder", &path.to_string_lossy(), "");
        let mut at = ROOT;
        for name in names(path)? {
            at = match self.dir(at)?.entries.get(name) {
                Some(id) => *id,
                None => {
                    let lost = self.change()?;
                    let id = self.add(at, name, Node::Dir(DirNode::default()));
                    if lost {
                        return Err(io::Error::other(PowerLost));
                    }
                    id
                }
            };
        }
        self.dir(at).map(|_| ())
    }

    pub(super) fn list(&mut self, path: &Path) -> io::Result<Vec<DiskEntry>> {
        self.check_power()?;
        self.trace.path("list", &path.to_string_lossy(), "");
        let entries = &self.dir(self.find(path)?)?.entries;
        Ok(entries
            .iter()
            .map(|(name, id)| DiskEntry {
                name: name.clone(),
                is_dir: matches!(self.nodes.get(id), Some(Node::Dir(_))),
            })
            .collect())
    }

    pub(super) fn exists(&self, path: &Path) -> bool {
        !self.off && self.find(path).is_ok()
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.check_power()?;
        self.trace.path("rename", &from.to_string_lossy(), &to.to_string_lossy());
        let id = self.find(from)?;
        let (from_dir, from_name) = self.find_parent(from)?;
        let (to_dir, to_name) = self.find_parent(to)?;
        if (from_dir, from_name) == (to_dir, to_name) {
            return Ok(());
        }
        if let Some(there) = self.dir(to_dir)?.entries.get(to_name)
            && matches!(self.nodes.get(there), Some(Node::Dir(_)))
        {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let lost = self.change()?;
        self.edit(vec![
            (from_dir, from_name.to_owned(), None),
            (to_dir, to_name.to_owned(), Some(id)),
        ]);
        if lost { Err(io::Error::other(PowerLost)) } else { Ok(()) }
    }

    pub(super) fn remove_file(&mut self, path: &Path) -> io::Result<()> {
        self.check_power()?;
        self.trace.path("remove", &path.to_string_lossy(), "");
        let (dir, name) = self.find_parent(path)?;
        let id = self.find(path)?;
        self.file(id)?;
        self.remove(dir, name)
    }

    pub(super) fn remove_dir(&mut self, path: &Path) -> io::Result<()> {
        self.check_power()?;
        self.trace.path("remove folder", &path.to_string_lossy(), "");
        let (dir, name) = self.find_parent(path)?;
        if !self.dir(self.find(path)?)?.entries.is_empty() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        self.remove(dir, name)
    }

    fn remove(&mut self, dir: u64, name: &str) -> io::Result<()> {
        let lost = self.change()?;
        self.edit(vec![(dir, name.to_owned(), None)]);
        if lost { Err(io::Error::other(PowerLost)) } else { Ok(()) }
    }

    pub(super) fn sync_dir(&mut self, path: &Path) -> io::Result<()> {
        self.check_power()?;
        self.counters.dir_syncs += 1;
        self.trace.path("sync folder", &path.to_string_lossy(), "");
        let id = self.find(path)?;
        self.dir(id)?;
        if self.change()? {
            return Err(io::Error::other(PowerLost));
        }
        if strikes(&mut self.faults.sync_error_in) {
            return Err(eio());
        }
        // A rename between two folders takes the other folder with it.
        let mut reached = BTreeSet::from([id]);
        loop {
            let before = reached.len();
            for change in &self.pending {
                if change.edits.iter().any(|(dir, _, _)| reached.contains(dir)) {
                    reached.extend(change.edits.iter().map(|(dir, _, _)| *dir));
                }
            }
            if reached.len() == before {
                break;
            }
        }
        let (now, later) = std::mem::take(&mut self.pending)
            .into_iter()
            .partition(|change| change.edits.iter().any(|(dir, _, _)| reached.contains(dir)));
        self.pending = later;
        let now: Vec<DirChange> = now;
        for (dir, name, node) in now.into_iter().flat_map(|change| change.edits) {
            if let Some(Node::Dir(dir)) = self.nodes.get_mut(&dir) {
                match node {
                    Some(id) => dir.durable.insert(name, id),
                    None => dir.durable.remove(&name),
                };
            }
        }
        self.collect();
        Ok(())
    }

    /// Takes the lock of a file, which is made if it is not there, and gives its node.
    pub(super) fn lock(&mut self, path: &Path, holder: &str) -> io::Result<u64> {
        self.check_power()?;
        self.trace.path("lock", &path.to_string_lossy(), holder);
        let (dir, name) = self.find_parent(path)?;
        let found = self.dir(dir)?.entries.get(name).copied();
        if let Some(id) = found
            && let Some(other) = &self.file(id)?.locked_by
        {
            return Err(io::Error::new(io::ErrorKind::WouldBlock, other.clone()));
        }
        let lost = self.change()?;
        let id = match found {
            Some(id) => id,
            None => self.add(dir, name, Node::File(FileNode::default())),
        };
        let file = self.file(id)?;
        file.set_len(0);
        file.set_len(holder.len());
        file.write(0, &[holder.as_bytes()], holder.len());
        if lost {
            return Err(io::Error::other(PowerLost));
        }
        file.handles += 1;
        file.locked_by = Some(holder.to_owned());
        Ok(id)
    }

    pub(super) fn unlock(&mut self, id: u64) {
        if let Ok(file) = self.file(id) {
            file.locked_by = None;
        }
        self.closed(id);
    }

    // Calls on open files.

    pub(super) fn write(&mut self, id: u64, offset: u64, parts: &[&[u8]]) -> io::Result<()> {
        let lost = self.change()?;
        let total: usize = parts.iter().map(|part| part.len()).sum();
        let checksum = parts.iter().fold(0, |sum, part| crc32c::crc32c_append(sum, part));
        self.counters.writes += 1;
        self.counters.written_bytes += total as u64;
        self.trace.file("write", id, offset, total as u64, checksum);
        let fails = strikes(&mut self.faults.write_error_in);
        let limit = if fails || lost { self.rng.below(total + 1) } else { total };
        let one_in = self.faults.writeback_one_in as usize;
        let writes_back = one_in > 0 && self.rng.below(one_in) == 0;
        let mut rng = self.rng.clone();
        let file = self.file(id)?;
        let start = in_memory(offset)?;
        if start + total > file.cache.len() {
            return Err(beyond_the_end());
        }
        file.write(start, parts, limit);
        if writes_back && !lost {
            file.some_writeback(&mut rng);
            self.rng = rng;
        }
        match (lost, fails) {
            (true, _) => Err(io::Error::other(PowerLost)),
            (false, true) => Err(eio()),
            (false, false) => Ok(()),
        }
    }

    pub(super) fn read(&mut self, id: u64, offset: u64, len: usize) -> io::Result<Bytes> {
        self.check_power()?;
        self.counters.reads += 1;
        self.trace.file("read", id, offset, len as u64, 0);
        let start = in_memory(offset)?;
        let file = self.file(id)?;
        file.cache.read(start, len).map(Bytes::from).ok_or_else(beyond_the_end)
    }

    pub(super) fn allocate(&mut self, id: u64, len: u64) -> io::Result<()> {
        let lost = self.change()?;
        self.counters.allocations += 1;
        self.trace.file("allocate", id, len, 0, 0);
        if strikes(&mut self.faults.allocate_error_in) {
            return Err(eio());
        }
        let used = self.used();
        let capacity = self.faults.capacity_bytes;
        let file = self.file(id)?;
        let new = in_memory(len)?;
        if new > file.cache.len() {
            let grows = (new - file.cache.len()) as u64;
            if capacity.is_some_and(|capacity| used + grows > capacity) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            file.set_len(new);
        }
        if lost { Err(io::Error::other(PowerLost)) } else { Ok(()) }
    }

    pub(super) fn truncate(&mut self, id: u64, len: u64) -> io::Result<()> {
        let lost = self.change()?;
        self.trace.file("truncate", id, len, 0, 0);
        self.file(id)?.set_len(in_memory(len)?);
        if lost { Err(io::Error::other(PowerLost)) } else { Ok(()) }
    }

    pub(super) fn sync(&mut self, id: u64) -> io::Result<()> {
        let lost = self.change()?;
        self.counters.syncs += 1;
        self.trace.file("sync", id, 0, 0, 0);
        if lost {
            return Err(io::Error::other(PowerLost));
        }
        let fails = strikes(&mut self.faults.sync_error_in);
        let mut rng = self.rng.clone();
        let file = self.file(id)?;
        if fails {
            file.fail_sync(&mut rng);
            self.rng = rng;
            return Err(eio());
        }
        file.sync();
        Ok(())
    }

    // What the test sees.

    fn used(&self) -> u64 {
        let files = self.nodes.values().filter_map(|node| match node {
            Node::File(file) if file.links > 0 || file.handles > 0 => Some(file.cache.len() as u64),
            _ => None,
        });
        files.sum()
    }

    pub(super) fn free_bytes(&self) -> Option<u64> {
        self.faults.capacity_bytes.map(|capacity| capacity.saturating_sub(self.used()))
    }

    pub(super) fn flip_bit(&mut self, path: &Path, offset: u64, bit: u8) -> io::Result<()> {
        let id = self.find(path)?;
        self.trace.file("flip", id, offset, bit.into(), 0);
        let offset = in_memory(offset)?;
        if self.file(id)?.flip(offset, bit) {
            return Ok(());
        }
        Err(io::ErrorKind::UnexpectedEof.into())
    }

    pub(super) fn files(&self) -> Vec<(PathBuf, u64)> {
        let mut files = Vec::new();
        let mut folders = vec![(PathBuf::from("/"), ROOT)];
        while let Some((path, id)) = folders.pop() {
            let Some(Node::Dir(dir)) = self.nodes.get(&id) else { continue };
            for (name, id) in &dir.entries {
                match self.nodes.get(id) {
                    Some(Node::File(file)) => {
                        files.push((path.join(name), file.cache.len() as u64));
                    }
                    _ => folders.push((path.join(name), *id)),
                }
            }
        }
        files.sort();
        files
    }
}

/// Applies a change to the tree on the medium. A file never ends with two names: where a rename
/// survives without the change before it, the older name goes.
fn apply(tree: &mut BTreeMap<u64, BTreeMap<String, u64>>, change: &DirChange) {
    for (dir, name, node) in &change.edits {
        if let Some(id) = node {
            for entries in tree.values_mut() {
                entries.retain(|_, other| other != id);
            }
        }
        let Some(entries) = tree.get_mut(dir) else { continue };
        match node {
            Some(id) => entries.insert(name.clone(), *id),
            None => entries.remove(name),
        };
    }
}

/// Counts a fault down; true when it is due.
fn strikes(fault: &mut Option<u64>) -> bool {
    match fault {
        Some(0) => {
            *fault = None;
            true
        }
        Some(left) => {
            *left -= 1;
            false
        }
        None => false,
    }
}

fn names(path: &Path) -> io::Result<Vec<&str>> {
    let mut names = Vec::new();
    for part in path.components() {
        match part {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => {
                names.push(name.to_str().ok_or(io::ErrorKind::InvalidFilename)?);
            }
            Component::ParentDir | Component::Prefix(_) => {
                return Err(io::ErrorKind::InvalidInput.into());
            }
        }
    }
    Ok(names)
}

fn in_memory(number: u64) -> io::Result<usize> {
    usize::try_from(number).map_err(|_| io::ErrorKind::OutOfMemory.into())
}

fn eio() -> io::Error {
    io::Error::from_raw_os_error(libc::EIO)
}

/// What would be a bus error on a mapped file: another handle cut it.
fn beyond_the_end() -> io::Error {
    io::Error::other("access to a mapped file beyond its end")
}
