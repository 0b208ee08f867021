//! The checks.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use sira_backends::config::{BackendKind, open};
use sira_log::env::{Env, SystemEnv};
use sira_store::HealthStatus;
use sira_store::embedded::EngineOptions;

use super::{Finding, Verdict};
use crate::config::{Config, Setting};
use crate::target::{Access, holds_store, open_engine};
use crate::units::{human_duration, human_size, timestamp};

/// Every check, in the order in which they are shown.
pub const ALL: &[fn(&Config) -> Finding] =
    &[open_files, clock, folder, disk_space, fsync, http_port, resp_port, token, data, backends];

/// Open files beside the connections: segments, checkpoints, the log.
const FILES_BESIDE_CONNECTIONS: u64 = 1_000;
/// When this program was written; a clock before it is wrong.
const CLOCK_MS_MIN: u64 = 1_760_000_000_000;
/// Writes that measure the time of an fsync.
const FSYNC_ROUNDS: usize = 16;
/// Longest wait for a backend.
const BACKEND_TIMEOUT: Duration = Duration::from_secs(10);
/// An fsync above this makes durable writes slow.
const FSYNC_SLOW: Duration = Duration::from_millis(20);

fn open_files(config: &Config) -> Finding {
    const NAME: &str = "open files";
    let wanted = config.text(Setting::MaxConnections).parse::<u64>().unwrap_or_default() * 2
        + FILES_BESIDE_CONNECTIONS;
    // `serve` raises the soft limit to the hard one itself.
    match getrlimit(Resource::Nofile).maximum {
        None => Finding::new(NAME, Verdict::Ok, "no limit"),
        Some(limit) if limit >= wanted => {
            Finding::new(NAME, Verdict::Ok, format!("up to {limit}, {wanted} are needed"))
        }
        Some(limit) => Finding::new(
            NAME,
            Verdict::Warning,
            format!("up to {limit}; both doors at --max-connections take {wanted}"),
        )
        .mend(format!("ulimit -Hn {wanted} as root, LimitNOFILE={wanted} in the unit file, or a smaller --max-connections")),
    }
}

/// Opens every backend of the configuration, and asks how it does.
fn backends(config: &Config) -> Finding {
    const NAME: &str = "backends";
    let configured = &config.storage().backends;
    if configured.is_empty() {
        let compiled: Vec<_> = BackendKind::compiled().map(BackendKind::name).collect();
        let found = format!("none configured; this program has {}", compiled.join(", "));
        return Finding::new(NAME, Verdict::Ok, found);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let Ok(runtime) = runtime else {
        return Finding::new(NAME, Verdict::Error, "cannot start a runtime to ask them");
    };
    let (mut well, mut ill) = (Vec::new(), Vec::new());
    for (name, settings) in configured {
        let asked = runtime.block_on(async {
            tokio::time::timeout(BACKEND_TIMEOUT, async {
                match open(name, settings).await {
                    Ok(backend) => backend.health_check().await,
                    Err(error) => HealthStatus::Critical(error.to_string()),
                }
            })
            .await
        });
        match asked {
            Ok(HealthStatus::Healthy) => well.push(name.clone()),
            Ok(HealthStatus::Warning(why) | HealthStatus::Critical(why)) => {
                ill.push(format!("{name}: {why}"));
            }
            Err(_) => ill.push(format!("{name}: no answer within {BACKEND_TIMEOUT:?}")),
        }
    }
    // What was opened ends on the runtime that it was opened on.
    runtime.shutdown_background();
    if ill.is_empty() {
        return Finding::new(NAME, Verdict::Ok, format!("{} answer", well.join(", ")));
    }
    Finding::new(NAME, Verdict::Error, ill.join("; "))
        .mend("start the engine, or mend its section [storage.backends.NAME]")
}

fn clock(_: &Config) -> Finding {
    let now = SystemEnv.now_ms();
    let shown = timestamp(now);
    if now < CLOCK_MS_MIN {
        return Finding::new("clock", Verdict::Error, format!("{shown} cannot be right"))
            .mend("timedatectl set-ntp true");
    }
    Finding::new("clock", Verdict::Ok, shown)
}

fn folder(config: &Config) -> Finding {
    const NAME: &str = "data folder";
    let root = Path::new(config.text(Setting::Root));
    let shown = root.display();
    match fs::metadata(root) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let parent = existing_parent(root);
            match probe(&parent) {
                Ok(_) => Finding::new(NAME, Verdict::Ok, format!("{shown} will be made")),
                Err(error) => {
                    let parent = parent.display();
                    Finding::new(NAME, Verdict::Error, format!("{shown} cannot be made: {error}"))
                        .mend(format!("sudo chown $(id -un) {parent}, or choose another --root"))
                }
            }
        }
        Err(error) => Finding::new(NAME, Verdict::Error, format!("{shown}: {error}"))
            .mend("choose another --root"),
        Ok(metadata) if !metadata.is_dir() => {
            Finding::new(NAME, Verdict::Error, format!("{shown} is no folder"))
                .mend("choose another --root")
        }
        Ok(_) => match probe(root) {
            Ok(_) => Finding::new(NAME, Verdict::Ok, format!("{shown} can be written")),
            Err(error) => {
                Finding::new(NAME, Verdict::Error, format!("{shown} cannot be written: {error}"))
                    .mend(format!("sudo chown -R $(id -un) {shown}, or choose another --root"))
            }
        },
    }
}

