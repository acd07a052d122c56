//! Who ran where and when, as SVG: a row for each node, in it a rectangle for each job, as high as its part of the cpus.

use super::drawing::{self, Axis, COLOURS, escaped, float};
use crate::model::time::{Timestamp, format_elapsed};
use crate::sim::outcome::{Element, Outcome};
use crate::sim::workload::Workload;
use std::fmt::Write;

/// Most rectangles, and most rows.
const BARS_MAX: usize = 20_000;
const ROWS_MAX: usize = 200;
/// Width of the drawing, of the names, and height of a row; pixels.
const WIDTH: f64 = 1200.0;
const NAMES: f64 = 90.0;
const ROW: f64 = 24.0;
const TOP: f64 = 34.0;

/// A drawing, and what it leaves out.
pub(super) struct Gantt {
    pub(super) svg: String,
    /// In words, if anything is.
    pub(super) cut: Option<String>,
}

/// One rectangle before it is drawn.
struct Bar<'a> {
    element: &'a Element,
    row: usize,
    /// Its first cpu on its node, and how many.
    first: usize,
    cpus: usize,
}

/// Until when each cpu of a node is taken.
struct Lanes(Vec<Timestamp>);

impl Lanes {
    /// Room for so many cpus from this time on: side by side where that is possible, else from the first that is free.
    fn take(&mut self, cpus: usize, from: Timestamp, until: Timestamp) -> usize {
        let cpus = cpus.min(self.0.len());
        let is_free = |lane: &Timestamp| *lane <= from;
        let side_by_side = (0..=self.0.len() - cpus)
            .find(|first| self.0[*first..first + cpus].iter().all(is_free));
        let first = side_by_side
            .or_else(|| self.0.iter().position(is_free))
            .unwrap_or(0)
            .min(self.0.len() - cpus);
        let mut left = cpus;
        for lane in self.0[first..].iter_mut().filter(|lane| **lane <= from) {
            if left == 0 {
                break;
            }
            *lane = until;
            left -= 1;
        }
        first
    }
}

