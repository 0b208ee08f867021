//! A backend of one's own: a driver of five methods, here over a map, and the conformance suite.
//! `cargo run -p sira-store --example custom_backend`

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use parking_lot::Mutex;
use sira_store::conformance::{self, ConformanceOptions};
use sira_store::driver::{
    Area, Driver, DriverBackend, DriverProfile, Guard, Listed, Part, Place, Record, Scan,
};
use sira_store::{HealthStatus, Result, Version};

type Key = (Arc<str>, Area, String);

#[derive(Debug, Default)]
struct Map(Mutex<BTreeMap<Key, Record>>);

fn at(place: &Place, key: &str) -> Key {
    (place.namespace.clone(), place.area, key.to_owned())
}

#[async_trait::async_trait]
impl Driver for Map {
    fn profile(&self) -> DriverProfile {
        let most = 1 << 30;
        DriverProfile {
            name: "map",
            conditional: true,
            list: true,
            list_sizes: true,
            ..DriverProfile::blind(most)
        }
    }

    async fn put(&self, place: &Place, key: &str, record: Record, guard: Guard) -> Result<Version> {
        let mut map = self.0.lock();
        let held = map.get(&at(place, key)).map(Record::held);
        let version = guard.admit(held, record.version)?;
        map.insert(at(place, key), Record { version, ..record });
        Ok(version)
    }

    async fn get(&self, place: &Place, key: &str, _: Part) -> Result<Option<Record>> {
        Ok(self.0.lock().get(&at(place, key)).cloned())
    }

    async fn remove(&self, place: &Place, key: &str, guard: Guard) -> Result<bool> {
        let mut map = self.0.lock();
        let live = guard.admit_removal(map.get(&at(place, key)).map(Record::held))?;
        map.remove(&at(place, key));
        Ok(live)
    }

    async fn scan(&self, place: &Place, scan: Scan) -> Result<Vec<Listed>> {
        let map = self.0.lock();
        let here = |key: &Key| (&key.0, key.1) == (&place.namespace, place.area);
        let found = map.iter().filter(|(key, _)| here(key) && scan.covers(&key.2));
        let listed = found.map(|(key, record)| Listed {
            key: key.2.clone(),
            size: record.size,
            version: Some(record.version),
            expiry: record.expires_at_ms.into(),
        });
        Ok(listed.take(scan.limit).collect())
    }

    async fn health_check(&self) -> HealthStatus {
        HealthStatus::Healthy
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let backend = Arc::new(DriverBackend::new(Map::default()));
    let report = conformance::run(backend, ConformanceOptions::default()).await.into_result()?;
    Ok(writeln!(std::io::stdout(), "{report}")?)
}
