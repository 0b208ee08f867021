//! `sira openapi`, `sira completions` and `sira man`: documents made from the code.

use std::path::PathBuf;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::cli::Cli;
use crate::failure::{Failure, Outcome};
use crate::output::Output;

/// Flags of `completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

/// Flags of `man`.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// Write one page a verb into this folder instead of printing the main page
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Prints the OpenAPI document of the HTTP API.
///
/// # Errors
/// When standard output cannot be written.
pub fn openapi(output: Output) -> Outcome {
    let mut document = serde_json::to_string_pretty(&sira_server::openapi())
        .map_err(|error| Failure::other(format!("cannot write the document: {error}")))?;
    document.push('\n');
    output.document(document.as_bytes())
}

/// Prints a completion script.
///
/// # Errors
/// When standard output cannot be written.
pub fn completions(output: Output, args: CompletionsArgs) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "sira", &mut script);
    output.document(&script)
}

/// Prints the manual page, or writes all of them.
///
/// # Errors
/// When the output or the folder cannot be written.
pub fn man(output: Output, args: ManArgs) -> Outcome {
    match args.out {
        Some(folder) => clap_mangen::generate_to(Cli::command(), &folder).map_err(|error| {
            Failure::io(format_args!("cannot write into {}", folder.display()), &error)
        }),
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Cli::command())
                .render(&mut page)
                .map_err(|error| Failure::io("cannot write the manual page", &error))?;
            output.document(&page)
        }
    }
}
