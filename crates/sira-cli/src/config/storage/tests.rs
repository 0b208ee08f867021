mod lifecycle;
mod versions;

use std::time::Duration;

use sira_server::health::HealthSettings;
use sira_server::monitoring::AlertOptions;
use sira_server::notify::{NotifyKind, NotifyTarget, SecretSource};
use sira_store::cache::EvictionPolicy;
use sira_store::env::SystemEnv;
use sira_store::health::HealthState;
use sira_store::placement::{Acknowledge, Consistency};
use sira_store::router::DataPattern;
use sira_store::{Durability, StorageOptions};
use toml::de::DeTable as Table;

use super::routing::Strategy;
use super::*;

fn parse(text: &str) -> Read {
    let mut table = Table::parse(text).unwrap().into_inner();
    let sections = SECTIONS.map(|name| take(&mut table, name));
    assert!(table.is_empty(), "{text}");
    read(Path::new("c.toml"), text, sections)
}

pub(super) fn right(text: &str) -> StorageConfig {
    let read = parse(text);
    assert_eq!(read.wrong, [], "{text}");
    read.config
}

/// What is wrong: messages without the file's name, and hints.
pub(super) fn wrong(text: &str) -> Vec<(String, String)> {
    let told = |failure: Failure| {
        let message = failure.message.strip_prefix("c.toml:").unwrap().to_owned();
        (message, failure.hint.unwrap_or_default())
    };
    parse(text).wrong.into_iter().map(told).collect()
}

/// The one thing that is wrong.
pub(super) fn one(text: &str) -> (String, String) {
    let mut wrong = wrong(text);
    assert_eq!(wrong.len(), 1, "{wrong:?}");
    wrong.remove(0)
}

#[test]
fn nothing_is_the_embedded_engine() {
    assert_eq!(right(""), StorageConfig::default());
    assert_eq!(right("[storage]\n[namespaces]"), StorageConfig::default());
    assert_eq!(
        right("[storage.monitoring]\n[storage.backends.embedded]").default_backend,
        EMBEDDED
    );
}

#[test]
fn backups_have_a_target_and_times() {
    let text = "[storage.backup]\ntarget = \"/b\"\nschedule = \"0 3 * * *\"\n\
                time_zone = \"Asia/Tokyo\"\narchive_interval = \"0s\"\nexclude = [\"x*\"]\n\
                [storage.backup.retention]\ndaily = 7";
    let backup = right(text).backup.unwrap();
    assert_eq!((backup.target.as_str(), backup.archive_interval), ("/b", None));
    assert!(!backup.namespaces.has("xy") && backup.namespaces.has("y"));
    assert_eq!(backup.retention.unwrap().daily, 7);
    // Three in the morning in Tokyo is 18:00 UTC.
    assert_eq!(backup.schedule.unwrap().after(0), Some(18 * 3_600_000));
    for (text, message) in [
        ("[storage.backup]\nschedule = \"0 3 * * *\"", "1:10: storage.backup has no target"),
        ("[storage.backup]\ntarget = \"/b\"\nschedule = \"at night\"", "3:12: storage.backup"),
        ("[storage.backup]\ntarget = \"/b\"\ntime_zone = \"Mars\"", "3:13: storage.backup"),
        ("[storage.backup]\ntarget = \"/b\"\nencryption = \"aes256_gcm\"", "3:14: there are no"),
        ("[storage.backup]\ntarget = \"/b\"\narchive_interval = \"1ms\"", "3:20: storage.backup"),
        ("[storage.backup]\ntarget = \"/b\"\nverify_percent = 101", "3:18: storage.backup"),
    ] {
        let (told, _) = one(text);
        assert!(told.starts_with(message), "{told}");
    }
}

