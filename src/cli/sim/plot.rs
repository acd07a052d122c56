//! A chart as SVG: what each rule gives out as more is asked for.
//!
//! It shows the part where they differ: from where most of the GPUs have been asked for onward. All of it is numbers and
//! our own words, so there is nothing to escape.

use super::packing::Outline;
use std::fmt::Write;

/// From which hundredth of the GPUs that was asked for, to which.
const FROM: u32 = 70;
const TO: u32 = 130;
/// The size of the whole, and of the field inside its margins; pixels.
const SIZE: (f64, f64) = (760.0, 460.0);
const FIELD: Field = Field {
    left: 70.0,
    right: 730.0,
    top: 30.0,
    bottom: 395.0,
};
/// Colours that people who do not tell red from green can tell (Okabe and Ito).
const COLOURS: [&str; 4] = ["#0072b2", "#e69f00", "#009e73", "#d55e00"];

struct Field {
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
}

/// What of it is shown, in hundredths.
struct Frame {
    x: (f64, f64),
    y: (f64, f64),
}

impl Frame {
    /// High enough for all lines, from a multiple of five.
    fn of(lines: &[Vec<(f64, f64)>]) -> Self {
        let heights = lines.iter().flatten().map(|point| point.1);
        let lowest = (heights.fold(95.0, f64::min) / 5.0).floor() * 5.0;
        Frame {
            x: (FROM.into(), TO.into()),
            y: (lowest, 100.0),
        }
    }

    fn x(&self, value: f64) -> f64 {
        let part = (value - self.x.0) / (self.x.1 - self.x.0);
        FIELD.left + part * (FIELD.right - FIELD.left)
    }

    fn y(&self, value: f64) -> f64 {
        let part = (value - self.y.0) / (self.y.1 - self.y.0);
        FIELD.bottom - part * (FIELD.bottom - FIELD.top)
    }

    fn path(&self, points: &[(f64, f64)]) -> String {
        let point = |(x, y): &(f64, f64)| format!("{:.1},{:.1}", self.x(*x), self.y(*y));
        points.iter().map(point).collect::<Vec<_>>().join(" ")
    }
}

/// The chart.
pub(super) fn chart(outlines: &[Outline]) -> String {
    let lines: Vec<_> = outlines.iter().map(points).collect();
    let frame = Frame::of(&lines);
    let mut text = String::new();
    // Writing to a text cannot fail.
    let _ = draw(&mut text, outlines, &lines, &frame);
    text
}

/// For each hundredth that was asked for, how much was given out.
fn points(outline: &Outline) -> Vec<(f64, f64)> {
    let inflation = &outline.inflation;
    (FROM..=TO)
        .filter_map(|asked| {
            let point = inflation.points.get(usize::try_from(asked).ok()?)?;
            Some((asked.into(), inflation.percent(point.allocated)))
        })
        .collect()
}

fn draw(
    text: &mut String,
    outlines: &[Outline],
    lines: &[Vec<(f64, f64)>],
    frame: &Frame,
) -> std::fmt::Result {
    let (width, height) = SIZE;
    writeln!(
        text,
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" font-family="sans-serif" font-size="13">"#
    )?;
    writeln!(
        text,
        r##"<rect width="100%" height="100%" fill="#ffffff"/>"##
    )?;
    axes(text, frame)?;
    for (at, (outline, points)) in outlines.iter().zip(lines).enumerate() {
        let colour = COLOURS[at % COLOURS.len()];
        let path = frame.path(points);
        writeln!(
            text,
            r#"<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>"#
        )?;
        legend(text, at, colour, outline)?;
    }
    writeln!(text, "</svg>")
}

