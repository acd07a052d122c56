//! The description of a workload: groups of jobs, as TOML.
//!
//! ```toml
//! [[job]]
//! count = 100
//! user = "ann"
//! at = "0s"
//! every = "60s"
//! run = { from = "5m", to = "15m" }
//! limit = "1h"
//! cpus = 4
//! memory = "8G"
//! ```
//! The first job of a group is submitted at `at`, each other one `every` after the one before. Where a span is given as
//! `{ from, to }`, the seed decides each time. Cpus, GPUs and memory are those of each node.

use super::cluster_file::gpus;
use super::draw::Draw;
use super::fields::{self, Fields, Wrong};
use super::workload::{JOBS_MAX, People, Planned, Runs, Workload, blank_spec};
use crate::model::array::{ArraySpec, MAX_INDEX};
use crate::model::constraint::Constraint;
use crate::model::job::JobSpec;
use crate::model::resource::{GpuRequest, MemoryRequest, Request};
use crate::model::switches::SwitchWish;
use crate::model::time::Timestamp;
use crate::model::wishes::Wishes;
use std::sync::Arc;

/// Reads a workload; times count from 1970.
///
/// # Errors
/// One line that names the table, the key and its value.
pub fn parse(text: &str, seed: u64) -> Result<Workload, Wrong> {
    let table = fields::parse(text)?;
    let mut top = Fields::new("the file", &table);
    let mut workload = Workload {
        seed,
        ..Workload::default()
    };
    let mut people = People::default();
    let mut elements = 0;
    for (group, number) in top.tables("job")?.into_iter().zip(0..) {
        let draw = Draw::stream(seed ^ 0x70b5, number);
        add_group(&mut workload, &mut people, group, draw, &mut elements)?;
    }
    if workload.jobs.is_empty() {
        return Err(top.fault("it has no [[job]]"));
    }
    top.finish()?;
    workload.owners = people.list;
    workload.jobs.sort_by_key(|job| job.at);
    Ok(workload)
}

fn add_group(
    workload: &mut Workload,
    people: &mut People,
    mut fields: Fields<'_>,
    mut draw: Draw,
    elements: &mut u64,
) -> Result<(), Wrong> {
    let most = u32::try_from(JOBS_MAX).unwrap_or(u32::MAX);
    let count = fields.count("count", 1, most)?.unwrap_or(1);
    let user = fields.text("user")?.unwrap_or("user");
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.@".contains(&byte);
    if !(1..=64).contains(&user.len()) || !user.bytes().all(is_name) {
        let why = "use 1 to 64 letters, digits, '-', '_', '.' and '@'";
        return Err(fields.wrong("user", why));
    }
    let at = fields.spread("at")?.unwrap_or((0, 0));
    let every = fields.spread("every")?.unwrap_or((0, 0));
    let run = fields.spread("run")?;
    let run = run.ok_or_else(|| fields.fault("`run` is missing, such as run = \"10m\""))?;
    let spec = specification(&mut fields)?;
    *elements += u64::from(count) * u64::from(spec.count());
    if *elements > JOBS_MAX {
        let why = format!("there are more than {JOBS_MAX} jobs, each element of an array counted");
        return Err(fields.fault(why));
    }
    fields.finish()?;
    let place = u32::try_from(workload.specs.len()).unwrap_or(u32::MAX);
    workload.specs.push(spec);
    let owner = people.place(user);
    let mut now = draw.between(at.0, at.1);
    for number in 0..count {
        if number > 0 {
            now = now.saturating_add(draw.between(every.0, every.1));
        }
        let runs = match run {
            (least, most) if least == most => Runs::Same(least),
            (least, most) => Runs::Between(least, most),
        };
        workload.jobs.push(Planned {
            at: Timestamp(now),
            owner,
            spec: place,
            runs,
        });
    }
    Ok(())
}

fn wishes(fields: &mut Fields<'_>) -> Result<Wishes, Wrong> {
    let constraint = fields.text("constraint")?.map(Constraint::parse);
    let constraint = constraint
        .transpose()
        .map_err(|why| fields.wrong("constraint", why))?;
    let licenses = fields.text("licenses")?.map(Wishes::parse_licenses);
    let licenses = licenses
        .transpose()
        .map_err(|why| fields.wrong("licenses", why))?;
    let switches = fields.text("switches")?.map(SwitchWish::parse);
    let switches = switches
        .transpose()
        .map_err(|why| fields.wrong("switches", why))?;
    Ok(Wishes {
        constraint: constraint.map(|constraint| constraint.to_string()),
        licenses: licenses.unwrap_or_default(),
        reservation: fields.text("reservation")?.map(str::to_owned),
        switches,
    })
}

