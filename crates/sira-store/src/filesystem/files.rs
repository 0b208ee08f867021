//! Records as files: what blocks.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::FilesystemOptions;
use super::locks::{Locked, Stripes};
use super::session::{Session, Unnamed};
use crate::driver::{Guard, HEAD_BYTES, Held, Part, Place, Record, RecordHead, names};
use crate::env::Env;
use crate::error::{Result, StorageError};
use crate::version::Version;

/// What the format file holds, before the number.
const FORMAT_NAME: &str = "sira filesystem ";

/// Version of the layout of folders.
const FORMAT: u32 = 1;

/// Bytes of a file that are read for its head and envelope.
const WINDOW_BYTES: usize = 4096;

/// How often a folder is made anew that others remove as empty.
const ATTEMPTS: usize = 100;

/// Folders whose own entries are known to be durable; more than this many are forgotten.
const DURABLE_MAX: usize = 10_000;

/// A folder of records.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) options: FilesystemOptions,
    pub(super) env: Arc<dyn Env>,
    data: PathBuf,
    stripes: Stripes,
    session: Session,
    durable: Mutex<BTreeSet<PathBuf>>,
    /// The last folder that a collection of expired records finished.
    pub(super) collected: Mutex<Option<PathBuf>>,
}

impl Files {
    pub(super) fn open(options: FilesystemOptions, env: Arc<dyn Env>) -> Result<Self> {
        let root = &options.root;
        let (data, tmp, locks) = (root.join("data"), root.join("tmp"), root.join("locks"));
        for folder in [&data, &tmp, &locks] {
            fs::create_dir_all(folder)
                .map_err(|error| io_error("cannot make the folder", folder, error))?;
        }
        check_format(root)?;
        let session = Session::begin(&tmp, &locks.join("sessions"), &*env)?;
        Ok(Self {
            data,
            stripes: Stripes::new(locks),
            session,
            durable: Mutex::default(),
            collected: Mutex::default(),
            options,
            env,
        })
    }

    /// What all records lie under.
    pub(super) fn data(&self) -> &Path {
        &self.data
    }

    /// The folder of the 256 folders of a place.
    pub(super) fn space(&self, place: &Place) -> PathBuf {
        self.data.join(names::encode(place.namespace.as_ref())).join(place.area.code())
    }

    fn file(&self, place: &Place, key: &str) -> PathBuf {
        let fan = crc32c::crc32c(key.as_bytes()) & 0xFF;
        self.space(place).join(format!("{fan:02x}")).join(names::encode(key))
    }