#[test]
fn monitoring_has_bounds() {
    let only = right("[storage.monitoring.alerts]\nerror_percent = 0.5").monitoring;
    assert_eq!(only.alerts.error_percent, Some(0.5));
    assert_eq!((only.slow_operation, only.interval), (None, Duration::from_secs(30)));
    for (text, message) in [
        (
            "[storage.monitoring]\ninterval = \"10ms\"",
            "2:12: storage.monitoring.interval is at least 1s",
        ),
        (
            "[storage]\nmaintenance_interval = \"10ms\"",
            "2:24: storage.maintenance_interval is at least 1s, or 0s for never",
        ),
        (
            "[storage.monitoring.alerts]\nstorage_full_percent = 101",
            "2:24: storage.monitoring.alerts.storage_full_percent is from 0 to 100",
        ),
        (
            "[storage.monitoring.alerts]\nerror_percent = -1",
            "2:17: storage.monitoring.alerts.error_percent is from 0 to 100",
        ),
    ] {
        assert_eq!(one(text).0, message);
    }
    let (message, hint) = one("[storage.monitoring.alerts]\nlatency_p95 = \"1s\"");
    assert_eq!(message, "2:1: unknown setting \"storage.monitoring.alerts.latency_p95\"");
    assert_eq!(hint, "storage.monitoring.alerts.latency_p99");
}

#[test]
fn the_sections_of_the_example_are_right() {
    let uncommented = |line: &str| match line.strip_prefix('#') {
        Some(setting) if !setting.is_empty() && !setting.starts_with(' ') => format!("{setting}\n"),
        _ => String::new(),
    };
    let example: String = crate::config::render_example().lines().map(uncommented).collect();
    // One of the two is enough.
    let (at, _) = example.match_indices("[storage]").next().unwrap();
    let text = example[at..].replace("keyring_env = \"SIRA_KEYS\"\n", "");
    let config = right(&text);
    assert_eq!(config.default_backend, EMBEDDED);
    assert_eq!(config.keyring, Some(KeyringSource::File("/run/secrets/sira-keys".into())));
    let kinds: Vec<_> = config.backends.iter().map(|(name, of)| (&**name, of.kind())).collect();
    assert_eq!(
        kinds,
        [
            ("archive", BackendKind::S3),
            ("postgres", BackendKind::Postgres),
            ("redis-hot", BackendKind::Redis)
        ]
    );
    let monitoring = MonitoringOptions {
        slow_operation: Some(Duration::from_millis(250)),
        interval: Duration::from_secs(30),
        alerts: AlertOptions {
            latency_p99: Some(Duration::from_millis(50)),
            storage_full_percent: Some(90.0),
            error_percent: Some(1.0),
        },
    };
    assert_eq!(config.monitoring, monitoring);
    // The example shows the defaults of the bounds.
    let health = HealthSettings {
        scrub_every: Some(sira_server::health::SCRUB_EVERY),
        run_book: Some(sira_server::health::RUN_BOOK.to_owned()),
        ..HealthSettings::default()
    };
    assert_eq!(config.health, health);
    let hook = NotifyTarget {
        kind: NotifyKind::Webhook,
        url: "https://hooks.example.org/sira".to_owned(),
        secret: Some(SecretSource::Env("SIRA_WEBHOOK_SECRET".to_owned())),
        severity: HealthState::Warning,
    };
    assert_eq!(config.notify, [hook]);
    assert_eq!(config.maintenance_interval, Duration::from_secs(3600));
    assert_eq!(config.compression, CompressionType::Auto);
    assert_eq!(config.compression_level, Some(3));
    assert_eq!(config.encryption, EncryptionType::Aes256Gcm { key_id: "2026-11".to_owned() });
    let routing = &config.routing;
    assert_eq!(routing.strategy, Strategy::Patterns);
    assert_eq!(routing.rebalance_interval, Some(Duration::from_secs(60)));
    let data = DataPattern {
        fallback_backends: vec!["postgres".to_owned()],
        mirror_backends: vec!["archive".to_owned()],
        shadow_backend: Some("postgres".to_owned()),
        shadow_part: Some(0.1),
        ..DataPattern::to("redis-hot")
    };
    assert_eq!(routing.patterns, [("cache:*".to_owned(), data)]);
    assert_eq!(routing.rules[0].backends, ["archive"]);
    assert_eq!(routing.region.as_deref(), Some("eu-west-1"));
    assert_eq!(routing.compositions.len(), 4);
    let profile = &routing.profiles["archive"];
    assert_eq!(profile.region.as_deref(), Some("eu-west-1"));
    assert!((profile.prices.storage_gb_month - 0.023).abs() < 1e-9);
    assert_eq!(routing.sla.latency_p99, Some(Duration::from_millis(50)));
    let sessions = &config.namespaces["sessions"];
    assert_eq!(sessions.backends, ["redis-hot"]);
    assert_eq!(sessions.compression, Some(CompressionType::Zstd));
    assert_eq!(sessions.ttl, Some(Duration::from_secs(3600)));
    assert_eq!(sessions.durability, Some(Durability::Sync));
    let cache = sessions.cache.as_ref().unwrap();
    let cache = &cache.policy;
    assert_eq!((cache.eviction, cache.memory_bytes), (EvictionPolicy::S3Fifo, Some(64 << 20)));
    assert!(config.namespaces["exports"].direct && !config.namespaces["exports"].plain);
    assert!(config.namespaces["reports"].direct && config.namespaces["reports"].plain);
}

