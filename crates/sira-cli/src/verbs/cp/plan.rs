//! What is copied where: everything is listed before anything is moved.

use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::path::{Component, Path, PathBuf};

use serde::Serialize;
use sira_store::ListOptions;
use sira_store::limits::KEY_BYTES_MAX;

use super::CpArgs;
use crate::failure::{Failure, Outcome};
use crate::output::Output;
use crate::path::{Location, is_remote};
use crate::target::{Target, each_page};
use crate::verbs::get::missing;

/// One end of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Side {
    /// A file.
    Local(PathBuf),
    /// An object.
    Remote(Location),
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(path) => f.write_str(&crate::output::printable(&path.to_string_lossy())),
            Self::Remote(at) => at.fmt(f),
        }
    }
}

/// One file to copy.
#[derive(Debug, Clone)]
pub struct Job {
    /// Where from.
    pub source: Side,
    /// Where to.
    pub destination: Side,
    /// Its size in bytes, when it was listed.
    pub size: u64,
}

/// What is printed of a copied file.
#[derive(Debug, Serialize)]
pub struct JobRecord {
    verb: &'static str,
    source: String,
    destination: String,
    size: u64,
    dry_run: bool,
}

impl Job {
    /// The JSON of this file.
    pub fn record(&self, dry_run: bool) -> JobRecord {
        let exact = |side: &Side| match side {
            Side::Local(path) => path.to_string_lossy().into_owned(),
            Side::Remote(at) => format!("{}{}/{}", crate::path::SCHEME, at.namespace, at.key),
        };
        JobRecord {
            verb: "cp",
            source: exact(&self.source),
            destination: exact(&self.destination),
            size: self.size,
            dry_run,
        }
    }
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}", self.source, self.destination)
    }
}

/// Checks that one end of each copy is in the store.
///
/// # Errors
/// When both are local.
pub fn check_sides(sources: &[String], destination: &str) -> Outcome {
    match sources.iter().find(|source| !is_remote(source)) {
        Some(source) if !is_remote(destination) => {
            Err(Failure::usage(format!("{source} and {destination} are both local files"))
                .hint(format!("sira cp {source} sira://NAMESPACE/KEY")))
        }
        _ => Ok(()),
    }
}

/// All files to copy.
#[derive(Debug, Default)]
pub struct Plan {
    /// The files.
    pub jobs: Vec<Job>,
    /// Files that cannot be copied, and why.
    pub refused: Vec<Failure>,
}

impl Plan {
    /// Lists the sources and gives each file its destination.
    ///
    /// # Errors
    /// When a source is not there, when two files would get the same name, and the store's errors.
    pub fn make(
        target: &dyn Target,
        output: Output,
        args: &CpArgs,
        namespace: &str,
    ) -> Outcome<Self> {
        let several = args.sources.len() > 1;
        let destination = Destination::parse(&args.destination, several, namespace)?;
        let mut planner = Planner { target, output, args, destination, plan: Self::default() };
        for source in &args.sources {
            if is_remote(source) {
                planner.add_remote(&Location::parse_prefix(source, namespace)?)?;
            } else {
                planner.add_local(Path::new(source))?;
            }
        }
        let plan = planner.plan;
        let mut taken = HashSet::with_hasher(SeedlessHasher::default());
        for job in &plan.jobs {
            if !taken.insert(job.destination.to_string()) {
                return Err(Failure::usage(format!(
                    "two files would be copied to {}; copy them in two runs",
                    job.destination
                )));
            }
        }
        Ok(plan)
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.jobs.iter().map(|job| job.size).sum()
    }
}

/// Deterministic hashing, as everywhere in Sira; the names are the user's own.
type SeedlessHasher = std::hash::BuildHasherDefault<std::hash::DefaultHasher>;

/// Where files go.
enum Destination {
    Local {
        path: PathBuf,
        /// Files keep their names below `path`.
        folder: bool,
    },
    Remote {
        at: Location,
        folder: bool,
    },
}

impl Destination {
    fn parse(text: &str, several: bool, namespace: &str) -> Outcome<Self> {
        if is_remote(text) {
            let at = Location::parse_prefix(text, namespace)?;
            let folder = several || at.key.is_empty() || at.key.ends_with('/');
            return Ok(Self::Remote { at, folder });
        }
        let path = PathBuf::from(text);
        let folder = several || text.ends_with('/') || path.is_dir();
        Ok(Self::Local { path, folder })
    }

    /// Where a single file of this name goes.
    fn of_file(&self, name: &str) -> Outcome<Side> {
        match self {
            Self::Local { path, folder: false } => Ok(Side::Local(path.clone())),
            Self::Remote { at, folder: false } => Ok(Side::Remote(at.clone())),
            _ => self.below(name),
        }
    }

    /// Where a file of this relative name goes.
    fn below(&self, relative: &str) -> Outcome<Side> {
        match self {
            Self::Local { path, .. } => Ok(Side::Local(path.join(safe_relative(relative)?))),
            Self::Remote { at, .. } => {
                let key = format!("{}{relative}", as_folder(&at.key));
                if key.len() > KEY_BYTES_MAX {
                    return Err(Failure::usage(format!(
                        "the key {key:?} has {} bytes, at most {KEY_BYTES_MAX} are allowed",
                        key.len()
                    )));
                }
                Ok(Side::Remote(at.with_key(key)))
            }
        }
    }
}

