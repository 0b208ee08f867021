//! Medians, spreads and ratios, as a Markdown table and as JSON.

use std::fmt::Write as _;

use serde::Serialize;

/// One line of a comparison: what each contender did in each round.
#[derive(Debug, Serialize)]
pub struct Row {
    pub name: String,
    pub unit: String,
    pub more_is_better: bool,
    /// The first contender is the one that is compared with the others.
    pub contenders: Vec<Contender>,
}

/// Figures of one contender, one a round.
#[derive(Debug, Serialize)]
pub struct Contender {
    pub name: String,
    pub figures: Vec<f64>,
}

/// Median, least and greatest.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    pub fn of(figures: &[f64]) -> Self {
        let mut sorted = figures.to_vec();
        sorted.sort_by(f64::total_cmp);
        let half = sorted.len() / 2;
        let median = match sorted.len() {
            0 => f64::NAN,
            even if even % 2 == 0 => (sorted[half - 1] + sorted[half]) / 2.0,
            _ => sorted[half],
        };
        let min = sorted.first().copied().unwrap_or(f64::NAN);
        let max = sorted.last().copied().unwrap_or(f64::NAN);
        Self { median, min, max }
    }
}

impl Row {
    pub fn new(name: &str, unit: &str, more_is_better: bool, contenders: &[&str]) -> Self {
        let contenders = contenders
            .iter()
            .map(|name| Contender { name: (*name).to_owned(), figures: Vec::new() })
            .collect();
        Self { name: name.to_owned(), unit: unit.to_owned(), more_is_better, contenders }
    }

    pub fn add(&mut self, contender: usize, figure: f64) {
        self.contenders[contender].figures.push(figure);
    }

    /// The best of the others by median, and the ratio to it in each round; above 1 the first
    /// contender is better.
    pub fn ratio(&self) -> Option<(&str, Spread)> {
        let (first, others) = self.contenders.split_first()?;
        let best = others.iter().max_by(|a, b| {
            let (a, b) = (Spread::of(&a.figures).median, Spread::of(&b.figures).median);
            if self.more_is_better { a.total_cmp(&b) } else { b.total_cmp(&a) }
        })?;
        let ratios: Vec<f64> = first
            .figures
            .iter()
            .zip(&best.figures)
            .map(|(own, other)| if self.more_is_better { own / other } else { other / own })
            .collect();
        Some((&best.name, Spread::of(&ratios)))
    }
}

/// A table of rows with the same contenders.
#[derive(Debug, Serialize)]
pub struct Report {
    pub title: String,
    /// What was set, and how it was measured.
    pub notes: Vec<String>,
    pub rows: Vec<Row>,
}

impl Report {
    pub fn new(title: &str, notes: &[String]) -> Self {
        Self { title: title.to_owned(), notes: notes.to_vec(), rows: Vec::new() }
    }

    /// The table in Markdown.
    pub fn markdown(&self) -> String {
        let mut out = format!("### {}\n\n", self.title);
        for note in &self.notes {
            let _ = writeln!(out, "- {note}");
        }
        if !self.notes.is_empty() {
            out.push('\n');
        }
        let Some(first) = self.rows.first() else { return out };
        out.push_str("| work | unit |");
        for contender in &first.contenders {
            let _ = write!(out, " {} |", contender.name);
        }
        if first.contenders.len() > 1 {
            out.push_str(" ratio to the best other |");
        }
        out.push_str("\n|---|---|");
        out.push_str(&"---|".repeat(first.contenders.len()));
        out.push_str(if first.contenders.len() > 1 { "---|\n" } else { "\n" });
        for row in &self.rows {
            let _ = write!(out, "| {} | {} |", row.name, row.unit);
            for contender in &row.contenders {
                let spread = Spread::of(&contender.figures);
                let _ = write!(
                    out,
                    " {} ({}..{}) |",
                    figure(spread.median),
                    figure(spread.min),
                    figure(spread.max)
                );
            }
            if let Some((best, ratio)) = row.ratio() {
                let _ = write!(
                    out,
                    " **{:.2}** ({:.2}..{:.2}) {best} |",
                    ratio.median, ratio.min, ratio.max
                );
            }
            out.push('\n');
        }
        out
    }

    /// Prints the table, and writes the figures where JSON is wanted.
    pub fn finish(&self, json: Option<&std::path::Path>) {
        println!("{}", self.markdown());
        if let Some(path) = json {
            let text = serde_json::to_string_pretty(self).expect("figures encode");
            std::fs::write(path, text).expect("the JSON file is writable");
        }
    }
}

/// Three digits that count.
fn figure(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}
