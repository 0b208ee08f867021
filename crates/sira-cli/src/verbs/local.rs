//! Local files: opened for upload, written whole or not at all on download.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use sira_log::env::{Env, SystemEnv};

use crate::failure::{Failure, Outcome};
use crate::interrupt::Unfinished;
use crate::target::{Body, Download};

/// Bytes that are copied at a time.
const COPY_BYTES: usize = 256 * 1024;
/// Most memory that is set aside for a download on the word of the server alone.
const ROOM_BYTES_MAX: u64 = 64 << 20;

/// Opens a file for upload; `-` is standard input. The length is known for plain files.
///
/// # Errors
/// When it cannot be opened or is a folder.
pub fn open_body(path: &str) -> Outcome<Body> {
    if path == "-" {
        return Ok(Body { reader: Box::new(io::stdin()), len: None });
    }
    let (file, len) = open_file(Path::new(path))?;
    Ok(Body { reader: Box::new(file), len })
}

/// Opens a file and finds its length, where it is a plain one.
///
/// # Errors
/// When it cannot be opened or is a folder.
pub fn open_file(path: &Path) -> Outcome<(File, Option<u64>)> {
    let fail =
        |error: &io::Error| Failure::io(format_args!("cannot read {}", path.display()), error);
    let file = File::open(path).map_err(|error| fail(&error))?;
    let metadata = file.metadata().map_err(|error| fail(&error))?;
    if metadata.is_dir() {
        return Err(Failure::usage(format!("{} is a folder", path.display()))
            .hint(format!("sira cp -r {} sira://NAMESPACE/PREFIX", path.display())));
    }
    Ok((file, metadata.is_file().then_some(metadata.len())))
}

/// Writes a download to a file that appears under its name only when it is whole.
///
/// # Errors
/// When the download breaks off or the file cannot be written; nothing is left behind then.
pub fn save(download: Download, path: &Path, progress: &mut dyn FnMut(u64)) -> Outcome<u64> {
    let fail =
        |error: &io::Error| Failure::io(format_args!("cannot write {}", path.display()), error);
    if path.is_dir() {
        return Err(Failure::usage(format!("{} is a folder", path.display())));
    }
    let aside = Unfinished::new(aside_name(path));
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(aside.path())
        .map_err(|error| fail(&error))?;
    let mut writer = BufWriter::new(file);
    let len = copy(download, &mut writer, &fail, progress)?;
    let file = writer.into_inner().map_err(|error| fail(error.error()))?;
    file.sync_all().map_err(|error| fail(&error))?;
    aside.keep_as(path).map_err(|error| fail(&error))?;
    Ok(len)
}

/// Writes a download to standard output.
///
/// # Errors
/// When the download breaks off or the output cannot be written.
pub fn pipe(download: Download) -> Outcome<u64> {
    let mut stdout = io::stdout().lock();
    let len = copy(download, &mut stdout, &Failure::output, &mut |_| {})?;
    stdout.flush().map_err(|error| Failure::output(&error))?;
    Ok(len)
}

/// Reads a download into memory.
///
/// # Errors
/// When it breaks off.
pub fn collect(download: Download) -> Outcome<Vec<u8>> {
    let mut bytes = Vec::with_capacity(download.len.min(ROOM_BYTES_MAX) as usize);
    copy(download, &mut bytes, &Failure::output, &mut |_| {})?;
    Ok(bytes)
}

fn copy(
    mut download: Download,
    writer: &mut dyn Write,
    write_failed: &dyn Fn(&io::Error) -> Failure,
    progress: &mut dyn FnMut(u64),
) -> Outcome<u64> {
    let mut buffer = vec![0; COPY_BYTES];
    let mut total = 0;
    loop {
        let count = match download.reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(broken_off(total, download.len, &error.to_string())),
        };
        writer.write_all(&buffer[..count]).map_err(|error| write_failed(&error))?;
        total += count as u64;
        progress(count as u64);
    }
    if total == download.len {
        Ok(total)
    } else {
        Err(broken_off(total, download.len, "the server closed the connection"))
    }
}

fn broken_off(got: u64, wanted: u64, why: &str) -> Failure {
    sira_store::StorageError::unavailable(format!(
        "the download broke off after {got} of {wanted} bytes ({why}); try again"
    ))
    .into()
}

/// A name in the same folder that nobody else uses.
fn aside_name(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // Long names are cut, so that the addition still fits what file systems allow.
    let short: String = name.chars().take(40).collect();
    path.with_file_name(format!(".{short}.{:016x}.sira-part", SystemEnv.random_u64()))
}
