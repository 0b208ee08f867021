use std::time::Duration;

use super::*;

fn read(kind: BackendKind, text: &str) -> Result<BackendConfig, String> {
    let table: toml::Table = text.parse().expect("TOML");
    BackendConfig::read(kind, toml::Value::Table(table)).map_err(|error| error.message().to_owned())
}

fn refused(kind: BackendKind, text: &str) -> String {
    read(kind, text).expect_err(text)
}

fn redis(text: &str) -> RedisConfig {
    match read(BackendKind::Redis, text).expect(text) {
        BackendConfig::Redis(config) => config,
        other => panic!("{other:?}"),
    }
}

fn postgres(text: &str) -> SqlConfig {
    match read(BackendKind::Postgres, text).expect(text) {
        BackendConfig::Postgres(config) => config,
        other => panic!("{other:?}"),
    }
}

#[test]
fn kinds_are_read_by_every_name_and_tell_their_keys() {
    for kind in BackendKind::ALL {
        for name in std::iter::once(&kind.name()).chain(kind.aliases()) {
            assert_eq!(name.parse(), Ok(*kind));
        }
        assert_eq!(kind.keys().is_empty(), *kind == BackendKind::Embedded, "{kind}");
    }
    let wrong = "postgress".parse::<BackendKind>().expect_err("no kind").to_string();
    assert!(wrong.contains("\"postgress\"") && wrong.contains("postgres, mysql"), "{wrong}");
    let keys = BackendKind::Redis.keys();
    assert!(keys.contains(&"pool_size") && keys.contains(&"max_connections"), "{keys:?}");
    assert!(!keys.contains(&"type"), "{keys:?}");
}

#[test]
fn unknown_keys_are_refused() {
    let wrong = refused(BackendKind::Redis, "host = \"a\"\nprefx = \"b\"");
    assert!(wrong.contains("unknown field `prefx`"), "{wrong}");
    let wrong = refused(BackendKind::Embedded, "path = \"a\"");
    assert!(wrong.contains("unknown field `path`"), "{wrong}");
}

#[test]
fn secrets_do_not_stand_in_settings() {
    let kinds_and_keys = [
        (BackendKind::Redis, "password"),
        (BackendKind::Postgres, "password"),
        (BackendKind::MySql, "password"),
        (BackendKind::MongoDb, "password"),
        (BackendKind::Cassandra, "password"),
        (BackendKind::OpenSearch, "password"),
        (BackendKind::OpenSearch, "api_key"),
        (BackendKind::Etcd, "password"),
        (BackendKind::S3, "access_key_id"),
        (BackendKind::S3, "secret_access_key"),
        (BackendKind::Minio, "session_token"),
        (BackendKind::AzureBlob, "account_key"),
        (BackendKind::AzureBlob, "sas_token"),
        (BackendKind::Gcs, "token"),
    ];
    for (kind, key) in kinds_and_keys {
        let wrong = refused(kind, &format!("{key} = \"hunter2\""));
        assert!(wrong.contains(&format!("write {key}_env = ")), "{kind}: {wrong}");
        assert!(wrong.contains(&format!("{key}_file = ")), "{kind}: {wrong}");
        assert!(!wrong.contains("hunter2"), "{kind}: {wrong}");
    }
    let wrong = refused(BackendKind::Redis, "host = \"a\"\npassword_env = \"hunter2!\"");
    assert!(wrong.contains("password_env") && !wrong.contains("hunter2"), "{wrong}");
    let both = "host = \"a\"\npassword_env = \"A\"\npassword_file = \"/b\"";
    assert!(refused(BackendKind::Redis, both).contains("name one of them"));
}

