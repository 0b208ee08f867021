//! What the server tells about itself, and what the store notes about its layout.

use redis::{Cmd, Value};
use sira_store::driver::Area;
use sira_store::{HealthStatus, Result, StorageError, StorageStats};

use super::error::Effect;
use super::layout::{CLUSTER_BUCKETS, FORMAT, Layout};
use super::link::Link;
use super::options::RedisOptions;
use super::reply;
use super::script::Request;

/// Notes format and buckets where nothing is noted yet, and answers the number of buckets.
pub(super) async fn describe(link: &Link, options: &RedisOptions) -> Result<u16> {
    let name = Layout::description(&options.prefix);
    let slot = slot_of(&name);
    let usual = if link.is_cluster() { CLUSTER_BUCKETS } else { 1 };
    let fields = [("format", FORMAT), ("buckets", u64::from(options.buckets.unwrap_or(usual)))];
    for (field, value) in fields {
        let request = Request::new("HSETNX", slot).arg(&name).arg(field).arg(value);
        link.run(&request, Effect::Write).await?;
    }
    let request = Request::new("HMGET", slot).arg(&name).arg("format").arg("buckets");
    let (format, buckets) = reply::pair(link.run(&request, Effect::Read).await?)?;
    let (format, buckets) = (number(&format, &name)?, number(&buckets, &name)?);
    if format > FORMAT {
        return Err(StorageError::unsupported(format!(
            "the store under prefix {:?} has layout {format}, and this version knows layouts up to \
             {FORMAT}: use the version that wrote it, or a newer one",
            options.prefix
        )));
    }
    let buckets = u16::try_from(buckets).unwrap_or(u16::MAX);
    match options.buckets {
        Some(wanted) if wanted != buckets => Err(StorageError::invalid_input(format!(
            "the store under prefix {:?} has {buckets} buckets, which cannot be changed to {wanted}: \
             leave the option out, or take another prefix",
            options.prefix
        ))),
        _ => Ok(buckets),
    }
}

fn number(bytes: &[u8], name: &str) -> Result<u64> {
    let text = std::str::from_utf8(bytes).ok();
    text.and_then(|text| text.parse().ok()).ok_or_else(|| {
        StorageError::corrupt(format!("the hash {name:?} on the Redis server is not this store's"))
    })
}

/// The hash slot of the store's description.
fn slot_of(name: &str) -> u16 {
    let tag = name.split_once('{').and_then(|(_, rest)| rest.split_once('}'));
    super::layout::slot(tag.map_or(name, |(tag, _)| tag).as_bytes())
}

/// Whether the server keeps its data across a restart, as far as it tells.
pub(super) async fn is_persistent(link: &Link) -> bool {
    let info = info(link, "persistence").await.unwrap_or_default();
    if !info.is_empty() && info.iter().all(|node| field(node, "aof_enabled") == Some("1")) {
        return true;
    }
    let mut cmd = redis::cmd("CONFIG");
    cmd.arg("GET").arg("save");
    let settings = link.run_everywhere(cmd).await.unwrap_or_default();
    !settings.is_empty()
        && settings
            .into_iter()
            .all(|setting| reply::pair(setting).is_ok_and(|(_, schedule)| !schedule.is_empty()))
}

/// What to tell of a server that drops objects when its memory is full.
async fn eviction_warning(link: &Link) -> Result<Option<String>> {
    let info = info(link, "memory").await?;
    Ok(info.iter().find_map(|node| {
        let policy = field(node, "maxmemory_policy").unwrap_or("noeviction");
        let limited = number_of(node, "maxmemory") > 0;
        (limited && policy != "noeviction").then(|| {
            format!(
                "Redis drops objects when its memory is full: its maxmemory-policy is {policy}; \
                 noeviction refuses writes instead"
            )
        })
    }))
}

pub(super) async fn health(link: &Link) -> HealthStatus {
    let ping = link.run_everywhere(redis::cmd("PING")).await;
    let answered = match ping {
        Ok(_) => eviction_warning(link).await,
        Err(error) => Err(error),
    };
    match answered {
        Ok(None) => HealthStatus::Healthy,
        Ok(Some(warning)) => HealthStatus::Warning(warning),
        // A user without the right to ask for more than data is fine.
        Err(StorageError::PermissionDenied(_)) => HealthStatus::Healthy,
        Err(error) => HealthStatus::Critical(error.to_string()),
    }
}

pub(super) async fn stats(link: &Link, layout: &Layout) -> Result<StorageStats> {
    let requests = layout
        .buckets()
        .iter()
        .map(|bucket| Request::new("ZCARD", bucket.slot()).arg(bucket.index(Area::Objects)));
    let mut stats = StorageStats::default();
    for answer in link.run_all(requests.collect(), Effect::Read).await {
        stats.keys += reply::count(answer?)?;
    }
    let mut limits = Vec::new();
    for node in info(link, "memory").await? {
        let used = number_of(&node, "used_memory");
        stats.used_bytes += used;
        let limit = number_of(&node, "maxmemory");
        limits.push((limit > 0).then(|| limit.saturating_sub(used)));
    }
    stats.available_bytes = limits.into_iter().sum();
    Ok(stats)
}

/// A section of INFO, of each node.
async fn info(link: &Link, section: &str) -> Result<Vec<String>> {
    let mut cmd: Cmd = redis::cmd("INFO");
    cmd.arg(section);
    let values = link.run_everywhere(cmd).await?.into_iter();
    let texts = values.map(|value| match value {
        Value::VerbatimString { text, .. } => Ok(text),
        value => reply::bytes(value).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
    });
    texts.collect()
}

fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim_end)
}

fn number_of(info: &str, name: &str) -> u64 {
    field(info, name).and_then(|text| text.parse().ok()).unwrap_or(0)
}
