//! What exactly is started: argv, environment, cores, directory and streams of each task. Pure: whether a file
//! exists is found out by whoever carries the plan out.
//!
//! [`SlotPlan`] is made once for a slot from its launch order and the stored bytes behind it; a task's
//! [`LaunchPlan`] then costs a few small strings, because an array starts thousands of tasks a second.

use super::environment::{ElementFacts, Environment, TaskFacts};
use super::placement::Placement;
use super::vocabulary::TaskId;
use crate::model::cpu_set::CpuSet;
use crate::model::filename::{self, ArrayElement, FilenameContext};
use crate::model::ids::{BlobId, StepId};
use crate::model::job::{JobSpec, Launch, Surroundings};
use crate::model::resource::GpuRequest;
use crate::model::step::{StepOptions, Stream};
use crate::wire::codec;
use crate::wire::shepherd::Site;
use crate::wire::worker::{SlotLaunch, StepLaunch, element_raw_id};
use std::ffi::CString;
use std::sync::Arc;

/// Where a task's output goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// To a file, opened as the user below the working directory.
    File {
        /// Its path.
        path: CString,
        /// At its end instead of from its beginning.
        append: bool,
    },
    /// Wherever standard output goes.
    SameAsStdout,
    /// To the step's log.
    Log,
}

/// Where a task's input comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InputFrom {
    /// Nowhere.
    Null,
    /// A file.
    File(CString),
    /// The step's client.
    Client,
}

/// One task to start.
#[derive(Debug, Clone, PartialEq)]
pub struct LaunchPlan {
    /// Which.
    pub task: TaskId,
    /// Argument vector; the first is the program, to be searched in PATH when it has no slash.
    pub arguments: Arc<Vec<CString>>,
    /// Environment.
    pub environment: Arc<Vec<CString>>,
    /// Working directory.
    pub directory: Arc<CString>,
    /// Standard input.
    pub stdin: InputFrom,
    /// Standard output.
    pub stdout: Output,
    /// Standard error.
    pub stderr: Output,
    /// File mode creation mask.
    pub umask: u32,
    /// Soft limits: (RLIMIT number, value).
    pub limits: Arc<Vec<(u32, u64)>>,
    /// Cores.
    pub cpus: Arc<CpuSet>,
    /// It has a PMI socket, under the number [`PMI_FD`].
    pub pmi: bool,
}

/// The descriptor at which a rank finds its PMI socket: far from those that shells and programs use first.
pub const PMI_FD: i32 = 99;

/// Everything a slot's launches have in common.
#[derive(Debug)]
pub struct SlotPlan {
    environment: Environment,
    arguments: Arc<Vec<CString>>,
    directory: Arc<CString>,
    umask: u32,
    limits: Arc<Vec<(u32, u64)>>,
    cpus: Arc<CpuSet>,
    gpus: Gpus,
}

/// The GPUs of a slot on this node.
#[derive(Debug, Clone)]
struct Gpus {
    here: Vec<u32>,
    /// How many each task is to have; `None` = all tasks see all.
    each: Option<u32>,
}

impl Gpus {
    fn of(launch: &SlotLaunch, here: &[u32]) -> Self {
        Gpus {
            here: here.to_vec(),
            each: match &launch.spec.request.gpus {
                GpuRequest::PerTask(count) => Some(count.count),
                GpuRequest::None | GpuRequest::PerNode(_) | GpuRequest::Total(_) => None,
            },
        }
    }

    /// Those of all tasks here.
    fn all(&self) -> Arc<str> {
        list(&self.here)
    }

    /// Those of the task with this local number: its share in turn, or all when there are too few to share.
    fn of_task(&self, local: u32) -> Arc<str> {
        let part = self.each.and_then(|each| {
            let first = local.checked_mul(each)? as usize;
            self.here.get(first..first.checked_add(each as usize)?)
        });
        list(part.unwrap_or(&self.here))
    }
}

fn list(numbers: &[u32]) -> Arc<str> {
    let words: Vec<String> = numbers.iter().map(u32::to_string).collect();
    words.join(",").into()
}

