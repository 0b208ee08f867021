//! Object stores, against their real servers.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sira_backends::object_store::{
    AzureBlobBackend, AzureBlobOptions, Conditions, GcsBackend, GcsCredential, GcsOptions,
    MinioBackend, ObjectStoreDriver, ObjectStoreOptions, S3Backend, S3Options,
};
use sira_store::conformance::{self, ConformanceOptions};
use sira_store::driver::{
    After, Area, Change, Driver, DriverBackend, Expiry, Guard, Part, Place, Record, Scan,
};
use sira_store::{
    Condition, HealthStatus, ListOptions, Retry, StorageBackend, StorageError, StorageOptions,
    Version,
};

use crate::conform::conforms;
use crate::support::{env, now_ms, unique};
use crate::{contract, edges};

fn common(prefix: &str) -> ObjectStoreOptions {
    ObjectStoreOptions::with_prefix(prefix)
}

pub fn s3(prefix: &str) -> S3Options {
    S3Options::new(env("SIRA_TEST_S3_BUCKET"), env("SIRA_TEST_S3_REGION"))
        .with_endpoint(env("SIRA_TEST_S3_ENDPOINT"))
        .with_access_key(env("SIRA_TEST_S3_ACCESS_KEY_ID"), env("SIRA_TEST_S3_SECRET_ACCESS_KEY"))
        .with_common(common(prefix))
}

pub fn minio(prefix: &str) -> S3Options {
    S3Options::new(env("SIRA_TEST_MINIO_BUCKET"), env("SIRA_TEST_MINIO_REGION"))
        .with_endpoint(env("SIRA_TEST_MINIO_ENDPOINT"))
        .with_access_key(
            env("SIRA_TEST_MINIO_ACCESS_KEY_ID"),
            env("SIRA_TEST_MINIO_SECRET_ACCESS_KEY"),
        )
        .with_common(common(prefix))
}

pub fn azure(prefix: &str) -> AzureBlobOptions {
    AzureBlobOptions::new(env("SIRA_TEST_AZURE_ACCOUNT"), env("SIRA_TEST_AZURE_CONTAINER"))
        .with_endpoint(env("SIRA_TEST_AZURE_ENDPOINT"))
        .with_account_key(env("SIRA_TEST_AZURE_ACCOUNT_KEY"))
        .with_common(common(prefix))
}

pub fn gcs(prefix: &str) -> GcsOptions {
    GcsOptions::new(env("SIRA_TEST_GCS_BUCKET"))
        .with_endpoint(env("SIRA_TEST_GCS_ENDPOINT"))
        .with_credential(GcsCredential::Anonymous)
        .with_common(common(prefix))
}

/// A client of the same bucket that knows nothing of us.
pub fn other_client() -> opendal::Operator {
    let service = opendal::services::S3::default()
        .bucket(&env("SIRA_TEST_S3_BUCKET"))
        .region(&env("SIRA_TEST_S3_REGION"))
        .endpoint(&env("SIRA_TEST_S3_ENDPOINT"))
        .access_key_id(&env("SIRA_TEST_S3_ACCESS_KEY_ID"))
        .secret_access_key(&env("SIRA_TEST_S3_SECRET_ACCESS_KEY"));
    let operator = opendal::Operator::new(service).unwrap();
    let transport = opendal_http_transport_reqwest::ReqwestTransport::new(reqwest::Client::new());
    let context = operator.context().with_http_transport(opendal::HttpTransporter::new(transport));
    operator.with_context(context)
}

