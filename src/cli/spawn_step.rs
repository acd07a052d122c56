//! `hpc spawn-step`: the client of a step that a rank of another one has asked for (MPI_Comm_spawn). Hidden from the help;
//! the shepherd starts it beside that rank, with the rank's output, and says over a socket what is wanted.
//!
//! It asks the controller for the step as `hpc run --overlap` does, tells the shepherd what came of that, and stays until
//! the step has ended, whose code is its own. SIGINT has it end the step.

use super::attached::{Attachment, Ends, block_signals};
use super::connection::Target;
use super::exit::{self, Failure, Outcome};
use super::run::{created, surrounding_job};
use super::{draft, surroundings};
use crate::model::ids::StepId;
use crate::model::spawn::SpawnCommand;
use crate::model::step::{StepOption, StepOptions, Stream};
use crate::sys::inherited::take_socket;
use crate::sys::spawn::find_program;
use crate::wire::client::{Request, StepRequest, StepWish};
use crate::wire::codec;
use crate::wire::spawner::{FromSpawner, SPAWNER_FD, SpawnOrder};
use std::env;
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// Starts the step and stays with it; its code.
pub(super) fn run() -> u8 {
    let Ok(mut shepherd) = take_socket(SPAWNER_FD) else {
        eprintln!("hpc spawn-step: started by hpc for MPI programs, not by hand");
        return exit::USAGE;
    };
    let target = Target::default();
    match begin(&mut shepherd, &target) {
        Ok((job, step)) => {
            tell(&mut shepherd, &FromSpawner::Started { step });
            match follow(job, step, &target) {
                Ok(code) => code,
                Err(failure) => {
                    super::complain("spawn-step", &failure);
                    exit::REFUSED
                }
            }
        }
        Err(failure) => {
            let text = failure.to_string();
            let text = text.lines().map(str::trim).collect::<Vec<_>>().join("; ");
            tell(&mut shepherd, &FromSpawner::Refused { text });
            exit::REFUSED
        }
    }
}

/// The shepherd outlives us; should it not, nobody is left to hear.
fn tell(shepherd: &mut UnixStream, word: &FromSpawner) {
    let _ = codec::write(shepherd, word);
}

/// Has the step started that is wanted.
fn begin(shepherd: &mut UnixStream, target: &Target) -> Outcome<(u32, StepId)> {
    // From here on a signal waits for the step that it is to end.
    block_signals()?;
    let order = codec::read(shepherd, codec::FRAME_MAX).map_err(anyhow::Error::from)?;
    let Some(SpawnOrder { mpi, mut spawned }) = order else {
        return Err(Failure::Other(anyhow::anyhow!("nothing was asked for")));
    };
    let Some(raw_job) = surrounding_job()? else {
        return Err(Failure::Usage("there is no job around".to_owned()));
    };
    let here = draft::current_dir()?;
    for command in &mut spawned.request.commands {
        look_for(command, &here)?;
    }
    let size = spawned.request.size();
    let hosts = spawned.request.hosts();
    let first = spawned.request.commands.first();
    let arguments = first.map(|command| command.arguments.clone());
    let mut options = StepOptions::default();
    options.say(StepOption::Mpi(mpi));
    options.say(StepOption::Overlap);
    options.say(StepOption::Input(Stream::Nothing));
    if !hosts.is_empty() {
        options.say(StepOption::NodeList(hosts));
    }
    options.say(StepOption::Spawned(Box::new(spawned)));
    let request = StepRequest {
        raw_job,
        arguments: arguments.unwrap_or_default(),
        environment: environment(),
        work_dir: here.to_string_lossy().into_owned(),
        ntasks: Some(size),
        nodes: None,
        cpus_per_task: None,
    };
    let wish = StepWish { request, options };
    let request = Request::StartStepAs(Box::new(wish));
    let step = created(target, &request, raw_job, true)?;
    Ok((raw_job, step))
}

/// What is around, without what tells the asking rank where its own server of PMIx is.
fn environment() -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut all = surroundings::environment();
    all.retain(|(name, _)| !name.starts_with(b"PMIX_") || name.starts_with(b"PMIX_MCA_"));
    all
}

/// Makes the directory of a command a whole path, and looks whether its program is there: who asks can be told of one that
/// is not, as long as nothing has started.
fn look_for(command: &mut SpawnCommand, here: &Path) -> Outcome<()> {
    let directory = match &command.directory {
        Some(said) => here.join(said),
        None => PathBuf::from(here),
    };
    if command.directory.is_some() {
        command.directory = Some(directory.to_string_lossy().into_owned());
    }
    let program = command.arguments.first().map_or("", String::as_str);
    let path = env::var_os("PATH");
    match find_program(OsStr::new(program), path.as_deref(), &directory) {
        Ok(_) => Ok(()),
        Err(error) => Err(Failure::Other(anyhow::Error::from(error))),
    }
}

fn follow(job: u32, step: StepId, target: &Target) -> Outcome {
    Attachment {
        verb: "spawn-step",
        job,
        step,
        owner: true,
        inside: true,
        unattended: false,
        patient: true,
        label: None,
        quiet: true,
        verbose: false,
        follow: true,
        only: None,
        // Its tasks read nothing, and one SIGINT is meant.
        ends: Ends {
            input: Some(File::open("/dev/null")?.into()),
            ..Ends::default()
        },
    }
    .follow(target)
}