impl SlotPlan {
    /// The plan of a slot, or why it cannot be made (bytes missing or malformed, a zero byte in an argument).
    ///
    /// # Errors
    /// One sentence for people.
    pub fn new(launch: &SlotLaunch, site: &Site) -> Result<Self, String> {
        if let Some(refusal) = &site.refusal {
            return Err(refusal.clone());
        }
        let around: Surroundings = blob(launch, launch.spec.surroundings, "environment")?;
        let words: Vec<String> = match &launch.spec.launch {
            Launch::Script { arguments, .. } => {
                let rest: Vec<String> = blob(launch, *arguments, "arguments")?;
                std::iter::once(site.script.clone()).chain(rest).collect()
            }
            Launch::Command { arguments }
            | Launch::Tasks { arguments }
            | Launch::Step { arguments, .. } => blob(launch, *arguments, "arguments")?,
            Launch::Hold => Vec::new(),
        };
        let share = launch.shares.get(launch.node_index as usize);
        let share = share.ok_or("the launch order does not say what this node's part is")?;
        Ok(SlotPlan {
            environment: Environment::of_slot(launch, &around.environment, site),
            arguments: Arc::new(c_strings(&words)?),
            directory: Arc::new(c_string(&launch.spec.work_dir)?),
            umask: around.umask,
            limits: Arc::new(around.limits),
            cpus: Arc::new(share.cpus.clone()),
            gpus: Gpus::of(launch, &share.gpus),
        })
    }

    /// The task that runs the batch script or command.
    pub(super) fn batch(
        &mut self,
        launch: &SlotLaunch,
        element: ElementFacts,
    ) -> Result<LaunchPlan, String> {
        let task = TaskFacts {
            rank: 0,
            local: 0,
            node: launch.node_index,
            ranks: "0".into(),
            gpus: self.gpus.all(),
        };
        let files = Files::of(launch, element, StepId::BATCH, &task);
        let spec = &launch.spec;
        let output = spec.output.as_deref().unwrap_or(default_output(spec));
        let (stdout, stderr) = files.outputs(
            output,
            spec.error.as_deref(),
            spec.open_mode.appends(element.restarts),
        )?;
        Ok(LaunchPlan {
            task: TaskId {
                step: StepId::BATCH,
                rank: 0,
            },
            environment: self.environment.of_task(launch, element, &task),
            stdin: files.input(spec.input.as_deref(), InputFrom::Null)?,
            stdout,
            stderr,
            arguments: self.arguments.clone(),
            directory: self.directory.clone(),
            umask: self.umask,
            limits: self.limits.clone(),
            cpus: self.cpus.clone(),
            pmi: false,
        })
    }

    /// This node's tasks of step 0 of an attached job.
    pub(super) fn tasks(
        &mut self,
        launch: &SlotLaunch,
        element: ElementFacts,
        placement: &Placement,
    ) -> Result<Vec<LaunchPlan>, String> {
        let width = launch.spec.request.cpus_per_task.unwrap_or(1).max(1);
        let options = launch.spec.launch.step_options();
        let facts = task_facts(placement, launch.node_index, &self.gpus);
        let plans = facts.into_iter().map(|task| {
            let files = Files::of(launch, element, StepId(0), &task);
            let (stdin, stdout, stderr) = files.streams(&options, launch, element)?;
            Ok(LaunchPlan {
                task: TaskId {
                    step: StepId(0),
                    rank: task.rank,
                },
                environment: self.environment.of_task(launch, element, &task),
                stdin,
                stdout,
                stderr,
                arguments: arguments_of(&options, &self.arguments, task.rank)?,
                directory: self.directory.clone(),
                umask: self.umask,
                limits: self.limits.clone(),
                cpus: part(&self.cpus, task.local, width),
                pmi: false,
            })
        });
        plans.collect()
    }

