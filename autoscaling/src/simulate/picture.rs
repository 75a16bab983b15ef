//! Runs as a picture: cost (to the right) against p95 wait (upwards, by its logarithm). Bars are the
//! least and the most of all seeds, and the front is drawn through.
//!
//! What is drawn is a list of marks, so that both formats show the same.

mod png;
mod svg;

use std::{io, path::Path};

use super::{Point, front};

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 520.0;
const LEFT: f64 = 70.0;
const BOTTOM: f64 = 60.0;
const TOP: f64 = 40.0;
/// Room for names at the right.
const RIGHT: f64 = 190.0;

/// What a picture is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Lines and text, for a browser.
    Svg,
    /// Pixels, for anything.
    Png,
}

impl Format {
    /// By the ending of a file's name, `.svg` or `.png`; `None` for any other.
    pub fn of(file: &Path) -> Option<Self> {
        let ending = file.extension()?.to_str()?.to_ascii_lowercase();
        match ending.as_str() {
            "svg" => Some(Self::Svg),
            "png" => Some(Self::Png),
            _ => None,
        }
    }

    /// The front of these points, to be written to a file as it is.
    ///
    /// # Errors
    /// When the pixels cannot be packed.
    pub fn draw(self, points: &[Point]) -> io::Result<Vec<u8>> {
        let marks = marks(points);
        match self {
            Self::Svg => Ok(svg::of(&marks).into_bytes()),
            Self::Png => png::of(&marks),
        }
    }
}

/// Red, green and blue.
type Colour = [u8; 3];

const BLACK: Colour = [0, 0, 0];
const OURS: Colour = [0x22, 0xaa, 0x77];
const THEIRS: Colour = [0xcc, 0x33, 0x33];

/// A place, from the left and from the top.
type Place = (f64, f64);

/// Something drawn.
#[derive(Debug, Clone, PartialEq)]
enum Mark {
    Line(Vec<Place>, Colour),
    Dot(Place, Colour),
    /// From its left end, on its base line.
    Text(Place, String),
}

fn marks(points: &[Point]) -> Vec<Mark> {
    let axes = Axes::of(points);
    let mut marks = axes.marks();
    let best = front(points).into_iter();
    let line = best.map(|it| (axes.x(it.cost.median), axes.y(it.p95.median))).collect();
    marks.push(Mark::Line(line, OURS));
    marks.extend(points.iter().flat_map(|point| axes.point(point)));
    marks
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

    fn marks(&self) -> Vec<Mark> {
        let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
        let text = |x, y, words: &str| Mark::Text((x, y), words.to_owned());
        let mut marks = vec![
            Mark::Line(vec![(LEFT, TOP), (LEFT, bottom), (right, bottom)], BLACK),
            text(LEFT, HEIGHT - 15.0, "cost relative to the clairvoyant schedule without wait"),
            text(10.0, 20.0, "p95 wait in seconds (logarithmic)"),
        ];
        let step = if self.cost.1 - self.cost.0 > 2.0 { self.step() } else { 0.1 };
        let first = (self.cost.0 / step).ceil() as u64;
        let costs = (first..).map(|n| n as f64 * step).take_while(|cost| *cost <= self.cost.1);
        marks.extend(costs.map(|cost| text(self.x(cost), bottom + 18.0, &format!("{cost:.1}"))));
        for wait in [1.0, 3.0, 10.0, 30.0, 60.0, 100.0, 300.0, 1000.0, 3000.0, 10_000.0] {
            if log(wait) <= self.wait.1 {
                marks.push(text(20.0, self.y(wait), &wait.to_string()));
            }
        }
        marks
    }

    /// Whole numbers, and at most about twenty of them: a static group may cost a thousand times as much.
    fn step(&self) -> f64 {
        ((self.cost.1 - self.cost.0) / 20.0).ceil()
    }

    fn point(&self, point: &Point) -> [Mark; 4] {
        let (x, y) = (self.x(point.cost.median), self.y(point.p95.median));
        let (left, right) = (self.x(point.cost.low), self.x(point.cost.high));
        let (high, low) = (self.y(point.p95.high), self.y(point.p95.low));
        let colour = if point.name.starts_with("ours") { OURS } else { THEIRS };
        [
            Mark::Line(vec![(left, y), (right, y)], colour),
            Mark::Line(vec![(x, low), (x, high)], colour),
            Mark::Dot((x, y), colour),
            Mark::Text((x + 6.0, y - 4.0), point.name.clone()),
        ]
    }
}

fn log(seconds: f64) -> f64 {
    seconds.max(1.0).log10()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::simulate::Interval;

    fn point(name: &str, cost: f64, p95: f64) -> Point {
        let (cost, p95) = (Interval::of(vec![cost, cost + 0.02]), Interval::of(vec![p95]));
        Point { name: name.to_owned(), cost, p95, ..Point::default() }
    }

    fn three() -> [Point; 3] {
        [point("ours", 1.2, 50.0), point("a<b & \"c\"", 1.4, 60.0), point("c", 1.1, 90.0)]
    }

    #[test]
    fn the_picture_shows_every_policy_and_draws_the_front_through_the_best() {
        let marks = marks(&three());
        let dots = marks.iter().filter(|mark| matches!(mark, Mark::Dot(..))).count();
        let named =
            |name: &str| marks.iter().any(|it| matches!(it, Mark::Text(_, of) if of == name));
        assert!(dots == 3 && three().iter().all(|point| named(&point.name)), "{marks:?}");
        let front = marks.iter().find_map(|mark| match mark {
            Mark::Line(line, OURS) => Some(line.len()),
            _ => None,
        });
        assert_eq!(front, Some(2), "two of three are on the front");
    }

    #[test]
    fn a_file_is_written_as_what_its_name_says() {
        let of = |name: &str| Format::of(Path::new(name));
        assert_eq!([of("f.svg"), of("a.b/F.SVG")], [Some(Format::Svg); 2]);
        assert_eq!([of("f.png"), of("f.svg.PNG")], [Some(Format::Png); 2]);
        assert_eq!([of("f"), of("f.gif"), of(".png"), of("svg")], [None; 4]);
        let svg = String::from_utf8(Format::Svg.draw(&three()).unwrap()).unwrap();
        assert!(svg.starts_with("<svg ") && svg.contains("a&lt;b &amp; &quot;c&quot;"), "{svg}");
        assert!(Format::Png.draw(&three()).unwrap().starts_with(b"\x89PNG\r\n\x1a\n"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn whatever_was_simulated_there_is_a_picture_of_it(
            places in proptest::collection::vec((0.0..1e6f64, 0.0..5e6f64, 1.0..50.0f64), 0..5),
        ) {
            let points: Vec<Point> = places.into_iter().map(|(cost, wait, wide)| Point {
                cost: Interval::of(vec![cost, cost * wide, cost / wide]),
                ..point("p", cost, wait)
            }).collect();
            let svg = String::from_utf8(Format::Svg.draw(&points).unwrap()).unwrap();
            prop_assert!(!svg.contains("NaN") && !svg.contains("inf") && svg.len() < 20_000);
            // Packing it takes as long as all else.
            drop(png::Canvas::of(&marks(&points)));
        }
    }
}
