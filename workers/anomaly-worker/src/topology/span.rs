//! Durations as they are written in a topology.

use serde_json::Value;

/// No duration is longer: a hundred years.
const LONGEST: f64 = 100.0 * 365.25 * 86_400_000.0;

/// Milliseconds of a number of seconds, or of a text such as `"90s"`.
pub(super) fn milliseconds(value: &Value) -> Result<i64, String> {
    let ms = match value {
        Value::Number(seconds) => seconds.as_f64().map(|seconds| seconds * 1000.0),
        Value::String(text) => of_text(text.trim()),
        _ => None,
    };
    match ms.map(f64::round) {
        Some(ms) if (0.0..=LONGEST).contains(&ms) => Ok(ms as i64),
        _ => {
            Err(format!("{value} is no duration: write seconds, or text such as \"90s\" or \"5m\""))
        }
    }
}

fn of_text(text: &str) -> Option<f64> {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let scale = match unit.trim() {
        "ms" => 1.0,
        "s" => 1000.0,
        "m" => 60_000.0,
        "h" => 3_600_000.0,
        "d" => 86_400_000.0,
        _ => return None,
    };
    text[..text.len() - unit.len()].parse::<f64>().ok().map(|number| number * scale)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn durations_are_seconds_or_a_number_with_its_unit() {
        for (value, ms) in [
            (json!(90), 90_000),
            (json!(0.25), 250),
            (json!("500ms"), 500),
            (json!("1.5h"), 5_400_000),
            (json!(" 5 m"), 300_000),
            (json!("1d"), 86_400_000),
        ] {
            assert_eq!(milliseconds(&value), Ok(ms), "{value}");
        }
        for value in
            [json!("5"), json!("5 weeks"), json!(-1), json!(1e300), json!("s"), json!(null)]
        {
            assert!(milliseconds(&value).unwrap_err().contains("no duration"), "{value}");
        }
    }
}
