//! Traces of GPU clusters: one CSV file of nodes and one of tasks, as Alibaba publishes them (`cluster-trace-gpu-v2023`).
//!
//! Of a task what it asks for is read, and neither its times nor its fate. Fields hold no commas and no quotes.

use crate::scheduler::packing::{GPU, GPUS_MAX, GpuAsk, MEMORY_MAX_MIB, Node, Task};
use std::collections::BTreeMap;

/// Most bytes of a line.
pub const LINE_MAX: usize = 64 * 1024;
/// Most nodes of a trace.
pub const NODES_MAX: usize = 20_000;
/// Most tasks of a trace.
pub const TASKS_MAX: usize = 1_000_000;
/// First line of a file of nodes.
pub const NODES_HEADER: &str = "sn,cpu_milli,memory_mib,gpu,model";
/// First line of a file of tasks.
pub const TASKS_HEADER: &str = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,pod_phase,creation_time,deletion_time,scheduled_time";
/// Most thousandths of cpus of a node or task.
const CPU_MAX_MILLI: u32 = 1_000_000_000;

/// A cluster, and what was asked of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuTrace {
    /// Empty, in the order of their file.
    pub nodes: Vec<Node>,
    /// In the order of their file.
    pub tasks: Vec<Task>,
}

/// Why a trace cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum GpuTraceError {
    /// Another file, or none of this kind.
    #[error("its first line is not `{0}`")]
    BadHeader(&'static str),
    /// Not the format.
    #[error("line {line} is no {what}: {why}")]
    BadLine {
        /// Counted from 1.
        line: usize,
        /// A node, or a task.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// More than we would hold.
    #[error("it has more than {most} {what}")]
    TooLong {
        /// How many we would.
        most: usize,
        /// Nodes, or tasks.
        what: &'static str,
    },
    /// Nothing to place on.
    #[error("no node has a GPU")]
    NoGpus,
    /// Nothing to place.
    #[error("no task asks for a GPU")]
    NoDemand,
}

/// A trace as it is read, nodes and tasks in any order.
#[derive(Debug, Default)]
pub struct GpuLines {
    node_lines: usize,
    task_lines: usize,
    nodes: Vec<Node>,
    tasks: Vec<Task>,
    models: Models,
}

impl GpuLines {
    /// The next line of the file of nodes.
    ///
    /// # Errors
    /// When it is no node, or the first and no header.
    pub fn push_node(&mut self, line: &str) -> Result<(), GpuTraceError> {
        self.node_lines += 1;
        let Some(line) = content(line, self.node_lines, NODES_HEADER)? else {
            return Ok(());
        };
        if self.nodes.len() >= NODES_MAX {
            return Err(GpuTraceError::TooLong {
                most: NODES_MAX,
                what: "nodes",
            });
        }
        let node = node(line, &mut self.models).map_err(|why| GpuTraceError::BadLine {
            line: self.node_lines,
            what: "node",
            why,
        })?;
        self.nodes.push(node);
        Ok(())
    }

    /// The next line of the file of tasks.
    ///
    /// # Errors
    /// When it is no task, or the first and no header.
    pub fn push_task(&mut self, line: &str) -> Result<(), GpuTraceError> {
        self.task_lines += 1;
        let Some(line) = content(line, self.task_lines, TASKS_HEADER)? else {
            return Ok(());
        };
        if self.tasks.len() >= TASKS_MAX {
            return Err(GpuTraceError::TooLong {
                most: TASKS_MAX,
                what: "tasks",
            });
        }
        let task = task(line, &mut self.models).map_err(|why| GpuTraceError::BadLine {
            line: self.task_lines,
            what: "task",
            why,
        })?;
        self.tasks.push(task);
        Ok(())
    }

    /// The trace.
    ///
    /// # Errors
    /// When there is no GPU, or nobody asks for one.
    pub fn finish(self) -> Result<GpuTrace, GpuTraceError> {
        if self.nodes.iter().all(|node| node.gpus.is_empty()) {
            return Err(GpuTraceError::NoGpus);
        }
        if self.tasks.iter().all(|task| task.gpus == GpuAsk::None) {
            return Err(GpuTraceError::NoDemand);
        }
        Ok(GpuTrace {
            nodes: self.nodes,
            tasks: self.tasks,
        })
    }
}

/// Numbers for names of models, in the order of their appearance.
#[derive(Debug, Default)]
struct Models(BTreeMap<String, u16>);

impl Models {
    fn number(&mut self, name: &str) -> Result<u16, String> {
        if let Some(number) = self.0.get(name) {
            return Ok(*number);
        }
        let number = u16::try_from(self.0.len()).map_err(|_| "too many models of GPUs")?;
        self.0.insert(name.to_owned(), number);
        Ok(number)
    }
}

/// What is to be read of a line: nothing of the header, nor of an empty one.
fn content<'a>(
    line: &'a str,
    number: usize,
    header: &'static str,
) -> Result<Option<&'a str>, GpuTraceError> {
    let line = line.trim();
    match number {
        1 if line == header => Ok(None),
        1 => Err(GpuTraceError::BadHeader(header)),
        _ => Ok((!line.is_empty()).then_some(line)),
    }
}

