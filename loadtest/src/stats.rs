//! Numbers made of samples, and how they are written.

/// The middle of the samples; of an even number the mean of both middles. 0 of none.
pub(crate) fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        odd if odd % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// The smallest sample that at least `share` of all samples do not pass. 0 of none.
pub(crate) fn quantile(samples: &[f64], share: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let enough = |place: usize| count(place as u64 + 1) >= share * count(sorted.len() as u64);
    (0..sorted.len()).find(|&place| enough(place)).map_or(0.0, |place| sorted[place])
}

/// `part / whole`; 0 where there is no whole, so that a table never shows "NaN".
pub(crate) fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

/// A count as a float. Exact below 2^53, which no count of a load test reaches.
#[expect(clippy::cast_precision_loss, reason = "counts of a load test stay far below 2^53")]
pub(crate) const fn count(value: u64) -> f64 {
    value as f64
}

/// A rate as people read it: `154k`, `1.23M`, `950`.
pub(crate) fn rate_text(rate: f64) -> String {
    match rate {
        high if high >= 1_000_000.0 => format!("{:.2}M", high / 1_000_000.0),
        middle if middle >= 10_000.0 => format!("{:.0}k", middle / 1_000.0),
        low if low >= 1_000.0 => format!("{:.1}k", low / 1_000.0),
        rest => format!("{rest:.0}"),
    }
}

/// Bytes as kilobytes of 1,000.
pub(crate) fn kilobytes_text(bytes: f64) -> String {
    format!("{:.1} KB", bytes / 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_is_the_middle_whatever_the_order() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < f64::EPSILON);
        assert!(median(&[]).abs() < f64::EPSILON);
    }

    #[test]
    fn quantiles_are_samples() {
        let samples: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        let found = [0.5, 0.99, 1.0].map(|share| quantile(&samples, share));
        assert_eq!(found, [50.0, 99.0, 100.0]);
        assert!(quantile(&[], 0.5).abs() < f64::EPSILON);
    }

    #[test]
    fn ratio_of_nothing_is_zero() {
        assert!(ratio(1.0, 0.0).abs() < f64::EPSILON);
        assert!((ratio(1.0, 4.0) - 0.25).abs() < f64::EPSILON);
    }

    #[test]
    fn rates_read_well_at_every_size() {
        let texts = [950.0, 6_540.0, 154_321.0, 1_234_567.0].map(rate_text);
        assert_eq!(texts, ["950", "6.5k", "154k", "1.23M"]);
    }
}