fn disk_space(config: &Config) -> Finding {
    const NAME: &str = "disk space";
    let at = existing_parent(Path::new(config.text(Setting::Root)));
    let stat = match rustix::fs::statvfs(&at) {
        Ok(stat) => stat,
        Err(error) => {
            return Finding::new(NAME, Verdict::Warning, format!("{}: {error}", at.display()));
        }
    };
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    // A segment is written in full before the old ones can be reclaimed.
    let needed = EngineOptions::default().segment_bytes.saturating_mul(2);
    let found = format!("{} free at {}", human_size(free), at.display());
    let finding = |verdict| Finding::new(NAME, verdict, found.clone());
    if free < needed {
        finding(Verdict::Error)
            .mend(format!("free at least {}, or choose another --root", human_size(needed)))
    } else if stat.f_files > 0 && stat.f_favail < 1_000 {
        Finding::new(NAME, Verdict::Error, format!("{} inodes left", stat.f_favail))
            .mend(format!("df -i {}; remove small files", at.display()))
    } else if free < needed.saturating_mul(8) {
        finding(Verdict::Warning).mend(format!("du -xh --max-depth=2 {} | sort -h", at.display()))
    } else {
        finding(Verdict::Ok)
    }
}

fn fsync(config: &Config) -> Finding {
    const NAME: &str = "fsync";
    let at = existing_parent(Path::new(config.text(Setting::Root)));
    match probe(&at) {
        Ok(median) if median > FSYNC_SLOW => Finding::new(
            NAME,
            Verdict::Warning,
            format!("median {} at {}", human_duration(median), at.display()),
        )
        .mend("put --root on a local SSD, or accept --durability interval:100"),
        Ok(median) => Finding::new(
            NAME,
            Verdict::Ok,
            format!("median {} at {}", human_duration(median), at.display()),
        ),
        Err(error) => Finding::new(NAME, Verdict::Error, format!("{}: {error}", at.display()))
            .mend("choose another --root"),
    }
}

fn http_port(config: &Config) -> Finding {
    port(config, Setting::HttpAddr, "HTTP port")
}

fn resp_port(config: &Config) -> Finding {
    port(config, Setting::RespAddr, "RESP port")
}

fn port(config: &Config, setting: Setting, name: &'static str) -> Finding {
    let text = config.text(setting);
    let Ok(address) = text.parse::<SocketAddr>() else {
        return Finding::new(name, Verdict::Error, format!("{text} is no address"));
    };
    let flag = setting.spec().flag;
    match TcpListener::bind(address) {
        Ok(_) => Finding::new(name, Verdict::Ok, format!("{address} is free")),
        Err(error) if error.kind() == ErrorKind::AddrInUse => Finding::new(
            name,
            Verdict::Warning,
            format!("{address} is taken (by a running server, perhaps)"),
        )
        .mend(format!("ss -ltnp 'sport = :{}', or choose another {flag}", address.port())),
        Err(error) => Finding::new(name, Verdict::Error, format!("{address}: {error}"))
            .mend(format!("choose another {flag}")),
    }
}