struct Planner<'a> {
    target: &'a dyn Target,
    output: Output,
    args: &'a CpArgs,
    destination: Destination,
    plan: Plan,
}

impl Planner<'_> {
    fn push(&mut self, source: Side, destination: Outcome<Side>, size: u64) {
        match destination {
            Ok(destination) => self.plan.jobs.push(Job { source, destination, size }),
            Err(failure) => self.plan.refused.push(failure.context(source)),
        }
    }

    fn add_local(&mut self, path: &Path) -> Outcome {
        let metadata = fs::metadata(path)
            .map_err(|error| Failure::io(format_args!("cannot read {}", path.display()), &error))?;
        if metadata.is_dir() {
            if !self.args.recursive {
                return Err(Failure::usage(format!("{} is a folder", path.display()))
                    .hint(format!("sira cp -r {} {}", path.display(), self.args.destination)));
            }
            return self.walk(path, path);
        }
        let name = path.file_name().unwrap_or_default();
        let destination = match name.to_str() {
            Some(name) => self.destination.of_file(name),
            None => Err(Failure::usage("the name is not UTF-8")),
        };
        self.push(Side::Local(path.to_owned()), destination, metadata.len());
        Ok(())
    }

    fn walk(&mut self, root: &Path, folder: &Path) -> Outcome {
        let fail = |path: &Path, error: &std::io::Error| {
            Failure::io(format_args!("cannot read {}", path.display()), error)
        };
        let entries = fs::read_dir(folder)
            .and_then(|entries| entries.collect::<std::io::Result<Vec<_>>>())
            .map_err(|error| fail(folder, &error))?;
        let mut paths: Vec<PathBuf> = entries.iter().map(fs::DirEntry::path).collect();
        paths.sort();
        for path in paths {
            let link = fs::symlink_metadata(&path).map_err(|error| fail(&path, &error))?;
            if link.is_dir() {
                self.walk(root, &path)?;
                continue;
            }
            match fs::metadata(&path) {
                Ok(metadata) if metadata.is_file() => {
                    let destination = relative_key(root, &path)
                        .and_then(|relative| self.destination.below(&relative));
                    self.push(Side::Local(path), destination, metadata.len());
                }
                Ok(_) => self.output.note(&format!("left out: {} is no file", path.display())),
                Err(error) => self.plan.refused.push(fail(&path, &error)),
            }
        }
        Ok(())
    }

    fn add_remote(&mut self, at: &Location) -> Outcome {
        if !self.args.recursive {
            if at.key.is_empty() || at.key.ends_with('/') {
                return Err(Failure::usage(format!("{at} is a prefix, not an object"))
                    .hint(format!("sira cp -r {at} {}", self.args.destination)));
            }
            let head = self.target.head(at)?.ok_or_else(|| missing(at))?;
            let name = at.key.rsplit('/').next().unwrap_or_default();
            let destination = self.destination.of_file(name);
            self.push(Side::Remote(at.clone()), destination, head.size);
            return Ok(());
        }
        let prefix = as_folder(&at.key);
        let options = ListOptions { prefix: prefix.clone(), ..ListOptions::default() };
        let before = self.plan.jobs.len() + self.plan.refused.len();
        each_page(self.target, &at.namespace, options, false, |page| {
            for entry in page.entries {
                let relative = entry.key.strip_prefix(&prefix).unwrap_or(&entry.key);
                let destination = self.destination.below(relative);
                self.push(Side::Remote(at.with_key(entry.key.clone())), destination, entry.size);
            }
            Ok(true)
        })?;
        if self.plan.jobs.len() + self.plan.refused.len() == before {
            return Err(Failure::not_found(format!("there is no object below {at}")));
        }
        Ok(())
    }
}

/// A prefix that ends at a `/`, so that `models` does not take `models-old` along.
fn as_folder(prefix: &str) -> String {
    if prefix.is_empty() || prefix.ends_with('/') {
        prefix.to_owned()
    } else {
        format!("{prefix}/")
    }
}

fn relative_key(root: &Path, path: &Path) -> Outcome<String> {
    let relative = path.strip_prefix(root).unwrap_or(path);
    let parts: Option<Vec<&str>> =
        relative.components().map(|part| part.as_os_str().to_str()).collect();
    parts
        .map(|parts| parts.join("/"))
        .ok_or_else(|| Failure::usage("the name is not UTF-8, so it cannot be a key"))
}

/// The path of a key below a folder. Keys come from others: one that would leave the folder, or
/// that no file can have as its name, is refused.
fn safe_relative(key: &str) -> Outcome<PathBuf> {
    let path = Path::new(key);
    let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
    // `components` swallows `//`, `/./` and a last `/`; two keys must not become one file.
    let whole = key.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
    if plain && whole && !key.contains('\0') {
        return Ok(path.to_owned());
    }
    Err(Failure::usage(format!("the key {key:?} cannot be a file name"))
        .hint("copy it alone, to a name of your choice: sira get KEY -o FILE"))
}

#[cfg(test)]
mod tests;
