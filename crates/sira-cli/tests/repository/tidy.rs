//! Rules that no compiler checks.

use crate::files::{below, none, read};

const FILE_LINES_MAX: usize = 700;

/// Which of our crates each crate may use.
const ARROWS: &[(&str, &[&str])] = &[
    ("sira-log", &[]),
    ("sira-store", &["sira-log"]),
    ("sira-backends", &["sira-store"]),
    ("sira-server", &["sira-store"]),
    ("sira-cli", &["sira-log", "sira-store", "sira-backends", "sira-server"]),
];

/// Modules that do not know each other: a folder, and the path that it must not name.
const WALLS: &[(&str, &str)] = &[
    ("crates/sira-server/src/http", "crate::resp"),
    ("crates/sira-server/src/resp", "crate::http"),
    ("crates/sira-log/src/frame", "crate::log"),
    ("crates/sira-log/src/frame", "crate::storage"),
    ("crates/sira-log/src/log", "crate::storage"),
    ("crates/sira-store/src/memory", "crate::embedded"),
    ("crates/sira-store/src/embedded/index", "super::engine"),
    ("crates/sira-store/src/driver", "crate::embedded"),
    ("crates/sira-store/src/router", "crate::placement"),
    ("crates/sira-store/src/seal", "crate::sealing"),
];

fn sources() -> impl Iterator<Item = (String, String)> {
    below("crates", &[".rs"])
        .into_iter()
        .map(|path| (read(&path), path))
        .map(|(text, path)| (path, text))
}

#[test]
fn files_are_short() {
    let long = |(path, text): (String, String)| {
        let lines = text.lines().count();
        (lines > FILE_LINES_MAX && path.contains("/src/"))
            .then(|| format!("{path}: {lines} lines, the limit is {FILE_LINES_MAX}: split it"))
    };
    none(&sources().filter_map(long).collect::<Vec<_>>());
}

#[test]
fn nothing_is_left_for_later() {
    // Put together here, so that this file does not find itself.
    let marks = [["TO", "DO"], ["FIX", "ME"], ["to", "do!("], ["unimple", "mented!("]];
    let mut found = Vec::new();
    let documents = ["docs", "scripts"].into_iter().flat_map(|folder| below(folder, &[""]));
    let others = documents.map(|path| (read(&path), path)).map(|(text, path)| (path, text));
    for (path, text) in sources().chain(others) {
        for (number, line) in text.lines().enumerate() {
            if marks.iter().any(|mark| line.contains(&mark.concat())) {
                found.push(format!("{path}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    none(&found);
}

#[test]
fn every_module_says_what_it_is() {
    let silent = |(path, text): (String, String)| {
        let is_module =
            path.contains("/src/") && !path.ends_with("tests.rs") && !path.contains("/tests/");
        (is_module && !text.starts_with("//! ")).then(|| format!("{path}: begins with no `//! `"))
    };
    none(&sources().filter_map(silent).collect::<Vec<_>>());
}

/// Names of a manifest's dependencies, those for tests left out.
fn dependencies(manifest: &str) -> Vec<String> {
    let text = read(manifest);
    let mut inside = false;
    let mut found = Vec::new();
    for line in text.lines() {
        if line.starts_with('[') {
            inside = line.ends_with("dependencies]") && !line.contains("dev-dependencies");
        } else if inside && let Some(end) = line.find(['.', '=', ' ']) {
            found.push(line[..end].to_owned());
        }
    }
    found
}

#[test]
fn arrows_between_crates_go_one_way() {
    let manifests = below("crates", &["Cargo.toml"]);
    let mut wrong = Vec::new();
    for manifest in &manifests {
        let name = manifest.split('/').nth(1).unwrap();
        let Some((_, allowed)) = ARROWS.iter().find(|(known, _)| *known == name) else {
            wrong.push(format!("{manifest}: a crate that has no place in the order yet"));
            continue;
        };
        for dependency in dependencies(manifest) {
            if dependency.starts_with("sira-") && !allowed.contains(&dependency.as_str()) {
                wrong.push(format!("{name} must not use {dependency}"));
            }
        }
    }
    assert_eq!(manifests.len(), ARROWS.len());
    none(&wrong);
}

#[test]
fn walls_between_modules_stand() {
    let mut wrong = Vec::new();
    for (folder, forbidden) in WALLS {
        let inside =
            |path: &str| path.starts_with(&format!("{folder}/")) || path == format!("{folder}.rs");
        let mut looked_at = 0;
        for (path, text) in sources().filter(|(path, _)| inside(path)) {
            looked_at += 1;
            for (number, line) in text.lines().enumerate() {
                if line.contains(forbidden) && !line.trim_start().starts_with("//") {
                    wrong.push(format!("{path}:{}: {folder} must not use {forbidden}", number + 1));
                }
            }
        }
        if looked_at == 0 {
            wrong.push(format!("{folder} is not there any more: mend this test"));
        }
    }
    none(&wrong);
}

#[test]
fn text_files_end_with_one_newline_and_have_no_trailing_blanks() {
    let extensions = [".rs", ".toml", ".md", ".yml"];
    let mut wrong = Vec::new();
    for path in below("", &extensions) {
        let text = read(&path);
        if !text.ends_with('\n') || text.ends_with("\n\n") {
            wrong.push(format!("{path}: must end with one newline"));
        }
        for (number, line) in text.lines().enumerate() {
            if line.ends_with([' ', '\t', '\r']) {
                wrong.push(format!("{path}:{}: trailing blanks", number + 1));
            }
        }
    }
    none(&wrong);
}
