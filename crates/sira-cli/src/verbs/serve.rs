//! `sira serve`: serve a data folder until a signal comes.

mod absent;
mod leaving;
mod opened;
mod storage;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Serialize;
use sira_server::telemetry::Settings;
use sira_server::{Secret, Server, ServerConfig, ServerError, Storage, Telemetry};
use sira_store::env::SystemEnv;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use storage::Plane;

use crate::config::watch::watch;
use crate::config::{Config, Flags, Setting};
use crate::failure::{Exit, Failure, Outcome};
use crate::output::Output;
use crate::target::{Access, open_engine};
use crate::units::{durability_text, parse_durability};

/// How long requests under way may take after the first signal.
const GRACE: Duration = Duration::from_secs(10);

/// How long to wait before a backend that could not be opened is tried again, at first.
const RECONNECT_MIN: Duration = Duration::from_millis(500);
/// The same after many times.
const RECONNECT_MAX: Duration = Duration::from_secs(15);

/// How long the last spans and metrics may take on their way out.
const FLUSH: Duration = Duration::from_secs(4);

/// Which log lines are written where `SIRA_LOG` does not say: not one for each request, and none
/// with the spans that it is in, which would cost every request.
const LOG_FILTER: &str = "info,sira::access=warn,sira::span=off";

/// Flags of `serve`. Each is also a setting of the environment and the file.
#[derive(Debug, Args)]
#[command(after_help = "\
The first SIGTERM or SIGINT turns /readyz to 503, lets requests under way finish for up to 10 s,
makes everything durable and exits with 0; a second one exits at once.
SIRA_LOG filters the log lines: `info` adds one for each HTTP request.
Spans and metrics are exported by OTLP where OTEL_EXPORTER_OTLP_ENDPOINT says where to.
The token comes from SIRA_TOKEN or --token-file, never from a flag that others could see.")]
pub struct ServeArgs {
    /// Address of the HTTP door; port 0 takes a free one [default: 127.0.0.1:9095] [env: SIRA_HTTP_ADDR]
    #[arg(long, value_name = "ADDR:PORT")]
    http_addr: Option<String>,
    /// Address of the RESP door; port 0 takes a free one [default: 127.0.0.1:9096] [env: SIRA_RESP_ADDR]
    #[arg(long, value_name = "ADDR:PORT")]
    resp_addr: Option<String>,
    /// When a write is answered that names no durability [default: sync] [env: SIRA_DURABILITY]
    #[arg(long, value_name = "sync|interval:MS|none")]
    durability: Option<String>,
    /// Most connections of each door [default: 20000] [env: SIRA_MAX_CONNECTIONS]
    #[arg(long, value_name = "COUNT")]
    max_connections: Option<String>,
    /// Form of the log lines on standard error [default: text] [env: SIRA_LOG_FORMAT]
    #[arg(long, value_name = "text|json")]
    log_format: Option<String>,
}

impl ServeArgs {
    /// Adds the flags to the settings.
    pub fn add_flags(&self, flags: &mut Flags) {
        flags.set(Setting::HttpAddr, self.http_addr.as_deref());
        flags.set(Setting::RespAddr, self.resp_addr.as_deref());
        flags.set(Setting::Durability, self.durability.as_deref());
        flags.set(Setting::MaxConnections, self.max_connections.as_deref());
        flags.set(Setting::LogFormat, self.log_format.as_deref());
    }
}

/// What `--json` prints when the server is ready.
#[derive(Serialize)]
struct Ready<'a> {
    event: &'static str,
    version: &'a str,
    pid: u32,
    root: String,
    http: String,
    resp: String,
    durability: String,
    token: bool,
}

/// What `--json` prints on the way out.
#[derive(Serialize)]
struct Leaving {
    event: &'static str,
}

