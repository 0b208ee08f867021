//! What goes through many files: listing, and removing what is old.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::files::{Files, io_error, open, read_head};
use crate::driver::{After, Listed, Place, RecordHead, Scan, names};
use crate::error::{Result, StorageError};

/// What a cleaning removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cleaned {
    /// Objects.
    pub objects: u64,
    /// Bytes of their files.
    pub bytes: u64,
}

/// The first names of a walk, at most so many.
struct First {
    limit: usize,
    /// Names of a file below its fan folder, and the file.
    files: BTreeMap<String, PathBuf>,
}

impl First {
    /// Whether a name may be among the first.
    fn wants(&self, name: &str) -> bool {
        self.files.len() < self.limit
            || self.files.last_key_value().is_some_and(|(last, _)| name < last.as_str())
    }

    fn add(&mut self, name: String, file: PathBuf) {
        if self.wants(&name) {
            self.files.insert(name, file);
            if self.files.len() > self.limit {
                self.files.pop_last();
            }
        }
    }
}

impl Files {
    /// Keys in order. Every page reads the names of the whole place, and the heads of the files that
    /// it tells.
    pub(super) fn scan(&self, place: &Place, scan: &Scan) -> Result<Vec<Listed>> {
        let prefix = names::encode(&scan.prefix);
        let mut after =
            scan.after.as_ref().map(After::to_bytes).map(names::encode).unwrap_or_default();
        let space = self.space(place);
        let mut listed = Vec::new();
        while listed.len() < scan.limit {
            let mut first = First { limit: scan.limit - listed.len(), files: BTreeMap::new() };
            for (_, fan) in entries(&space)? {
                gather(&fan, "", &prefix, &after, &mut first)?;
            }
            let full = first.files.len() == first.limit;
            if let Some((last, _)) = first.files.last_key_value() {
                after.clone_from(last);
            }
            for (name, file) in first.files {
                // Not a record's, or removed since its name was read.
                let (Some(key), Some(file)) = (names::decode(&name), open(&file)?) else {
                    continue;
                };
                let head = read_head(&file).map_err(|error| error.with_key(key.as_str()))?;
                listed.push(Listed {
                    key,
                    size: head.size,
                    version: Some(head.version),
                    expiry: head.expires_at_ms.into(),
                });
            }
            if !full {
                break;
            }
        }
        Ok(listed)
    }

    /// Removes expired records, folder by folder, going on where the last call stopped.
    pub(super) fn collect_expired(&self, now_ms: u64, limit: usize) -> Result<u64> {
        let start = self.collected.lock().take();
        let mut changed = BTreeSet::new();
        let mut collected = 0;
        for fan in self.fans(|_| true)? {
            if start.as_ref().is_some_and(|start| fan <= *start) {
                continue;
            }
            for file in files_below(&fan)? {
                // Files of records that expire have odd lengths.
                if !fs::metadata(&file).is_ok_and(|metadata| metadata.len() % 2 == 1) {
                    continue;
                }
                let expired = |head: &RecordHead| head.expires_at_ms.is_some_and(|at| at <= now_ms);
                if let Some((_, folder)) = self.remove_if(&file, expired)? {
                    changed.insert(folder);
                    collected += 1;
                }
            }
            if collected >= limit as u64 {
                *self.collected.lock() = Some(fan);
                break;
            }
        }
        self.sync_folders(changed)?;
        Ok(collected)
    }

    /// Removes the objects of a namespace, or of all, that were written longer ago than this.
    pub(super) fn clean(&self, namespace: Option<&str>, older_than: Duration) -> Result<Cleaned> {
        let age_ms = u64::try_from(older_than.as_millis()).unwrap_or(u64::MAX);
        let Some(oldest_ms) = self.env.now_ms().checked_sub(age_ms) else {
            return Ok(Cleaned::default());
        };
        let (mut changed, mut cleaned) = (BTreeSet::new(), Cleaned::default());
        let wanted = namespace.map(|namespace| self.data().join(names::encode(namespace)));
        for fan in self.fans(|space| wanted.as_deref().is_none_or(|wanted| space == wanted))? {
            for file in files_below(&fan)? {
                let old = |head: &RecordHead| head.version.time_ms() < oldest_ms;
                if let Some((bytes, folder)) = self.remove_if(&file, old)? {
                    changed.insert(folder);
                    cleaned.objects += 1;
                    cleaned.bytes += bytes;
                }
            }
        }
        self.sync_folders(changed)?;
        Ok(cleaned)
    }

    /// Removes a file by its head; tells its bytes, and the folder that is left to be synced. Files
    /// that are no records stay.
    fn remove_if(
        &self,
        path: &Path,
        dead: impl Fn(&RecordHead) -> bool,
    ) -> Result<Option<(u64, PathBuf)>> {
        let look = || -> Result<Option<u64>> {
            let Some(file) = open(path)? else { return Ok(None) };
            match read_head(&file) {
                Ok(head) if dead(&head) => Ok(Some(file.metadata()?.len())),
                Ok(_) | Err(StorageError::Corrupt(_) | StorageError::Unsupported(_)) => Ok(None),
                Err(error) => Err(error),
            }
        };
        if look()?.is_none() {
            return Ok(None);
        }
        let _locked = self.lock(path)?;
        match look()? {
            Some(bytes) => self.unlink(path).map(|folder| Some((bytes, folder))),
            None => Ok(None),
        }
    }

    /// The fan folders of the areas of all namespaces whose folder is wanted, in order.
    fn fans(&self, wanted: impl Fn(&Path) -> bool) -> Result<Vec<PathBuf>> {
        let (mut namespaces, mut fans) = (vec![self.data().to_owned()], Vec::new());
        while let Some(folder) = namespaces.pop() {
            for (name, path) in entries(&folder)? {
                if names::is_folder(&name) {
                    namespaces.push(path);
                } else if wanted(&path) {
                    for (_, area) in entries(&path)? {
                        fans.extend(entries(&area)?.into_iter().map(|(_, fan)| fan));
                    }
                }
            }
        }
        fans.sort();
        Ok(fans)
    }
}

/// Names and paths in a folder, which may be gone. Names that are not UTF-8 are not ours.
fn entries(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let failed = |error| io_error("cannot read the folder", folder, error);
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(failed(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        if let Some(name) = path.file_name().and_then(|name| name.to_str()) {
            found.push((name.to_owned(), path));
        }
    }
    Ok(found)
}

/// Adds the names below a folder that begin with `prefix` and come after `after`.
fn gather(folder: &Path, name: &str, prefix: &str, after: &str, first: &mut First) -> Result<()> {
    for (entry, path) in entries(folder)? {
        let is_folder = names::is_folder(&entry);
        let below = format!("{name}{entry}{}", if is_folder { "/" } else { "" });
        if !is_folder {
            if below.starts_with(prefix) && below.as_str() > after {
                first.add(below, path);
            }
            continue;
        }
        let inside = below.starts_with(prefix) || prefix.starts_with(&below);
        if inside && names::folder_order(&below, after) != Ordering::Less && first.wants(&below) {
            gather(&path, &below, prefix, after, first)?;
        }
    }
    Ok(())
}

/// All files below a fan folder, in folders or not.
fn files_below(fan: &Path) -> Result<Vec<PathBuf>> {
    let (mut folders, mut files) = (vec![fan.to_owned()], Vec::new());
    while let Some(folder) = folders.pop() {
        for (name, path) in entries(&folder)? {
            if names::is_folder(&name) { folders.push(path) } else { files.push(path) }
        }
    }
    Ok(files)
}