#[tokio::test(flavor = "multi_thread")]
async fn versitygw_conforms() {
    let prefix = unique("s3");
    let open = || async { Arc::new(S3Backend::new(s3(&prefix)).await.unwrap()) };
    conforms("s3", vec![open().await, open().await, open().await]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn minio_conforms() {
    let prefix = unique("minio");
    let open = || async { Arc::new(MinioBackend::new(minio(&prefix)).await.unwrap()) };
    conforms("minio", vec![open().await, open().await, open().await]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn azurite_conforms() {
    let prefix = unique("azure");
    let open = || async { Arc::new(AzureBlobBackend::new(azure(&prefix)).await.unwrap()) };
    conforms("azure_blob", vec![open().await, open().await, open().await]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fake_gcs_conforms() {
    let prefix = unique("gcs");
    let open = || async { Arc::new(GcsBackend::new(gcs(&prefix)).await.unwrap()) };
    conforms("gcs", vec![open().await, open().await, open().await]).await;
}

/// Two handles of each store.
async fn pairs() -> Vec<[Arc<dyn Driver>; 2]> {
    let prefix = unique("pair");
    let s3 = || async { Arc::new(ObjectStoreDriver::s3(s3(&prefix)).await.unwrap()) };
    let minio = || async { Arc::new(ObjectStoreDriver::minio(minio(&prefix)).await.unwrap()) };
    let azure = || async { Arc::new(ObjectStoreDriver::azure_blob(azure(&prefix)).await.unwrap()) };
    let gcs = || async { Arc::new(ObjectStoreDriver::gcs(gcs(&prefix)).await.unwrap()) };
    vec![
        [s3().await, s3().await],
        [minio().await, minio().await],
        [azure().await, azure().await],
        [gcs().await, gcs().await],
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn the_drivers_keep_their_contract() {
    for pair in pairs().await {
        println!("{}", pair[0].profile().name);
        contract::check(&pair).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_drivers_hold_at_the_edges() {
    for [driver, peer] in pairs().await {
        println!("{}", driver.profile().name);
        edges::check(&*driver, &*peer).await;
    }
}

#[tokio::test]
async fn a_store_without_conditions_refuses_them_and_does_the_rest() {
    let mut options = s3(&unique("plain"));
    options.common.conditions = Some(Conditions::None);
    let backend = Arc::new(S3Backend::new(options).await.unwrap());
    assert!(!backend.capabilities().conditional);
    let condition = Condition::IfAbsent;
    let write = StorageOptions { condition, ..StorageOptions::default() };
    let refused = backend.put("k", Bytes::from_static(b"v"), write).await.unwrap_err();
    assert_eq!(refused.code(), "unsupported");
    for only in ["values/overwrite", "keys/", "listing/prefix"] {
        let options =
            ConformanceOptions { only: Some(only.to_owned()), ..ConformanceOptions::default() };
        let backend: Arc<dyn StorageBackend> = backend.clone();
        conformance::run(backend, options).await.into_result().unwrap();
    }
}

#[tokio::test]
async fn what_stores_do_with_conditions_is_found_out() {
    let probed =
        |options: S3Options| async { ObjectStoreDriver::s3(options).await.unwrap().conditions() };
    assert_eq!(probed(s3(&unique("probe"))).await, Conditions::AllButAbsence);
    assert_eq!(probed(minio(&unique("probe"))).await, Conditions::Writes);
    let azure = ObjectStoreDriver::azure_blob(azure(&unique("probe"))).await.unwrap();
    assert_eq!(azure.conditions(), Conditions::All);
    let gcs = ObjectStoreDriver::gcs(gcs(&unique("probe"))).await.unwrap();
    assert_eq!(gcs.conditions(), Conditions::Writes);
}

fn place() -> Place {
    Place { namespace: "default".into(), area: Area::Objects }
}

fn record(version: u64, body: impl Into<Bytes>, expires_at_ms: Option<u64>) -> Record {
    let body = body.into();
    Record {
        version: Version::from_u64(version),
        expires_at_ms,
        size: body.len() as u64,
        envelope: Bytes::from_static(b"an envelope of some bytes"),
        body,
    }
}

async fn put(driver: &ObjectStoreDriver, key: &str, record: Record) {
    driver.put(&place(), key, record, Guard::always(now_ms())).await.unwrap();
}

async fn keys(driver: &ObjectStoreDriver, prefix: &str, after: Option<After>) -> Vec<String> {
    let scan = Scan { prefix: prefix.to_owned(), after, limit: 1000 };
    driver.scan(&place(), scan).await.unwrap().into_iter().map(|listed| listed.key).collect()
}

/// All ways of removing.
async fn drivers() -> [ObjectStoreDriver; 3] {
    let exact = ObjectStoreDriver::azure_blob(azure(&unique("exact"))).await.unwrap();
    let silent = ObjectStoreDriver::s3(s3(&unique("silent"))).await.unwrap();
    let weak = ObjectStoreDriver::minio(minio(&unique("weak"))).await.unwrap();
    assert_eq!(exact.conditions(), Conditions::All);
    assert_eq!(silent.conditions(), Conditions::AllButAbsence);
    assert_eq!(weak.conditions(), Conditions::Writes);
    [exact, silent, weak]
}

#[tokio::test]
async fn keys_too_long_for_names_are_listed_among_the_others() {
    for driver in drivers().await {
        // Escaped, these are 399 to 1,200 characters long, and all but the first few share 400.
        let mut all: Vec<String> = [399, 400, 401, 402, 450, 500, 501, 600]
            .iter()
            .flat_map(|len| ["", "a", "z"].map(|end| format!("{}{end}", "k".repeat(*len))))
            .chain([
                "a".to_owned(),
                "z".to_owned(),
                "é".repeat(400),
                format!("{}b", "é".repeat(400)),
            ])
            .chain([format!("{}!", "k".repeat(400)), format!("{}~", "k".repeat(700))])
            .collect();
        all.sort();
        all.dedup();
        for (number, key) in all.iter().enumerate() {
            put(&driver, key, record(number as u64 + 1, key.clone(), None)).await;
        }
        assert_eq!(keys(&driver, "", None).await, all);
        for key in &all {
            let read = driver.get(&place(), key, Part::Whole).await.unwrap().unwrap();
            assert_eq!(read.body, key.as_bytes());
            let part = driver.get(&place(), key, Part::Range(1..3)).await.unwrap().unwrap();
            assert_eq!(part.body, &key.as_bytes()[1..key.len().clamp(1, 3)]);

            let after: Vec<_> = all.iter().filter(|other| *other > key).cloned().collect();
            assert_eq!(keys(&driver, "", Some(After::Key(key.clone()))).await, after);
            let with: Vec<_> = all.iter().filter(|other| other.starts_with(key)).cloned().collect();
            assert_eq!(keys(&driver, key, None).await, with);
            let scan = Scan { limit: 2, after: Some(After::Key(key.clone())), ..Scan::default() };
            let page = driver.scan(&place(), scan).await.unwrap();
            assert_eq!(page.len(), after.len().min(2));
        }
        let past = keys(&driver, "", Some(After::Prefix("k".to_owned()))).await;
        assert_eq!(
            past,
            all.iter().filter(|key| *key > &"l".to_owned()).cloned().collect::<Vec<_>>()
        );
        for key in &all {
            assert!(driver.remove(&place(), key, Guard::always(now_ms())).await.unwrap());
            assert!(!driver.remove(&place(), key, Guard::always(now_ms())).await.unwrap());
        }
        assert_eq!(keys(&driver, "", None).await, Vec::<String>::new());
    }
}

#[tokio::test]
async fn removals_leave_nothing_to_see_and_writes_go_on() {
    for driver in drivers().await {
        let place = place();
        put(&driver, "k", record(5, "one", None)).await;
        assert!(driver.remove(&place, "k", Guard::always(now_ms())).await.unwrap());
        assert!(!driver.remove(&place, "k", Guard::always(now_ms())).await.unwrap());
        for part in [Part::Head, Part::Whole, Part::Range(0..1)] {
            assert_eq!(driver.get(&place, "k", part).await.unwrap(), None);
        }
        assert_eq!(keys(&driver, "", None).await, Vec::<String>::new());
        // A clock that is behind sees no more of it.
        let behind = Guard { condition: Condition::IfPresent, ..Guard::always(2) };
        let refused = driver.put(&place, "k", record(6, "two", None), behind).await.unwrap_err();
        assert_eq!(refused.code(), "precondition_failed");
        let guard = Guard { condition: Condition::IfAbsent, ..Guard::always(now_ms()) };
        driver.put(&place, "k", record(6, "two", None), guard).await.unwrap();
        let read = driver.get(&place, "k", Part::Whole).await.unwrap().unwrap();
        assert_eq!(read.body, "two");
        let results = driver
            .apply_many(&place, vec![Change::Remove { key: "k".into(), guard: Guard::always(3) }])
            .await;
        assert!(matches!(results[..], [Ok(None)]));
        assert_eq!(driver.get(&place, "k", Part::Whole).await.unwrap(), None);
    }
}

#[tokio::test]
async fn expired_records_are_told_and_collected() {
    for driver in drivers().await {
        let (now, place, long) = (now_ms(), place(), "long".repeat(200));
        for key in ["gone", &long] {
            put(&driver, key, record(1, "v", Some(now - 1))).await;
        }
        put(&driver, "later", record(2, "v", Some(now + 3_600_000))).await;
        put(&driver, "stays", record(3, "v", None)).await;
        let listed = driver
            .scan(&place, Scan { limit: 10, ..Scan::default() })
            .await
            .unwrap()
            .into_iter()
            .map(|listed| (listed.key, listed.expiry));
        let expected = [
            ("gone".to_owned(), Expiry::Unknown),
            ("later".to_owned(), Expiry::Unknown),
            (long.clone(), Expiry::At(now - 1)),
            ("stays".to_owned(), Expiry::Never),
        ];
        assert_eq!(listed.collect::<Vec<_>>(), expected);
        assert_eq!(driver.collect_expired(now, 100).await.unwrap(), 2);
        assert_eq!(keys(&driver, "", None).await, ["later", "stays"]);
        assert_eq!(driver.get(&place, "gone", Part::Whole).await.unwrap(), None);
        assert_eq!(driver.collect_expired(now, 100).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn tombstones_go_by_age_where_that_is_asked_for() {
    let prefix = unique("aged");
    let mut options = s3(&prefix);
    options.common.tombstone_age = Some(Duration::from_secs(60));
    let driver = ObjectStoreDriver::minio(options).await.unwrap();
    let now = now_ms();
    for key in ["old", "new"] {
        put(&driver, key, record(1, "v", None)).await;
    }
    driver.remove(&place(), "old", Guard::always(now - 61_000)).await.unwrap();
    driver.remove(&place(), "new", Guard::always(now)).await.unwrap();
    assert_eq!(driver.collect_expired(now, 100).await.unwrap(), 1);
    assert_eq!(driver.collect_expired(now, 100).await.unwrap(), 0);
    assert_eq!(driver.collect_expired(now + 61_000, 100).await.unwrap(), 1);
}

#[tokio::test]
async fn large_bodies_go_in_parts_and_ranges_come_alone() {
    let body: Bytes =
        (0..20 << 20).map(|at: u32| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    // The server for tests takes no parts.
    let mut whole = gcs(&unique("large"));
    whole.common.part_bytes = 64 << 20;
    let stores = [
        ObjectStoreDriver::s3(s3(&unique("large"))).await.unwrap(),
        ObjectStoreDriver::minio(minio(&unique("large"))).await.unwrap(),
        ObjectStoreDriver::azure_blob(azure(&unique("large"))).await.unwrap(),
        ObjectStoreDriver::gcs(whole).await.unwrap(),
    ];
    for driver in stores {
        put(&driver, "k", record(1, body.clone(), None)).await;
        let read = driver.get(&place(), "k", Part::Whole).await.unwrap().unwrap();
        assert!(read.body == body);
        for range in [0..1, 4000..5000, 65_530..65_540, 19_000_000..19_000_003, 0..1 << 40] {
            let part = driver.get(&place(), "k", Part::Range(range.clone())).await.unwrap();
            let end = range.end.min(20 << 20) as usize;
            assert!(part.unwrap().body == body.slice(range.start as usize..end), "{range:?}");
        }
        let past = driver.get(&place(), "k", Part::Range(1 << 30..1 << 31)).await.unwrap();
        assert!(past.unwrap().body.is_empty());
        let guard =
            Guard { condition: Condition::IfMatch(Version::from_u64(1)), ..Guard::always(1) };
        driver.put(&place(), "k", record(2, body.clone(), None), guard).await.unwrap();
        let head = driver.get(&place(), "k", Part::Head).await.unwrap().unwrap();
        assert_eq!((head.version, head.body.len()), (Version::from_u64(2), 0));
        assert!(driver.remove(&place(), "k", Guard::always(now_ms())).await.unwrap());
    }
}

#[tokio::test]
async fn large_values_and_exact_versions_pass_the_layers() {
    let prefix = unique("layers");
    let mut options = s3(&prefix);
    options.common.body_bytes_max = 1 << 20;
    let backend = DriverBackend::new(ObjectStoreDriver::s3(options).await.unwrap());
    let value = Bytes::from(vec![7; (3 << 20) + 5]);
    let version = backend.put("k", value.clone(), StorageOptions::default()).await.unwrap();
    assert!(backend.get("k").await.unwrap().unwrap() == value);
    let write = StorageOptions { version: Some(version), ..StorageOptions::default() };
    let stale = backend.put("k", value, write).await.unwrap_err();
    assert_eq!(stale.code(), "conflict");
    backend.delete("k").await.unwrap();
}

#[tokio::test]
async fn instances_see_each_other_and_what_was_there_before() {
    let prefix = unique("two");
    let one = S3Backend::new(s3(&prefix)).await.unwrap();
    one.put("k", Bytes::from_static(b"v"), StorageOptions::default()).await.unwrap();
    drop(one);
    let two = S3Backend::new(s3(&prefix)).await.unwrap();
    assert_eq!(two.get("k").await.unwrap().unwrap(), "v");
    let page = two.list(ListOptions::default()).await.unwrap();
    assert_eq!(page.entries.len(), 1);
    let apart = S3Backend::new(s3(&unique("two"))).await.unwrap();
    assert_eq!(apart.get("k").await.unwrap(), None);
    assert_eq!(two.health_check().await, HealthStatus::Healthy);
}

#[tokio::test]
async fn what_is_no_record_is_told_and_passed_over() {
    let (outer, inner) = (unique("outer"), "default");
    let driver = ObjectStoreDriver::s3(s3(&outer)).await.unwrap();
    put(&driver, "k", record(1, "v", None)).await;
    // Under this prefix, the objects of the other one look like those of somebody else.
    let other = ObjectStoreDriver::s3(s3(&format!("{outer}/{inner}/o"))).await.unwrap();
    put(&other, "k", record(1, "v", None)).await;
    assert_eq!(keys(&driver, "", None).await, ["k"]);
    assert_eq!(driver.collect_expired(now_ms(), 10).await.unwrap(), 0);
}

fn assert_kind(result: sira_store::Result<ObjectStoreDriver>, code: &str, secret: &str) {
    let error = result.unwrap_err();
    assert_eq!(error.code(), code, "{error}");
    for text in [format!("{error}"), format!("{error:?}")] {
        assert!(!text.contains(secret), "{text}");
    }
}

#[tokio::test]
async fn wrong_settings_are_told_apart() {
    let prefix = unique("wrong");
    let wrong_key =
        s3(&prefix).with_access_key(env("SIRA_TEST_S3_ACCESS_KEY_ID"), "not-the-secret");
    assert_kind(ObjectStoreDriver::s3(wrong_key).await, "permission_denied", "not-the-secret");
    let wrong_key = azure(&prefix).with_account_key("bm90LXRoZS1zZWNyZXQ=");
    let refused = ObjectStoreDriver::azure_blob(wrong_key).await;
    assert_kind(refused, "permission_denied", "bm90LXRoZS1zZWNyZXQ");
    let missing = S3Options { bucket: "no-such-bucket".to_owned(), ..s3(&prefix) };
    assert_kind(ObjectStoreDriver::s3(missing).await, "not_found", "testsecret");
    let missing = AzureBlobOptions { container: "no-such-container".to_owned(), ..azure(&prefix) };
    assert_kind(ObjectStoreDriver::azure_blob(missing).await, "not_found", "Eby8");
    let missing = GcsOptions { bucket: "no-such-bucket".to_owned(), ..gcs(&prefix) };
    assert_kind(ObjectStoreDriver::gcs(missing).await, "not_found", "-----");
    for prefix in ["/a", "a/", "a//b", "a b", "..", "a/.", &"a".repeat(101)] {
        assert_kind(ObjectStoreDriver::s3(s3(prefix)).await, "invalid_input", "testsecret");
    }
    let mut no_ca = s3(&prefix);
    no_ca.common.ca_file = Some("/dev/null".into());
    assert_kind(ObjectStoreDriver::s3(no_ca).await, "invalid_input", "testsecret");
}

#[tokio::test]
async fn nobody_there_is_told_at_once() {
    // A port that was free a moment ago.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let options = s3(&unique("nobody")).with_endpoint(format!("http://{free}"));
    let error = ObjectStoreDriver::s3(options).await.unwrap_err();
    assert!(matches!(error, StorageError::Unavailable(_)), "{error}");
    assert_eq!(error.retry(), Retry::Temporary);
    assert!(error.to_string().contains(&free.to_string()), "{error}");
}

#[tokio::test]
async fn silence_is_a_timeout() {
    // Takes connections and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let mut options = s3(&unique("silent")).with_endpoint(format!("http://{address}"));
    options.common.operation_timeout = Duration::from_millis(100);
    let error = ObjectStoreDriver::s3(options.clone()).await.unwrap_err();
    assert_eq!((error.code(), error.retry()), ("timeout", Retry::Ambiguous), "{error}");
    options.common.conditions = Some(Conditions::All);
    let error = ObjectStoreDriver::s3(options).await.unwrap_err();
    assert_eq!((error.code(), error.retry()), ("timeout", Retry::Temporary), "{error}");
}

#[test]
fn secrets_are_not_printed() {
    let mut s3 = S3Options::new("b", "r").with_access_key("the-id", "the-secret");
    s3.session_token = Some("the-token".to_owned());
    let mut azure = AzureBlobOptions::new("a", "c").with_account_key("the-secret");
    azure.sas_token = Some("sig=the-token".to_owned());
    let gcs = GcsOptions::new("b").with_credential(GcsCredential::Token("the-token".to_owned()));
    for text in [format!("{s3:?}"), format!("{azure:?}"), format!("{gcs:?}")] {
        assert!(!text.contains("the-"), "{text}");
    }
}
