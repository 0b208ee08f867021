//! Links and paths in documents lead somewhere.

use std::collections::BTreeSet;
use std::path::Path;

use crate::files::{below, exists, none, read};

/// Lines of a Markdown file outside fenced blocks, numbered from 1.
fn prose(text: &str) -> Vec<(usize, &str)> {
    let mut fenced = false;
    let mut lines = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            lines.push((number + 1, line));
        }
    }
    lines
}

/// A line without its `code`.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect()
}

/// Targets of the links `[text](target)` of a line.
fn links(line: &str) -> Vec<String> {
    let line = without_code(line);
    line.match_indices("](")
        .filter_map(|(at, _)| line[at + 2..].split_once(')'))
        .map(|(target, _)| target.split_whitespace().next().unwrap_or_default().to_owned())
        .collect()
}

/// Anchors of the headings of a Markdown file, as mdBook and others make them.
fn anchors(text: &str) -> BTreeSet<String> {
    let heading = |line: &str| {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect::<String>()
    };
    prose(text)
        .into_iter()
        .filter(|(_, line)| line.starts_with('#'))
        .map(|(_, line)| heading(line))
        .collect()
}

/// The path that `target` names, seen from the file `from`.
fn resolve(from: &str, target: &str) -> String {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "." | "" => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[test]
fn links_lead_somewhere() {
    let mut broken = Vec::new();
    let mut followed = 0;
    for path in below("", &[".md"]) {
        for (number, line) in prose(&read(&path)) {
            for target in links(line) {
                if target.contains("://") || target.starts_with("mailto:") {
                    continue;
                }
                followed += 1;
                let (file, anchor) = target.split_once('#').unwrap_or((target.as_str(), ""));
                let file = if file.is_empty() { path.clone() } else { resolve(&path, file) };
                if !exists(&file) {
                    broken.push(format!("{path}:{number}: {target} is not there"));
                } else if !anchor.is_empty() && !anchors(&read(&file)).contains(anchor) {
                    broken.push(format!("{path}:{number}: {file} has no heading #{anchor}"));
                }
            }
        }
    }
    none(&broken);
    assert!(followed > 10, "only {followed} links were found: is the test blind?");
}

/// Folders of the repository that documents and comments name files of.
const FOLDERS: &[&str] = &[".ci/", ".github/", "benches/", "crates/", "docs/", "fuzz/", "scripts/"];

#[test]
fn paths_in_code_spans_and_comments_are_there() {
    let mut missing = Vec::new();
    let mut looked_at = 0;
    let comment = |line: &str| line.trim_start().starts_with("//");
    for path in below("", &[".md", ".rs"]) {
        let text = read(&path);
        for (number, line) in text.lines().enumerate() {
            if path.ends_with(".rs") && !comment(line) {
                continue;
            }
            for span in line.split('`').skip(1).step_by(2) {
                let plain = |c: char| c.is_ascii_alphanumeric() || "./_-".contains(c);
                let is_path = FOLDERS.iter().any(|folder| span.starts_with(folder));
                if !is_path || !span.chars().all(plain) {
                    continue;
                }
                looked_at += 1;
                if !exists(span) {
                    missing.push(format!("{path}:{}: {span} is not there", number + 1));
                }
            }
        }
    }
    none(&missing);
    assert!(looked_at > 10, "only {looked_at} paths were found: is the test blind?");
}

#[test]
fn the_summary_names_every_page_once() {
    let summary = read("docs/SUMMARY.md");
    let named: Vec<String> = summary.lines().flat_map(links).collect();
    let unique: BTreeSet<&String> = named.iter().collect();
    assert_eq!(named.len(), unique.len(), "a page stands twice in docs/SUMMARY.md");
    let pages: BTreeSet<String> = below("docs", &[".md"])
        .into_iter()
        .filter_map(|path| path.strip_prefix("docs/").map(str::to_owned))
        .filter(|path| path != "SUMMARY.md")
        .collect();
    let named: BTreeSet<String> = named.into_iter().collect();
    assert_eq!(pages, named, "docs/SUMMARY.md and the pages of docs/ differ");
}

#[test]
fn limits_in_the_documents_are_those_of_the_code() {
    let code = read("crates/sira-store/src/limits.rs") + &read("crates/sira-server/src/limits.rs");
    let mut wrong = Vec::new();
    for path in below("docs", &[".md"]) {
        for (number, line) in read(&path).lines().enumerate() {
            for span in line.split('`').skip(1).step_by(2) {
                // The variables of OpenTelemetry are others' names.
                let is_limit = span.len() > 4
                    && !span.starts_with("OTEL_")
                    && (span.ends_with("_MAX")
                        || span.ends_with("_MIN")
                        || span.ends_with("_TIMEOUT"))
                    && span.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
                if is_limit && !code.contains(&format!("const {span}:")) {
                    wrong.push(format!("{path}:{}: there is no limit {span}", number + 1));
                }
            }
        }
    }
    none(&wrong);
}

#[test]
fn every_document_begins_with_a_title() {
    let untitled = |path: &String| {
        let text = read(path);
        let titles = prose(&text).into_iter().filter(|(_, line)| line.starts_with("# ")).count();
        (titles != 1 || !text.starts_with("# ")).then(|| format!("{path}: needs one title, first"))
    };
    let mut pages = below("", &[".md"]);
    // The parts of the book are headings there.
    pages.retain(|page| page != "docs/SUMMARY.md");
    assert!(pages.iter().any(|page| Path::new(page).ends_with("README.md")));
    none(&pages.iter().filter_map(untitled).collect::<Vec<_>>());
}