    /// The lock of a file.
    pub(super) fn lock(&self, path: &Path) -> Result<Locked<'_>> {
        let name = path.strip_prefix(&self.data).unwrap_or(path);
        self.stripes.lock(crc32c::crc32c(name.as_os_str().as_encoded_bytes()))
    }

    /// Writes a record if the guard holds, and tells its version and the folder that is left to be
    /// synced.
    pub(super) fn put(
        &self,
        place: &Place,
        key: &str,
        mut record: Record,
        guard: Guard,
    ) -> Result<(Version, PathBuf)> {
        self.check_extension(key)?;
        let path = self.file(place, key);
        if !guard.is_blind() {
            guard.admit(held(&path)?, record.version)?;
        }
        let mut unnamed = self.session.write(&record, self.options.sync)?;
        let locked = self.lock(&path)?;
        let held = match held(&path) {
            // What cannot be read can be replaced.
            Err(StorageError::Corrupt(_)) if guard.is_blind() => None,
            held => held?,
        };
        let version = guard.admit(held, record.version)?;
        if version != record.version {
            record.version = version;
            unnamed.rewrite_head(&record, self.options.sync)?;
        }
        let folder = self.name(&mut unnamed, &path)?;
        drop(locked);
        Ok((record.version, folder))
    }

    /// Gives a file its name, in folders that are made as needed.
    fn name(&self, unnamed: &mut Unnamed, path: &Path) -> Result<PathBuf> {
        let folder = path.parent().unwrap_or(&self.data);
        for _ in 0..ATTEMPTS {
            match unnamed.rename(path) {
                Ok(()) => return Ok(folder.to_owned()),
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    self.durable.lock().remove(folder);
                    fs::create_dir_all(folder)
                        .map_err(|error| io_error("cannot make the folder", folder, error))?;
                }
                Err(error) => return Err(io_error("cannot name", path, error)),
            }
        }
        Err(StorageError::conflict(format!(
            "the folder {} was removed {ATTEMPTS} times while a file was moved into it",
            folder.display()
        )))
    }

    /// Removes a record if the guard holds, and tells whether one was there that had not expired and
    /// the folder that is left to be synced.
    pub(super) fn remove(
        &self,
        place: &Place,
        key: &str,
        guard: Guard,
    ) -> Result<(bool, Option<PathBuf>)> {
        let path = self.file(place, key);
        let _locked = self.lock(&path)?;
        let held = held(&path)?;
        let lived = guard.admit_removal(held)?;
        if held.is_none() {
            return Ok((lived, None));
        }
        self.unlink(&path).map(|folder| (lived, Some(folder)))
    }

    /// Removes a file and the folders that are empty without it, under the file's lock. Tells the
    /// folder that is left to be synced.
    pub(super) fn unlink(&self, path: &Path) -> Result<PathBuf> {
        fs::remove_file(path).map_err(|error| io_error("cannot remove", path, error))?;
        let mut folder = path.parent().unwrap_or(&self.data);
        while folder != self.data && fs::remove_dir(folder).is_ok() {
            self.durable.lock().remove(folder);
            folder = folder.parent().unwrap_or(&self.data);
        }
        Ok(folder.to_owned())
    }

    /// Makes the entries of folders durable, and the folders themselves. After an error the changes
    /// in them are there and may not survive a loss of power.
    pub(super) fn sync_folders(&self, folders: BTreeSet<PathBuf>) -> Result<()> {
        if !self.options.sync {
            return Ok(());
        }
        for folder in folders {
            sync_folder(&folder)?;
            for child in folder.ancestors().take_while(|folder| *folder != self.data) {
                if self.durable.lock().contains(child) {
                    break;
                }
                if let Some(parent) = child.parent() {
                    sync_folder(parent)?;
                }
                let mut durable = self.durable.lock();
                if durable.len() >= DURABLE_MAX {
                    durable.clear();
                }
                durable.insert(child.to_owned());
            }
        }
        Ok(())
    }

    pub(super) fn get(&self, place: &Place, key: &str, part: &Part) -> Result<Option<Record>> {
        let path = self.file(place, key);
        let Some(file) = open(&path)? else { return Ok(None) };
        let read = match part {
            Part::Whole => read_whole(file),
            Part::Head => read_part(&file, 0..0),
            Part::Range(range) => read_part(&file, range.clone()),
        };
        read.map(Some)
    }

    fn check_extension(&self, key: &str) -> Result<()> {
        let Some(allowed) = &self.options.allowed_extensions else { return Ok(()) };
        let name = key.rsplit('/').next().unwrap_or(key);
        let extension = name.rsplit_once('.').map(|(_, extension)| extension);
        if allowed.iter().any(|allowed| {
            extension.is_some_and(|extension| extension.eq_ignore_ascii_case(allowed))
        }) {
            return Ok(());
        }
        Err(StorageError::invalid_input(format!(
            "keys must end with one of these extensions: {}",
            allowed.join(", ")
        )))
    }
}

