//! A figure, and the line that it is printed as.

use std::io::Write;

use serde::Serialize;
use serde_json::Value;

/// Which way a figure is to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// The more the better.
    Higher,
    /// The less the better.
    Lower,
}

/// A value that was measured in this run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figure {
    /// `bench.figure`, such as `queue.ratio_to_bare_loop`.
    pub bench: String,
    /// The value. `None` where it could not be measured: the detail says why.
    pub value: Option<f64>,
    /// What it is counted in.
    pub unit: &'static str,
    /// Which way it is to go.
    pub better: Better,
    /// What it is to reach, if anything.
    pub target: Option<f64>,
    /// What it was made of.
    pub detail: Value,
}

impl Figure {
    /// A figure without a target.
    pub fn new(bench: &str, value: f64, unit: &'static str, better: Better) -> Self {
        let value = value.is_finite().then_some(value);
        Self { bench: bench.to_owned(), value, unit, better, target: None, detail: Value::Null }
    }

    /// Sets what is to be reached.
    #[must_use]
    pub fn target(mut self, target: f64) -> Self {
        self.target = Some(target);
        self
    }

    /// Sets what the value was made of: an object.
    #[must_use]
    pub fn detail(mut self, detail: Value) -> Self {
        self.detail = detail;
        self
    }

    /// Whether the target is reached; `None` where there is none.
    pub fn met(&self) -> Option<bool> {
        let target = self.target?;
        Some(self.value.is_some_and(|value| match self.better {
            Better::Higher => value >= target,
            Better::Lower => value <= target,
        }))
    }

    /// The figure as one line of JSON. A missed target is noted in the detail.
    pub fn line(&self) -> String {
        let mut figure = self.clone();
        figure.value = self.value.map(rounded);
        if self.met() == Some(false) && (self.detail.is_object() || self.detail.is_null()) {
            figure.detail["target_missed"] = Value::Bool(true);
        }
        serde_json::to_string(&figure).unwrap_or_default()
    }

    /// Prints the line to standard output, and a missed target in words to standard error.
    pub fn print(&self) {
        // A reader that has gone away (`| head`) is no failure of the bench.
        let _ = writeln!(std::io::stdout().lock(), "{}", self.line());
        if let (Some(false), Some(target)) = (self.met(), self.target) {
            let (name, unit) = (&self.bench, self.unit);
            let what = match (self.value, self.better) {
                (None, _) => "could not be measured".to_owned(),
                (Some(value), Better::Higher) => format!("is {}, below", rounded(value)),
                (Some(value), Better::Lower) => format!("is {}, above", rounded(value)),
            };
            eprintln!("target missed: {name} {what} its target of {target} {unit}");
        }
    }
}

/// Four significant digits: more would pretend to a precision that no run has.
fn rounded(value: f64) -> f64 {
    format!("{value:.3e}").parse().unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_figure_is_one_json_object_of_six_fields_on_a_line() {
        let figure = Figure::new("queue.ratio_to_bare_loop", 0.97, "ratio", Better::Higher);
        let line = figure.target(0.95).detail(json!({ "slots": 64 })).line();
        let expected = r#"{"bench":"queue.ratio_to_bare_loop","value":0.97,"unit":"ratio","better":"higher","target":0.95,"detail":{"slots":64}}"#;
        assert_eq!(line, expected);
    }

    #[test]
    fn without_a_target_it_is_null_and_nothing_is_missed() {
        let figure = Figure::new("queue.ledger_ratio", 0.5, "ratio", Better::Higher);
        let line: Value = serde_json::from_str(&figure.line()).unwrap();
        assert_eq!((&line["target"], figure.met()), (&Value::Null, None));
    }

    #[test]
    fn what_could_not_be_measured_has_no_value_and_misses_its_target() {
        let figure = Figure::new("a.b", f64::NAN, "ratio", Better::Lower).target(1.0);
        let line: Value = serde_json::from_str(&figure.line()).unwrap();
        assert_eq!(line["value"], Value::Null);
        assert_eq!(line["detail"]["target_missed"], true);
    }

    proptest! {
        #[test]
        fn a_miss_is_visible_in_the_detail_and_nothing_else_changes(
            value in -1e9f64..1e9, target in -1e9f64..1e9, higher: bool,
        ) {
            let better = if higher { Better::Higher } else { Better::Lower };
            let figure = Figure::new("a.b", value, "u", better).target(target);
            let line = figure.line();
            let line: Value = serde_json::from_str(&line).unwrap();
            let missed = if higher { value < target } else { value > target };
            prop_assert_eq!(line["detail"]["target_missed"] == true, missed);
            prop_assert!((line["value"].as_f64().unwrap() - value).abs() <= value.abs() * 1e-3);
        }
    }
}