    /// This node's tasks of an extra step; what a remote shell would start has all of the slot's here.
    pub(super) fn step(
        &self,
        launch: &SlotLaunch,
        (step, options): (&StepLaunch, &StepOptions),
        element: ElementFacts,
        placement: &Placement,
        site: &Site,
    ) -> Result<Vec<LaunchPlan>, String> {
        let whole = options.remote_shell().is_some();
        let spawned = options.spawned().map(|spawned| &spawned.request);
        let mut environment = Environment::of_step(launch, step, options, site);
        let arguments = Arc::new(c_strings(&step.arguments)?);
        let directory = Arc::new(c_string(&step.work_dir)?);
        let cpus = options.cpus_on(launch.node_index);
        let cpus = cpus.map_or_else(|| self.cpus.clone(), |cpus| Arc::new(cpus.clone()));
        let mut facts = task_facts(placement, launch.node_index, &self.gpus);
        if whole {
            for task in &mut facts {
                task.gpus = self.gpus.all();
            }
        }
        let plans = facts.into_iter().map(|task| {
            let files = Files::of(launch, element, step.step, &task);
            let (stdin, stdout, stderr) = files.streams_of(options)?;
            let command = spawned.and_then(|all| all.command_of(task.rank));
            let mut plan = LaunchPlan {
                task: TaskId {
                    step: step.step,
                    rank: task.rank,
                },
                environment: environment.of_task(launch, element, &task),
                stdin: stdin.unwrap_or(InputFrom::Client),
                stdout: stdout.unwrap_or(Output::Log),
                stderr: stderr.unwrap_or(Output::Log),
                arguments: arguments_of(options, &arguments, task.rank)?,
                directory: match command {
                    Some((_, command)) => match &command.directory {
                        Some(own) => Arc::new(c_string(own)?),
                        None => directory.clone(),
                    },
                    None => directory.clone(),
                },
                umask: self.umask,
                limits: self.limits.clone(),
                // Ranks that another has asked for share what the job has.
                cpus: if whole || spawned.is_some() {
                    cpus.clone()
                } else {
                    part(&cpus, task.local, step.cpus_per_task.max(1))
                },
                pmi: false,
            };
            if let Some((_, command)) = command {
                super::environment::add(&mut plan, &command.environment);
            }
            Ok(plan)
        });
        plans.collect()
    }
}

/// What a rank runs: what all do, or the program named for it.
fn arguments_of(
    options: &StepOptions,
    all: &Arc<Vec<CString>>,
    rank: u32,
) -> Result<Arc<Vec<CString>>, String> {
    if let Some(spawned) = options.spawned() {
        let command = spawned.request.command_of(rank);
        let (_, command) = command.ok_or("the rank has no command of those that were asked for")?;
        return Ok(Arc::new(c_strings(&command.arguments)?));
    }
    match options.programs() {
        Some(programs) => {
            let words = programs
                .of_rank(rank)
                .map_err(|error| format!("--multi-prog: {error}"))?;
            Ok(Arc::new(c_strings(&words)?))
        }
        None => Ok(Arc::clone(all)),
    }
}

/// Slurm's default name of a batch job's output.
fn default_output(spec: &JobSpec) -> &'static str {
    if spec.array.is_some() {
        "slurm-%A_%a.out"
    } else {
        "slurm-%j.out"
    }
}

/// The tasks of a step that run on one node.
fn task_facts(placement: &Placement, node_index: u32, gpus: &Gpus) -> Vec<TaskFacts> {
    let here = placement.ranks_on(node_index);
    let node = placement.number_of(node_index);
    let names: Vec<String> = here.iter().map(u32::to_string).collect();
    let ranks: Arc<str> = names.join(",").into();
    let numbered = here.into_iter().zip(0_u32..);
    numbered
        .map(|(rank, local)| TaskFacts {
            rank,
            local,
            node,
            ranks: ranks.clone(),
            gpus: gpus.of_task(local),
        })
        .collect()
}

/// The cores of the task with this local number: its share in turn, or all when there are too few to share.
fn part(cpus: &Arc<CpuSet>, local: u32, width: u32) -> Arc<CpuSet> {
    let first = local.saturating_mul(width);
    if first.saturating_add(width) > cpus.len() {
        return cpus.clone();
    }
    Arc::new(
        cpus.iter()
            .skip(first as usize)
            .take(width as usize)
            .collect(),
    )
}

/// Input, output and error of a task, as far as something was said of them.
type SaidStreams = (Option<InputFrom>, Option<Output>, Option<Output>);

/// File names of one task.
struct Files {
    context: FilenameContext,
}

impl Files {
    fn of(launch: &SlotLaunch, element: ElementFacts, step: StepId, task: &TaskFacts) -> Self {
        let spec = &launch.spec;
        let array = spec.array.as_ref();
        let context = FilenameContext {
            job: element_raw_id(launch.key.job, element.position),
            array: array.map(|array| ArrayElement {
                array_job: launch.key.job.0,
                index: array.index_at(element.position),
            }),
            step: (step != StepId::BATCH).then_some(step.0),
            node_name: launch
                .nodes
                .get(launch.node_index as usize)
                .cloned()
                .unwrap_or_default(),
            node_index: task.node,
            task_rank: task.rank,
            user: launch.owner.name.to_string(),
            job_name: spec.name.to_string(),
            restart_count: element.restarts,
        };
        Files { context }
    }

    fn path(&self, pattern: &str) -> Result<CString, String> {
        let path = filename::expand(pattern, &self.context).map_err(|error| error.to_string())?;
        c_string(&path)
    }