fn node(line: &str, models: &mut Models) -> Result<Node, String> {
    let [_, cpu, memory, gpus, model] = fields(line)?;
    let count = number(gpus, "gpu", 0, GPUS_MAX)?;
    Ok(Node {
        cpu_milli: number(cpu, "cpu_milli", 0, CPU_MAX_MILLI)?,
        memory_mib: number(memory, "memory_mib", 0, MEMORY_MAX_MIB)?,
        gpus: std::iter::repeat_n(GPU, count).collect(),
        model: match model {
            "" => None,
            name => Some(models.number(name)?),
        },
    })
}

fn task(line: &str, models: &mut Models) -> Result<Task, String> {
    let [_, cpu, memory, count, milli, spec, ..]: [&str; 11] = fields(line)?;
    let count = number(count, "num_gpu", 0, u16::MAX)?;
    let milli = number(milli, "gpu_milli", 0, GPU)?;
    Ok(Task {
        gpus: match (count, milli) {
            (0, 0) => GpuAsk::None,
            (0, _) => return Err("it asks for a share of no GPU".to_owned()),
            (_, 0) => return Err("it asks for nothing of its GPUs".to_owned()),
            (_, GPU) => GpuAsk::Whole(count),
            (1, _) => GpuAsk::Share(milli),
            _ => return Err("it asks for shares of several GPUs".to_owned()),
        },
        models: match spec {
            "" => Vec::new(),
            names => names
                .split('|')
                .map(|name| match name {
                    "" => Err("a model in gpu_spec has no name".to_owned()),
                    name => models.number(name),
                })
                .collect::<Result<_, _>>()?,
        },
        cpu_milli: number(cpu, "cpu_milli", 0, CPU_MAX_MILLI)?,
        memory_mib: number(memory, "memory_mib", 0, MEMORY_MAX_MIB)?,
    })
}

fn fields<const COUNT: usize>(line: &str) -> Result<[&str; COUNT], String> {
    if line.len() > LINE_MAX {
        return Err(format!("{} bytes are too many", line.len()));
    }
    let fields: Vec<&str> = line.split(',').collect();
    let count = fields.len();
    <[&str; COUNT]>::try_from(fields).map_err(|_| format!("it has {count} fields, not {COUNT}"))
}

