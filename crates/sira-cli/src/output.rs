//! The only place that writes to the terminal.
//!
//! Results go to standard output, as text or as JSON lines; notes, progress and errors go to
//! standard error. Progress is shown on a terminal only.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use crate::failure::{Failure, Outcome};

/// How results are shown.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    json: bool,
    quiet: bool,
    color: bool,
    terminal: bool,
    progress: bool,
}

impl Output {
    /// Follows the flags, `NO_COLOR` and what the streams are connected to.
    pub fn new(json: bool, quiet: bool, no_color: bool) -> Self {
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let color = !no_color && !dumb && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        Self {
            json,
            quiet,
            color: color && io::stderr().is_terminal(),
            terminal: io::stdout().is_terminal(),
            progress: !json && !quiet && io::stderr().is_terminal(),
        }
    }

    /// Whether results are JSON lines.
    pub fn json(&self) -> bool {
        self.json
    }

    /// Whether standard output is a terminal.
    pub fn terminal(&self) -> bool {
        self.terminal
    }

    /// Whether progress is shown.
    pub fn shows_progress(&self) -> bool {
        self.progress
    }

    /// Shows a result that was asked for: `record` as a JSON line, or `text` as it is.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub fn result<T: Serialize>(&self, record: &T, text: impl FnOnce() -> String) -> Outcome {
        let line = if self.json {
            serde_json::to_string(record)
                .map_err(|error| Failure::other(format!("cannot write JSON: {error}")))?
        } else {
            text()
        };
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{line}").map_err(|error| Failure::output(&error))
    }

    /// Shows what a verb has done; silent with `--quiet`.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub fn done<T: Serialize>(&self, record: &T, text: impl FnOnce() -> String) -> Outcome {
        if self.quiet { Ok(()) } else { self.result(record, text) }
    }

    /// Writes a document (a manual page, an OpenAPI document) as it is.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub fn document(&self, bytes: &[u8]) -> Outcome {
        let mut stdout = io::stdout().lock();
        stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(|e| Failure::output(&e))
    }

    /// A remark on standard error; silent with `--quiet` and `--json`.
    pub fn note(&self, text: &str) {
        if !self.quiet && !self.json {
            let _ = writeln!(io::stderr().lock(), "{text}");
        }
    }

    /// Asks on standard error and reads the answer from standard input: true for `y` and `yes`.
    ///
    /// # Errors
    /// When standard input cannot be read.
    pub fn confirm(&self, question: &str) -> Outcome<bool> {
        let mut stderr = io::stderr().lock();
        let _ = write!(stderr, "{question} [y/N] ").and_then(|()| stderr.flush());
        let mut answer = String::new();
        io::stdin()
            .read_line(&mut answer)
            .map_err(|error| Failure::io("cannot read the answer", &error))?;
        Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
    }

    /// Replaces the progress line; an empty text removes it.
    pub fn progress(&self, text: &str) {
        if self.progress {
            let mut stderr = io::stderr().lock();
            let _ = write!(stderr, "\r\x1b[2K{text}").and_then(|()| stderr.flush());
        }
    }

    /// Shows why the run failed.
    pub fn failure(&self, failure: &Failure) {
        if failure.message.is_empty() {
            return;
        }
        let mut stderr = io::stderr().lock();
        if self.json {
            let record = ErrorRecord {
                error: ErrorBody {
                    code: &failure.code,
                    message: &failure.message,
                    hint: failure.hint.as_deref(),
                    exit_code: failure.exit.code(),
                },
            };
            if let Ok(line) = serde_json::to_string(&record) {
                let _ = writeln!(stderr, "{line}");
            }
            return;
        }
        let (red, bold, off) =
            if self.color { ("\x1b[1;31m", "\x1b[1m", "\x1b[0m") } else { ("", "", "") };
        let _ = writeln!(stderr, "{red}error:{off} {}", failure.message);
        if let Some(hint) = &failure.hint {
            let _ = writeln!(stderr, "  {bold}try:{off} {hint}");
        }
    }
}

/// Removes control characters from text that came from a store, so that a key cannot drive the
/// terminal: they show as `\n` or `\u{1b}`.
pub fn printable(text: &str) -> String {
    if !text.chars().any(char::is_control) {
        return text.to_owned();
    }
    text.chars().fold(String::with_capacity(text.len() + 8), |mut out, c| {
        if c.is_control() {
            out.extend(c.escape_default())
        } else {
            out.push(c)
        }
        out
    })
}

#[derive(Serialize)]
struct ErrorRecord<'a> {
    error: ErrorBody<'a>,
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    code: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
    exit_code: u8,
}
