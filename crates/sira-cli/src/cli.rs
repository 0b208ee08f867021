//! The command line, as clap reads it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use sira_backends::config::BackendKind;

use crate::config::{Flags, Setting};
use crate::failure::Exit;
use crate::verbs;

/// Where keys are explained, for the help.
const ABOUT: &str = "\
Store and read objects, on a Sira server or straight on a data folder.

An object is named sira://NAMESPACE/KEY, or just KEY for a key of the namespace that
--namespace names. In `cp`, a name without sira:// is a local file or folder.

The verbs talk to the server of --server; with --root DIR they open the folder themselves.";

/// The whole command line.
#[derive(Debug, Parser)]
#[command(name = "sira", version, long_version = long_version(), about = ABOUT, after_help = Exit::HELP)]
#[command(max_term_width = 100, propagate_version = true, args_override_self = true)]
pub struct Cli {
    /// Flags of every verb.
    #[command(flatten)]
    pub global: Global,
    /// The verb.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What `--version` prints; `-V` prints its first line.
fn long_version() -> String {
    let engines: Vec<&str> = BackendKind::compiled().map(BackendKind::name).collect();
    format!("{}\nengines: {}", env!("CARGO_PKG_VERSION"), engines.join(", "))
}

/// Flags of every verb.
#[derive(Debug, Args)]
pub struct Global {
    /// Work on this folder, or serve it [serve: ./sira-data] [env: SIRA_ROOT, for serve, log, doctor]
    #[arg(long, global = true, value_name = "DIR", help_heading = "Global options")]
    pub root: Option<String>,
    /// Server to talk to [default: http://127.0.0.1:9095] [env: SIRA_SERVER]
    #[arg(long, global = true, value_name = "URL", help_heading = "Global options")]
    pub server: Option<String>,
    /// Namespace of bare keys [default: default] [env: SIRA_NAMESPACE]
    #[arg(short = 'N', long, global = true, value_name = "NAME", help_heading = "Global options")]
    pub namespace: Option<String>,
    /// File whose first line is the token; the token itself only comes from SIRA_TOKEN [env: SIRA_TOKEN_FILE]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Global options")]
    pub token_file: Option<String>,
    /// Configuration file [env: SIRA_CONFIG]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Global options")]
    pub config: Option<PathBuf>,
    /// Print JSON lines
    #[arg(long, global = true, help_heading = "Global options")]
    pub json: bool,
    /// Print only errors and what was asked for
    #[arg(short, long, global = true, help_heading = "Global options")]
    pub quiet: bool,
    /// Print without colors [env: NO_COLOR]
    #[arg(long, global = true, help_heading = "Global options")]
    pub no_color: bool,
}

impl Global {
    /// The flags that are settings.
    pub fn flags(&self) -> Flags {
        let mut flags = Flags::default();
        flags.set(Setting::Root, self.root.as_deref());
        flags.set(Setting::Server, self.server.as_deref());
        flags.set(Setting::Namespace, self.namespace.as_deref());
        flags.set(Setting::TokenFile, self.token_file.as_deref());
        flags
    }
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Serve a data folder over HTTP and RESP
    Serve(verbs::serve::ServeArgs),
    /// Store an object from a file or standard input
    Put(verbs::put::PutArgs),
    /// Write an object to standard output or a file
    Get(verbs::get::GetArgs),
    /// Write objects to standard output, one after the other
    Cat(verbs::get::CatArgs),
    /// List namespaces, keys and prefixes
    Ls(verbs::ls::LsArgs),
    /// Remove objects
    Rm(verbs::rm::RmArgs),
    /// Show what is known about objects
    Stat(verbs::stat::StatArgs),
    /// Copy files and folders to and from the store
    Cp(verbs::cp::CpArgs),
    /// Show figures of every backend of a server
    Stats,
    /// Show how every backend of a server does
    Health,
    /// Say what a server's figures advise
    Advise(verbs::advise::AdviseArgs),
    /// Show what is in use, and when it will be full; forecast any series of numbers
    Capacity(verbs::capacity::CapacityArgs),
    /// Show what storage and operations of a server cost
    Cost,
    /// Say where objects lie and go, and why
    #[command(subcommand)]
    Route(verbs::route::RouteVerb),
    /// List, restore and erase earlier versions of objects
    #[command(subcommand)]
    Versions(verbs::versions::VersionsVerb),
    /// Move objects between the backends of a server
    Migrate(verbs::migrate::MigrateArgs),
    /// Keep two places of a server level
    Sync(verbs::sync::SyncArgs),
    /// List replicated namespaces, and make their replicas alike
    #[command(subcommand)]
    Replicas(verbs::replicas::ReplicasVerb),
    /// List the rules about objects that grow old, and look to them
    #[command(subcommand)]
    Lifecycle(verbs::lifecycle::LifecycleVerb),
    /// Take, release and list locks on keys of a server
    #[command(subcommand)]
    Lock(verbs::lock::LockVerb),
    /// Make, list, verify, restore and prune backups
    #[command(subcommand)]
    Backup(verbs::backup::BackupVerb),
    /// Bring objects of a backup back, the same as `backup restore`
    Restore(verbs::backup::RestoreArgs),
    /// Check, mend and read the log in a folder
    #[command(subcommand)]
    Log(verbs::log::LogVerb),
    /// Measure throughput and latency
    Bench(verbs::bench::BenchArgs),
    /// Check this machine and the data folder
    Doctor,
    /// Show and check the configuration
    #[command(subcommand)]
    Config(verbs::config::ConfigVerb),
    /// Print the OpenAPI document of the HTTP API
    Openapi,
    /// Print a completion script for a shell
    Completions(verbs::documents::CompletionsArgs),
    /// Print the manual page
    Man(verbs::documents::ManArgs),
}