fn number<N>(word: &str, name: &str, least: N, most: N) -> Result<N, String>
where
    N: std::str::FromStr + PartialOrd + std::fmt::Display,
{
    match word.parse::<N>() {
        Ok(value) if (&least..=&most).contains(&&value) => Ok(value),
        _ => Err(format!(
            "{name} is `{}`, not a number from {least} to {most}",
            word.escape_debug()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(nodes: &str, tasks: &str) -> Result<GpuTrace, GpuTraceError> {
        let mut lines = GpuLines::default();
        nodes.lines().try_for_each(|line| lines.push_node(line))?;
        tasks.lines().try_for_each(|line| lines.push_task(line))?;
        lines.finish()
    }

    fn nodes(rows: &str) -> String {
        format!("{NODES_HEADER}\n{rows}\n")
    }

    fn tasks(rows: &str) -> String {
        format!("{TASKS_HEADER}\n{rows}\n")
    }

    #[test]
    fn nodes_and_tasks_are_read() {
        let trace = read(
            &nodes("n0,32000,262144,0,\r\nn1,64000,1024,2,T4\n\nn2,8000,512,1,P100"),
            &tasks(
                "t0,12000,16384,1,1000,,LS,Running,0,12537496,0\n\
                 t1,6000,12288,1,460,P100|T4|A10,LS,Pending,427061,,\n\
                 t2,500,1,0,0,,BE,Failed,1,2,\n\
                 t3,0,0,8,1000,A10,,,,,",
            ),
        );
        let node = |cpu_milli, memory_mib, count, model| Node {
            cpu_milli,
            memory_mib,
            gpus: std::iter::repeat_n(GPU, count).collect(),
            model,
        };
        let task = |cpu_milli, memory_mib, gpus, models: &[u16]| Task {
            gpus,
            models: models.to_vec(),
            cpu_milli,
            memory_mib,
        };
        let expected = GpuTrace {
            nodes: vec![
                node(32000, 262_144, 0, None),
                node(64000, 1024, 2, Some(0)),
                node(8000, 512, 1, Some(1)),
            ],
            tasks: vec![
                task(12000, 16384, GpuAsk::Whole(1), &[]),
                task(6000, 12288, GpuAsk::Share(460), &[1, 0, 2]),
                task(500, 1, GpuAsk::None, &[]),
                task(0, 0, GpuAsk::Whole(8), &[2]),
            ],
        };
        assert_eq!(trace, Ok(expected));
    }

    #[test]
    fn what_is_no_trace_is_refused_with_its_line() {
        let good = (nodes("n,1,1,1,T4"), tasks("t,1,1,1,1000,,,,,,"));
        let said = |nodes: &str, tasks: &str| read(nodes, tasks).unwrap_err().to_string();
        let of_node = |row: &str| said(&nodes(row), &good.1);
        let of_task = |row: &str| said(&good.0, &tasks(row));
        assert_eq!(
            of_node("n,1,1,1,T4\nn,1,1,1"),
            "line 3 is no node: it has 4 fields, not 5"
        );
        assert_eq!(
            of_node("n,many,1,1,T4"),
            "line 2 is no node: cpu_milli is `many`, not a number from 0 to 1000000000"
        );
        assert_eq!(
            of_node("n,1,1,129,T4"),
            "line 2 is no node: gpu is `129`, not a number from 0 to 128"
        );
        assert!(of_node("n,1,-1,1,T4").contains("memory_mib is `-1`"));
        assert_eq!(
            of_task("t,1,1,1,1001,,,,,,"),
            "line 2 is no task: gpu_milli is `1001`, not a number from 0 to 1000"
        );
        for (row, why) in [
            ("t,1,1,1,1000,,,,,", "it has 10 fields, not 11"),
            ("t,1,1,70000,1000,,,,,,", "num_gpu is `70000`"),
            ("t,1,1,0,500,,,,,,", "it asks for a share of no GPU"),
            ("t,1,1,2,500,,,,,,", "it asks for shares of several GPUs"),
            ("t,1,1,1,0,,,,,,", "it asks for nothing of its GPUs"),
            ("t,1,1,1,500,T4|,,,,,", "a model in gpu_spec has no name"),
            ("t,\u{1b}[2J,1,1,500,,,,,,", "cpu_milli is `\\u{1b}[2J`"),
        ] {
            assert!(of_task(row).contains(why), "{row}");
        }
        let long = format!("t,1,1,1,500,{},,,,,", "x".repeat(LINE_MAX));
        assert!(of_task(&long).contains("bytes are too many"));
    }

    #[test]
    fn another_file_is_told_by_its_first_line() {
        let (nodes, tasks) = (nodes("n,1,1,1,T4"), tasks("t,1,1,1,1000,,,,,,"));
        assert_eq!(
            read(&tasks, &nodes),
            Err(GpuTraceError::BadHeader(NODES_HEADER))
        );
        assert_eq!(
            read(&nodes, &nodes),
            Err(GpuTraceError::BadHeader(TASKS_HEADER))
        );
    }

    #[test]
    fn there_is_something_to_place_and_something_to_place_it_on() {
        let (gpus, ask) = (nodes("n,1,1,1,T4"), tasks("t,1,1,1,1000,,,,,,"));
        assert_eq!(read(&nodes("n,1,1,0,"), &ask), Err(GpuTraceError::NoGpus));
        assert_eq!(read("", &ask), Err(GpuTraceError::NoGpus));
        assert_eq!(
            read(&gpus, &tasks("t,1,1,0,0,,,,,,")),
            Err(GpuTraceError::NoDemand)
        );
    }
}