/// Both axes with their numbers, and the line of a rule that would give out all that is asked for.
fn axes(text: &mut String, frame: &Frame) -> std::fmt::Result {
    let Field {
        left,
        right,
        top,
        bottom,
    } = FIELD;
    for value in steps(frame.y) {
        let y = frame.y(value);
        writeln!(
            text,
            r##"<path d="M{left} {y:.1}H{right}" stroke="#dddddd"/><text x="{}" y="{:.1}" text-anchor="end">{value}</text>"##,
            left - 8.0,
            y + 4.0
        )?;
    }
    for value in steps(frame.x).filter(|value| value % 10.0 == 0.0) {
        let x = frame.x(value);
        writeln!(
            text,
            r##"<path d="M{x:.1} {top}V{bottom}" stroke="#dddddd"/><text x="{x:.1}" y="{}" text-anchor="middle">{value}</text>"##,
            bottom + 18.0
        )?;
    }
    let all = [frame.x.0.max(frame.y.0), 100.0].map(|value| (value, value));
    let all = frame.path(&[all[0], all[1], (frame.x.1, 100.0)]);
    writeln!(
        text,
        r##"<polyline points="{all}" fill="none" stroke="#999999" stroke-dasharray="5 4"/>"##
    )?;
    writeln!(
        text,
        r##"<path d="M{left} {top}V{bottom}H{right}" fill="none" stroke="#000000"/>"##
    )?;
    let (middle, centre) = ((left + right) / 2.0, (top + bottom) / 2.0);
    writeln!(
        text,
        r#"<text x="{middle}" y="{}" text-anchor="middle">GPUs asked for, % of all</text>"#,
        bottom + 42.0
    )?;
    writeln!(
        text,
        r#"<text transform="translate(22 {centre}) rotate(-90)" text-anchor="middle">GPUs given out, % of all</text>"#
    )
}

/// Multiples of five, or of more where there would be many.
fn steps((from, to): (f64, f64)) -> impl Iterator<Item = f64> {
    let step = if to - from > 60.0 { 10.0 } else { 5.0 };
    let first = (from / step).ceil();
    (0..=40_u32)
        .map(move |count| (first + f64::from(count)) * step)
        .take_while(move |value| *value <= to)
}

/// The name of a line, and how high it is when as much has been asked for as there is.
fn legend(text: &mut String, at: usize, colour: &str, outline: &Outline) -> std::fmt::Result {
    let below = u32::try_from(at).unwrap_or(u32::MAX);
    let y = FIELD.bottom - 90.0 + 20.0 * f64::from(below);
    let (x, inflation) = (FIELD.right - 270.0, &outline.inflation);
    writeln!(
        text,
        r#"<path d="M{x} {}h28" stroke="{colour}" stroke-width="2"/><text x="{}" y="{y}">{}: {:.2} % at 100 %</text>"#,
        y - 4.0,
        x + 36.0,
        outline.rule,
        inflation.percent(inflation.full().allocated)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::inflation::{ARRIVED_MAX, Inflation, Point};

    #[test]
    fn each_rule_has_a_line_and_a_name() {
        let point = |percent: usize| Point {
            arrived: percent as u64 * 10,
            allocated: percent.min(88) as u64 * 10,
            tasks: 0,
            failed: 0,
        };
        let outline = |rule| Outline {
            rule,
            inflation: Inflation {
                capacity: 1000,
                points: (0..=ARRIVED_MAX).map(point).collect(),
            },
        };
        let drawn = chart(&[outline("first-fit"), outline("fragmentation")]);
        assert_eq!(drawn.matches("<polyline").count(), 3, "{drawn}");
        assert!(drawn.contains("first-fit: 88.00 % at 100 %"), "{drawn}");
        assert!(drawn.contains("fragmentation: 88.00 % at 100 %"), "{drawn}");
        // The ends of the first line: 70 of 100, and 88 at the right edge.
        assert!(drawn.contains(r#"points="70.0,395.0"#), "{drawn}");
        assert!(drawn.contains(r#"730.0,176.0" fill"#), "{drawn}");
        assert!(drawn.starts_with("<svg ") && drawn.ends_with("</svg>\n"));
        assert!(!drawn.contains("NaN") && !drawn.contains("inf\""));
    }
}