    fn outputs(
        &self,
        output: &str,
        error: Option<&str>,
        append: bool,
    ) -> Result<(Output, Output), String> {
        let path = self.path(output)?;
        let stderr = match error.map(|error| self.path(error)).transpose()? {
            Some(other) if other != path => Output::File {
                path: other,
                append,
            },
            _ => Output::SameAsStdout,
        };
        Ok((Output::File { path, append }, stderr))
    }

    /// The streams of a task of a job of `hpc run`: as was said of its step, else as of the job.
    fn streams(
        &self,
        options: &StepOptions,
        launch: &SlotLaunch,
        element: ElementFacts,
    ) -> Result<(InputFrom, Output, Output), String> {
        let spec = &launch.spec;
        let append = spec.open_mode.appends(element.restarts);
        let (stdin, stdout, stderr) = self.streams_of(options)?;
        let stdin = match stdin {
            Some(stdin) => stdin,
            None => self.input(spec.input.as_deref(), InputFrom::Client)?,
        };
        if stdout.is_some() || stderr.is_some() {
            let (stdout, stderr) = (stdout.unwrap_or(Output::Log), stderr.unwrap_or(Output::Log));
            return Ok((stdin, stdout, stderr));
        }
        if let Some(output) = &spec.output {
            let (stdout, stderr) = self.outputs(output, spec.error.as_deref(), append)?;
            return Ok((stdin, stdout, stderr));
        }
        let path = spec.error.as_deref().map(|error| self.path(error));
        let stderr = match path.transpose()? {
            Some(path) => Output::File { path, append },
            None => Output::Log,
        };
        Ok((stdin, Output::Log, stderr))
    }

    /// The streams as was said of the step; `None` = nothing was.
    fn streams_of(&self, options: &StepOptions) -> Result<SaidStreams, String> {
        let rank = self.context.task_rank;
        let stdin = match options.input() {
            None => None,
            Some(Stream::Client) => Some(InputFrom::Client),
            Some(Stream::Rank(reader)) if *reader == rank => Some(InputFrom::Client),
            Some(Stream::Nothing | Stream::Rank(_)) => Some(InputFrom::Null),
            Some(Stream::File { pattern, .. }) => Some(InputFrom::File(self.path(pattern)?)),
        };
        let output = |stream: &Stream| match stream {
            Stream::Client => Ok(Output::Log),
            Stream::Rank(writer) if *writer == rank => Ok(Output::Log),
            Stream::Nothing | Stream::Rank(_) => Ok(Output::File {
                path: c"/dev/null".to_owned(),
                append: true,
            }),
            Stream::File { pattern, append } => self.path(pattern).map(|path| Output::File {
                path,
                append: *append,
            }),
        };
        let stdout = options.output().map(output).transpose()?;
        let stderr = options.error().map(output).transpose()?;
        let stderr = match stderr {
            Some(file @ Output::File { .. }) if stdout.as_ref() == Some(&file) => {
                Some(Output::SameAsStdout)
            }
            None if matches!(stdout, Some(Output::File { .. })) => Some(Output::SameAsStdout),
            other => other,
        };
        Ok((stdin, stdout, stderr))
    }

    fn input(&self, pattern: Option<&str>, otherwise: InputFrom) -> Result<InputFrom, String> {
        Ok(pattern
            .map(|pattern| self.path(pattern))
            .transpose()?
            .map_or(otherwise, InputFrom::File))
    }
}

fn blob<T: serde::de::DeserializeOwned>(
    launch: &SlotLaunch,
    id: BlobId,
    what: &str,
) -> Result<T, String> {
    let bytes = blob_bytes(launch, id)
        .ok_or_else(|| format!("the job's {what} did not come with its launch order"))?;
    codec::decode(bytes).map_err(|_| format!("the job's stored {what} do not decode"))
}

/// The bytes behind an id, if they came with the launch order.
pub fn blob_bytes(launch: &SlotLaunch, id: BlobId) -> Option<&[u8]> {
    launch
        .blobs
        .iter()
        .find(|(other, _)| *other == id)
        .map(|(_, bytes)| bytes.as_slice())
}

fn c_string(text: &str) -> Result<CString, String> {
    CString::new(text).map_err(|_| {
        format!(
            "{:?} contains a zero byte",
            text.chars().take(80).collect::<String>()
        )
    })
}

fn c_strings(words: &[String]) -> Result<Vec<CString>, String> {
    words.iter().map(|word| c_string(word)).collect()
}