#[test]
fn every_level_knows_the_nearest_name() {
    for (text, place, near) in [
        (
            "[storage]\ndefault_backnd = 1",
            "2:1: unknown setting \"storage.default_backnd\"",
            "storage.default_backend",
        ),
        (
            "[storage.backend.redis]\nhost = 1",
            "1:10: unknown setting \"storage.backend\"",
            "storage.backends",
        ),
        (
            "[storage.backends.redis]\nhost = \"a\"\npool_sze = 1",
            "3:1: unknown setting \"storage.backends.redis.pool_sze\"",
            "storage.backends.redis.pool_size",
        ),
        (
            "[storage.routing]\nstratgy = 1",
            "2:1: unknown setting \"storage.routing.stratgy\"",
            "storage.routing.strategy",
        ),
        (
            "[storage.routing.paterns]",
            "1:18: unknown setting \"storage.routing.paterns\"",
            "storage.routing.patterns",
        ),
        (
            "[[storage.routing.rules]]\nwhen = \"true\"\nbackend = \"embedded\"\nbackends = [\"embedded\"]",
            "3:1: unknown setting \"storage.routing.rules.backend\"",
            "storage.routing.rules.backends",
        ),
        (
            "[storage.routing.prices.embedded]\nread_per_100 = 1.0",
            "2:1: unknown setting \"storage.routing.prices.embedded.read_per_100\"",
            "storage.routing.prices.embedded.read_per_1000",
        ),
        (
            "[storage.compression]\nlevl = 1",
            "2:1: unknown setting \"storage.compression.levl\"",
            "storage.compression.level",
        ),
        (
            "[storage.monitoring]\nxyzzy = 1",
            "2:1: unknown setting \"storage.monitoring.xyzzy\"",
            "sira config example",
        ),
        (
            "[namespaces.a]\nttll = 1",
            "2:1: unknown setting \"namespaces.a.ttll\"",
            "namespaces.a.ttl",
        ),
        (
            "[namespaces.a.cach]",
            "1:15: unknown setting \"namespaces.a.cach\"",
            "namespaces.a.cache",
        ),
        (
            "[namespaces.a.cache]\npolcy = 1",
            "2:1: unknown setting \"namespaces.a.cache.polcy\"",
            "namespaces.a.cache.policy",
        ),
    ] {
        assert_eq!(one(text), (place.to_owned(), near.to_owned()), "{text}");
    }
}

#[test]
fn every_wrong_value_is_told_at_its_place() {
    let text = "\
[storage.backends.redis]
host = 5
port = \"x\"
connect_timeout = \"5\"

[storage.routing]
strategy = \"fastest\"
rebalance_interval = 60

[storage.compression]
type = \"zip\"

[namespaces.a]
ttl = \"soon\"
durability = \"maybe\"
cache.policy = \"mru\"
";
    let wrong = wrong(text);
    let begins = [
        "2:8: storage.backends.redis.host: invalid type: integer `5`, expected a string",
        "3:8: storage.backends.redis.port: invalid type: string \"x\", expected u16",
        "4:19: storage.backends.redis.connect_timeout: invalid value: string \"5\", expected a duration",
        "7:12: there is no strategy \"fastest\"",
        "8:22: storage.routing.rebalance_interval: invalid type: integer `60`, expected a duration",
        "11:8: storage.compression.type: unknown variant `zip`",
        "14:7: namespaces.a.ttl: invalid value: string \"soon\", expected a duration",
        "15:14: namespaces.a.durability: write sync, interval:MS",
        "16:16: namespaces.a.cache.policy: unknown variant `mru`, expected one of `s3_fifo`",
    ];
    assert_eq!(wrong.len(), begins.len(), "{wrong:#?}");
    for ((message, _), begin) in wrong.iter().zip(begins) {
        assert!(message.starts_with(begin), "{message} | {begin}");
    }
}