/// Runs the verb.
///
/// # Errors
/// When the settings do not fit together, the folder cannot be opened or an address cannot be
/// bound.
pub fn run(config: &Config, output: Output) -> Outcome {
    let server_config = server_config(config)?;
    server_config.check().map_err(server_failure)?;
    let filter = std::env::var("SIRA_LOG").unwrap_or_else(|_| LOG_FILTER.to_owned());
    let telemetry = Settings::read(|name| std::env::var(name).ok())
        .map_err(|error| Failure::usage(error.to_string()))?;
    raise_open_files();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("sira-server")
        .build()
        .map_err(|error| Failure::io("cannot start threads", &error))?;
    let telemetry = Telemetry::start(&telemetry, Arc::new(SystemEnv), runtime.handle().clone())
        .map_err(|error| Failure::usage(error.to_string()))?;
    sira_server::logging::init(server_config.log_format, &filter, &telemetry);
    let result = runtime.block_on(serve(config, server_config, &telemetry, output));
    // After a second signal nothing is waited for.
    telemetry.shutdown(if result.is_ok() { FLUSH } else { Duration::ZERO });
    // Requests that outlived the grace period do not hold up the exit.
    runtime.shutdown_background();
    result
}

async fn serve(
    config: &Config,
    server_config: ServerConfig,
    telemetry: &Telemetry,
    output: Output,
) -> Outcome {
    let mut signals = Signals::new()?;
    let engine = open_engine(config, Access::Write)?;
    let durability = durability_text(server_config.durability);
    let token = server_config.token.is_some();
    let started = async {
        let storage = Storage::new(Arc::clone(&engine))?;
        let mut plane = Plane::new(storage.clone());
        plane.apply(config.storage()).await?;
        let server = Server::start(storage, server_config).await.map_err(server_failure)?;
        Ok::<_, Failure>((server, plane))
    };
    let (server, plane) = match started.await {
        Ok(started) => started,
        Err(failure) => {
            let _ = engine.close();
            return Err(failure);
        }
    };
    telemetry.export_metrics(server.metrics());
    let watched = match config.file() {
        Some(path) => Some(follow(path, plane)?),
        None => None,
    };
    let root = Path::new(config.text(Setting::Root));
    let ready = Ready {
        event: "ready",
        version: env!("CARGO_PKG_VERSION"),
        pid: std::process::id(),
        root: root.canonicalize().unwrap_or_else(|_| root.to_owned()).display().to_string(),
        http: format!("http://{}", server.http_addr()),
        resp: format!("redis://{}", server.resp_addr()),
        durability,
        token,
    };
    // A server whose output nobody reads serves all the same.
    let _ = output.done(&ready, || banner(&ready));

    tokio::select! {
        _ = signals.next() => {}
        () = server.shutdown_requested() => {}
    }
    if let Some(watched) = watched {
        watched.abort();
    }
    let _ = output.done(&Leaving { event: "draining" }, || {
        format!("draining for up to {} s; a second signal exits at once", GRACE.as_secs())
    });
    let drained = tokio::spawn(server.shutdown(GRACE));
    tokio::select! {
        exit = signals.next() => Err(Failure::other("stopped before everything was drained").exit(exit)),
        result = drained => {
            result
                .map_err(|_| Failure::fatal("the shutdown ended unexpectedly"))?
                .map_err(server_failure)?;
            let _ = output.done(&Leaving { event: "stopped" }, || "stopped; all data is durable".to_owned());
            Ok(())
        }
    }
}

