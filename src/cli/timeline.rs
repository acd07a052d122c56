//! `hpc queue --timeline`: the plan as a picture, a line for each job from its start to its limit.

use super::output::{self, words};
use crate::model::hostlist;
use crate::model::time::Timestamp;
use crate::wire::view::JobView;
use std::fmt::Write as _;

/// Widest and narrowest that the part with the bars may be; columns.
const WIDEST: usize = 160;
const NARROWEST: usize = 20;
/// Most lines; of more the rest is told in a number.
const LINES_MAX: usize = 200;
/// Longest names of nodes and jobs; columns.
const NAME_MAX: usize = 14;
/// The shortest time that is drawn; milliseconds.
const LEAST_MS: i64 = 60_000;

/// A job that has a place in time.
struct Line {
    id: String,
    name: String,
    place: String,
    start: i64,
    /// `None` = it has no limit.
    end: Option<i64>,
    runs: bool,
    stands_still: bool,
}

fn line(job: &JobView) -> Option<Line> {
    let runs = job.start_time.is_some() && job.state != "PENDING";
    let start = if runs {
        job.start_time
    } else {
        job.expected_start
    }?;
    let limit_ms = job.time_limit_s.map(|limit_s| i64::from(limit_s) * 1000);
    let place = match job.nodes.as_slice() {
        [] => format!("{} node(s)", job.nodes_requested),
        nodes => hostlist::fold(nodes),
    };
    Some(Line {
        id: words::element_id(job.id, job.array_task, job.array_tasks.as_deref()),
        name: job.name.clone(),
        place,
        start: start.0,
        end: limit_ms.map(|limit_ms| start.0 + limit_ms),
        runs,
        stands_still: job.state == "SUSPENDED",
    })
}

/// A text of at most so many columns, and filled up to them.
fn fitted(text: &str, width: usize) -> String {
    let mut shown: String = output::clean(text).chars().take(width).collect();
    let missing = width.saturating_sub(shown.chars().count());
    shown.extend(std::iter::repeat_n(' ', missing));
    shown
}

/// The picture of these jobs at this time, in so many columns.
pub(super) fn draw(
    jobs: &[JobView],
    now: Timestamp,
    zone: &jiff::tz::TimeZone,
    columns: usize,
) -> String {
    let mut lines: Vec<Line> = jobs.iter().filter_map(line).collect();
    lines.sort_by(|one, other| (one.start, &one.id).cmp(&(other.start, &other.id)));
    let unknown = jobs.len() - lines.len();
    let starts = lines.iter().map(|line| line.start);
    let ends = lines.iter().filter_map(|line| line.end);
    let latest = starts.chain(ends).chain([now.0 + LEAST_MS]).max();
    let until = latest.unwrap_or(now.0 + LEAST_MS);
    let widest = |of: fn(&Line) -> &str, title: &str| {
        let widths = lines.iter().map(|line| of(line).chars().count());
        widths.chain([title.len()]).max().unwrap_or(0)
    };
    let id = widest(|line| &line.id, "JOBID");
    let name = widest(|line| &line.name, "NAME").min(NAME_MAX);
    let place = widest(|line| &line.place, "ON").min(NAME_MAX);
    let around = id + name + place + 3;
    let width = columns.saturating_sub(around).clamp(NARROWEST, WIDEST);
    let span = until - now.0;
    let at = |time: i64| {
        let part = i128::from((time - now.0).clamp(0, span));
        let at = part * width as i128 / i128::from(span.max(1));
        usize::try_from(at).unwrap_or(0).min(width)
    };
    let mut text = String::new();
    let point = |time: i64| {
        let form = if span > 86_400_000 {
            "%a %H:%M"
        } else {
            "%H:%M"
        };
        let time = Timestamp(time);
        time.strftime(zone, form).unwrap_or_default()
    };
    let (first, last) = (point(now.0), point(until));
    let middle = point(now.0 + span / 2);
    let gap = width.saturating_sub(first.len() + middle.len() + last.len());
    let (before, behind) = (gap / 2, gap - gap / 2);
    // Writing to a text cannot fail.
    let _ = writeln!(
        text,
        "{} {} {} {first}{}{middle}{}{last}",
        fitted("JOBID", id),
        fitted("NAME", name),
        fitted("ON", place),
        " ".repeat(before),
        " ".repeat(behind),
    );
    for line in lines.iter().take(LINES_MAX) {
        let from = at(line.start).min(width - 1);
        let to = line.end.map_or(width, at).max(from + 1);
        let sign = match line.runs {
            true if line.stands_still => "▒",
            true => "█",
            false => "░",
        };
        let mut bar = " ".repeat(from);
        bar.push_str(&sign.repeat(to - from));
        if line.end.is_none() {
            bar.push('→');
        }
        let _ = writeln!(
            text,
            "{} {} {} {}",
            fitted(&line.id, id),
            fitted(&line.name, name),
            fitted(&line.place, place),
            bar
        );
    }
    let more = lines.len().saturating_sub(LINES_MAX);
    if more > 0 {
        let _ = writeln!(text, "and {more} more");
    }
    if unknown > 0 {
        let _ = writeln!(
            text,
            "{unknown} more have no expected start (yet): `hpc why ID` says why"
        );
    }
    let still = lines.iter().any(|line| line.stands_still);
    let still = if still { "   ▒ stands still" } else { "" };
    let _ = writeln!(text, "█ runs, to its limit   ░ is expected to run{still}");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(id: u32, start: Option<i64>, runs: bool, limit_s: Option<u32>) -> JobView {
        let at = start.map(|minutes| Timestamp(minutes * 60_000));
        JobView {
            id,
            name: "train".into(),
            state: if runs { "RUNNING" } else { "PENDING" }.into(),
            start_time: at.filter(|_| runs),
            expected_start: at.filter(|_| !runs),
            time_limit_s: limit_s,
            nodes: if runs { vec!["ws1".into()] } else { vec![] },
            nodes_requested: 1,
            ..JobView::default()
        }
    }

    #[test]
    fn a_bar_is_as_long_as_its_job_may_run() {
        let jobs = [
            job(2, Some(60), false, Some(3600)),
            job(1, Some(-10), true, Some(4200)),
            job(3, None, false, Some(60)),
            job(4, Some(0), true, None),
        ];
        let text = draw(&jobs, Timestamp(0), &jiff::tz::TimeZone::UTC, 62);
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[0].ends_with("02:00") && lines[0].contains("00:00"),
            "{text}"
        );
        let bar = |line: &str| line.chars().skip(22).collect::<String>();
        let (half, all) = (20, 40);
        assert_eq!(bar(lines[1]), "█".repeat(half), "{text}");
        assert_eq!(bar(lines[2]), "█".repeat(all) + "→", "{text}");
        assert_eq!(
            bar(lines[3]),
            " ".repeat(half) + &"░".repeat(half),
            "{text}"
        );
        assert!(
            lines[4].starts_with("1 more have no expected start"),
            "{text}"
        );
        // Nothing at all is a picture too, and no window is too narrow.
        assert!(draw(&[], Timestamp(0), &jiff::tz::TimeZone::UTC, 0).starts_with("JOBID"));
    }
}
