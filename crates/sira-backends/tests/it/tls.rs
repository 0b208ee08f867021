//! Encrypted connections: to the servers' own TLS where they have it, else to TLS that ends right
//! before the real server.

mod front;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mysql_async::prelude::Queryable;
use sira_backends::config::{BackendConfig, BackendKind, open};
use sira_store::{Condition, Result, Retry, StorageBackend, StorageError, StorageOptions};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use self::front::{Asks, Front, file};
use crate::proxy::Proxy;
use crate::support::{env, unique};
use crate::toxiproxy::host_of;

/// An address of this machine that the services' certificate is not for.
const ELSEWHERE: &str = "127.0.0.2";

/// What no error and no text of options may tell.
const SECRET: &str = "hunter2";

/// How to reach a server.
#[derive(Debug, Clone)]
struct Way {
    address: SocketAddr,
    /// Authorities that are trusted, in place of the public ones.
    ca: Option<PathBuf>,
    /// A user's secret that is sent, were the way trusted.
    secret: Option<PathBuf>,
}

impl Way {
    fn host(&self) -> IpAddr {
        self.address.ip()
    }

    fn port(&self) -> u16 {
        self.address.port()
    }

    /// The line of the authorities.
    fn ca(&self) -> String {
        self.ca.as_ref().map(|path| format!("ca_file = {path:?}\n")).unwrap_or_default()
    }

    /// The lines of a user that nobody knows, or else those of the right one.
    fn login(&self, right: &str) -> String {
        match &self.secret {
            Some(path) => format!("user = \"somebody\"\npassword_file = {path:?}\n"),
            None => right.to_owned(),
        }
    }
}

/// The ways to one server.
struct Ways<'a> {
    kind: BackendKind,
    /// Settings of the engine for a way.
    settings: &'a dyn Fn(&Way) -> String,
    /// TLS at an address that the certificate is for.
    right: SocketAddr,
    /// TLS at an address that it is not for.
    elsewhere: SocketAddr,
    /// The server without TLS; `None` where it has both at one address.
    plain: Option<SocketAddr>,
}

fn config(kind: BackendKind, text: &str) -> BackendConfig {
    let table: toml::Table = text.parse().unwrap();
    BackendConfig::read(kind, toml::Value::Table(table)).unwrap_or_else(|e| panic!("{kind}: {e}"))
}

impl Ways<'_> {
    async fn open(&self, way: &Way) -> Result<Arc<dyn StorageBackend>> {
        open("tested", &config(self.kind, &(self.settings)(way))).await
    }

    /// The error of a way that must not work, which is also that it tells nothing secret.
    async fn refusal(&self, way: &Way) -> StorageError {
        let error = match self.open(way).await {
            Ok(_) => panic!("{}: {way:?} works", self.kind),
            Err(error) => error,
        };
        println!("{}: {error}", self.kind);
        let told = format!("{error} {error:?} {:?}", config(self.kind, &(self.settings)(way)));
        assert!(!told.contains(SECRET), "{}: {told}", self.kind);
        error
    }

    /// Checks that the way of a trusted certificate works, and that no other does.
    async fn check(self) {
        let folder = TempDir::new().unwrap();
        let secret = folder.path().join("secret");
        std::fs::write(&secret, SECRET).unwrap();
        let ca = Some(file("ca.pem"));

        let way = Way { address: self.right, ca: ca.clone(), secret: None };
        let store = self.open(&way).await.unwrap_or_else(|e| panic!("{}: {e}", self.kind));
        works(&*store).await;

        let secret = Some(secret);
        let untrusted = [
            Way { address: self.right, ca: Some(file("stranger.pem")), secret: secret.clone() },
            Way { address: self.elsewhere, ca: ca.clone(), secret: secret.clone() },
        ];
        for way in untrusted {
            let error = self.refusal(&way).await;
            let kind = (error.code(), error.retry());
            assert_eq!(kind, ("unavailable", Retry::Permanent), "{}: {error}", self.kind);
            let text = error.to_string();
            assert!(text.contains("certificate") && text.contains("ca_file"), "{text}");
        }
        if let Some(address) = self.plain {
            let error = self.refusal(&Way { address, ca, secret }).await;
            assert!(["unavailable", "timeout"].contains(&error.code()), "{error}");
            // Redis waits for the end of what it takes for a line, and says nothing.
            let says = ["TLS at this address", "timed out", "in time"];
            let text = error.to_string();
            assert!(says.iter().any(|says| text.contains(says)), "{text}");
        }
    }
}

