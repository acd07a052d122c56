//! What drawings of a simulated cluster share: the frame, a time axis, texts.

use crate::model::time::format_elapsed;
use std::fmt::Write;

/// Colours that people who do not tell red from green can tell (Okabe and Ito).
pub(super) const COLOURS: [&str; 7] = [
    "#0072b2", "#e69f00", "#009e73", "#d55e00", "#56b4e9", "#cc79a7", "#f0e442",
];

/// A text as it may stand in a drawing, cut where it is long.
pub(super) fn escaped(text: &str) -> String {
    let mut safe = String::new();
    for character in text.chars().take(64) {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            // Most of them may not stand in XML at all.
            control if control.is_control() => safe.push('?'),
            other => safe.push(other),
        }
    }
    safe
}

/// Opens a drawing of this size.
pub(super) fn open(text: &mut String, width: f64, height: f64) {
    // Writing to a text cannot fail.
    let _ = writeln!(
        text,
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" font-family="sans-serif" font-size="12">
<rect width="100%" height="100%" fill="#ffffff"/>"##
    );
}

/// A stretch of time on a drawing's width; milliseconds and pixels.
#[derive(Debug, Clone, Copy)]
pub(super) struct Axis {
    pub(super) from_ms: i64,
    pub(super) to_ms: i64,
    pub(super) left: f64,
    pub(super) right: f64,
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a place on a drawing is a float"
)]
pub(super) fn float(value: i64) -> f64 {
    value as f64
}

impl Axis {
    /// Where a time is.
    pub(super) fn x(&self, at_ms: i64) -> f64 {
        let span = float((self.to_ms - self.from_ms).max(1));
        self.left + float(at_ms - self.from_ms) / span * (self.right - self.left)
    }

    /// Lines and numbers of the axis, from `top` to `bottom`; times count from the beginning.
    pub(super) fn draw(&self, text: &mut String, top: f64, bottom: f64) {
        let span_s = (self.to_ms - self.from_ms).max(1000) / 1000;
        let step_s = step_s(span_s);
        for count in 0..=span_s / step_s {
            let after_s = count * step_s;
            let x = self.x(self.from_ms + after_s * 1000);
            let shown = format_elapsed(u64::try_from(after_s).unwrap_or(0));
            let _ = writeln!(
                text,
                r##"<path d="M{x:.1} {top}V{bottom}" stroke="#dddddd"/><text x="{x:.1}" y="{}" text-anchor="middle">{shown}</text>"##,
                bottom + 16.0
            );
        }
        let _ = writeln!(
            text,
            r##"<path d="M{} {top}V{bottom}H{}" fill="none" stroke="#000000"/>"##,
            self.left, self.right
        );
    }
}

/// Between two numbers of an axis, such that there are at most eight; seconds.
fn step_s(span_s: i64) -> i64 {
    const STEPS_S: [i64; 16] = [
        1, 5, 10, 30, 60, 300, 600, 1800, 3600, 7200, 21_600, 43_200, 86_400, 172_800, 604_800,
        2_592_000,
    ];
    let mut steps = STEPS_S.into_iter();
    let fits = steps.find(|step| span_s / step <= 8);
    fits.unwrap_or(span_s / 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_wrote_is_text_and_nothing_else() {
        assert_eq!(
            escaped("<a href='x'>&\"\n"),
            "&lt;a href=&#39;x&#39;&gt;&amp;&quot;?"
        );
        assert_eq!(escaped(&"ä".repeat(99)).chars().count(), 64);
    }

    #[test]
    fn an_axis_has_a_few_round_numbers() {
        assert_eq!(step_s(5), 1);
        assert_eq!(step_s(86_400), 21_600);
        assert_eq!(step_s(800_000), 172_800);
        let many = step_s(1 << 40);
        assert!((1_i64 << 40) / many <= 8);
    }
}
