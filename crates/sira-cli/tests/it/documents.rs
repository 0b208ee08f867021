//! openapi, completions, man, doctor, help.

use serde_json::Value;

use crate::support::{run, sira};

#[test]
fn help_lists_the_exit_codes() {
    let help = run(sira().arg("--help")).exits(0).text();
    for code in ["    0  ", "    3  ", "    7  ", "  130  ", "  143  "] {
        assert!(help.contains(code), "{help}");
    }
}

#[test]
fn the_manual_lists_what_help_lists() {
    let docs = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/cli.md");
    let docs = std::fs::read_to_string(docs).unwrap();
    let help = run(sira().arg("--help")).exits(0).text();
    let verbs = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    for verb in verbs.lines().filter_map(|line| line.split_whitespace().next()) {
        assert!(verb == "help" || docs.contains(&format!("`sira {verb}")), "{verb}");
    }
    let codes = help.split("Exit codes:\n").nth(1).unwrap();
    for line in codes.lines() {
        let (code, text) = line.trim().split_once("  ").unwrap();
        assert!(docs.contains(&format!("| {code} | {text} |")), "{line}");
    }
}

#[test]
fn the_version_is_one_line_and_the_engines_another() {
    let version = concat!("sira ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(run(sira().arg("-V")).exits(0).text(), version);
    let long = run(sira().arg("--version")).exits(0).text();
    let engines = long.strip_prefix(version).and_then(|rest| rest.strip_prefix("engines: "));
    let engines: Vec<&str> = engines.unwrap().trim_end().split(", ").collect();
    assert!(engines.starts_with(&["embedded", "memory"]), "{engines:?}");
}

#[test]
fn openapi_is_a_document() {
    let ran = run(sira().arg("openapi")).exits(0);
    let document: Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert!(document["openapi"].as_str().unwrap().starts_with("3."));
    assert!(document["paths"]["/v1/{namespace}/{key}"]["put"].is_object());
}

#[test]
fn completions_and_manual_pages() {
    for shell in ["bash", "zsh", "fish"] {
        let script = run(sira().args(["completions", shell])).exits(0).text();
        assert!(script.contains("if-absent"), "{shell}");
    }
    assert!(run(sira().arg("man")).exits(0).text().contains("Exit codes"));
    let folder = tempfile::tempdir().unwrap();
    run(sira().args(["man", "--out"]).arg(folder.path())).exits(0);
    assert!(folder.path().join("sira-put.1").is_file());
}

#[test]
fn doctor_checks_and_says_what_mends() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("data");
    let ports = ["--json", "doctor"];
    let ran = run(sira()
        .args(ports)
        .arg("--root")
        .arg(&root)
        .env("SIRA_HTTP_ADDR", "127.0.0.1:0")
        .env("SIRA_RESP_ADDR", "127.0.0.1:0")
        .env("SIRA_SERVER", "http://127.0.0.1:1"));
    let findings = ran.json();
    let names: Vec<&str> = findings.iter().map(|f| f["check"].as_str().unwrap()).collect();
    let expected = [
        "open files",
        "clock",
        "data folder",
        "disk space",
        "fsync",
        "HTTP port",
        "RESP port",
        "token",
        "data",
        "backends",
        "server",
    ];
    assert_eq!(names, expected);
    assert!(!root.exists());
    let verdict = |name: &str| {
        findings.iter().find(|f| f["check"] == name).unwrap()["verdict"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    for name in ["clock", "data folder", "HTTP port", "token", "data"] {
        assert_eq!(verdict(name), "ok", "{name}: {findings:?}");
    }

    let ran = run(sira()
        .args(["doctor", "--json", "--root", "/proc/self/nothing"])
        .env("SIRA_HTTP_ADDR", "0.0.0.0:0"))
    .exits(1);
    let findings = ran.json();
    for name in ["data folder", "token"] {
        let finding = findings.iter().find(|f| f["check"] == name).unwrap();
        assert_eq!(finding["verdict"], "error", "{finding}");
        assert!(finding["mend"].is_string(), "{finding}");
    }
}
