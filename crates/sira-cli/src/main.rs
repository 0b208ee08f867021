//! The `sira` command.

mod backups;
mod cli;
mod config;
mod failure;
mod interrupt;
mod output;
mod path;
mod target;
mod units;
mod verbs;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Global, Verb};
use config::{Config, Flags};
use failure::{Exit, Outcome};
use output::Output;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let output = Output::new(cli.global.json, cli.global.quiet, cli.global.no_color);
    let exit = match run(cli, output) {
        Ok(()) => Exit::Ok,
        Err(failure) => {
            output.progress("");
            output.failure(&failure);
            failure.exit
        }
    };
    ExitCode::from(exit.code())
}

fn run(cli: Cli, output: Output) -> Outcome {
    let Cli { global, verb } = cli;
    if !matches!(verb, Verb::Serve(_)) {
        interrupt::install()?;
    }
    match verb {
        Verb::Serve(args) => {
            let mut flags = global.flags();
            args.add_flags(&mut flags);
            verbs::serve::run(&resolve(&global, &flags)?, output)
        }
        Verb::Put(args) => verbs::put::run(&settings(&global)?, output, args),
        Verb::Get(args) => verbs::get::run(&settings(&global)?, output, args),
        Verb::Cat(args) => verbs::get::run_cat(&settings(&global)?, output, args),
        Verb::Ls(args) => verbs::ls::run(&settings(&global)?, output, args),
        Verb::Rm(args) => verbs::rm::run(&settings(&global)?, output, args),
        Verb::Stats => verbs::stats::run(&settings(&global)?, output),
        Verb::Advise(args) => verbs::advise::run(&settings(&global)?, output, &args),
        Verb::Health => verbs::health::run(&settings(&global)?, output),
        Verb::Capacity(args) => verbs::capacity::run(&settings(&global)?, output, &args),
        Verb::Cost => verbs::cost::run(&settings(&global)?, output),
        Verb::Route(verb) => verbs::route::run(&settings(&global)?, output, verb),
        Verb::Migrate(args) => verbs::migrate::run(&settings(&global)?, output, args),
        Verb::Sync(args) => verbs::sync::run(&settings(&global)?, output, args),
        Verb::Replicas(verb) => verbs::replicas::run(&settings(&global)?, output, &verb),
        Verb::Lifecycle(verb) => verbs::lifecycle::run(&settings(&global)?, output, &verb),
        Verb::Versions(verb) => verbs::versions::run(&settings(&global)?, output, &verb),
        Verb::Lock(verb) => verbs::lock::run(&settings(&global)?, output, &verb),
        Verb::Backup(verb) => verbs::backup::run(&settings(&global)?, output, verb),
        Verb::Restore(args) => verbs::backup::restore(&settings(&global)?, output, args),
        Verb::Stat(args) => verbs::stat::run(&settings(&global)?, output, args),
        Verb::Cp(args) => verbs::cp::run(&settings(&global)?, output, args),
        Verb::Log(verb) => verbs::log::run(&settings(&global)?, output, verb),
        Verb::Bench(args) => verbs::bench::run(&settings(&global)?, output, args),
        Verb::Doctor => verbs::doctor::run(&settings(&global)?, output),
        Verb::Config(verb) => verbs::config::run(&global, output, verb),
        Verb::Openapi => verbs::documents::openapi(output),
        Verb::Completions(args) => verbs::documents::completions(output, args),
        Verb::Man(args) => verbs::documents::man(output, args),
    }
}

fn settings(global: &Global) -> Outcome<Config> {
    resolve(global, &global.flags())
}

fn resolve(global: &Global, flags: &Flags) -> Outcome<Config> {
    Config::resolve(flags, global.config.as_deref())
}
