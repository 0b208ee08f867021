//! `sira ls`: list namespaces, keys and prefixes.

use clap::Args;
use serde::Serialize;
use sira_store::{ListEntry, ListOptions};

use super::record::{ObjectRecord, modified};
use crate::config::{Config, Setting};
use crate::failure::Outcome;
use crate::output::{Output, printable};
use crate::path::{Location, SCHEME};
use crate::target::{self, Access, Target};
use crate::units::human_size;

/// Keys asked for at a time.
const PAGE: usize = 1_000;

/// Flags of `ls`.
#[derive(Debug, Args)]
pub struct LsArgs {
    /// Beginning of the keys: sira://NAMESPACE/PREFIX or PREFIX; nothing lists the namespaces
    prefix: Option<String>,
    /// List all keys below the prefix instead of folding at `/`
    #[arg(short, long)]
    recursive: bool,
    /// Show size, time and version also where the output is piped
    #[arg(short, long)]
    long: bool,
    /// Begin after this key
    #[arg(long, value_name = "KEY")]
    start_after: Option<String>,
    /// Stop after this many lines
    #[arg(long, value_name = "COUNT")]
    limit: Option<usize>,
}

#[derive(Serialize)]
struct NamespaceRecord<'a> {
    namespace: &'a str,
}

#[derive(Serialize)]
struct PrefixRecord<'a> {
    namespace: &'a str,
    prefix: &'a str,
}

/// Runs the verb.
///
/// # Errors
/// As the store's. A prefix without keys lists nothing and is no error.
pub fn run(config: &Config, output: Output, args: LsArgs) -> Outcome {
    let target = target::open(config, Access::Read)?;
    match args.prefix.as_deref() {
        None | Some(SCHEME) => namespaces(&*target, output, &args)?,
        Some(prefix) => {
            let at = Location::parse_prefix(prefix, config.text(Setting::Namespace))?;
            keys(&*target, output, &args, &at)?;
        }
    }
    target.close()?;
    Ok(())
}

fn namespaces(target: &dyn Target, output: Output, args: &LsArgs) -> Outcome {
    let names = target.namespaces()?;
    let after = args.start_after.as_deref().unwrap_or_default();
    let left = names.iter().filter(|name| name.as_str() > after);
    for name in left.take(args.limit.unwrap_or(usize::MAX)) {
        output.result(&NamespaceRecord { namespace: name }, || {
            format!("{SCHEME}{}/", printable(name))
        })?;
    }
    Ok(())
}

fn keys(target: &dyn Target, output: Output, args: &LsArgs, at: &Location) -> Outcome {
    let mut left = args.limit.unwrap_or(usize::MAX);
    if left == 0 {
        return Ok(());
    }
    let long = args.long || output.terminal();
    let options = ListOptions {
        prefix: at.key.clone(),
        start_after: args.start_after.clone(),
        delimiter: (!args.recursive).then(|| "/".to_owned()),
        limit: left.min(PAGE),
    };
    target::each_page(target, &at.namespace, options, long, |page| {
        // Both lists are in byte order; together they are shown in it too.
        let mut prefixes = page.common_prefixes.iter().peekable();
        let mut entries = page.entries.iter().peekable();
        while left > 0 {
            let prefix_first = match (prefixes.peek(), entries.peek()) {
                (Some(prefix), Some(entry)) => **prefix < entry.key,
                (Some(_), None) => true,
                (None, Some(_)) => false,
                (None, None) => break,
            };
            left -= 1;
            if prefix_first {
                let Some(prefix) = prefixes.next() else { break };
                let record = PrefixRecord { namespace: &at.namespace, prefix };
                output.result(&record, || prefix_line(prefix, long))?;
            } else {
                let Some(entry) = entries.next() else { break };
                let record = ObjectRecord::of_entry(&at.namespace, entry);
                output.result(&record, || entry_line(entry, long, output.terminal()))?;
            }
        }
        Ok(left > 0)
    })
}

fn prefix_line(prefix: &str, long: bool) -> String {
    let name = printable(prefix);
    if long { format!("{:>24}  {:>10}  {:16}  {name}", "", "prefix", "") } else { name }
}

fn entry_line(entry: &ListEntry, long: bool, human: bool) -> String {
    let name = printable(&entry.key);
    if !long {
        return name;
    }
    let size = if human { human_size(entry.size) } else { entry.size.to_string() };
    let (time, version) = match entry.version {
        Some(version) => (modified(version), version.to_string()),
        None => ("-".to_owned(), "-".to_owned()),
    };
    format!("{time:>24}  {size:>10}  {version:16}  {name}")
}