/// Stores, reads, lists and removes, and checks a condition.
async fn works(store: &dyn StorageBackend) {
    let (key, value) = (unique("tls"), unique("value").repeat(1000));
    let absent = StorageOptions { condition: Condition::IfAbsent, ..StorageOptions::default() };
    let put = store.put(&key, value.clone().into(), absent.clone()).await.unwrap();
    assert_eq!(store.get(&key).await.unwrap().as_deref(), Some(value.as_bytes()));
    let again = store.put(&key, "other".into(), absent).await;
    assert!(matches!(again, Err(StorageError::PreconditionFailed(_))), "{again:?}");
    let condition = Condition::IfMatch(put);
    let options = StorageOptions { condition, ..StorageOptions::default() };
    store.put(&key, "other".into(), options).await.unwrap();
    assert_eq!(store.list_keys(&key, 10).await.unwrap(), [key.as_str()]);
    assert!(store.delete(&key).await.unwrap());
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Checks a server that has no TLS, by fronts before it.
async fn behind_fronts(
    kind: BackendKind,
    server: &str,
    protocols: &[&str],
    settings: &dyn Fn(&Way) -> String,
) {
    let right = Front::new("127.0.0.1", server.to_owned(), protocols, Asks::Nothing).await;
    let elsewhere = Front::new(ELSEWHERE, server.to_owned(), protocols, Asks::Nothing).await;
    let ways = Ways {
        kind,
        settings,
        right: right.address(),
        elsewhere: elsewhere.address(),
        plain: Some(address(server)),
    };
    ways.check().await;
}

/// Checks a server's own TLS at `server`; `plain` is where it has none.
async fn own(
    kind: BackendKind,
    server: &str,
    plain: Option<&str>,
    settings: &dyn Fn(&Way) -> String,
) {
    let elsewhere = Proxy::at(ELSEWHERE, server.to_owned()).await;
    let ways = Ways {
        kind,
        settings,
        right: address(server),
        elsewhere: address(&elsewhere.address()),
        plain: plain.map(address),
    };
    ways.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis() {
    let (url, plain) = (env("SIRA_TEST_REDIS_TLS_URL"), env("SIRA_TEST_REDIS_URL"));
    let prefix = unique("tls");
    own(BackendKind::Redis, host_of(&url), Some(host_of(&plain)), &|way| {
        format!(
            "host = \"{}\"\nport = {}\ntls = true\nprefix = {prefix:?}\npool_size = 2\n\
             connect_timeout = \"2s\"\n{}{}",
            way.host(),
            way.port(),
            way.ca(),
            way.login("")
        )
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_cluster() {
    let first = |urls: &str| host_of(urls.split(',').next().unwrap()).to_owned();
    let server = first(&env("SIRA_TEST_REDIS_CLUSTER_TLS_URLS"));
    let plain = first(&env("SIRA_TEST_REDIS_CLUSTER_URLS"));
    let prefix = unique("tls");
    // One node is enough to learn the others, whose addresses it tells with their ports for TLS.
    own(BackendKind::RedisCluster, &server, Some(&plain), &|way| {
        format!(
            "nodes = [\"{}\"]\ntls = true\nprefix = {prefix:?}\nconnect_timeout = \"2s\"\n{}{}",
            way.address,
            way.ca(),
            way.login("")
        )
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres() {
    let url = env("SIRA_TEST_POSTGRES_URL");
    let server = host_of(&url);
    let (name, table) = (unique("tls"), unique("tls"));
    let place = |way: &Way, mode: &str| {
        let login = if way.secret.is_some() { "somebody" } else { "sira" };
        format!("postgres://{login}@{}/sira?application_name={name}&sslmode={mode}", way.address)
    };
    let folder = TempDir::new().unwrap();
    let password = folder.path().join("password");
    std::fs::write(&password, "sira").unwrap();
    let settings = |way: &Way, mode: &str| {
        format!(
            "url = {:?}\npassword_file = {:?}\ntable = {table:?}\npool_size = 2\n{}",
            place(way, mode),
            way.secret.as_ref().unwrap_or(&password),
            way.ca()
        )
    };
    for mode in ["require", "verify-full", "prefer"] {
        own(BackendKind::Postgres, server, None, &|way| settings(way, mode)).await;
    }

    let (bare, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let encrypted = async |name: &str| -> Vec<bool> {
        let text = "SELECT s.ssl FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid) \
                    WHERE a.application_name = $1";
        let rows = bare.query(text, &[&name]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    };
    // Without an authority, `prefer` encrypts and `disable` does not.
    for (mode, tls) in [("prefer", true), ("disable", false)] {
        let way = Way { address: address(server), ca: None, secret: None };
        let text = settings(&way, mode).replace(&name, &format!("{name}{mode}"));
        let store = open("tested", &config(BackendKind::Postgres, &text)).await.unwrap();
        works(&*store).await;
        let seen = encrypted(&format!("{name}{mode}")).await;
        assert!(!seen.is_empty() && seen.iter().all(|ssl| *ssl == tls), "{mode}: {seen:?}");
    }
    // An authority is named to be asked for.
    let way = Way { address: address(server), ca: Some(file("ca.pem")), secret: None };
    let text = settings(&way, "disable");
    let error = open("tested", &config(BackendKind::Postgres, &text)).await.unwrap_err();
    assert_eq!(error.code(), "invalid_input", "{error}");
    bare.batch_execute(&format!("DROP TABLE {table}")).await.unwrap();
}

/// A server that says that it has no TLS gets no more from a client that was told an authority.
#[tokio::test(flavor = "multi_thread")]
async fn postgres_without_tls() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = listener.local_addr().unwrap();
    let asked = tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut request = [0; 8];
        client.read_exact(&mut request).await.unwrap();
        client.write_all(b"N").await.unwrap();
        let mut more = Vec::new();
        client.read_to_end(&mut more).await.unwrap();
        more
    });
    let text = format!(
        "url = \"postgres://somebody@{server}/sira\"\nconnect_timeout = \"2s\"\nca_file = {:?}",
        file("ca.pem")
    );
    let error = open("tested", &config(BackendKind::Postgres, &text)).await.unwrap_err();
    assert_eq!((error.code(), error.retry()), ("unavailable", Retry::Permanent), "{error}");
    assert!(error.to_string().contains("no TLS at this address"), "{error}");
    assert_eq!(asked.await.unwrap(), b"");
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql() {
    let url = env("SIRA_TEST_MYSQL_URL");
    let server = host_of(&url);
    let (user, table) = (unique("tls"), unique("tls"));
    let mut bare = mysql_async::Conn::from_url(&url).await.unwrap();
    for statement in [
        format!("CREATE USER '{user}'@'127.0.0.1' IDENTIFIED BY 'sira' REQUIRE SSL"),
        format!("GRANT ALL PRIVILEGES ON sira.* TO '{user}'@'127.0.0.1'"),
    ] {
        bare.query_drop(statement).await.unwrap();
    }
    let folder = TempDir::new().unwrap();
    let password = folder.path().join("password");
    std::fs::write(&password, "sira").unwrap();
    let settings = |way: &Way, tls: &str| {
        let right = format!("user = {user:?}\npassword_file = {password:?}\n");
        format!(
            "host = \"{}\"\nport = {}\n{tls}table = {table:?}\npool_size = 2\n{}{}",
            way.host(),
            way.port(),
            way.ca(),
            way.login(&right)
        )
    };
    // Naming an authority turns TLS on.
    for tls in ["tls = true\n", ""] {
        own(BackendKind::MySql, server, None, &|way| settings(way, tls)).await;
    }
    // The user of this test gets in with TLS only.
    let way = Way { address: address(server), ca: None, secret: None };
    let text = settings(&way, "");
    let error = open("tested", &config(BackendKind::MySql, &text)).await.unwrap_err();
    assert_eq!(error.code(), "permission_denied", "{error}");
    bare.query_drop(format!("DROP TABLE {table}")).await.unwrap();
    bare.query_drop(format!("DROP USER '{user}'@'127.0.0.1'")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn mongodb() {
    let url = env("SIRA_TEST_MONGODB_URL");
    let collection = unique("tls");
    behind_fronts(BackendKind::MongoDb, host_of(&url), &[], &|way| {
        let (login, secret) = match &way.secret {
            Some(path) => ("somebody@", format!("password_file = {path:?}\n")),
            None => ("", String::new()),
        };
        format!(
            "url = \"mongodb://{login}{}/sira?directConnection=true&tls=true\"\n\
             collection = {collection:?}\npool_size = 2\nconnect_timeout = \"2s\"\n{secret}{}",
            way.address,
            way.ca()
        )
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cassandra() {
    let nodes = env("SIRA_TEST_CASSANDRA_NODES");
    // With one node the driver stays with the address that it was given.
    behind_fronts(BackendKind::Cassandra, &nodes, &[], &|way| {
        format!(
            "nodes = [\"{}\"]\nkeyspace = \"sira_tls\"\nreplicas = {{ datacenter1 = 1 }}\n\
             pool_size = 1\ntls = true\n{}{}",
            way.address,
            way.ca(),
            way.login("")
        )
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn opensearch() {
    let url = env("SIRA_TEST_OPENSEARCH_URL");
    behind_fronts(BackendKind::OpenSearch, host_of(&url), &["http/1.1"], &|way| {
        format!(
            "host = \"{}\"\nport = {}\ntls = true\nindex = \"sira-tls\"\n{}{}",
            way.host(),
            way.port(),
            way.ca(),
            way.login("")
        )
    })
    .await;
}

fn etcd_settings(way: &Way, more: &str) -> String {
    format!(
        "endpoints = [\"{}\"]\ntls = true\nprefix = \"tls/\"\nconnect_timeout = \"2s\"\n{}{}{more}",
        way.address,
        way.ca(),
        way.login("")
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd() {
    let urls = env("SIRA_TEST_ETCD_URLS");
    let server = host_of(urls.split(',').next().unwrap());
    behind_fronts(BackendKind::Etcd, server, &["h2"], &|way| etcd_settings(way, "")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd_that_asks_for_a_certificate() {
    let urls = env("SIRA_TEST_ETCD_URLS");
    let server = host_of(urls.split(',').next().unwrap()).to_owned();
    let front = Front::new("127.0.0.1", server, &["h2"], Asks::Certificate).await;
    let way = Way { address: front.address(), ca: Some(file("ca.pem")), secret: None };
    let own =
        format!("cert_file = {:?}\nkey_file = {:?}\n", file("client.pem"), file("client.key"));
    let kind = BackendKind::Etcd;
    works(&*open("tested", &config(kind, &etcd_settings(&way, &own))).await.unwrap()).await;
    let error = open("tested", &config(kind, &etcd_settings(&way, ""))).await.unwrap_err();
    // The client may connect anew before it tells why it could not.
    assert!(["timeout", "unavailable"].contains(&error.code()), "{error}");
    assert!(error.to_string().contains("cert_file"), "{error}");
}

/// Settings of a bucket of the S3 protocol.
fn s3_settings(name: &str, way: &Way, secret: &Path) -> String {
    let of = |what: &str| format!("SIRA_TEST_{name}_{what}");
    format!(
        "endpoint = \"https://{}\"\nbucket = {:?}\nregion = {:?}\naccess_key_id_env = {:?}\n\
         secret_access_key_file = {:?}\nprefix = \"tls\"\n{}",
        way.address,
        env(&of("BUCKET")),
        env(&of("REGION")),
        of("ACCESS_KEY_ID"),
        way.secret.as_deref().unwrap_or(secret),
        way.ca()
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_and_minio() {
    let folder = TempDir::new().unwrap();
    for (kind, name) in [(BackendKind::S3, "S3"), (BackendKind::Minio, "MINIO")] {
        let secret = folder.path().join(name);
        std::fs::write(&secret, env(&format!("SIRA_TEST_{name}_SECRET_ACCESS_KEY"))).unwrap();
        let endpoint = env(&format!("SIRA_TEST_{name}_ENDPOINT"));
        let settings = |way: &Way| s3_settings(name, way, &secret);
        behind_fronts(kind, host_of(&endpoint), &["http/1.1"], &settings).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn azure_blob() {
    let folder = TempDir::new().unwrap();
    let key = folder.path().join("key");
    std::fs::write(&key, env("SIRA_TEST_AZURE_ACCOUNT_KEY")).unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, format!("sv=2021-12-02&sig={SECRET}")).unwrap();
    let endpoint = env("SIRA_TEST_AZURE_ENDPOINT");
    let path = endpoint.split_once("://").unwrap().1.split_once('/').map_or("", |(_, path)| path);
    behind_fronts(BackendKind::AzureBlob, host_of(&endpoint), &["http/1.1"], &|way| {
        let login = match way.secret {
            Some(_) => format!("sas_token_file = {token:?}"),
            None => format!("account_key_file = {key:?}"),
        };
        format!(
            "endpoint = \"https://{}/{path}\"\ncontainer = {:?}\naccount = {:?}\n\
             prefix = \"tls\"\n{login}\n{}",
            way.address,
            env("SIRA_TEST_AZURE_CONTAINER"),
            env("SIRA_TEST_AZURE_ACCOUNT"),
            way.ca()
        )
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gcs() {
    // Its own, as it tells where uploads go on.
    let (url, plain) = (env("SIRA_TEST_GCS_TLS_ENDPOINT"), env("SIRA_TEST_GCS_ENDPOINT"));
    own(BackendKind::Gcs, host_of(&url), Some(host_of(&plain)), &|way| {
        let login = match &way.secret {
            Some(path) => format!("token_file = {path:?}"),
            None => "anonymous = true".to_owned(),
        };
        format!(
            "endpoint = \"https://{}\"\nbucket = {:?}\nprefix = \"tls\"\n{login}\n{}",
            way.address,
            env("SIRA_TEST_GCS_BUCKET"),
            way.ca()
        )
    })
    .await;
}
