//! `COMMAND`: which commands there are.

use super::super::glob;
use super::super::output::Output;
use super::super::table::{self, Command, flag};
use super::{Call, Failure, Outcome};

fn describe(out: &mut Output, command: &Command) {
    let (first, last, step) = command.keys;
    out.array(10);
    out.text(command.name);
    out.int(i64::from(command.arity));
    let flags = || flag::NAMES.iter().filter(|(bit, _)| command.has(*bit));
    out.set(flags().count());
    for (_, name) in flags() {
        out.simple(name);
    }
    for number in [first, last, step] {
        out.int(i64::from(number));
    }
    let categories = || command.categories.split(',').filter(|name| !name.is_empty());
    out.set(categories().count());
    for category in categories() {
        out.simple(category);
    }
    out.array(0);
    out.array(0);
    let children = || table::subcommands(command.name);
    out.array(children().count());
    for child in children() {
        describe(out, child);
    }
}

/// A command by its name, subcommands as `container|name`.
fn named(name: &[u8]) -> Option<&'static Command> {
    table::find(name).map(|(_, command)| command)
}

pub(in super::super) fn command(call: &mut Call<'_, '_>) -> Outcome {
    if call.args.len() > 1 {
        return Err(super::unknown_subcommand(call.command, call.arg(1)));
    }
    call.out.array(table::top_level().count());
    for command in table::top_level() {
        describe(call.out, command);
    }
    Ok(())
}

pub(in super::super) fn command_info(call: &mut Call<'_, '_>) -> Outcome {
    if call.args.len() == 2 {
        call.out.array(table::top_level().count());
        for command in table::top_level() {
            describe(call.out, command);
        }
        return Ok(());
    }
    call.out.array(call.args.len() - 2);
    for name in call.args.from(2) {
        match named(name) {
            Some(command) => describe(call.out, command),
            None => call.out.null(),
        }
    }
    Ok(())
}

pub(in super::super) fn command_count(call: &mut Call<'_, '_>) -> Outcome {
    call.out.len(table::top_level().count());
    Ok(())
}

pub(in super::super) fn command_list(call: &mut Call<'_, '_>) -> Outcome {
    let mut names: Vec<&Command> = table::top_level().collect();
    if call.args.len() == 5 && call.is(2, "FILTERBY") {
        let wanted = call.arg(4);
        if call.is(3, "PATTERN") {
            names.retain(|command| glob::matches(wanted, command.name.as_bytes(), true));
        } else if call.is(3, "ACLCAT") {
            let wanted = [b"@", wanted].concat().to_ascii_lowercase();
            names.retain(|command| {
                command.categories.split(',').any(|name| name.as_bytes() == wanted)
            });
        } else if call.is(3, "MODULE") {
            names.clear();
        } else {
            return Err(Failure::SYNTAX);
        }
    } else if call.args.len() != 2 {
        return Err(Failure::SYNTAX);
    }
    call.out.set(names.len());
    for command in names {
        call.out.text(command.name);
    }
    Ok(())
}

fn document(out: &mut Output, command: &Command) {
    out.text(command.name);
    let children = || table::subcommands(command.name);
    out.map(3 + usize::from(children().next().is_some()));
    for (label, text) in
        [("summary", command.summary), ("since", command.since), ("group", command.group)]
    {
        out.text(label);
        out.text(text);
    }
    if children().next().is_some() {
        out.text("subcommands");
        out.map(children().count());
        for child in children() {
            document(out, child);
        }
    }
}

pub(in super::super) fn command_docs(call: &mut Call<'_, '_>) -> Outcome {
    let commands: Vec<&Command> = if call.args.len() == 2 {
        table::top_level().collect()
    } else {
        call.args.from(2).filter_map(named).collect()
    };
    call.out.map(commands.len());
    for command in commands {
        document(call.out, command);
    }
    Ok(())
}

/// The command that the arguments from the third on are a request of, and its keys' positions
/// among all arguments.
fn keys_of(call: &Call<'_, '_>) -> Result<(&'static Command, Vec<usize>), Failure> {
    let invalid = || Failure::fixed("ERR Invalid command specified");
    let mut command = named(call.arg(2)).ok_or_else(invalid)?;
    if command.has(flag::CONTAINER)
        && let Some((_, child)) = table::find_subcommand(command, call.arg(3))
    {
        command = child;
    }
    let arguments = call.args.len() - 2;
    if command.keys.0 == 0 {
        return Err(Failure::fixed("ERR The command has no key arguments"));
    }
    if !command.takes(arguments) {
        return Err(Failure::fixed("ERR Invalid number of arguments specified for command"));
    }
    Ok((command, command.key_positions(arguments).map(|index| index + 2).collect()))
}

pub(in super::super) fn command_getkeys(call: &mut Call<'_, '_>) -> Outcome {
    let (_, keys) = keys_of(call)?;
    call.out.array(keys.len());
    for index in keys {
        call.out.bulk(call.args.get(index));
    }
    Ok(())
}

pub(in super::super) fn command_getkeysandflags(call: &mut Call<'_, '_>) -> Outcome {
    let (command, keys) = keys_of(call)?;
    let flags: &[&str] =
        if command.has(flag::WRITE) { &["RW", "ACCESS", "UPDATE"] } else { &["RO", "ACCESS"] };
    call.out.array(keys.len());
    for index in keys {
        call.out.array(2);
        call.out.bulk(call.args.get(index));
        call.out.set(flags.len());
        for name in flags {
            call.out.simple(name);
        }
    }
    Ok(())
}

pub(in super::super) fn command_help(call: &mut Call<'_, '_>) -> Outcome {
    call.help(
        "COMMAND",
        &[
            "(no subcommand), INFO [<name> ...]",
            "    Arity, flags, keys and categories.",
            "COUNT, LIST [FILTERBY (PATTERN|ACLCAT|MODULE) <value>]",
            "    How many commands there are, and their names.",
            "DOCS [<name> ...]",
            "    What commands do.",
            "GETKEYS <command>, GETKEYSANDFLAGS <command>",
            "    Which arguments of a request are keys.",
        ],
    )
}