/// Reads the format, or writes it to a new folder.
fn check_format(root: &Path) -> Result<()> {
    let path = root.join("FORMAT");
    let wanted = format!("{FORMAT_NAME}{FORMAT}\n");
    match File::create_new(&path) {
        Ok(file) => {
            file.write_all_at(wanted.as_bytes(), 0)
                .and_then(|()| file.sync_all())
                .map_err(|error| io_error("cannot write", &path, error))?;
            sync_folder(root)
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let found =
                fs::read_to_string(&path).map_err(|error| io_error("cannot read", &path, error))?;
            // Empty: another process is about to write it, or a crash came first.
            if found == wanted {
                Ok(())
            } else if found.is_empty() {
                fs::write(&path, wanted).map_err(|error| io_error("cannot write", &path, error))
            } else if found.starts_with(FORMAT_NAME) {
                Err(StorageError::unsupported(format!(
                    "{} has the format {:?}, this version knows {:?}; use the version that wrote it",
                    root.display(),
                    found.trim(),
                    wanted.trim()
                )))
            } else {
                Err(StorageError::invalid_input(format!(
                    "{} is not a folder of this store: its FORMAT says {:?}",
                    root.display(),
                    found.trim()
                )))
            }
        }
        Err(error) => Err(io_error("cannot write", &path, error)),
    }
}

/// A file that may be absent.
pub(super) fn open(path: &Path) -> Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_error("cannot open", path, error)),
    }
}

/// The head of a file's record.
pub(super) fn read_head(file: &File) -> Result<RecordHead> {
    let mut head = [0; HEAD_BYTES];
    let read = read_at(file, &mut head, 0)?;
    RecordHead::decode(head.get(..read).unwrap_or_default())
}

fn held(path: &Path) -> Result<Option<Held>> {
    let Some(file) = open(path)? else { return Ok(None) };
    read_head(&file).map(|head| Some(head.held()))
}

fn read_whole(mut file: File) -> Result<Record> {
    let len = file.metadata().map_or(0, |metadata| metadata.len());
    let mut bytes = Vec::with_capacity(usize::try_from(len).unwrap_or(0).saturating_add(1));
    file.read_to_end(&mut bytes)?;
    Record::decode(&bytes.into())
}

/// Head, envelope and a part of the body, all of the one file that is open.
fn read_part(file: &File, wanted: Range<u64>) -> Result<Record> {
    let mut prefix = vec![0; WINDOW_BYTES];
    let read = read_at(file, &mut prefix, 0)?;
    prefix.truncate(read);
    let head = RecordHead::decode(&prefix)?;
    if prefix.len() < head.body_start() {
        prefix.resize(head.body_start(), 0);
        let read = read_at(file, &mut prefix, 0)?;
        prefix.truncate(read);
    }
    let end = wanted.end.min(head.body_bytes);
    let begin = wanted.start.min(end);
    let too_large = |_| StorageError::too_large("the range is larger than memory");
    let mut body = vec![0; usize::try_from(end - begin).map_err(too_large)?];
    if read_at(file, &mut body, head.body_start() as u64 + begin)? < body.len() {
        return Err(StorageError::corrupt("the stored file is cut short"));
    }
    head.into_record(&Bytes::from(prefix), body.into())
}

/// Fills the buffer unless the file ends first, and tells how many bytes there were.
fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(filled)
}

/// Makes the entries of a folder durable. One that is gone has none.
fn sync_folder(folder: &Path) -> Result<()> {
    match File::open(folder).and_then(|folder| folder.sync_all()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        // Whatever the kind is, the change in the folder has been made.
        Err(error) => Err(StorageError::io(format!(
            "cannot sync the folder {}: {error}; the change is made and may not be durable",
            folder.display()
        ))
        .with_source(error)),
    }
}

/// The error of an operation on a path.
pub(super) fn io_error(what: &str, path: &Path, error: io::Error) -> StorageError {
    let message = format!("{what} {}: {error}", path.display());
    if error.kind() == ErrorKind::InvalidFilename {
        return StorageError::too_large(format!("{message}; use a root with a shorter path"));
    }
    StorageError::from(io::Error::new(error.kind(), message))
}
