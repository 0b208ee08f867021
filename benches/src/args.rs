//! Arguments of the comparisons.

use std::path::PathBuf;

/// What every comparison takes.
#[derive(Debug, Clone)]
pub struct Args {
    /// Interleaved rounds.
    pub rounds: usize,
    /// Factor on the number of operations.
    pub scale: f64,
    /// Rows whose name contains this; all when empty.
    pub only: String,
    /// Folder that stores are made in.
    pub dir: PathBuf,
    /// File that the figures go to as JSON.
    pub json: Option<PathBuf>,
    /// Other words, as they came.
    pub rest: Vec<String>,
}

impl Args {
    /// Reads `--rounds N --scale F --only TEXT --dir DIR --json FILE`.
    pub fn parse() -> Self {
        let mut args = Self {
            rounds: 5,
            scale: 1.0,
            only: String::new(),
            dir: std::env::temp_dir(),
            json: None,
            rest: Vec::new(),
        };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut value = || words.next().unwrap_or_else(|| panic!("{word} needs a value"));
            match word.as_str() {
                "--rounds" => args.rounds = value().parse().expect("--rounds takes a number"),
                "--scale" => args.scale = value().parse().expect("--scale takes a number"),
                "--only" => args.only = value(),
                "--dir" => args.dir = value().into(),
                "--json" => args.json = Some(value().into()),
                _ => args.rest.push(word),
            }
        }
        args
    }

    /// A number of operations under the scale, at least `least`.
    pub fn count(&self, full: usize, least: usize) -> usize {
        ((full as f64 * self.scale) as usize).max(least)
    }

    /// Whether a row is wanted.
    pub fn wants(&self, row: &str) -> bool {
        self.only.is_empty() || row.contains(&self.only)
    }

    /// Value of `--name` among the other words.
    pub fn option(&self, name: &str) -> Option<&str> {
        let at = self.rest.iter().position(|word| word == name)?;
        self.rest.get(at + 1).map(String::as_str)
    }

    /// A fresh folder that goes when it is dropped.
    pub fn folder(&self) -> tempfile::TempDir {
        tempfile::tempdir_in(&self.dir).expect("a folder for the store")
    }
}
