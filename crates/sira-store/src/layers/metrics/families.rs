//! Metric families, as they are read at one moment, and the Prometheus text format, version 0.0.4.

use std::fmt::Write;

/// Type of a metric family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts in buckets.
    Histogram,
}

/// Metrics of one name.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricFamily {
    /// Its name, with the unit in it.
    pub name: String,
    /// Its type.
    pub kind: MetricKind,
    /// What it tells.
    pub help: String,
    /// Its values.
    pub samples: Vec<Sample>,
}

/// One value of a family.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Names and values of its labels.
    pub labels: Vec<(String, String)>,
    /// The value.
    pub value: SampleValue,
}

/// What a sample holds.
#[derive(Debug, Clone, PartialEq)]
pub enum SampleValue {
    /// A counter's or gauge's number.
    Number(f64),
    /// A histogram's buckets.
    Histogram {
        /// Upper bounds of the buckets.
        bounds: Vec<f64>,
        /// Counts of the buckets, not cumulative; one more than `bounds`, for what lies above.
        counts: Vec<u64>,
        /// Sum of what was counted.
        sum: f64,
    },
}

/// Gathers metric families.
#[derive(Debug, Default)]
pub struct MetricFamilies {
    families: Vec<MetricFamily>,
}

impl MetricFamilies {
    /// Begins a family; its samples follow.
    pub fn family(&mut self, name: &str, kind: MetricKind, help: &str) {
        self.families.push(MetricFamily {
            name: name.to_owned(),
            kind,
            help: help.to_owned(),
            samples: Vec::new(),
        });
    }

    /// Adds one sample to the family begun last.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: f64) {
        self.add(labels, SampleValue::Number(value));
    }

    /// Adds a family of one sample without labels.
    pub fn metric(&mut self, name: &str, kind: MetricKind, help: &str, value: f64) {
        self.family(name, kind, help);
        self.sample(&[], value);
    }

    /// Adds one histogram to the family begun last. `counts` are not cumulative and have one more
    /// entry than `bounds`, for what lies above all of them.
    pub fn histogram(&mut self, labels: &[(&str, &str)], bounds: &[f64], counts: &[u64], sum: f64) {
        let (bounds, counts) = (bounds.to_vec(), counts.to_vec());
        self.add(labels, SampleValue::Histogram { bounds, counts, sum });
    }

    fn add(&mut self, labels: &[(&str, &str)], value: SampleValue) {
        let labels =
            labels.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        if let Some(family) = self.families.last_mut() {
            family.samples.push(Sample { labels, value });
        }
    }

    /// The families, in the order in which they were begun.
    #[must_use]
    pub fn into_families(self) -> Vec<MetricFamily> {
        self.families
    }

    /// The families as Prometheus' text.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        for family in &self.families {
            write_family(family, &mut out);
        }
        out
    }
}

fn write_family(family: &MetricFamily, out: &mut String) {
    let name = &family.name;
    let kind = match family.kind {
        MetricKind::Counter => "counter",
        MetricKind::Gauge => "gauge",
        MetricKind::Histogram => "histogram",
    };
    let help = family.help.replace('\\', "\\\\").replace('\n', "\\n");
    // Writing to a String cannot fail.
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
    for Sample { labels, value } in &family.samples {
        match value {
            SampleValue::Number(value) => write_line(name, "", labels, None, *value, out),
            SampleValue::Histogram { bounds, counts, sum } => {
                let mut total = 0;
                let bounds =
                    bounds.iter().map(f64::to_string).chain(std::iter::once("+Inf".to_owned()));
                for (bound, count) in bounds.zip(counts) {
                    total += count;
                    write_line(name, "_bucket", labels, Some(&bound), total as f64, out);
                }
                write_line(name, "_sum", labels, None, *sum, out);
                write_line(name, "_count", labels, None, total as f64, out);
            }
        }
    }
}

fn write_line(
    name: &str,
    suffix: &str,
    labels: &[(String, String)],
    bound: Option<&str>,
    value: f64,
    out: &mut String,
) {
    out.push_str(name);
    out.push_str(suffix);
    let labels = labels.iter().map(|(label, text)| (label.as_str(), text.as_str()));
    let mut open = false;
    for (label, text) in labels.chain(bound.map(|bound| ("le", bound))) {
        let begin = if open { ',' } else { '{' };
        let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let _ = write!(out, "{begin}{label}=\"{text}\"");
        open = true;
    }
    if open {
        out.push('}');
    }
    let _ = writeln!(out, " {value}");
}
