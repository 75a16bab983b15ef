//! Runs as a table and as a picture.

use std::fmt::Write;

use super::{Interval, Point, front};

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 520.0;
const LEFT: f64 = 70.0;
const BOTTOM: f64 = 60.0;
const TOP: f64 = 40.0;
/// Room for names at the right.
const RIGHT: f64 = 190.0;

/// A line for each point, in the order of their costs: medians, and in brackets the least and the
/// most of all seeds.
pub fn table(points: &[Point]) -> String {
    let mut sorted: Vec<&Point> = points.iter().collect();
    sorted.sort_by(|a, b| a.cost.median.total_cmp(&b.cost.median));
    let heading = ["policy", "cost", "p50 s", "p95 s", "p99 s", "over 300 s", "killed"];
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
        ]
    }));
    let width = |n: usize| rows.iter().map(|row| row[n].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..heading.len()).map(width).collect();
    let line = |row: &[String; 7]| {
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

/// Cost (to the right) against p95 wait (upwards, by its logarithm) as SVG; bars are the least and
/// the most of all seeds, and the front is drawn through.
pub fn svg(points: &[Point]) -> String {
    let axes = Axes::of(points);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n"
    );
    axes.draw(&mut out);
    let line: Vec<String> = front(points)
        .into_iter()
        .map(|it| format!("{:.1},{:.1}", axes.x(it.cost.median), axes.y(it.p95.median)))
        .collect();
    let line = line.join(" ");
    let _ = writeln!(out, "<polyline points=\"{line}\" fill=\"none\" stroke=\"#2a7\"/>");
    points.iter().for_each(|point| axes.point(&mut out, point));
    out + "</svg>\n"
}

struct Axes {
    cost: (f64, f64),
    /// Logarithms of waits, of which one second is the least that is told apart.
    wait: (f64, f64),
}

impl Axes {
    fn of(points: &[Point]) -> Self {
        let costs = points.iter().map(|it| it.cost.median);
        let most = costs.clone().fold(1.5, f64::max);
        let least = costs.fold(1.0, f64::min);
        let longest = points.iter().map(|it| it.p95.median).fold(100.0, f64::max);
        Self { cost: (least - 0.05, most + 0.05), wait: (0.0, log(longest) + 0.1) }
    }

    fn x(&self, cost: f64) -> f64 {
        let (from, to) = self.cost;
        LEFT + (cost - from) / (to - from) * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, wait: f64) -> f64 {
        let (from, to) = self.wait;
        HEIGHT - BOTTOM - (log(wait) - from) / (to - from) * (HEIGHT - BOTTOM - TOP)
    }

    fn draw(&self, out: &mut String) {
        let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
        let _ = writeln!(
            out,
            "<path d=\"M{LEFT} {TOP}V{bottom}H{right}\" fill=\"none\" stroke=\"black\"/>"
        );
        let _ = writeln!(
            out,
            "<text x=\"{LEFT}\" y=\"{}\">cost relative to the clairvoyant schedule without wait</text>\n\
             <text x=\"10\" y=\"20\">p95 wait in seconds (logarithmic)</text>",
            HEIGHT - 15.0
        );
        let step = if self.cost.1 - self.cost.0 > 2.0 { 1.0 } else { 0.1 };
        let mut cost = (self.cost.0 / step).ceil() * step;
        while cost <= self.cost.1 {
            let x = self.x(cost);
            let _ = writeln!(out, "<text x=\"{x:.1}\" y=\"{}\">{cost:.1}</text>", bottom + 18.0);
            cost += step;
        }
        for wait in [1.0, 3.0, 10.0, 30.0, 60.0, 100.0, 300.0, 1000.0, 3000.0, 10_000.0] {
            if log(wait) <= self.wait.1 {
                let y = self.y(wait);
                let _ = writeln!(out, "<text x=\"20\" y=\"{y:.1}\">{wait}</text>");
            }
        }
    }

    fn point(&self, out: &mut String, point: &Point) {
        let (x, y) = (self.x(point.cost.median), self.y(point.p95.median));
        let (left, right) = (self.x(point.cost.low), self.x(point.cost.high));
        let (high, low) = (self.y(point.p95.high), self.y(point.p95.low));
        let colour = if point.name.starts_with("ours") { "#2a7" } else { "#c33" };
        let name = point.name.replace('&', "&amp;").replace('<', "&lt;");
        let _ = writeln!(
            out,
            "<path d=\"M{left:.1} {y:.1}H{right:.1}M{x:.1} {low:.1}V{high:.1}\" stroke=\"{colour}\"/>\n\
             <circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"{colour}\"/>\n\
             <text x=\"{:.1}\" y=\"{:.1}\">{name}</text>",
            x + 6.0,
            y - 4.0
        );
    }
}

fn log(seconds: f64) -> f64 {
    seconds.max(1.0).log10()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(name: &str, cost: f64, p95: f64) -> Point {
        let (cost, p95) = (vec![cost, cost + 0.02], vec![p95]);
        Point {
            name: name.to_owned(),
            cost: Interval::of(cost),
            p95: Interval::of(p95),
            ..Point::default()
        }
    }

    #[test]
    fn the_table_has_a_line_for_each_policy_the_cheapest_first() {
        let text = table(&[point("b", 1.5, 7.0), point("a", 1.2, 9.0)]);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("policy  cost"), "{text}");
        assert!(lines[1].starts_with("a       1.21 [1.20-1.22]"), "{text}");
        assert!(lines[2].starts_with('b') && lines.len() == 3, "{text}");
    }

    #[test]
    fn the_picture_shows_every_policy_and_draws_the_front_through_the_best() {
        let text = svg(&[point("ours", 1.2, 50.0), point("a<b", 1.4, 60.0), point("c", 1.1, 90.0)]);
        assert_eq!(text.matches("<circle").count(), 3);
        assert!(text.contains("a&lt;b"), "{text}");
        let line = text.lines().find(|line| line.contains("<polyline")).unwrap();
        assert_eq!(line.matches(',').count(), 2, "two of three are on the front: {line}");
    }
}
