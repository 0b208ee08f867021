//! Settings: flag, then environment, then file, then default; each value knows where it came from.

mod example;
mod file;
mod nearest;
mod settings;
pub mod storage;
pub mod watch;

use std::fmt;
use std::path::{Path, PathBuf};

use crate::failure::{Failure, Outcome};

pub use example::render as render_example;
pub use file::check as check_file;
pub use settings::{SETTINGS, Setting};
pub use storage::StorageConfig;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Nobody set it.
    Default,
    /// The configuration file.
    File {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
    },
    /// An environment variable.
    Environment(&'static str),
    /// A flag of the command line.
    Flag(&'static str),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line, column } => {
                write!(f, "{}:{line}:{column}", path.display())
            }
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// A value as it was written, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sourced {
    /// The text; `None` where there is no value and no default.
    pub text: Option<String>,
    /// Where it came from.
    pub source: Source,
}

/// All settings, resolved.
#[derive(Debug, Clone)]
pub struct Config {
    values: Vec<Sourced>,
    storage: StorageConfig,
    storage_shown: Vec<(String, Sourced)>,
    file: Option<PathBuf>,
}

/// Values of the flags of the command line, by setting.
#[derive(Debug, Default)]
pub struct Flags(Vec<(Setting, String)>);

impl Flags {
    /// Adds a flag that was given.
    pub fn set(&mut self, setting: Setting, text: Option<impl Into<String>>) {
        if let Some(text) = text {
            self.0.push((setting, text.into()));
        }
    }
}

impl Config {
    /// Resolves every setting. The file is the one named by `file`, else by `SIRA_CONFIG`; no other
    /// is looked for.
    ///
    /// # Errors
    /// When the file cannot be read or holds something unknown, or when a value is wrong; the error
    /// names where the value came from.
    pub fn resolve(flags: &Flags, file: Option<&Path>) -> Outcome<Self> {
        Self::resolve_with(flags, file, |name| std::env::var(name).ok())
    }

    fn resolve_with(
        flags: &Flags,
        file: Option<&Path>,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Outcome<Self> {
        let named = file
            .map(Path::to_owned)
            .or_else(|| environment("SIRA_CONFIG").filter(|v| !v.is_empty()).map(PathBuf::from));
        let from_file = named.as_deref().map_or_else(|| Ok(file::Parsed::default()), file::read)?;
        let value_of = |setting: Setting| {
            let spec = setting.spec();
            let flag = flags.0.iter().rev().find(|(of, _)| *of == setting);
            if let Some((_, text)) = flag {
                return Sourced { text: Some(text.clone()), source: Source::Flag(spec.flag) };
            }
            // An empty variable is an unset one: compose files and unit files write them so.
            if let Some(text) = environment(spec.env).filter(|text| !text.is_empty()) {
                return Sourced { text: Some(text), source: Source::Environment(spec.env) };
            }
            if let Some((_, value)) = from_file.values.iter().find(|(of, _)| *of == setting) {
                return value.clone();
            }
            Sourced { text: spec.default.map(str::to_owned), source: Source::Default }
        };
        let values = SETTINGS.iter().map(|spec| value_of(spec.setting)).collect();
        let (storage, storage_shown) = (from_file.storage, from_file.storage_shown);
        let config = Self { values, storage, storage_shown, file: named };
        for spec in SETTINGS {
            let value = config.get(spec.setting);
            if let Some(text) = &value.text {
                (spec.check)(text).map_err(|wrong| wrong_value(spec, value, &wrong))?;
            }
        }
        Ok(config)
    }

    /// A value and where it came from.
    pub fn get(&self, setting: Setting) -> &Sourced {
        // `SETTINGS` lists the settings in the order of the enum, which a test checks.
        &self.values[setting as usize]
    }

    /// What the file says of storage.
    pub fn storage(&self) -> &StorageConfig {
        &self.storage
    }

    /// The configuration file, where one is named.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// What the file says of storage as it stands there: names with dots, values and places.
    pub fn storage_shown(&self) -> &[(String, Sourced)] {
        &self.storage_shown
    }

    /// A value that has a default or was given; empty otherwise.
    pub fn text(&self, setting: Setting) -> &str {
        self.get(setting).text.as_deref().unwrap_or_default()
    }

    /// Reads a value that [`Config::resolve`] has checked.
    ///
    /// # Errors
    /// What `read` says, with the source of the value.
    pub fn parse<T>(
        &self,
        setting: Setting,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Outcome<T> {
        read(self.text(setting))
            .map_err(|wrong| wrong_value(setting.spec(), self.get(setting), &wrong))
    }

    /// The access token: `SIRA_TOKEN`, else the first line of the token file.
    ///
    /// # Errors
    /// When the token file cannot be read or is empty.
    pub fn token(&self) -> Outcome<Option<String>> {
        let file = self.get(Setting::TokenFile);
        let direct = self.get(Setting::Token);
        // A file named by a flag is meant for this run; a variable is left over from the session.
        let file_first = matches!(file.source, Source::Flag(_));
        if let (Some(token), false) = (&direct.text, file_first) {
            return Ok(Some(token.clone()));
        }
        let Some(path) = &file.text else { return Ok(None) };
        let content = std::fs::read_to_string(path).map_err(|error| {
            Failure::io(format_args!("cannot read the token file {path} ({})", file.source), &error)
        })?;
        let token = content.lines().next().unwrap_or_default().trim();
        if token.is_empty() {
            return Err(Failure::usage(format!(
                "the token file {path} is empty ({})",
                file.source
            ))
            .hint(format!("openssl rand -hex 32 > {path}")));
        }
        Ok(Some(token.to_owned()))
    }
}

fn wrong_value(spec: &settings::Spec, value: &Sourced, wrong: &str) -> Failure {
    let shown = if spec.secret { "(hidden)" } else { value.text.as_deref().unwrap_or_default() };
    Failure::usage(format!("{} = {shown:?} ({}): {wrong}", spec.key, value.source))
}

#[cfg(test)]
mod tests;