#[test]
fn sections_are_sections() {
    assert_eq!(one("storage = 5").0, "1:11: storage is a section, this is a integer");
    assert_eq!(one("[storage]\nbackends = \"a\"").1, "[storage.backends]");
    let (message, hint) =
        one("[storage.routing.patterns]\npattern = \"a\"\nbackend = \"embedded\"");
    assert!(message.contains("is a list of sections"), "{message}");
    assert_eq!(hint, "[[storage.routing.patterns]]");
}

#[test]
fn the_type_of_a_backend_is_its_name_where_it_has_none() {
    let config = right("[storage.backends.mariadb]\nhost = \"a\"");
    assert_eq!(config.backends["mariadb"].kind(), BackendKind::MySql);
    let (message, hint) = one("[storage.backends.redsi]\nhost = \"a\"");
    assert_eq!(message, "1:19: storage.backends.redsi has no type, and \"redsi\" is none");
    assert_eq!(hint, "type = \"redis\"");
    let (message, hint) = one("[storage.backends.a]\ntype = \"postgress\"");
    assert!(message.starts_with("2:8: storage.backends.a.type: there is no backend of the type"));
    assert_eq!(hint, "type = \"postgres\"");
    assert!(one("[storage.backends.a]\ntype = \"embedded\"").0.contains("the server's own engine"));
    let (message, _) = one("[storage.backends.embedded]\ntype = \"redis\"\nhost = \"a\"");
    assert!(message.contains("the server's own engine"), "{message}");
    assert_eq!(
        one("[storage.backends.sqlite]").0,
        "1:19: storage.backends.sqlite: path is missing: write path = \"/var/lib/sira/NAME\""
    );
}

#[test]
fn secrets_are_refused_and_not_shown() {
    let (message, _) = one("[storage.backends.redis]\nhost = \"a\"\npassword = \"hunter2\"");
    assert!(message.starts_with("3:1: storage.backends.redis.password: password does not belong"));
    assert!(message.contains("write password_env") && !message.contains("hunter2"), "{message}");
    let (message, _) = one("[storage.backends.redis]\nurl = \"redis://:hunter2@a\"");
    assert!(message.starts_with("2:7: storage.backends.redis.url: "), "{message}");
    assert!(message.contains("password_env") && !message.contains("hunter2"), "{message}");
}