#[test]
fn urls_hold_no_password() {
    for url in [
        "redis://:hunter2@host",
        "redis://user:hunter2@host:6379/0",
        "redis://:hun/ter2@host",
        "redis://:hun@ter2@host",
        "unix:///run/redis?user=a&pass=hunter2",
        "mongodb://a@host/?authMechanismProperties=AWS_SESSION_TOKEN:hunter2",
        "host=a password=hunter2",
        "user:hunter2@host",
    ] {
        let wrong = refused(BackendKind::Redis, &format!("url = \"{url}\""));
        assert!(wrong.contains("password_env") && !wrong.contains("ter2"), "{url}: {wrong}");
        let wrong = refused(BackendKind::Redis, &format!("nodes = [\"a:1\", \"{url}\"]"));
        assert!(wrong.contains("password_env"), "{url}: {wrong}");
    }
    for url in ["redis://user@host:6379/0", "unix:///run/redis", "rediss://[::1]:6379"] {
        redis(&format!("url = \"{url}\""));
    }
}

#[test]
fn redis_is_reached_by_url_host_or_nodes() {
    let urls = |text: &str| redis(text).urls();
    assert_eq!(urls("url = \"redis://h/2\""), ["redis://h/2"]);
    assert_eq!(urls("host = \"h\""), ["redis://h:6379/0"]);
    assert_eq!(urls("host = \"::1\"\nport = 1\ndatabase = 2"), ["redis://[::1]:1/2"]);
    assert_eq!(
        urls("nodes = [\"a:1\", \"redis://b:2\"]\ntls = true"),
        ["rediss://a:1", "redis://b:2"]
    );
    let wrong = refused(BackendKind::Redis, "prefix = \"p\"");
    assert!(wrong.contains("url, host or nodes"), "{wrong}");
    let wrong = refused(BackendKind::Redis, "host = \"h\"\nurl = \"redis://h\"");
    assert!(wrong.contains("more than once"), "{wrong}");
    let wrong = refused(BackendKind::Redis, "url = \"redis://h\"\ndatabase = 1");
    assert!(wrong.contains("database does not go with a URL"), "{wrong}");
}

#[test]
fn user_and_password_come_into_the_url() {
    let url =
        |text: &str, password| postgres(text).url("postgres", 5432, "sslmode=require", password);
    let host = "host = \"h\"\nuser = \"a b\"";
    assert_eq!(url(host, None), "postgres://a%20b@h:5432/sira");
    assert_eq!(url(host, Some("p@/:")), "postgres://a%20b:p%40%2F%3A@h:5432/sira");
    assert_eq!(url("url = \"postgres://u@h/d?x=1\"", Some("p")), "postgres://u:p@h/d?x=1");
    assert_eq!(url("url = \"postgres://h,i/d\"\nuser = \"u\"", Some("p")), "postgres://u:p@h,i/d");
    assert_eq!(
        url("host = \"h\"\nport = 1\ndatabase = \"d\"\ntls = true", None),
        "postgres://h:1/d?sslmode=require"
    );
    let wrong = refused(BackendKind::Postgres, "url = \"mysql://h/d\"");
    assert!(wrong.contains("postgres://user@host/database"), "{wrong}");
    let wrong = refused(BackendKind::MySql, "host = \"h\"\npassword_env = \"P\"");
    assert!(wrong.contains("goes with a user"), "{wrong}");
}

#[test]
fn durations_and_sizes_have_units() {
    let config = redis("host = \"h\"\nconnect_timeout = \"250ms\"\noperation_timeout = \"1m30s\"");
    assert_eq!(config.connect_timeout, Some(Duration::from_millis(250)));
    assert_eq!(config.operation_timeout, Some(Duration::from_secs(90)));
    for wrong in ["5", "\"5\"", "\"5 s\"", "\"\"", "\"5y\"", "-1", "true"] {
        let wrong =
            refused(BackendKind::Redis, &format!("host = \"h\"\nconnect_timeout = {wrong}"));
        assert!(wrong.contains("a duration such as"), "{wrong}");
    }
    let size = |text: &str| match read(BackendKind::Memory, &format!("max_size = {text}")) {
        Ok(BackendConfig::Memory(config)) => Ok(config.max_size),
        Ok(other) => panic!("{other:?}"),
        Err(wrong) => Err(wrong),
    };
    assert_eq!(size("4096"), Ok(Some(4096)));
    assert_eq!(size("\"64MiB\""), Ok(Some(64 << 20)));
    assert_eq!(size("\"64MB\""), Ok(Some(64_000_000)));
    for wrong in ["-1", "\"x\"", "\"\"", "1.5", "\"99999999999G\""] {
        assert!(size(wrong).expect_err(wrong).contains("a size such as"), "{wrong}");
    }
}

