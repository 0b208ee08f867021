//! capacity, capacity forecast and cost: on a server, and on files of numbers.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::support::{Server, run, run_with_input, sira};

fn data(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../sira-store/tests/data").join(name)
}

#[test]
fn a_file_is_forecast_with_its_error() {
    let file = data("mooncake-conversation-minutes.csv");
    let mut verb = sira();
    let verb = verb.args(["capacity", "forecast", "--column", "requests", "--horizon", "5"]);
    let text = run(verb.arg(&file)).exits(0).text();
    for part in ["59 lines of ", "no season", "ACCURACY", "\nmodel ", "\nnaive ", "\n     5 "] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let record = run(verb.arg("--json")).exits(0).json().remove(0);
    assert_eq!((&record["samples"], &record["season"]), (&Value::from(59), &Value::from(1)));
    let accuracy = record["backtest"]["accuracy"].as_f64().unwrap();
    assert!(accuracy > 0.9, "{record}");
    assert!(record["backtest"]["naive"]["wape"].as_f64().is_some());
    let points = record["points"].as_array().unwrap();
    assert_eq!(points.len(), 5);
    assert!(points[4]["low"].as_f64() < points[4]["high"].as_f64());

    let mut verb = sira();
    let verb = verb.args(["capacity", "forecast", "--season", "12", "--json"]);
    let record = run(verb.arg(data("airline-passengers.csv"))).exits(0).json().remove(0);
    assert_eq!((&record["season"], &record["gaps"]), (&Value::from(12), &Value::from(0)));
    assert!(record["backtest"]["seasonal_naive"]["accuracy"].as_f64().is_some());
}

#[test]
fn events_come_from_standard_input_and_are_counted() {
    let events: String = (0..400).map(|n| format!("{{\"at\":{},\"bytes\":3}}\n", n * 5)).collect();
    let mut verb = sira();
    verb.args(["capacity", "forecast", "-", "--time", "at", "--bucket", "50", "--json"]);
    let counted = run_with_input(&mut verb, events.as_bytes()).exits(0).json().remove(0);
    assert_eq!(counted["samples"], 40);
    assert_eq!(counted["points"][0]["expected"], 10.0);
    verb.args(["--column", "bytes"]);
    let added = run_with_input(&mut verb, events.as_bytes()).exits(0).json().remove(0);
    assert_eq!(added["points"][0]["expected"], 30.0);
}

#[test]
fn what_is_no_series_is_refused_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("few.csv");
    fs::write(&file, "used\n1\n2\n3\n").unwrap();
    let forecast = |more: &[&str]| {
        let mut verb = sira();
        run(verb.args(["capacity", "forecast"]).arg(&file).args(more))
    };
    let told = forecast(&[]).exits(2).stderr;
    assert!(told.contains("too little history: 3 samples, 16 needed"), "{told}");
    let told = forecast(&["--column", "free"]).exits(2).stderr;
    assert!(told.contains("line 2: there is no column \"free\""), "{told}");
    assert!(forecast(&["--horizon", "0"]).exits(2).stderr.contains("--horizon is from 1"));
    forecast(&["--time", "used"]).exits(2);
    let mut verb = sira();
    run(verb.args(["capacity", "forecast", "/no/such/file"])).exits(3);
    let mut verb = sira();
    let both = run(verb.args(["capacity", "--horizon", "30d", "forecast", "x.csv"])).exits(2);
    assert!(both.stderr.contains("counted in samples"), "{}", both.stderr);
}

#[test]
fn a_server_tells_what_is_in_use_and_what_it_costs() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sira.toml");
    let config = "[capacity]\nsample_interval = \"1s\"\n\
                  [cost]\ncurrency = \"EUR\"\nper_gib_month = 1000000.0\n";
    fs::write(&file, config).unwrap();
    let server = Server::start_with(&folder.path().join("root"), |it| {
        it.arg("--config").arg(&file);
    });
    let ask = |args: &[&str]| {
        let mut verb = sira();
        run(verb.args(["--server", &server.http]).args(args))
    };
    let value = folder.path().join("value");
    fs::write(&value, vec![7; 4_000]).unwrap();
    for n in 0..5 {
        let key = format!("sira://models/{n}");
        ask(&["put", &key, value.to_str().unwrap()]).exits(0);
    }
    let mut report = Value::Null;
    for _ in 0..600 {
        report = ask(&["capacity", "--json"]).exits(0).json().remove(0);
        if report["namespaces"]["models"]["objects"] == 5 {
            break;
        }
        #[allow(clippy::disallowed_methods, reason = "another process needs its time")]
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(report["namespaces"]["models"]["used_bytes"], 20_005, "{report}");
    assert_eq!(report["horizon_days"], 30.0);
    let table = ask(&["capacity", "--horizon", "12h"]).exits(0).text();
    for part in ["BACKEND", "FORECAST", "\nembedded ", "\nNAMESPACE", "\nmodels "] {
        assert!(table.contains(part), "{part}: {table}");
    }
    assert!(ask(&["capacity", "--horizon", "soon"]).exits(2).stderr.contains("--horizon"));
    ask(&["capacity", "--horizon", "9000d"]).exits(2);

    let cost = ask(&["cost", "--json"]).exits(0).json().remove(0);
    let models = &cost["namespaces"]["models"]["embedded"];
    assert_eq!(models["measured"]["stored_bytes"], 20_005);
    let storage = models["bill"]["storage_per_month"].as_f64().unwrap();
    assert!((storage - 20_005.0 * 1e6 / f64::from(1 << 30)).abs() < 1e-6, "{storage}");
    let table = ask(&["cost"]).exits(0).text();
    for part in
        ["STORAGE/MON", "\nembedded ", "\ntotal ", "EUR", "\nmodels on embedded ", "reckoned:"]
    {
        assert!(table.contains(part), "{part}: {table}");
    }
}