#[test]
fn backends_that_are_named_are_there() {
    let text = "\
[storage]
default_backend = \"redi\"
[storage.backends.redis]
host = \"a\"
[[storage.routing.patterns]]
pattern = \"a*\"
backend = \"radis\"
fallbacks = [\"embedded\", \"xyzzy\"]
[[storage.routing.rules]]
when = \"true\"
backends = [\"redis\", \"rediss\"]
[storage.routing.prices.redid]
[storage.routing.profiles.redif]
[namespaces.a]
backends = [\"redis\", \"rdis\"]
";
    let found: Vec<_> = wrong(text);
    let expected = [
        ("2:19: there is no backend \"redi\"", "\"redis\""),
        ("7:11: there is no backend \"radis\"", "\"redis\""),
        ("8:26: there is no backend \"xyzzy\"", "[storage.backends.xyzzy]"),
        ("11:22: there is no backend \"rediss\"", "\"redis\""),
        ("12:25: there is no backend \"redid\"", "\"redis\""),
        ("13:27: there is no backend \"redif\"", "\"redis\""),
        ("15:22: there is no backend \"rdis\"", "\"redis\""),
    ];
    let expected = expected.map(|(message, hint)| (message.to_owned(), hint.to_owned()));
    assert_eq!(found, expected);
    // One that is there and wrong is not told again as missing.
    let text = "[storage]\ndefault_backend = \"redis\"\n[storage.backends.redis]\nhost = 1";
    assert!(one(text).0.starts_with("4:8:"));
}

#[test]
fn patterns_rules_and_profiles_are_checked() {
    let (message, _) =
        one("[[storage.routing.patterns]]\npattern = \"a[\"\nbackend = \"embedded\"");
    assert!(message.starts_with("2:11: storage.routing.patterns.pattern: "), "{message}");
    let (message, _) = one("[[storage.routing.patterns]]\npattern = \"a\"");
    assert!(
        message.starts_with("1:1: storage.routing.patterns: missing field `backend`"),
        "{message}"
    );
    let rule = |when: &str| {
        format!("[[storage.routing.rules]]\nwhen = \"{when}\"\nbackends = [\"embedded\"]")
    };
    let (message, _) = one(&rule("sise > 5"));
    assert!(
        message.starts_with("2:8: storage.routing.rules.when: the rule \"rule 1\""),
        "{message}"
    );
    assert!(message.contains("no variable \"sise\""), "{message}");
    assert!(one(&rule("size +")).0.starts_with("2:8: "));
    assert!(one(&rule("size")).0.contains("true or false"));
    let (message, _) = one("[storage.routing.profiles.embedded]\ndurability = 2.0");
    assert!(message.contains("durability is 2; it must be from 0 to 1"), "{message}");
    let (message, _) = one("[storage.routing.prices.embedded]\nread_per_1000 = -1.0");
    assert!(message.contains("prices.read_per_1000 is -1"), "{message}");
    let (message, _) = one("[storage.routing.sla]\navailability = 99.9");
    assert!(message.contains("storage.routing.sla.availability is from 0 to 1"), "{message}");
}

#[test]
fn compression_and_encryption_fit_together() {
    let (message, _) = one("[storage.compression]\ntype = \"lz4\"\nlevel = 3");
    assert!(
        message.starts_with("3:9: storage.compression.level: a compression level"),
        "{message}"
    );
    let (message, _) = one("[storage.compression]\ntype = \"gzip\"\nlevel = 30");
    assert!(message.contains("not between 1 and 9"), "{message}");
    let (message, hint) = one("[storage.encryption]\ntype = \"aes256_gcm\"\nkey_id = \"k\"");
    assert_eq!(message, "3:10: there are no keys to encrypt with");
    assert!(hint.contains("keyring_file"), "{hint}");
    assert!(one("[namespaces.a]\nencryption = \"aes256_gcm\"").0.starts_with("2:14: there are no"));
    let (message, _) = one("[namespaces.a]\nkey_id = \"k\"");
    assert!(message.starts_with("2:10: namespaces.a.key_id names a key, and nothing"), "{message}");
    let keys = "[storage]\nkeyring_env = \"KEYS\"\n";
    let config = right(&format!("{keys}[storage.encryption]\ntype = \"chacha20_poly1305\""));
    assert_eq!(config.encryption, EncryptionType::ChaCha20Poly1305 { key_id: String::new() });
    assert_eq!(config.keyring, Some(KeyringSource::Environment("KEYS".to_owned())));
    let both = "[storage]\nkeyring_env = \"K\"\nkeyring_file = \"/k\"\n[storage.encryption]\ntype = \"aes256_gcm\"";
    assert!(one(both).0.contains("name one of them"));
    let (message, _) =
        one(&format!("{keys}[namespaces.a]\ndirect = true\nencryption = \"aes256_gcm\""));
    assert!(message.starts_with("4:10: namespaces.a.direct: "), "{message}");
    let config =
        right("[namespaces.a]\ndirect = true\ncompression = \"none\"\nencryption = \"none\"");
    assert_eq!(config.namespaces["a"].encryption, Some(EncryptionType::None));
}

#[test]
fn databases_of_the_resp_door_may_lie_anywhere() {
    let text = "[namespaces.db15]\nbackends = [\"embedded\"]\ncompression = \"zstd\"\nttl = \"1h\"";
    let config = right(text);
    let database = &config.namespaces["db15"];
    assert_eq!(database.backends, ["embedded"]);
    assert_eq!(database.compression, Some(CompressionType::Zstd));
    assert!(is_database("db0") && is_database("db15"));
    assert!(!is_database("db16") && !is_database("db") && !is_database("db01"));
}

#[test]
fn namespaces_have_names_that_can_be() {
    let (message, _) = one("[namespaces.\"a b/\"]");
    assert!(message.starts_with("1:13: namespaces.a b/: "), "{message}");
    assert!(one("[namespaces.a]\nbackends = []").0.contains("is empty"));
    let (message, _) = one("[namespaces.a.cache]\nwrite = \"back\"");
    assert!(message.contains("allow_loss"), "{message}");
    right("[namespaces.a.cache]\nwrite = \"back\"\nallow_loss = true");
    assert!(one("[namespaces.\"sira.catalog.names\"]").0.contains("the store's own"));
}

#[test]
fn direct_namespaces_lie_on_one_backend() {
    let (message, _) =
        one("[namespaces.a]\ndirect = true\nbackends = [\"embedded\", \"embedded\"]");
    assert!(message.starts_with("2:10: namespaces.a.direct: "), "{message}");
    let (message, _) = one("[namespaces.a]\ndirect = true\n[namespaces.a.cache]");
    assert!(message.starts_with("3:15: namespaces.a.cache: "), "{message}");
    assert!(right("[namespaces.a]\ndirect = true").namespaces["a"].direct);
    let (message, _) = one("[namespaces.a]\nplain = true\ncompression = \"zstd\"");
    assert!(message.starts_with("2:9: namespaces.a.plain: "), "{message}");
    let cache = right("[namespaces.a.cache]\ndisk = \"1GiB\"\nremote = \"embedded\"");
    let cache = cache.namespaces["a"].cache.clone().unwrap();
    assert_eq!((cache.disk, cache.remote.as_deref()), (Some(1 << 30), Some("embedded")));
}

#[test]
fn replicas_are_several_and_nothing_else_is_said_of_places() {
    const FILES: &str = "[storage.backends.files]\ntype = \"filesystem\"\npath = \"/x\"\n";
    let with = |text: &str| format!("[namespaces.a]\n{text}\n{FILES}");
    let config = right(&with("replicas = [\"files\", \"embedded\"]"));
    let replication = config.namespaces["a"].replication.clone().unwrap();
    assert_eq!(replication.replicas, ["files", "embedded"]);
    assert_eq!(replication.consistency, Consistency::Strong);
    assert_eq!(replication.acknowledge, Acknowledge::Quorum);
    let text = with("replicas = [\"files\", \"embedded\"]\nconsistency = \"eventual\"");
    let replication = right(&text).namespaces["a"].replication.clone().unwrap();
    assert_eq!(replication.consistency, Consistency::Eventual);

    let (message, _) = one(&with("replicas = [\"files\"]"));
    assert!(message.starts_with("2:12: namespaces.a.replicas: "), "{message}");
    assert!(message.contains("2 to 9"), "{message}");
    assert!(one(&with("replicas = [\"files\", \"files\"]")).0.contains("named twice"));
    let both = "replicas = [\"files\", \"embedded\"]\nbackends = [\"files\"]";
    assert!(one(&with(both)).0.contains("leave out backends"));
    let eventual = "replicas = [\"files\", \"embedded\"]\nconsistency = \"weak\"\n\
                    acknowledge = \"all\"";
    let (message, _) = one(&with(eventual));
    assert!(message.starts_with("4:15: namespaces.a.acknowledge is about strong"), "{message}");
    let (message, _) = one(&with("consistency = \"strong\""));
    assert!(message.contains("name them by namespaces.a.replicas"), "{message}");
    assert!(one(&with("replicas = [\"files\", \"none\"]")).0.contains("none"));
}

#[test]
fn values_are_shown_with_their_places() {
    let text = "\
[namespaces.a]
backends = [\"redis\", \"embedded\"]
[storage.backends.redis]
host = \"a\"
port = 1_000
tls = true
[[storage.routing.patterns]]
pattern = \"a*\"
backend = \"redis\"
";
    let shown: Vec<_> = parse(text)
        .shown
        .into_iter()
        .map(|(name, value)| format!("{name} {} {}", value.text.unwrap(), value.source))
        .collect();
    assert_eq!(
        shown,
        [
            "namespaces.a.backends redis, embedded c.toml:2:12",
            "storage.backends.redis.host a c.toml:4:8",
            "storage.backends.redis.port 1000 c.toml:5:8",
            "storage.backends.redis.tls true c.toml:6:7",
            "storage.routing.patterns[0].pattern a* c.toml:8:11",
            "storage.routing.patterns[0].backend redis c.toml:9:11",
        ]
    );
}

#[test]
fn the_router_asks_rules_then_patterns_then_the_strategy() {
    let config = right(
        "\
[storage]
default_backend = \"memory\"
[storage.backends.memory]
[storage.backends.filesystem]
path = \"/nowhere\"
[storage.routing]
strategy = \"cost\"
[[storage.routing.rules]]
when = \"key.startsWith('cache:big')\"
backends = [\"filesystem\"]
[[storage.routing.patterns]]
pattern = \"cache:*\"
backend = \"memory\"
[storage.routing.prices.memory]
storage_gb_month = 5.0
[storage.routing.prices.filesystem]
storage_gb_month = 1.0
",
    );
    let env: std::sync::Arc<dyn sira_store::env::Env> = std::sync::Arc::new(SystemEnv);
    let router =
        config.routing.router(&config.default_backend, &env, std::sync::Arc::default()).unwrap();
    let options = StorageOptions::default();
    assert_eq!(router.select_backend("cache:big:1", &options), "filesystem");
    assert_eq!(router.select_backend("cache:1", &options), "memory");
    assert_eq!(router.select_backend("other", &options), "filesystem");
    let plain = RoutingConfig::default();
    let router = plain.router("embedded", &env, std::sync::Arc::default()).unwrap();
    assert_eq!(router.select_backend("other", &options), "embedded");
}

/// The code spans of a text.
fn spans(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

#[test]
fn the_page_names_every_key_of_every_backend() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let page = std::fs::read_to_string(page).unwrap();
    let rows: Vec<(Vec<&str>, &str)> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once(" | "))
        .map(|(names, keys)| {
            (names.split("`, `").map(|name| name.trim_matches('`')).collect(), keys)
        })
        .collect();
    let row = |name: &str| {
        let found = rows.iter().find(|(names, _)| names.contains(&name));
        found.unwrap_or_else(|| panic!("no row of {name}")).1
    };
    for kind in BackendKind::ALL.iter().filter(|kind| **kind != BackendKind::Embedded) {
        let keys = row(kind.name());
        for alias in kind.aliases() {
            assert_eq!(row(alias), keys, "{alias}");
        }
        let mut told = spans(keys);
        // What a row takes over from another.
        for other in ["redis", "postgres", "s3"] {
            if keys.contains(&format!("the same as `{other}`"))
                || keys.contains(&format!("at `{other}`"))
            {
                told.extend(spans(row(other)));
            }
        }
        for key in kind.keys() {
            assert!(told.contains(key), "{kind}: {key} is not on the page");
        }
    }
}

#[test]
fn bounds_of_health_and_who_is_told_are_checked() {
    for (text, wrong) in [
        (
            "[storage.monitoring.health]\ninterval = \"10ms\"",
            "2:12: storage.monitoring.health.interval is at least 1s",
        ),
        (
            "[storage.monitoring.health]\nslow_factor_warning = 1",
            "2:23: storage.monitoring.health.slow_factor_warning is more than 1",
        ),
        (
            "[storage.monitoring.health]\nused_percent_warning = 95",
            "1:21: storage.monitoring.health: used_percent_critical is milder than used_percent_warning",
        ),
        (
            "[[storage.monitoring.notify]]\ntype = \"webhook\"\nurl = \"ftp://x\"",
            "3:7: storage.monitoring.notify.url begins with http:// or https://",
        ),
        (
            "[[storage.monitoring.notify]]\ntype = \"webhook\"\nurl = \"http://x\"\nsecret_env = \"A\"\nsecret_file = \"b\"",
            "4:14: storage.monitoring.notify: secret_env and secret_file are given: name one of them",
        ),
    ] {
        assert_eq!(one(text).0, wrong);
    }
    let told = "[[storage.monitoring.notify]]\ntype = \"alertmanager\"\nurl = \"http://x\"\nseverity = \"critical\"";
    let target = right(told).notify.pop().unwrap();
    assert_eq!((target.kind, target.severity), (NotifyKind::Alertmanager, HealthState::Critical));
}