fn token(config: &Config) -> Finding {
    const NAME: &str = "token";
    let beyond = [Setting::HttpAddr, Setting::RespAddr].iter().any(|setting| {
        let address = config.text(*setting).parse::<SocketAddr>();
        address.is_ok_and(|address| !address.ip().to_canonical().is_loopback())
    });
    match config.token() {
        Err(failure) => Finding::new(NAME, Verdict::Error, failure.message)
            .mend(failure.hint.unwrap_or_else(|| "check --token-file".to_owned())),
        Ok(None) if beyond => Finding::new(
            NAME,
            Verdict::Error,
            "an address beyond loopback is configured without a token",
        )
        .mend("export SIRA_TOKEN=$(openssl rand -hex 32)"),
        Ok(None) => Finding::new(NAME, Verdict::Ok, "none, only this machine is served"),
        Ok(Some(token)) if token.len() < 16 => {
            Finding::new(NAME, Verdict::Warning, format!("only {} characters long", token.len()))
                .mend("export SIRA_TOKEN=$(openssl rand -hex 32)")
        }
        Ok(Some(_)) => Finding::new(NAME, Verdict::Ok, "set"),
    }
}

fn data(config: &Config) -> Finding {
    const NAME: &str = "data";
    let root = Path::new(config.text(Setting::Root));
    if !root.is_dir() {
        return Finding::new(NAME, Verdict::Ok, "nothing stored yet");
    }
    if !holds_store(root) {
        let found = format!("{} holds something else than a store", root.display());
        return Finding::new(NAME, Verdict::Warning, found)
            .mend("choose a --root of its own, so that the files do not mix");
    }
    let engine = match open_engine(config, Access::Read) {
        Ok(engine) => engine,
        Err(failure) if failure.code == "locked" => {
            return Finding::new(NAME, Verdict::Ok, format!("in use: {}", failure.message));
        }
        Err(failure) => {
            return Finding::new(NAME, Verdict::Error, failure.message).mend(
                failure
                    .hint
                    .unwrap_or_else(|| format!("sira log verify --root {}", root.display())),
            );
        }
    };
    let stats = engine.stats();
    let found = format!(
        "{} keys, {} live, {} to reclaim, {} segments, index {}",
        stats.keys,
        human_size(stats.live_bytes),
        human_size(stats.dead_bytes),
        stats.segments,
        human_size(stats.index_bytes)
    );
    let writable = engine.check_writable();
    match (writable, engine.close()) {
        (Ok(()), Ok(())) => Finding::new(NAME, Verdict::Ok, found),
        (Err(error), _) | (_, Err(error)) => Finding::new(NAME, Verdict::Error, error.to_string())
            .mend(format!("sira log verify --root {}", root.display())),
    }
}

/// The folder itself, or the nearest one above it that is there.
fn existing_parent(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    absolute.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("/")).to_owned()
}

/// Writes and syncs a small file a few times, removes it, and gives the median time of a sync.
fn probe(folder: &Path) -> std::io::Result<Duration> {
    let path = folder.join(format!(".sira-doctor-{:016x}", SystemEnv.random_u64()));
    let mut file = OpenOptions::new().write(true).create_new(true).open(&path)?;
    let mut rounds = Vec::with_capacity(FSYNC_ROUNDS);
    let mut measure = || {
        for _ in 0..FSYNC_ROUNDS {
            file.write_all(&[0; 4096])?;
            let start = SystemEnv.monotonic();
            file.sync_data()?;
            rounds.push(SystemEnv.monotonic().saturating_sub(start));
        }
        Ok(())
    };
    let result: std::io::Result<()> = measure();
    fs::remove_file(&path)?;
    result?;
    rounds.sort_unstable();
    Ok(rounds.get(FSYNC_ROUNDS / 2).copied().unwrap_or_default())
}
