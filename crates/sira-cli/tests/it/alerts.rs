//! A server whose data is damaged, watched by a real Prometheus and a real Alertmanager.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use sira_store::env::{Env, SystemEnv};

use crate::support::{Server, run, sira};

fn env(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set: run scripts/services up and eval \"$(scripts/services env)\"")
    })
}

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy")
}

fn get(url: &str) -> Value {
    let answer = ureq::get(url).call().unwrap().into_body().read_to_vec().unwrap();
    serde_json::from_slice(&answer).unwrap()
}

/// Asks until the answer is right.
fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    for _ in 0..900 {
        if let Some(found) = ask() {
            return found;
        }
        #[allow(clippy::disallowed_methods, reason = "other processes need their time")]
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("{what} does not come");
}

/// Removes a file at the end of the test.
struct Lent(PathBuf);

impl Drop for Lent {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn damage_fires_in_prometheus_and_is_told_to_alertmanager() {
    let (prometheus, alertmanager) =
        (env("SIRA_TEST_PROMETHEUS_URL"), env("SIRA_TEST_ALERTMANAGER_URL"));
    let watched = PathBuf::from(env("SIRA_TEST_PROMETHEUS_FOLDER"));
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    let file = folder.path().join("sira.toml");
    let config = format!(
        "[storage.monitoring.health]\ninterval = \"1s\"\nscrub_bytes_per_second = \"1G\"\nscrub_every = \"1s\"\n\
         [[storage.monitoring.notify]]\ntype = \"alertmanager\"\nurl = \"{alertmanager}\"\n"
    );
    fs::write(&file, config).unwrap();
    let start = || {
        Server::start_with(&root, |it| {
            it.arg("--config").arg(&file);
        })
    };

    let server = start();
    let value = folder.path().join("value");
    fs::write(&value, vec![7; 1 << 20]).unwrap();
    for n in 0..8 {
        let mut put = sira();
        put.args(["--server", &server.http, "put"]).arg(format!("sira://cold/{n}")).arg(&value);
        run(&mut put).exits(0);
    }
    server.signal(rustix::process::Signal::TERM);
    server.wait();
    // A server that was stopped in order does not read everything when it starts.
    let months = fs::read_dir(&root).unwrap().map(|it| it.unwrap().path());
    let mut segments: Vec<PathBuf> = months
        .filter(|it| it.is_dir() && it.file_name().unwrap().len() == 7)
        .flat_map(|month| fs::read_dir(month).unwrap().map(|it| it.unwrap().path()))
        .filter(|it| it.metadata().unwrap().len() > (4 << 20))
        .collect();
    segments.sort();
    let damaged = fs::OpenOptions::new().write(true).open(&segments[0]).unwrap();
    damaged.write_all_at(b"damage", (2 << 20) + 1000).unwrap();

    let begun = sira_server::timestamp::timestamp(SystemEnv.now_ms());
    let server = start();
    let address = server.http.trim_start_matches("http://").to_owned();
    let name = format!("{:016x}", SystemEnv.random_u64());
    let rules = Lent(watched.join(format!("rules/{name}.yml")));
    fs::copy(deploy().join("prometheus/rules.yml"), &rules.0).unwrap();
    let target = Lent(watched.join(format!("targets/{name}.json")));
    fs::write(&target.0, format!(r#"[{{"targets": ["{address}"]}}]"#)).unwrap();
    ureq::post(&format!("{prometheus}/-/reload")).send_empty().unwrap();

    // The rule that is shipped, in Prometheus.
    let fired = until("the alert in Prometheus", || {
        let answer = get(&format!("{prometheus}/api/v1/alerts"));
        let alerts = answer["data"]["alerts"].as_array().unwrap().clone();
        alerts.into_iter().find(|it| {
            it["labels"]["alertname"] == "SiraDamaged"
                && it["labels"]["instance"] == address.as_str()
                && it["state"] == "firing"
        })
    });
    assert_eq!(fired["labels"]["backend"], "embedded");
    // What the server tells Alertmanager itself, beside what Prometheus does.
    let in_alertmanager = |alertname: &str, is_right: &dyn Fn(&Value) -> bool| {
        let answer = get(&format!("{alertmanager}/api/v2/alerts"));
        let alerts = answer.as_array().unwrap().clone();
        alerts.into_iter().find(|it| it["labels"]["alertname"] == alertname && is_right(it))
    };
    let told = until("the alert in Alertmanager", || {
        in_alertmanager("SiraHealthIntegrity", &|it| {
            // Those of the past are others.
            let since = it["startsAt"].as_str().unwrap_or_default();
            it["status"]["state"] == "active" && since.get(..19) >= begun.get(..19)
        })
    });
    assert_eq!(told["labels"]["severity"], "critical");
    assert_eq!(told["annotations"]["runbook_url"], "docs/health.md#integrity");
    until("Prometheus' alert in Alertmanager", || {
        in_alertmanager("SiraDamaged", &|it| it["labels"]["instance"] == address.as_str())
    });

    // The verbs say the same, and what mends it.
    let mut health = sira();
    let ran = run(health.args(["--server", &server.http, "health"])).exits(7);
    assert!(ran.text().contains("segment "), "{}", ran.text());
    let mut doctor = sira();
    let root_text = root.to_string_lossy().into_owned();
    let ran = run(doctor.args(["--server", &server.http, "--root", &root_text, "doctor"]));
    assert!(ran.text().contains("sira log verify"), "{}", ran.text());

    // Every query of the dashboards is one that Prometheus takes.
    for entry in fs::read_dir(deploy().join("grafana")).unwrap() {
        let board: Value =
            serde_json::from_slice(&fs::read(entry.unwrap().path()).unwrap()).unwrap();
        for panel in board["panels"].as_array().unwrap() {
            for query in panel["targets"].as_array().unwrap() {
                let mut query = query["expr"].as_str().unwrap().to_owned();
                for variable in ["$instance", "$backend", "$namespace"] {
                    query = query.replace(variable, ".*");
                }
                let answer = ureq::get(&format!("{prometheus}/api/v1/query"))
                    .query("query", &query)
                    .call()
                    .unwrap_or_else(|error| panic!("{query}: {error}"));
                assert_eq!(answer.status(), 200);
            }
        }
    }
}

#[test]
fn rules_fire_when_they_should() {
    // What brings Prometheus brings its tool.
    let _ = env("SIRA_TEST_PROMETHEUS_URL");
    let mut promtool = std::process::Command::new("promtool");
    let ran = run(promtool.args(["test", "rules"]).arg(deploy().join("prometheus/tests.yml")));
    ran.exits(0);
}
