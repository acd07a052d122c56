//! What has ended: reaped, and what is left of a step or of the element swept away.

use super::super::processes::{Ended, new_sweep};
use super::super::shared_memory;
use super::{SWEEP_AGAIN_MS, Shepherd};
use crate::model::job::ExitStatus;
use crate::steps::{Input, TaskId};
use crate::sys::clock::boottime_ms;
use crate::sys::files::is_on_full_disk;
use std::time::SystemTime;

impl Shepherd {
    /// Reaps what has ended, and goes on sweeping.
    pub(super) fn reap(&mut self) {
        let mut ended = std::mem::take(&mut self.ended);
        let now = boottime_ms();
        let left = match &mut self.sweep {
            Some((sweep, at)) => {
                self.leftovers.clear();
                *at = now + SWEEP_AGAIN_MS;
                self.processes.sweep(sweep, now, &mut ended)
            }
            None => {
                self.leftovers.retain_mut(|(sweep, at)| {
                    *at = now + SWEEP_AGAIN_MS;
                    self.processes.sweep(sweep, now, &mut ended)
                });
                self.processes.reap(&mut ended)
            }
        };
        for one in ended.drain(..) {
            let Ended { exit, usage, .. } = one;
            if let Some(serial) = one.spawner {
                let inputs = &mut self.inputs;
                let asker = self.spawners.ended(serial, exit, &self.poll, inputs);
                // What its step has said last is said before its end.
                self.streams.drain(|other| Some(other) == asker, &self.poll);
                continue;
            }
            match one.task {
                Some(task) => {
                    // Its last words belong before its end.
                    self.streams.drain(|other| other == task, &self.poll);
                    self.pmi.drain(task, &self.poll, &mut self.inputs);
                    self.pmi.close(task, &self.poll);
                    self.pmi_port.forget(task);
                    self.pmix.drain(task.step, &self.poll, &mut self.inputs);
                    self.look_for_room(task, exit);
                    self.inputs
                        .push_back(Input::TaskExited { task, exit, usage });
                }
                None => self.inputs.push_back(Input::OrphanReaped { usage }),
            }
        }
        self.ended = ended;
        if !left && self.sweep.take().is_some() {
            self.swept();
        }
    }

    /// Says so where a task that ended badly had no room for its output: its own words about that are lost too.
    fn look_for_room(&mut self, task: TaskId, exit: ExitStatus) {
        let files = self.output_files.remove(&task).unwrap_or_default();
        if exit.is_success() {
            return;
        }
        if let Some(path) = files.iter().find(|path| is_on_full_disk(path)) {
            let text = format!("no space is left on the disk of {}", path.display());
            self.inputs.push_back(Input::OutputLost { task, text });
        }
    }

    /// Ends every process that is left, now or in further rounds.
    pub(super) fn sweep(&mut self) {
        self.sweep.get_or_insert_with(|| (new_sweep(), 0));
        self.reap();
    }

    fn swept(&mut self) {
        self.streams.finish(&self.poll);
        self.notes_to = None;
        if let Some(since) = self.launchers_since {
            self.sweep_memory(since);
        }
        self.inputs.push_back(Input::Swept);
    }

    /// Removes what ranks that began at `since` or later have left in shared memory.
    pub(super) fn sweep_memory(&self, since: SystemTime) {
        let (uid, _) = self.processes.owner();
        let count = shared_memory::sweep(uid, since);
        if count > 0 {
            tracing::info!(count, "files of shared memory that ranks left were removed");
        }
    }
}
