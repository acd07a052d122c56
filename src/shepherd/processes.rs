//! The slot's processes: started by [`crate::sys::spawn`], signalled, reaped.
//!
//! The shepherd is a child subreaper, so every descendant that loses its parent becomes its child: as long as
//! there is a descendant there is a child, and when the kernel says there is none, nothing is left.

use crate::model::ids::StepId;
use crate::model::job::{ExitStatus, Usage};
use crate::steps::SIGSTOP;
use crate::steps::{InputFrom, LaunchFailure, LaunchPlan, Output, PMI_FD, Recipients, TaskId};
use crate::sys::identity::as_user;
use crate::sys::reap::{
    ExitStatusRaw, KillSweep, Reaped, ResourceUsage, SweepScope, SweepState, Waited, descendants,
    wait_any,
};
use crate::sys::signals::{To, send};
use crate::sys::spawn::{
    CpuMask, FileUse, Identity, KeptFd, Limit, SpawnError, SpawnRequest, SpawnStage, Stdio,
    find_program, spawn,
};
use crate::wire::shepherd::Account;
use crate::wire::spawner::SPAWNER_FD;
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CString, OsStr};
use std::io::{PipeReader, PipeWriter};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

/// Entered when the working directory cannot be, as Slurm does.
const FALLBACK: &std::ffi::CStr = c"/tmp";

/// How often at most is looked for new processes of those that are to stop.
const LOOKS: u32 = 64;

/// How long is tried to end what a step has left. What cannot be ended by then is ended with its job.
const LEFTOVERS_MS: u64 = 10_000;

/// Variables in which a task finds its own number.
const PID_VARIABLES: [&str; 2] = ["SLURM_TASK_PID", "HPC_TASK_PID"];

/// Our ends of a task's pipes.
#[derive(Debug, Default)]
pub(super) struct Pipes {
    pub(super) stdin: Option<PipeWriter>,
    pub(super) stdout: Option<PipeReader>,
    pub(super) stderr: Option<PipeReader>,
    /// Our end of its PMI socket.
    pub(super) pmi: Option<UnixStream>,
}

/// A task that runs.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) pipes: Pipes,
    /// The working directory was not there.
    pub(super) used_fallback: bool,
}

/// What was reaped.
#[derive(Debug)]
pub(super) struct Ended {
    /// The task; `None` = a process that had lost its parent.
    pub(super) task: Option<TaskId>,
    /// The process that started a step for a rank.
    pub(super) spawner: Option<u64>,
    pub(super) exit: ExitStatus,
    pub(super) usage: Usage,
}

/// Limits as a plan has them: number and soft value.
type AskedLimits = Arc<Vec<(u32, u64)>>;

/// The slot's processes.
#[derive(Debug)]
pub(super) struct Processes {
    running: BTreeMap<i32, TaskId>,
    /// Numbers of all tasks that a step has had here, but for the batch script's: what they leave is told by them.
    begun: BTreeMap<StepId, BTreeSet<i32>>,
    /// Processes of ours beside the tasks. They are no part of the job: signals to all of it pass them by, what they use is
    /// not charged.
    helpers: BTreeSet<i32>,
    /// Those of them that start steps for ranks, and their numbers.
    spawners: BTreeMap<i32, u64>,
    identity: Option<Identity>,
    /// The last program that was looked up, for the arguments it was looked up for.
    program: Option<(Arc<Vec<CString>>, CString)>,
    limits: Option<(AskedLimits, Vec<Limit>)>,
    cpus: Option<(Arc<crate::model::cpu_set::CpuSet>, CpuMask)>,
}

impl Processes {
    /// For processes of this account, or of our own user.
    pub(super) fn new(account: Option<&Account>) -> Self {
        let identity = account.map(|account| Identity {
            uid: account.uid,
            gid: account.gid,
            groups: account.groups.clone(),
        });
        Processes {
            running: BTreeMap::new(),
            begun: BTreeMap::new(),
            helpers: BTreeSet::new(),
            spawners: BTreeMap::new(),
            identity,
            program: None,
            limits: None,
            cpus: None,
        }
    }

    /// Runs `act` with the file rights of the slot's owner.
    pub(super) fn as_owner<T: Send>(&self, act: impl FnOnce() -> T + Send) -> std::io::Result<T> {
        match &self.identity {
            Some(Identity { uid, gid, groups }) => as_user(*uid, *gid, groups, act),
            None => Ok(act()),
        }
    }