/// Serves by what the configuration file becomes, when it changes and at SIGHUP. What is wrong is
/// refused whole, and told in the log.
fn follow(path: &Path, mut plane: Plane) -> Outcome<JoinHandle<()>> {
    let (changes, mut changed) = mpsc::unbounded_channel();
    let watch = watch(path.to_owned(), move |read| {
        // Only a server that stops no longer listens.
        let _ = changes.send(read);
    })
    .map_err(|error| Failure::io("cannot watch for SIGHUP", &error))?;
    let path = path.display().to_string();
    Ok(tokio::spawn(async move {
        let _watch = AbortOnDrop(watch);
        let mut rest = RECONNECT_MIN;
        loop {
            let read = tokio::select! {
                read = changed.recv() => match read {
                    Some(read) => read,
                    None => return,
                },
                () = tokio::time::sleep(rest), if plane.has_absent() => {
                    rest = (rest * 2).min(RECONNECT_MAX);
                    if let Err(error) = plane.reconnect().await {
                        tracing::error!(%error, "a backend that answers again cannot be served from");
                    }
                    continue;
                }
            };
            rest = RECONNECT_MIN;
            match read {
                Ok(config) => match plane.apply(&config).await {
                    Ok(()) => {
                        tracing::info!(file = %path, "the configuration of storage is applied")
                    }
                    Err(error) => {
                        tracing::error!(file = %path, %error, "the configuration is refused, the one before stays");
                    }
                },
                Err(wrong) => {
                    for failure in wrong {
                        tracing::error!(file = %path, error = %failure.message, "the configuration is refused, the one before stays");
                    }
                }
            }
        }
    }))
}

/// A task that ends with its owner.
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn server_config(config: &Config) -> Outcome<ServerConfig> {
    let address = |text: &str| text.parse().map_err(|_| "write ADDRESS:PORT".to_owned());
    Ok(ServerConfig {
        http_addr: config.parse(Setting::HttpAddr, address)?,
        resp_addr: config.parse(Setting::RespAddr, address)?,
        token: config.token()?.map(Secret::new),
        max_connections: config.parse(Setting::MaxConnections, |text| {
            text.parse().map_err(|_| "write a number".to_owned())
        })?,
        durability: config.parse(Setting::Durability, parse_durability)?,
        log_format: config.parse(Setting::LogFormat, |text| text.parse())?,
        ..ServerConfig::default()
    })
}

fn server_failure(error: ServerError) -> Failure {
    match error {
        ServerError::Exposed { .. } | ServerError::Config(_) => Failure::usage(error.to_string()),
        ServerError::Bind { ref source, .. } => {
            let exit = match source.kind() {
                std::io::ErrorKind::AddrInUse => Exit::Conflict,
                _ => Exit::Usage,
            };
            Failure::other(error.to_string()).exit(exit)
        }
        ServerError::Storage(error) => error.into(),
        error => Failure::other(error.to_string()),
    }
}

fn banner(ready: &Ready<'_>) -> String {
    let address = ready.resp.trim_start_matches("redis://");
    let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
    let host = host.trim_matches(['[', ']']);
    let (bearer, auth) = if ready.token {
        (" -H \"Authorization: Bearer $SIRA_TOKEN\"", " -a \"$SIRA_TOKEN\"")
    } else {
        ("", "")
    };
    let Ready { version, root, http, resp, durability, .. } = ready;
    let server =
        if http == "http://127.0.0.1:9095" { String::new() } else { format!(" --server {http}") };
    format!(
        "sira {version}\n\
         \n\
         data        {root}  (durability {durability})\n\
         HTTP        {http}\n\
         RESP        {resp}\n\
         \n\
         try\n\
         \x20 curl{bearer} -X PUT {http}/v1/default/greeting -d hello\n\
         \x20 curl{bearer} {http}/v1/default/greeting\n\
         \x20 redis-cli -h {host} -p {port}{auth} set greeting hello\n\
         \x20 echo hello | sira put greeting{server}\n\
         \x20 sira get greeting{server}\n"
    )
}

/// Connections take a file descriptor each; the soft limit of a login shell is 1,024.
pub fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        // Refused, the server runs with what it has; `sira doctor` says so.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    }
}

/// SIGINT and SIGTERM.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> Outcome<Self> {
        let watch =
            |kind| signal(kind).map_err(|error| Failure::io("cannot watch for signals", &error));
        Ok(Self {
            interrupt: watch(SignalKind::interrupt())?,
            terminate: watch(SignalKind::terminate())?,
        })
    }

    /// Waits for the next one and says which exit code stands for it.
    async fn next(&mut self) -> Exit {
        tokio::select! {
            _ = self.interrupt.recv() => Exit::Interrupted,
            _ = self.terminate.recv() => Exit::Terminated,
        }
    }
}
