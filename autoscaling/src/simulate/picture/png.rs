//! Marks as PNG. The letters are those of the library, so that no font has to be there.

use std::{convert::Infallible, io};

use embedded_graphics::{
    mono_font::{MonoTextStyle, iso_8859_1::FONT_10X20},
    pixelcolor::Rgb888,
    prelude::*,
    primitives::{Circle, Line, PrimitiveStyle},
    text::Text,
};

use super::{BLACK, Colour, HEIGHT, Mark, Place, WIDTH};

/// Pixels of what is one in SVG.
const SCALE: f64 = 2.0;
const ACROSS: u32 = (WIDTH * SCALE) as u32;
const DOWN: u32 = (HEIGHT * SCALE) as u32;
const DOT: u32 = 14;

/// Rows of pixels, three bytes each.
pub(super) struct Canvas(Vec<u8>);

pub(super) fn of(marks: &[Mark]) -> io::Result<Vec<u8>> {
    let canvas = Canvas::of(marks);
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, ACROSS, DOWN);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&canvas.0)?;
    writer.finish()?;
    Ok(file)
}

impl Canvas {
    /// The marks on white.
    pub(super) fn of(marks: &[Mark]) -> Self {
        let mut canvas = Self(vec![u8::MAX; (ACROSS * DOWN * 3) as usize]);
        for mark in marks {
            let Ok(()) = canvas.show(mark);
        }
        canvas
    }

    fn show(&mut self, mark: &Mark) -> Result<(), Infallible> {
        match mark {
            Mark::Line(places, colour) => {
                let style = PrimitiveStyle::with_stroke(of_colour(*colour), 2);
                // One by one: the joints of a `Polyline` are for smaller displays, and overflow.
                places.windows(2).try_for_each(|ends| {
                    let (from, to) = (pixel(&ends[0]), pixel(&ends[1]));
                    Line::new(from, to).into_styled(style).draw(self)
                })
            }
            Mark::Dot(place, colour) => {
                let style = PrimitiveStyle::with_fill(of_colour(*colour));
                Circle::with_center(pixel(place), DOT).into_styled(style).draw(self)
            }
            Mark::Text(place, words) => {
                let style = MonoTextStyle::new(&FONT_10X20, of_colour(BLACK));
                Text::new(words, pixel(place), style).draw(self).map(|_| ())
            }
        }
    }
}

/// What lies far outside is moved nearer: a line to it would be walked pixel by pixel.
fn pixel((x, y): &Place) -> Point {
    let bounded = |value: f64, most: f64| (value * SCALE).clamp(-most, 2.0 * most) as i32;
    Point::new(bounded(*x, f64::from(ACROSS)), bounded(*y, f64::from(DOWN)))
}

fn of_colour([red, green, blue]: Colour) -> Rgb888 {
    Rgb888::new(red, green, blue)
}

impl OriginDimensions for Canvas {
    fn size(&self) -> Size {
        Size::new(ACROSS, DOWN)
    }
}

impl DrawTarget for Canvas {
    type Color = Rgb888;
    type Error = Infallible;

    fn draw_iter<I>(&mut self, pixels: I) -> Result<(), Infallible>
    where
        I: IntoIterator<Item = Pixel<Rgb888>>,
    {
        for Pixel(Point { x, y }, colour) in pixels {
            let place = u32::try_from(x).ok().zip(u32::try_from(y).ok());
            let Some((x, y)) = place.filter(|(x, y)| *x < ACROSS && *y < DOWN) else { continue };
            let at = (y * ACROSS + x) as usize * 3;
            self.0[at..at + 3].copy_from_slice(&[colour.r(), colour.g(), colour.b()]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{OURS, THEIRS},
        *,
    };

    /// The pixels of a file, row by row.
    fn pixels(file: &[u8]) -> Vec<[u8; 3]> {
        let mut reader = png::Decoder::new(io::Cursor::new(file)).read_info().unwrap();
        let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut bytes).unwrap();
        assert_eq!((info.width, info.height), (ACROSS, DOWN));
        bytes.chunks_exact(3).map(|it| [it[0], it[1], it[2]]).collect()
    }

    #[test]
    fn a_png_holds_lines_dots_and_letters_where_the_marks_are() {
        let marks = [
            Mark::Line(vec![(100.0, 100.0), (200.0, 100.0)], OURS),
            Mark::Dot((300.0, 300.0), THEIRS),
            Mark::Text((400.0, 200.0), "ours \u{e9}".to_owned()),
            Mark::Line(vec![(-1e300, f64::NAN), (1e300, 50.0)], BLACK),
        ];
        let all = pixels(&of(&marks).unwrap());
        let at =
            |x: f64, y: f64| all[(y * SCALE) as usize * ACROSS as usize + (x * SCALE) as usize];
        assert_eq!((at(150.0, 100.0), at(300.0, 300.0)), (OURS, THEIRS));
        assert_eq!(at(150.0, 300.0), [255; 3]);
        let letters =
            (398..460).flat_map(|x| (188..204).map(move |y| (f64::from(x), f64::from(y))));
        let inked = letters.filter(|(x, y)| at(*x, *y) == BLACK).count();
        assert!((20..200).contains(&inked), "{inked} pixels of five letters");
    }
}
