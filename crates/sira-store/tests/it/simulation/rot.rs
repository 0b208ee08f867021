//! Bits that flip on the medium: what is acknowledged is there, or an error says that it is
//! damaged; a wrong byte is never served.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use sira_log::disk::SimDisk;
use sira_log::env::SimEnv;
use sira_store::embedded::{Engine, NamespaceId};
use sira_store::{StorageError, Version};

use super::content::{Content, Found};
use super::model::{Entry, Sight, agrees};
use super::world::{Checked, World};

/// Everything that was ever written under each key, as checksums.
#[derive(Debug, Default)]
pub(super) struct History(BTreeMap<(NamespaceId, Vec<u8>), BTreeMap<Version, u32>>);

fn checksum(expires_at_ms: Option<u64>, metadata: &Bytes, value: &Bytes) -> u32 {
    let crc = crc32c::crc32c(&expires_at_ms.unwrap_or(0).to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c_append(crc, metadata), value)
}

impl History {
    fn add(&mut self, namespace: NamespaceId, key: &[u8], version: Version, crc: u32) {
        self.0.entry((namespace, key.to_vec())).or_default().insert(version, crc);
    }

    pub(super) fn wrote(&mut self, namespace: NamespaceId, key: &[u8], entry: &Entry) {
        if let Some(version) = entry.version.get() {
            let crc = checksum(entry.expires_at_ms, &entry.metadata, &entry.value);
            self.add(namespace, key, version, crc);
        }
    }

    /// Adds what a reopened engine holds: a write that failed can have been one of them.
    pub(super) fn saw(&mut self, content: &Content) {
        for (namespace, objects) in content.values() {
            for (key, found) in objects {
                let crc = checksum(found.expires_at_ms, &found.metadata, &found.value);
                self.add(*namespace, key, found.version, crc);
            }
        }
    }

    fn knows(&self, namespace: NamespaceId, key: &[u8], found: &Found) -> bool {
        let crc = checksum(found.expires_at_ms, &found.metadata, &found.value);
        let versions = self.0.get(&(namespace, key.to_vec()));
        versions.is_some_and(|versions| versions.get(&found.version) == Some(&crc))
    }
}

impl World {
    /// Flips a bit on a copy of the disk, whose engine was closed, killed or lost its power, and
    /// opens an engine there.
    pub(super) fn rot(&mut self) -> Checked<()> {
        let sound = self.disk.kill();
        let now = self.now_ms();
        let env = || Arc::new(SimEnv::new(1, now));
        let Ok(engine) = self.open_on(&sound, env()) else { return Ok(()) };
        let mut random = self.rng.clone();
        let Ok(right) = super::content::read(&engine, &mut random) else { return Ok(()) };
        drop(engine);

        let rotten = self.disk.kill();
        let Some(what) = self.flip(&rotten)? else { return Ok(()) };
        self.tally.rotted += 1;
        let engine = match self.open_on(&rotten, env()) {
            Ok(engine) => engine,
            Err(StorageError::Corrupt(_) | StorageError::Unsupported(_)) => {
                self.tally.rot_reported += 1;
                return Ok(());
            }
            Err(error) => return Err(format!("{what}: the open failed: {error} ({error:?})")),
        };
        self.judge(&engine, &right).map_err(|error| format!("{what}: {error}"))
    }

    fn flip(&mut self, disk: &SimDisk) -> Checked<Option<String>> {
        let files: Vec<_> = disk.files().into_iter().filter(|(_, len)| *len > 0).collect();
        if files.is_empty() {
            return Ok(None);
        }
        let place = self.forged.back().filter(|_| self.rng.chance(2, 3)).cloned();
        let place = place
            .filter(|(path, at)| files.iter().any(|(other, len)| other == path && at + 100 < *len));
        let (path, offset) = match place {
            Some((path, frame)) => (path, frame + self.rng.below(70)),
            None => {
                let (path, len) = &files[self.rng.below(files.len() as u64) as usize];
                (path.clone(), self.rng.below(*len))
            }
        };
        let bit = self.rng.below(8) as u8;
        let done = disk.flip_bit(&path, offset, bit);
        done.map_err(|error| format!("cannot flip a bit: {error}"))?;
        let what = format!("bit {bit} of byte {offset} of {}", path.display());
        self.note(|| format!("flip {what}"));
        Ok(Some(what))
    }

    /// Compares an engine on a damaged disk with what a sound one holds.
    fn judge(&mut self, engine: &Engine, right: &Content) -> Checked<()> {
        let now = self.now_ms();
        // Behind the durable mark, which a loss of power can have taken, a damaged end is told from
        // a torn one by nothing: it is saved aside and named in the report.
        let mut reported = engine.check_writable().is_err() || engine.open_report().torn.is_some();
        let mut missing = Vec::new();
        let mut stale = Vec::new();
        let names: Vec<_> = engine.namespaces();
        let expected: Vec<_> = right.iter().map(|(name, (id, _))| (name.clone(), *id)).collect();
        if names != expected {
            return Err(format!("namespaces are {names:?} instead of {expected:?}"));
        }
        for (name, (namespace, objects)) in right {
            let mut keys: Vec<Vec<u8>> = objects.keys().cloned().collect();
            let scanned = engine.scan(*namespace, b"", None, |entry| {
                keys.push(entry.key.to_vec());
                ControlFlow::Continue(())
            });
            match scanned {
                Ok(()) => {}
                Err(StorageError::Corrupt(_)) => reported = true,
                Err(error) => return Err(format!("a scan of {name:?}: {error}")),
            }
            keys.sort();
            keys.dedup();
            for key in keys {
                let at = format!("{name:?} \"{}\"", key[..key.len().min(40)].escape_ascii());
                let found = match engine.get(*namespace, &key) {
                    Ok(found) => found.map(Found::from),
                    Err(StorageError::Corrupt(_)) => {
                        reported = true;
                        continue;
                    }
                    Err(error) => return Err(format!("{at}: {error}")),
                };
                let known = objects.get(&key);
                match &found {
                    Some(found) if known.is_none_or(|known| known.version != found.version) => {
                        if !self.past.knows(*namespace, &key, found) {
                            return Err(format!("{at} was never written: {}", found.version));
                        }
                        // What expired once and did not with the clock set back may be collected
                        // on one of the two disks alone.
                        if known.is_some() || found.expires_at_ms.is_none() {
                            stale.push(at);
                        }
                    }
                    Some(found) => {
                        let known = known.map(|known| {
                            let entry = Entry::new(
                                known.expires_at_ms,
                                known.metadata.clone(),
                                known.value.clone(),
                            );
                            Sight::Exactly(entry.into())
                        });
                        if !known.is_some_and(|known| agrees(&known, Some(found), now)) {
                            return Err(format!("{at}: wrong bytes were served"));
                        }
                    }
                    None if known.is_some_and(|known| known.expires_at_ms.is_none()) => {
                        missing.push(at)
                    }
                    None => {}
                }
            }
        }
        self.tally.rot_reported += u64::from(reported);
        if reported || (missing.is_empty() && stale.is_empty()) {
            return Ok(());
        }
        Err(format!("without a word, missing are {missing:?}, stale are {stale:?}"))
    }
}