    /// Starts a task.
    pub(super) fn start(&mut self, plan: &LaunchPlan) -> Result<Started, LaunchFailure> {
        let (pid, started) = self.launch(plan, None)?;
        self.running.insert(pid, plan.task);
        if plan.task.step != StepId::BATCH {
            let begun = self.begun.entry(plan.task.step).or_default();
            begun.insert(pid);
        }
        Ok(started)
    }

    /// Starts a process of ours that acts for a task as its owner would, with this socket.
    pub(super) fn start_spawner(
        &mut self,
        serial: u64,
        plan: &LaunchPlan,
        socket: BorrowedFd<'_>,
    ) -> Result<Started, LaunchFailure> {
        let kept = KeptFd {
            fd: socket,
            number: SPAWNER_FD,
        };
        let (pid, started) = self.launch(plan, Some(kept))?;
        self.helpers.insert(pid);
        self.spawners.insert(pid, serial);
        Ok(started)
    }

    /// Sends a signal to one of those.
    pub(super) fn signal_spawner(&self, serial: u64, signal: i32) {
        let found = self.spawners.iter().find(|(_, one)| **one == serial);
        if let Some((pid, _)) = found {
            let _ = send(To::Process(*pid), signal);
        }
    }

    fn launch(
        &mut self,
        plan: &LaunchPlan,
        socket: Option<KeptFd<'_>>,
    ) -> Result<(i32, Started), LaunchFailure> {
        let mut ours = Pipes::default();
        let mut theirs: (Option<PipeReader>, Option<PipeWriter>, Option<PipeWriter>) =
            (None, None, None);
        let failed = |error: std::io::Error| LaunchFailure {
            code: 1,
            text: format!("cannot make a pipe: {error}"),
        };
        if plan.stdin == InputFrom::Client {
            let (reader, writer) = super::stdin::pipe().map_err(failed)?;
            (theirs.0, ours.stdin) = (Some(reader), Some(writer));
        }
        if plan.stdout == Output::Log {
            let (reader, writer) = super::streams::pipe().map_err(failed)?;
            (theirs.1, ours.stdout) = (Some(writer), Some(reader));
        }
        if plan.stderr == Output::Log {
            let (reader, writer) = super::streams::pipe().map_err(failed)?;
            (theirs.2, ours.stderr) = (Some(writer), Some(reader));
        }
        let mut their_pmi = None;
        if plan.pmi {
            let (socket, theirs) = super::pmi_sockets::pair().map_err(failed)?;
            (ours.pmi, their_pmi) = (Some(socket), Some(theirs));
        }
        self.look_up(plan).map_err(|error| failure(&error))?;
        let (Some((_, program)), Some((_, limits)), Some((_, cpus))) =
            (&self.program, &self.limits, &self.cpus)
        else {
            return Err(LaunchFailure {
                code: 1,
                text: "the program was not looked up".to_owned(),
            });
        };
        let mut request = SpawnRequest::new(program, &plan.arguments, &plan.environment);
        request.pid_variables = &PID_VARIABLES;
        request.directory = Some(&plan.directory);
        request.fallback_directory = Some(FALLBACK);
        request.stdin = match (&plan.stdin, &theirs.0) {
            (InputFrom::File(path), _) => Stdio::File {
                path,
                usage: FileUse::Read,
            },
            (InputFrom::Client, Some(pipe)) => Stdio::Inherit(pipe.as_fd()),
            (InputFrom::Client | InputFrom::Null, _) => Stdio::Null,
        };
        request.stdout = output(&plan.stdout, theirs.1.as_ref());
        request.stderr = output(&plan.stderr, theirs.2.as_ref());
        request.identity = self.identity.as_ref();
        request.no_new_privs = self
            .identity
            .as_ref()
            .is_some_and(|identity| identity.uid != 0);
        request.umask = Some(plan.umask);
        request.limits = limits;
        request.affinity = Some(cpus);
        // A shepherd that is killed takes its tasks with it; what they started is found by its mark.
        request.die_with_parent = true;
        let kept = their_pmi.as_ref().map(|fd| KeptFd {
            fd: fd.as_fd(),
            number: PMI_FD,
        });
        let kept = kept.or(socket);
        request.kept = kept.as_slice();
        let spawned = spawn(&request).map_err(|error| failure(&error))?;
        let started = Started {
            pipes: ours,
            used_fallback: spawned.used_fallback_directory,
        };
        Ok((spawned.pid, started))
    }

