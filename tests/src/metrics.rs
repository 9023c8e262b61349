//! A Prometheus scrape, read back.

use std::collections::BTreeMap;

/// One sample of a scrape.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Name, with `_bucket`, `_sum` or `_count` where it is a part of a histogram.
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Value.
    pub value: f64,
}

/// All samples of a scrape.
#[derive(Debug, Clone)]
pub struct Scrape {
    /// The text as it came.
    pub text: String,
    /// Its samples.
    pub samples: Vec<Sample>,
}

impl Scrape {
    /// Reads the text format.
    ///
    /// # Panics
    /// If a line is no sample.
    #[must_use]
    pub fn parse(text: String) -> Self {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let samples = lines.map(|line| sample(line).unwrap_or_else(|| panic!("not a sample: {line}"))).collect();
        Self { text, samples }
    }

    /// The sum of all samples of that name that carry these labels; 0 if there is none.
    #[must_use]
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let carries = |sample: &&Sample| {
            let has = |(key, value): &(&str, &str)| sample.labels.get(*key).is_some_and(|found| found == value);
            sample.name == name && labels.iter().all(has)
        };
        self.samples.iter().filter(carries).map(|sample| sample.value).sum()
    }

    /// `name{label,label}` of every family but the process's own, once each, sorted.
    #[must_use]
    pub fn surface(&self) -> Vec<String> {
        let ours = self.samples.iter().filter(|sample| sample.name.starts_with("countersign_"));
        let mut lines: Vec<String> = ours.map(describe).collect();
        lines.sort();
        lines.dedup();
        lines
    }
}

/// One line of the surface: label values too, but for bounds of buckets and the version.
fn describe(sample: &Sample) -> String {
    let free = |key: &str| key == "le" || key == "version";
    let label = |(key, value): (&String, &String)| if free(key) { key.clone() } else { format!("{key}={value}") };
    let labels: Vec<String> = sample.labels.iter().map(label).collect();
    if labels.is_empty() { sample.name.clone() } else { format!("{}{{{}}}", sample.name, labels.join(",")) }
}

/// Reads `name{key="value",…} number`.
fn sample(line: &str) -> Option<Sample> {
    let (series, value) = line.rsplit_once(' ')?;
    let (name, labels) = match series.split_once('{') {
        None => (series, BTreeMap::new()),
        Some((name, rest)) => (name, pairs(rest.strip_suffix('}')?)?),
    };
    Some(Sample { name: name.to_owned(), labels, value: value.parse().ok()? })
}

/// Reads `key="value",key="value"`; no value of ours holds a comma or a quote.
fn pairs(text: &str) -> Option<BTreeMap<String, String>> {
    let pair = |pair: &str| {
        let (key, value) = pair.split_once('=')?;
        Some((key.to_owned(), value.trim_matches('"').to_owned()))
    };
    text.split(',').filter(|part| !part.is_empty()).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_read_and_summed() {
        let text =
            "# HELP a b\n# TYPE a counter\na{x=\"1\",y=\"2\"} 3\na{x=\"1\",y=\"3\"} 4\nb 1.5\ncountersign_c{le=\"+Inf\"} 1\n";
        let scrape = Scrape::parse(text.to_owned());
        assert!((scrape.sum("a", &[("x", "1")]) - 7.0).abs() < f64::EPSILON);
        assert!((scrape.sum("a", &[("y", "3")]) - 4.0).abs() < f64::EPSILON);
        assert!((scrape.sum("b", &[]) - 1.5).abs() < f64::EPSILON);
        assert_eq!(scrape.surface(), ["countersign_c{le}"]);
    }
}