/// The drawing.
pub(super) fn chart(workload: &Workload, outcome: &Outcome) -> Gantt {
    let rows = outcome.nodes.len().min(ROWS_MAX);
    let (bars, all) = bars(outcome, rows);
    let begin = outcome.curve.begin;
    let end = bars.iter().map(|bar| bar.element.ended).max();
    let axis = Axis {
        from_ms: begin.0,
        to_ms: end.unwrap_or(begin).0.max(begin.0 + 1000),
        left: NAMES,
        right: WIDTH - 20.0,
    };
    let bottom = TOP + ROW * float(i64::try_from(rows).unwrap_or(0));
    let mut svg = String::new();
    drawing::open(&mut svg, WIDTH, bottom + 34.0);
    axis.draw(&mut svg, TOP, bottom);
    for (row, name) in outcome.nodes.iter().take(rows).enumerate() {
        let y = top_of(row);
        // Writing to a text cannot fail.
        let _ = writeln!(
            svg,
            r##"<path d="M{NAMES} {y:.1}H{}" stroke="#eeeeee"/><text x="{}" y="{:.1}" text-anchor="end">{}</text>"##,
            axis.right,
            NAMES - 6.0,
            y + ROW / 2.0 + 4.0,
            escaped(name)
        );
    }
    for bar in &bars {
        draw(&mut svg, workload, outcome, &axis, bar);
    }
    let mut left_out = Vec::new();
    if bars.len() < all {
        left_out.push(format!("the first {} of {all} rectangles", bars.len()));
    }
    if rows < outcome.nodes.len() {
        let nodes = outcome.nodes.len();
        left_out.push(format!("the first {rows} of {nodes} nodes"));
    }
    let cut = (!left_out.is_empty()).then(|| format!("it shows {}", left_out.join(" on ")));
    let title = cut.as_deref().unwrap_or("cpus of nodes, by user");
    let _ = writeln!(svg, r#"<text x="{NAMES}" y="20">{title}</text>"#);
    svg.push_str("</svg>\n");
    Gantt { svg, cut }
}

fn top_of(row: usize) -> f64 {
    TOP + ROW * float(i64::try_from(row).unwrap_or(0))
}

/// Rectangles in the order of their starts, and how many there would be.
fn bars(outcome: &Outcome, rows: usize) -> (Vec<Bar<'_>>, usize) {
    let mut lanes: Vec<Lanes> = outcome
        .node_cpus
        .iter()
        .take(rows)
        .map(|cpus| {
            Lanes(vec![
                Timestamp(i64::MIN);
                usize::try_from(*cpus).unwrap_or(1)
            ])
        })
        .collect();
    let mut elements: Vec<&Element> = outcome.elements.iter().collect();
    elements.sort_by_key(|one| (one.started, one.id));
    let (mut bars, mut all) = (Vec::new(), 0);
    for element in elements {
        let place = usize::try_from(element.place).unwrap_or(usize::MAX);
        let Some(nodes) = outcome.places.get(place) else {
            continue;
        };
        let count = u32::try_from(nodes.len()).unwrap_or(u32::MAX).max(1);
        let cpus = usize::try_from(element.cpus.div_ceil(count)).unwrap_or(1);
        for node in nodes {
            all += 1;
            let row = usize::try_from(*node).unwrap_or(usize::MAX);
            if bars.len() >= BARS_MAX || row >= rows {
                continue;
            }
            bars.push(Bar {
                element,
                row,
                first: lanes[row].take(cpus, element.started, element.ended),
                cpus,
            });
        }
    }
    (bars, all)
}

fn draw(svg: &mut String, workload: &Workload, outcome: &Outcome, axis: &Axis, bar: &Bar<'_>) {
    let one = bar.element;
    let job = usize::try_from(one.job).unwrap_or(usize::MAX);
    let owner = workload.jobs.get(job).map_or(0, |job| job.owner);
    let owner = usize::try_from(owner).unwrap_or(usize::MAX);
    let user = workload.owners.get(owner).map_or("", |owner| &*owner.name);
    let count = outcome.node_cpus.get(bar.row).copied().unwrap_or(1).max(1);
    let lane = (ROW - 2.0) / f64::from(count);
    let number = |value: usize| float(i64::try_from(value).unwrap_or(0));
    let (x, end) = (axis.x(one.started.0), axis.x(one.ended.0));
    let wait = u64::try_from(one.wait_ms() / 1000).unwrap_or(0);
    let _ = writeln!(
        svg,
        r#"<rect x="{x:.1}" y="{:.2}" width="{:.1}" height="{:.2}" fill="{}" fill-opacity="0.8"><title>{} {} {}, waited {}</title></rect>"#,
        top_of(bar.row) + 1.0 + lane * number(bar.first),
        (end - x).max(0.5),
        (lane * number(bar.cpus)).max(0.5),
        COLOURS[owner % COLOURS.len()],
        one.id,
        escaped(user),
        one.state,
        format_elapsed(wait)
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::cluster::Setup;
    use crate::sim::{cluster_file, jobs_file, simulate};

    fn simulated(nodes: u32, jobs: &str) -> (Workload, Outcome) {
        let cluster = format!("[[node]]\nname = \"n[1-{nodes}]\"\ncpus = 4\nmemory = \"4G\"\n");
        let setup = Setup {
            nodes: cluster_file::parse(&cluster).unwrap().nodes,
            ..Setup::default()
        };
        let mut workload = jobs_file::parse(jobs, 1).unwrap();
        workload.owners[0].name = "<ann>".into();
        let outcome = simulate(setup, &workload).unwrap();
        (workload, outcome)
    }

    #[test]
    fn each_job_is_a_rectangle_in_the_row_of_its_node() {
        let jobs = "[[job]]\nrun = \"10m\"\nlimit = \"1h\"\ncpus = 2\nnodes = 2\n\
                    [[job]]\nrun = \"20m\"\nlimit = \"1h\"\ncpus = 2\n";
        let (workload, outcome) = simulated(2, jobs);
        let gantt = chart(&workload, &outcome);
        assert_eq!(gantt.cut, None);
        // The ground, and three.
        assert_eq!(gantt.svg.matches("<rect").count(), 4, "{}", gantt.svg);
        assert!(gantt.svg.contains("1 &lt;ann&gt; COMPLETED, waited 0:00"));
        // Beside the first in its row: lanes of 5.5 pixels, from the third on.
        assert!(
            gantt
                .svg
                .contains(r#"y="46.00" width="1090.0" height="11.00""#)
        );
        assert!(gantt.svg.ends_with("</svg>\n"));
    }

    #[test]
    fn what_is_too_much_is_cut_and_said() {
        let (workload, mut outcome) = simulated(210, "[[job]]\nrun = \"10m\"\nlimit = \"1h\"\n");
        outcome.elements = vec![outcome.elements[0]; 21_000];
        let gantt = chart(&workload, &outcome);
        let cut = gantt.cut.unwrap();
        assert_eq!(
            cut,
            "it shows the first 20000 of 21000 rectangles on the first 200 of 210 nodes"
        );
        assert!(gantt.svg.contains(&cut));
        assert!(gantt.svg.matches("<rect").count() <= BARS_MAX + 1);
    }
}
