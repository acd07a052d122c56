//! The processes that start steps for ranks which ask for them (`hpc spawn-step`, [`crate::steps`]'s spawners): one for each
//! such step. Each runs as the slot's owner with the environment, directory and limits of the asking step's tasks, and
//! writes where the asking rank does.

use super::link::{Link, Received};
use super::processes::{Processes, Started};
use crate::model::ids::StepId;
use crate::model::job::ExitStatus;
use crate::steps::{Input, InputFrom, LaunchPlan, Output, TaskId};
use crate::wire::spawner::{FromSpawner, SpawnOrder};
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use std::collections::{BTreeMap, VecDeque};
use std::ffi::CString;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

/// One of them.
#[derive(Debug)]
struct Spawner {
    token: u64,
    asker: TaskId,
    link: Link,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Spawners {
    /// How the first task here of each step was started whose ranks can ask.
    steps: BTreeMap<StepId, LaunchPlan>,
    /// Where each of their tasks writes, where that is not the step's log.
    outputs: BTreeMap<TaskId, (Output, Output)>,
    running: BTreeMap<u64, Spawner>,
}

impl Spawners {
    /// A task has started that may ask.
    pub(super) fn remember(&mut self, plan: &LaunchPlan) {
        let place = b"PMIX_NAMESPACE=";
        let mut variables = plan.environment.iter();
        if !plan.pmi && !variables.any(|line| line.as_bytes().starts_with(place)) {
            return;
        }
        self.steps
            .entry(plan.task.step)
            .or_insert_with(|| plan.clone());
        if (&plan.stdout, &plan.stderr) != (&Output::Log, &Output::Log) {
            let outputs = (plan.stdout.clone(), plan.stderr.clone());
            self.outputs.insert(plan.task, outputs);
        }
    }

    /// A step is over.
    pub(super) fn forget(&mut self, step: StepId) {
        self.steps.remove(&step);
        self.outputs.retain(|task, _| task.step != step);
    }

    /// Starts one; its pipes, or why it cannot be started.
    pub(super) fn start(
        &mut self,
        (serial, token): (u64, u64),
        asker: TaskId,
        order: &SpawnOrder,
        processes: &mut Processes,
        poll: &Epoll,
    ) -> Result<Started, String> {
        let known = self.steps.get(&asker.step);
        let mut plan = known.ok_or("nothing is known of its step here")?.clone();
        let outputs = self.outputs.get(&asker).cloned();
        let (stdout, stderr) = outputs.unwrap_or((Output::Log, Output::Log));
        let words = ["/proc/self/exe", crate::wire::spawner::WORD];
        plan.arguments = Arc::new(words.into_iter().flat_map(CString::new).collect());
        plan.task = asker;
        plan.stdin = InputFrom::Null;
        plan.stdout = at_its_end(stdout);
        plan.stderr = at_its_end(stderr);
        plan.pmi = false;
        let (ours, theirs) = UnixStream::pair().map_err(|error| error.to_string())?;
        let mut link = Link::new(ours).map_err(|error| error.to_string())?;
        let started = processes.start_spawner(serial, &plan, theirs.as_fd());
        let started = started.map_err(|failure| failure.text)?;
        link.push(order);
        let _ = poll.add(link.fd(), EpollEvent::new(EpollFlags::EPOLLIN, token));
        let mut spawner = Spawner { token, asker, link };
        spawner.flush(poll);
        self.running.insert(serial, spawner);
        Ok(started)
    }

    /// One has said something, has room, or is gone, which its end tells.
    pub(super) fn ready(&mut self, token: u64, poll: &Epoll, inputs: &mut VecDeque<Input>) {
        let mut running = self.running.iter_mut();
        let found = running.find(|(_, spawner)| spawner.token == token);
        if let Some((serial, spawner)) = found {
            spawner.flush(poll);
            let mut messages: Vec<FromSpawner> = Vec::new();
            if spawner.link.receive(&mut messages) == Received::Gone {
                let _ = poll.delete(spawner.link.fd());
            }
            let said = messages.into_iter();
            inputs.extend(said.map(|said| Input::SpawnerSaid {
                serial: *serial,
                said,
            }));
        }
    }

    /// One has ended, after all that it has said; for whom it was there.
    pub(super) fn ended(
        &mut self,
        serial: u64,
        exit: ExitStatus,
        poll: &Epoll,
        inputs: &mut VecDeque<Input>,
    ) -> Option<TaskId> {
        if let Some(token) = self.running.get(&serial).map(|spawner| spawner.token) {
            self.ready(token, poll, inputs);
        }
        inputs.push_back(Input::SpawnerGone {
            serial,
            exit,
            text: None,
        });
        let spawner = self.running.remove(&serial)?;
        let _ = poll.delete(spawner.link.fd());
        Some(spawner.asker)
    }
}

impl Spawner {
    fn flush(&mut self, poll: &Epoll) {
        let _ = self.link.flush_on(poll, self.token);
    }
}

/// The same file, whose beginning is another's.
fn at_its_end(output: Output) -> Output {
    match output {
        Output::File { path, .. } => Output::File { path, append: true },
        other => other,
    }
}