#[test]
fn what_must_be_there_and_go_together_is_checked() {
    let cases = [
        (BackendKind::Sqlite, "", "path is missing"),
        (BackendKind::RocksDb, "", "path is missing"),
        (BackendKind::Filesystem, "", "path is missing"),
        (BackendKind::S3, "", "bucket is missing"),
        (BackendKind::S3, "bucket = \"b\"\naccess_key_id_env = \"A\"", "go together"),
        (BackendKind::AzureBlob, "container = \"c\"", "account is missing"),
        (BackendKind::Gcs, "bucket = \"b\"\nanonymous = true\ntoken_env = \"A\"", "one of"),
        (BackendKind::Etcd, "", "endpoints"),
        (BackendKind::Etcd, "endpoints = [\"a:1\"]\nuser = \"u\"", "go together"),
        (BackendKind::Cassandra, "nodes = [\"cql://a\"]", "host:port"),
        (BackendKind::MongoDb, "", "url or host"),
        (BackendKind::OpenSearch, "host = \"h\"\nuser = \"u\"", "go together"),
    ];
    for (kind, text, says) in cases {
        let wrong = refused(kind, text);
        assert!(wrong.contains(says), "{kind}: {wrong}");
    }
}

/// Runs what waits for files and engines.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("runtime")
        .block_on(future)
}

#[test]
fn the_password_is_the_first_line_of_the_file() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("secret");
    let config = redis(&format!("host = \"h\"\npassword_file = {path:?}"));
    let password = || block_on(config.password().read());
    let missing = password().expect_err("no file").to_string();
    assert!(missing.contains("password_file") && missing.contains("secret"), "{missing}");
    std::fs::write(&path, "  hunter2 \nmore\n").expect("write");
    assert_eq!(password().expect("password").as_deref(), Some("hunter2"));
    std::fs::write(&path, "\nhunter2\n").expect("write");
    let empty = password().expect_err("an empty line").to_string();
    assert!(empty.contains("empty") && !empty.contains("hunter2"), "{empty}");
    let config = redis("host = \"h\"\npassword_env = \"SIRA_NO_SUCH_VARIABLE\"");
    let unset = block_on(config.password().read()).expect_err("not set").to_string();
    assert!(unset.contains("SIRA_NO_SUCH_VARIABLE") && unset.contains("not set"), "{unset}");
    // Every test process has it.
    let config = redis("host = \"h\"\npassword_env = \"PATH\"");
    assert_eq!(block_on(config.password().read()).expect("set"), std::env::var("PATH").ok());
}

#[test]
fn the_embedded_engine_is_not_opened_here() {
    let error = block_on(open("mine", &BackendConfig::Embedded)).expect_err("not here");
    assert_eq!(error.code(), "invalid_input");
    assert_eq!(error.detail().backend.as_deref(), Some("mine"));
}

#[test]
fn engines_that_are_not_compiled_in_say_how_to_get_them() {
    for kind in BackendKind::ALL.iter().filter(|kind| !kind.is_compiled()) {
        let text = match kind {
            BackendKind::Redis | BackendKind::RedisCluster => "host = \"127.0.0.1\"",
            BackendKind::Sqlite | BackendKind::RocksDb | BackendKind::Sled => "path = \"/nowhere\"",
            _ => continue,
        };
        let config = read(*kind, text).expect(text);
        let error = block_on(open("b", &config)).expect_err("not compiled in");
        assert_eq!(error.code(), "unsupported");
        let feature = format!("sira-backends/{}", kind.feature().unwrap_or_default());
        assert!(error.to_string().contains(&feature), "{error}");
    }
}
