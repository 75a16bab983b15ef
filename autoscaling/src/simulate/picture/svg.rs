//! Marks as SVG.

use std::fmt::Write;

use super::{Colour, HEIGHT, Mark, WIDTH};

pub(super) fn of(marks: &[Mark]) -> String {
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n"
    );
    for mark in marks {
        let written = match mark {
            Mark::Line(places, colour) => {
                let places = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}"));
                let (line, colour) = (places.collect::<Vec<_>>().join(" "), hex(*colour));
                writeln!(out, "<polyline points=\"{line}\" fill=\"none\" stroke=\"{colour}\"/>")
            }
            Mark::Dot((x, y), colour) => {
                let colour = hex(*colour);
                writeln!(out, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"{colour}\"/>")
            }
            Mark::Text((x, y), words) => {
                writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\">{}</text>", escaped(words))
            }
        };
        // A string takes all that is written to it.
        let _ = written;
    }
    out + "</svg>\n"
}

fn hex([red, green, blue]: Colour) -> String {
    format!("#{red:02x}{green:02x}{blue:02x}")
}

fn escaped(words: &str) -> String {
    let mut out = String::with_capacity(words.len());
    for letter in words.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // No document may have these.
            _ if letter.is_control() => out.push(' '),
            _ => out.push(letter),
        }
    }
    out
}
