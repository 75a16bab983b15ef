//! Runs as a table.

use super::{Interval, Point};

/// A line for each point, in the order of their costs: medians, and in brackets the least and the
/// most of all seeds.
pub fn table(points: &[Point]) -> String {
    let mut sorted: Vec<&Point> = points.iter().collect();
    sorted.sort_by(|a, b| a.cost.median.total_cmp(&b.cost.median));
    let heading = ["policy", "cost", "p50 s", "p95 s", "p99 s", "over 300 s", "killed", "undone"];
    let mut rows = vec![heading.map(str::to_owned)];
    rows.extend(sorted.into_iter().map(|point| {
        [
            point.name.clone(),
            cell(point.cost, 2, 1.0, ""),
            cell(point.p50, 0, 1.0, ""),
            cell(point.p95, 0, 1.0, ""),
            cell(point.p99, 0, 1.0, ""),
            cell(point.late, 1, 100.0, "%"),
            cell(point.killed, 0, 1.0, ""),
            cell(point.undone, 0, 1.0, ""),
        ]
    }));
    let width = |n: usize| rows.iter().map(|row| row[n].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..heading.len()).map(width).collect();
    let line = |row: &[String; 8]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

fn cell(of: Interval, digits: usize, times: f64, unit: &str) -> String {
    let number = |value: f64| format!("{:.digits$}", value * times);
    let (low, median, high) = (number(of.low), number(of.median), number(of.high));
    match low == high {
        true => format!("{median}{unit}"),
        false => format!("{median}{unit} [{low}-{high}]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(name: &str, cost: f64, p95: f64) -> Point {
        let (cost, p95) = (vec![cost, cost + 0.02], vec![p95]);
        let (cost, p95) = (Interval::of(cost), Interval::of(p95));
        Point { name: name.to_owned(), cost, p95, ..Point::default() }
    }

    #[test]
    fn the_table_has_a_line_for_each_policy_the_cheapest_first() {
        let text = table(&[point("b", 1.5, 7.0), point("a", 1.2, 9.0)]);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("policy  cost") && lines[0].ends_with("undone"), "{text}");
        assert!(lines[1].starts_with("a       1.21 [1.20-1.22]"), "{text}");
        assert!(lines[2].starts_with('b') && lines.len() == 3, "{text}");
    }
}