    /// Starts a process of ours as the slot's owner, with these sockets as its descriptors from 3 on.
    pub(super) fn start_helper(
        &mut self,
        arguments: &[CString],
        environment: &[CString],
        sockets: &[BorrowedFd<'_>],
    ) -> Result<(), SpawnError> {
        let kept: Vec<KeptFd<'_>> = (3..)
            .zip(sockets)
            .map(|(number, fd)| KeptFd { fd: *fd, number })
            .collect();
        // The path of our program may lead through folders that the owner must not enter.
        let mut request = SpawnRequest::new(c"/proc/self/exe", arguments, environment);
        request.directory = Some(c"/");
        request.identity = self.identity.as_ref();
        request.no_new_privs = true;
        request.umask = Some(0o077);
        request.die_with_parent = true;
        request.kept = &kept;
        let spawned = spawn(&request)?;
        self.helpers.insert(spawned.pid);
        Ok(())
    }

    /// Whom the slot's processes run as: user and group.
    pub(super) fn owner(&self) -> (u32, u32) {
        match &self.identity {
            Some(identity) => (identity.uid, identity.gid),
            None => (
                nix::unistd::geteuid().as_raw(),
                nix::unistd::getegid().as_raw(),
            ),
        }
    }

    /// Finds the program and translates limits and cores, unless the last task had the same.
    fn look_up(&mut self, plan: &LaunchPlan) -> Result<(), SpawnError> {
        if !self
            .program
            .as_ref()
            .is_some_and(|(arguments, _)| Arc::ptr_eq(arguments, &plan.arguments))
        {
            let name =
                OsStr::from_bytes(plan.arguments.first().map_or(&[], |name| name.as_bytes()));
            let path = plan
                .environment
                .iter()
                .find_map(|line| line.as_bytes().strip_prefix(b"PATH="));
            let directory = Path::new(OsStr::from_bytes(plan.directory.as_bytes()));
            let find = || find_program(name, path.map(OsStr::from_bytes), directory);
            // Where the identity cannot be taken on, the kernel will say so when it matters.
            let found = self.as_owner(find).unwrap_or_else(|_| find())?;
            let program = CString::new(found.into_os_string().into_vec()).unwrap_or_default();
            self.program = Some((plan.arguments.clone(), program));
        }
        if !self
            .limits
            .as_ref()
            .is_some_and(|(limits, _)| Arc::ptr_eq(limits, &plan.limits))
        {
            let limits = plan
                .limits
                .iter()
                .filter_map(|(number, soft)| limit(*number, *soft))
                .collect();
            self.limits = Some((plan.limits.clone(), limits));
        }
        if !self
            .cpus
            .as_ref()
            .is_some_and(|(cpus, _)| Arc::ptr_eq(cpus, &plan.cpus))
        {
            self.cpus = Some((
                plan.cpus.clone(),
                CpuMask::from_cpus(plan.cpus.iter().map(u32::from)),
            ));
        }
        Ok(())
    }

    /// Sends a signal.
    pub(super) fn signal(&self, signal: i32, to: &Recipients) {
        let wanted = |tasks: &[TaskId]| {
            let running = self.running.iter().filter(|(_, task)| tasks.contains(task));
            running.map(|(pid, _)| *pid).collect::<Vec<_>>()
        };
        // Errors mean that the process is gone, which is as good.
        match to {
            Recipients::Everything => {
                // Those who are to stop may have children while we look; a stopped process has none.
                let looks = if signal == SIGSTOP { LOOKS } else { 1 };
                let mut known = BTreeSet::new();
                for _ in 0..looks {
                    let found = descendants(nix::unistd::getpid().as_raw());
                    let before = known.len();
                    for pid in found {
                        if !self.helpers.contains(&pid) && known.insert(pid) {
                            let _ = send(To::Process(pid), signal);
                        }
                    }
                    if known.len() == before {
                        break;
                    }
                }
            }
            Recipients::Groups(tasks) => {
                for pid in wanted(tasks) {
                    let _ = send(To::Group(pid), signal);
                }
            }
            Recipients::Process(task) => {
                for pid in wanted(&[*task]) {
                    let _ = send(To::Process(pid), signal);
                }
            }
        }
    }

    /// Reaps what has ended into `ended`; whether any process is left.
    pub(super) fn reap(&mut self, ended: &mut Vec<Ended>) -> bool {
        loop {
            match wait_any() {
                Waited::Ended(reaped) => ended.push(self.ended(reaped)),
                Waited::NoneEnded => return true,
                Waited::NoChildren => return false,
            }
        }
    }

    /// Ends what is left, as far as it goes now; whether there is more to do.
    pub(super) fn sweep(
        &mut self,
        sweep: &mut KillSweep,
        now: u64,
        ended: &mut Vec<Ended>,
    ) -> bool {
        let mut reaped = Vec::new();
        let state = sweep.step(now, &mut reaped);
        ended.extend(reaped.into_iter().map(|reaped| self.ended(reaped)));
        if let SweepState::Stuck(left) = &state {
            tracing::warn!(?left, "processes of a step that has ended cannot be ended");
        }
        state == SweepState::Running
    }

    /// The sweep of what tasks of this step have left, while others run; none where nothing can be left.
    pub(super) fn leftovers(&mut self, step: StepId, now: u64) -> Option<KillSweep> {
        let sessions = self.begun.remove(&step)?;
        let tasks = self.running.keys();
        let scope = SweepScope::Marked {
            name: PID_VARIABLES[1].to_owned(),
            values: sessions.iter().map(i32::to_string).collect(),
            spared: tasks.chain(&self.helpers).copied().collect(),
            sessions,
        };
        Some(KillSweep::new(scope, now.saturating_add(LEFTOVERS_MS)))
    }

    /// The step is forgotten.
    pub(super) fn forget(&mut self, step: StepId) {
        self.begun.remove(&step);
    }

    fn ended(&mut self, reaped: Reaped) -> Ended {
        let Reaped { pid, status, usage } = reaped;
        let helper = self.helpers.remove(&pid);
        Ended {
            task: self.running.remove(&pid),
            spawner: self.spawners.remove(&pid),
            exit: exit_of(status),
            usage: if helper {
                Usage::default()
            } else {
                usage_of(usage)
            },
        }
    }
}

/// A sweep of everything, without a deadline: what cannot be killed now is waited for, and nothing else starts.
pub(super) fn new_sweep() -> KillSweep {
    KillSweep::new(SweepScope::Everything, u64::MAX)
}

fn exit_of(status: ExitStatusRaw) -> ExitStatus {
    let byte = |number: i32| u8::try_from(number & 0xff).unwrap_or(0);
    match status {
        ExitStatusRaw::Exited { code } => ExitStatus {
            code: byte(code),
            signal: 0,
        },
        ExitStatusRaw::Signaled { signal, .. } => ExitStatus {
            code: 0,
            signal: byte(signal),
        },
    }
}

fn usage_of(usage: ResourceUsage) -> Usage {
    Usage {
        cpu_ms: (usage.utime_us + usage.stime_us) / 1000,
        max_rss_kib: usage.max_rss_kib,
        read_bytes: usage.in_block * 512,
        write_bytes: usage.out_block * 512,
    }
}

fn output<'a>(output: &'a Output, pipe: Option<&'a PipeWriter>) -> Stdio<'a> {
    match (output, pipe) {
        (Output::File { path, append }, _) => {
            let usage = if *append {
                FileUse::Append
            } else {
                FileUse::Truncate
            };
            Stdio::File { path, usage }
        }
        (Output::SameAsStdout, _) => Stdio::SameAsStdout,
        (Output::Log, Some(pipe)) => Stdio::Inherit(pipe.as_fd()),
        (Output::Log, None) => Stdio::Null,
    }
}

/// A shell's code for it, and the whole sentence.
fn failure(error: &SpawnError) -> LaunchFailure {
    let code = match (error.stage, error.errno) {
        (SpawnStage::Exec, Errno::ENOENT) => 127,
        (SpawnStage::Exec, _) => 126,
        _ => 1,
    };
    LaunchFailure {
        code,
        text: error.to_string(),
    }
}

/// A soft limit by its number; the hard limit stays ours. Unknown numbers are another kernel's.
fn limit(number: u32, soft: u64) -> Option<Limit> {
    const KNOWN: [Resource; 10] = [
        Resource::RLIMIT_AS,
        Resource::RLIMIT_CORE,
        Resource::RLIMIT_CPU,
        Resource::RLIMIT_DATA,
        Resource::RLIMIT_FSIZE,
        Resource::RLIMIT_MEMLOCK,
        Resource::RLIMIT_NOFILE,
        Resource::RLIMIT_NPROC,
        Resource::RLIMIT_RSS,
        Resource::RLIMIT_STACK,
    ];
    let resource = KNOWN
        .into_iter()
        .find(|resource| *resource as u32 == number)?;
    let (_, hard) = getrlimit(resource).ok()?;
    Some(Limit {
        resource,
        soft,
        hard,
    })
}
