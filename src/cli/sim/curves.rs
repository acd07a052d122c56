//! How many waited and how much was used over time, as SVG: one field above the other.

use super::drawing::{self, Axis, COLOURS, float};
use crate::sim::outcome::Outcome;
use std::fmt::Write;

/// Width of the drawing, height of a field, and between fields; pixels.
const WIDTH: f64 = 900.0;
const FIELD: f64 = 180.0;
const TOP: f64 = 30.0;
const GAP: f64 = 50.0;
const LEFT: f64 = 70.0;

/// One line in a field of its own.
struct Line {
    title: String,
    /// The mean of each part of the time.
    values: Vec<f64>,
    /// What the field ends with; more where the line is higher.
    most: f64,
}

/// The drawing.
pub(super) fn chart(outcome: &Outcome) -> String {
    let lines = lines(outcome);
    let curve = &outcome.curve;
    let parts = i64::try_from(curve.parts.len().max(1)).unwrap_or(1);
    let axis = Axis {
        from_ms: curve.begin.0,
        to_ms: curve.begin.0 + curve.width_ms * parts,
        left: LEFT,
        right: WIDTH - 20.0,
    };
    let count = float(i64::try_from(lines.len()).unwrap_or(0));
    let mut svg = String::new();
    drawing::open(&mut svg, WIDTH, TOP + count * (FIELD + GAP));
    let mut top = TOP;
    for (line, colour) in lines.iter().zip(COLOURS) {
        let bottom = top + FIELD;
        axis.draw(&mut svg, top, bottom);
        let highest = line.values.iter().copied().fold(line.most, f64::max);
        let highest = highest.max(1.0);
        let mut path = String::new();
        let y = |value: f64| bottom - value / highest * FIELD;
        for (value, part) in line.values.iter().zip(0..) {
            let at = |part: i64| axis.x(curve.begin.0 + curve.width_ms * part);
            let y = y(*value);
            // Writing to a text cannot fail.
            let _ = write!(path, "{:.1},{y:.1} {:.1},{y:.1} ", at(part), at(part + 1));
        }
        let _ = writeln!(
            svg,
            r#"<polyline points="{}" fill="none" stroke="{colour}" stroke-width="1.5"/>
<text x="{LEFT}" y="{}">{}</text><text x="{x}" y="{}" text-anchor="end">{highest:.0}</text><text x="{x}" y="{bottom}" text-anchor="end">0</text>"#,
            path.trim_end(),
            top - 8.0,
            line.title,
            top + 10.0,
            x = LEFT - 6.0,
        );
        top = bottom + GAP;
    }
    svg.push_str("</svg>\n");
    svg
}

fn lines(outcome: &Outcome) -> Vec<Line> {
    let curve = &outcome.curve;
    let mean = |area: u128| {
        let whole = i64::try_from(area).map_or(f64::MAX, float);
        whole / float(curve.width_ms.max(1))
    };
    let values = |of: fn(&crate::sim::curve::Area) -> u128| {
        curve.parts.iter().map(|area| mean(of(area))).collect()
    };
    let count = |count: u64| float(i64::try_from(count).unwrap_or(i64::MAX));
    let mut lines = vec![
        Line {
            title: "jobs that wait, elements of arrays counted".to_owned(),
            values: values(|area| area.waiting),
            most: 0.0,
        },
        Line {
            title: format!("cpus in use, of {}", outcome.cpus),
            values: values(|area| area.cpus),
            most: count(outcome.cpus),
        },
    ];
    if outcome.gpus > 0 {
        lines.push(Line {
            title: format!("GPUs in use, of {}", outcome.gpus),
            values: values(|area| area.gpus),
            most: count(outcome.gpus),
        });
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::cluster::Setup;
    use crate::sim::{cluster_file, jobs_file, simulate};

    #[test]
    fn each_amount_has_a_field() {
        let cluster = "[[node]]\nname = \"n1\"\ncpus = 4\nmemory = \"4G\"\ngpus = 1\n";
        let jobs = "[[job]]\ncount = 3\nrun = \"10s\"\nlimit = \"1h\"\ncpus = 4\n";
        let setup = Setup {
            nodes: cluster_file::parse(cluster).unwrap().nodes,
            ..Setup::default()
        };
        let outcome = simulate(setup, &jobs_file::parse(jobs, 1).unwrap()).unwrap();
        let drawn = chart(&outcome);
        assert_eq!(drawn.matches("<polyline").count(), 3);
        assert!(drawn.contains("cpus in use, of 4"), "{drawn}");
        // Two wait for ten of thirty seconds: at the top of the first field.
        assert!(drawn.contains(r#"points="70.0,30.0 97.0,30.0 "#), "{drawn}");
        assert!(drawn.ends_with("</svg>\n") && !drawn.contains("NaN"));
    }
}