fn specification(fields: &mut Fields<'_>) -> Result<JobSpec, Wrong> {
    let most = 1_000_000;
    let nodes = fields.count("nodes", 1, most)?.unwrap_or(1);
    let tasks = fields.count("tasks", 1, most)?;
    let gpus = gpus(fields, "gpus")?;
    if gpus.len() > 1 {
        return Err(fields.wrong("gpus", "a job asks for one kind"));
    }
    let request = Request {
        nodes_min: nodes,
        // As `hpc submit -N` has it: so many and no more, unless tasks are to go wherever there is room.
        nodes_max: tasks.is_none().then_some(nodes),
        ntasks: Some(tasks.unwrap_or(nodes).max(nodes)),
        cpus_per_task: Some(fields.count("cpus", 1, most)?.unwrap_or(1)),
        memory: match fields.memory("memory")? {
            None => MemoryRequest::Default,
            Some(mib) => MemoryRequest::PerNode(mib),
        },
        gpus: match gpus.into_iter().next() {
            None => GpuRequest::None,
            Some(wanted) => GpuRequest::PerNode(wanted),
        },
        exclusive: fields.truth("exclusive")?,
        wishes: wishes(fields)?,
        ..Request::default()
    };
    let array = match fields.text("array")? {
        None => None,
        Some(text) => {
            let read = ArraySpec::parse(text, MAX_INDEX);
            Some(Box::new(
                read.map_err(|error| fields.wrong("array", error))?,
            ))
        }
    };
    let limit = fields.span("limit")?;
    let limit_s = limit.map(|ms| u32::try_from(ms / 1000).unwrap_or(u32::MAX));
    if limit_s == Some(0) {
        return Err(fields.wrong("limit", "write at least \"1s\""));
    }
    let nice = fields.count("nice", 0, 1 << 30)?.unwrap_or(0);
    let name = fields.text("name")?.unwrap_or("job");
    Ok(JobSpec {
        name: name.into(),
        request: Arc::new(request),
        array,
        time_limit_s: limit_s,
        nice: i32::try_from(nice).unwrap_or(0),
        partition: fields.text("partition")?.unwrap_or_default().into(),
        account: fields.text("account")?.unwrap_or_default().into(),
        qos: fields.text("qos")?.unwrap_or_default().into(),
        requeue: fields.truth("requeue")?,
        ..blank_spec()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_submitted_in_the_order_of_time() {
        let text = "[[job]]\ncount = 3\nuser = \"ann\"\nat = \"1m\"\nevery = \"60s\"\nrun = \"10m\"\nlimit = \"1h\"\n\
            cpus = 4\nnodes = 2\ngpus = \"a100:1\"\nmemory = \"8G\"\nqos = \"course\"\nrequeue = true\n\
            [[job]]\nuser = \"bob\"\nat = \"90s\"\nrun = { from = \"1m\", to = \"2m\" }\narray = \"0-9%2\"\ntasks = 3\n";
        let read = parse(text, 1).unwrap();
        let shown: Vec<_> = read
            .jobs
            .iter()
            .map(|job| (job.at.0 / 1000, &*read.owners[job.owner as usize].name))
            .collect();
        assert_eq!(
            shown,
            [(60, "ann"), (90, "bob"), (120, "ann"), (180, "ann")]
        );
        let spec = &read.specs[0];
        assert_eq!(
            (spec.request.cpus_total(), spec.request.gpus_total()),
            (8, 2)
        );
        assert_eq!(spec.time_limit_s, Some(3600));
        assert!(spec.requeue);
        assert_eq!(read.specs[1].count(), 10);
        assert_eq!(read.specs[1].request.nodes_max, None);
        let spans: Vec<i64> = (0..10).map(|at| read.run_ms(1, at, Timestamp(0))).collect();
        assert!(spans.iter().all(|ms| (60_000..=120_000).contains(ms)));
        assert_eq!(parse(text, 1).unwrap(), read);
        assert_ne!(parse(text, 2).unwrap().run_ms(1, 0, Timestamp(0)), spans[0]);
    }

    #[test]
    fn mistakes_are_one_line_with_table_key_and_value() {
        let cases = [
            ("", "the file: it has no [[job]]"),
            ("[[job]]\nuser = \"ann\"\n", "[[job]] 1: `run` is missing"),
            (
                "[[job]]\nrun = 5\n",
                "[[job]] 1: run = 5: write a span such as",
            ),
            (
                "[[job]]\nrun = { from = \"2m\", to = \"1m\" }\n",
                "[[job]] 1: run = { .. }: write { from",
            ),
            (
                "[[job]]\nrun = \"1m\"\n[[job]]\nrun = \"1m\"\ncpu = 4\n",
                "[[job]] 2: cpu = 4: no such key; there are: count, user,",
            ),
            (
                "[[job]]\nrun = \"1m\"\ncount = 2000001\n",
                "[[job]] 1: count = 2000001: write a whole number from 1 to 2000000",
            ),
            (
                "[[job]]\nrun = \"1m\"\ncount = 1000\narray = \"0-9999\"\n",
                "[[job]] 1: there are more than 2000000 jobs",
            ),
            (
                "[[job]]\nrun = \"1m\"\narray = \"x\"\n",
                "[[job]] 1: array = \"x\": ",
            ),
            (
                "[[job]]\nrun = \"1m\"\nuser = \"a b\"\n",
                "[[job]] 1: user = \"a b\": use 1 to 64",
            ),
        ];
        for (text, said) in cases {
            let error = parse(text, 1).unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }
}
