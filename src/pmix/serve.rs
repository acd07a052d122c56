//! From the first word to the last: open, register, serve, clean up.

use super::desk::Desk;
use super::program::near_programs;
use super::relay::Door;
use super::{PmixError, job};
use crate::sys::files::in_words;
use crate::sys::inherited;
use crate::sys::pmix::{Library, Members, Process, Server, Upcall, leave, settle_environment};
use crate::wire::codec::{self, FRAME_MAX, FrameBuffer};
use crate::wire::pmix::{FromPmix, HELPER_FD, PmixStart, Purpose, ToPmix, Variables, status};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::SigSet;
use std::fs;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// A library that has not come to its end after so long is left behind.
const END_PATIENCE: Duration = Duration::from_secs(5);

/// What the library finds in its environment. It looks at the machine as it starts, of which nothing here is used: without
/// the devices that took 6 ms and not 18 where Debian's plugins for PCI, OpenCL and GL are, and GPU drivers would take
/// longer to wake than all the rest. It loads those plugins before it leaves them out, unless they are looked for where
/// there are none, which takes 2 ms more off.
const SETTINGS: [(&str, &str); 1] = [(
    "HWLOC_COMPONENTS",
    "-linuxio,-pci,-gl,-opencl,-cuda,-nvml,-rsmi,-levelzero",
)];

pub(super) fn run() -> Result<(), PmixError> {
    SigSet::all()
        .thread_block()
        .map_err(PmixError::system("block signals"))?;
    let mut socket =
        inherited::take_socket(HELPER_FD).map_err(PmixError::system("find the shepherd"))?;
    // The library starts programs on occasion, and ranks must not get it.
    nix::fcntl::fcntl(
        &socket,
        nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC),
    )
    .map_err(PmixError::system("keep the shepherd's socket"))?;
    let start = match codec::read::<ToPmix>(&mut socket, FRAME_MAX)? {
        Some(ToPmix::Start(start)) => start,
        Some(ToPmix::Stop) | None => return Ok(()),
        Some(_) => return Err(PmixError::Order),
    };
    let door = start.visitors.map(Door::take).transpose();
    let mut door = door.map_err(PmixError::system("find the ranks"))?;
    // The library gives up without a home, which not every user has, and reads settings of its own in one that is there.
    let here = start.directory.as_str();
    let settings = [
        SETTINGS.as_slice(),
        &[
            ("HOME", here),
            ("TMPDIR", here),
            ("HWLOC_PLUGINS_PATH", here),
        ],
    ]
    .concat();
    settle_environment(&settings).map_err(PmixError::system("settle the environment"))?;
    let (server, ready) = match begin(&start, &mut door) {
        Ok(begun) => begun,
        Err(text) => {
            say(&mut socket, &FromPmix::Failed { text })?;
            clean(&start);
            // Ranks that find nobody run alone. They wait until they are ended.
            if start.visitors.is_some() {
                while socket.read(&mut [0; 1024]).is_ok_and(|count| count > 0) {}
            }
            leave(0);
        }
    };
    say(&mut socket, &ready)?;
    let mut service = Service {
        desk: Desk::new(&start),
        server,
        nspace: &start.nspace,
        socket,
    };
    let outcome = service.serve();
    end(service.server, &start);
    match outcome {
        Ok(()) => leave(0),
        // A shepherd that has gone while something was being said to it.
        Err(PmixError::System { source, .. }) if source.kind() == io::ErrorKind::BrokenPipe => {
            leave(0)
        }
        Err(error) => Err(error),
    }
}

fn say(socket: &mut UnixStream, message: &FromPmix) -> Result<(), PmixError> {
    codec::write(socket, message).map_err(PmixError::system("speak to the shepherd"))
}

/// A server that knows the step, and what to tell the shepherd. The door, if there is one, is opened.
fn begin(start: &PmixStart, door: &mut Option<Door>) -> Result<(Server, FromPmix), String> {
    start.check()?;
    let library = Library::open(&near_programs(&start.libraries), start.only_these)
        .map_err(|error| error.to_string())?;
    for directory in directories(start) {
        fs::create_dir_all(&directory)
            .map_err(|error| format!("cannot make {}: {error}", directory.display()))?;
    }
    let version = library.version().to_owned();
    let failed = |error| format!("the PMIx library ({version}) cannot serve: {error}");
    let server = Server::start(library, &job::server(start)).map_err(failed)?;
    let mut environments = register(&server, start).map_err(failed)?;
    if door.is_some() {
        let told = std::mem::take(&mut environments);
        let told = told.first().map_or(&[][..], |one| &one.pairs);
        let kept = start.promise().kept_at(told);
        let library = kept.map_err(|other| {
            format!("the PMIx library ({version}) wants ranks to be told {other}; --mpi=pmix asks it before they start")
        })?;
        if let Some(door) = door.take() {
            door.open(library, start.uid)
                .map_err(|error| format!("cannot let ranks in: {}", in_words(&error)))?;
        }
    }
    let ready = FromPmix::Ready {
        version,
        environments,
    };
    Ok((server, ready))
}

fn directories(start: &PmixStart) -> Vec<std::path::PathBuf> {
    let ranks = start.local().iter();
    ranks
        .map(|&rank| job::rank_directory(start, rank))
        .collect()
}

fn register(
    server: &Server,
    start: &PmixStart,
) -> Result<Vec<Variables>, crate::sys::pmix::Status> {
    let node_map = server.node_map(&job::node_names(start))?;
    let process_map = server.process_map(&job::processes_by_node(start))?;
    let infos = job::step(start, node_map, process_map);
    server.register_nspace(&start.nspace, start.local().len(), &infos)?;
    let mut environments = Vec::with_capacity(start.local().len());
    for &rank in start.local() {
        let client = Process {
            nspace: start.nspace.clone(),
            rank,
        };
        server.register_client(&client, start.uid, start.gid)?;
        environments.push(Variables {
            pairs: server.setup_fork(&client)?,
        });
    }
    Ok(environments)
}

struct Service<'a> {
    server: Server,
    desk: Desk,
    nspace: &'a str,
    socket: UnixStream,
}

impl Service<'_> {
    /// Until the shepherd says stop or is gone.
    fn serve(&mut self) -> Result<(), PmixError> {
        let mut incoming = FrameBuffer::default();
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let (heard, asked) = self.wait()?;
            if asked {
                self.take_upcalls()?;
            }
            if !heard {
                continue;
            }
            match self.socket.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => incoming.extend(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(()),
                Err(error) => return Err(PmixError::system("hear the shepherd")(error)),
            }
            while let Some(message) = incoming.next(FRAME_MAX)? {
                if !self.take_message(message)? {
                    return Ok(());
                }
            }
        }
    }

    /// Sleeps until there is something: (from the shepherd, from the library).
    fn wait(&self) -> Result<(bool, bool), PmixError> {
        let mut watched = [
            PollFd::new(self.socket.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.server.wake(), PollFlags::POLLIN),
        ];
        match poll(&mut watched, PollTimeout::NONE) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(PmixError::system("wait")(error)),
        }
        let [heard, asked] = watched.map(|one| one.any().unwrap_or(true));
        Ok((heard, asked))
    }

    fn take_upcalls(&mut self) -> Result<(), PmixError> {
        while let Some(upcall) = self.server.next_upcall() {
            if let Some(message) = self.told(&upcall) {
                say(&mut self.socket, &message)?;
            }
            if let Upcall::Meet {
                purpose, members, ..
            } = &upcall
            {
                self.meet(*purpose, members)?;
            }
            if let Some(message) = self.desk.take(upcall) {
                say(&mut self.socket, &message)?;
            }
        }
        Ok(())
    }

    /// Ranks here are about to meet those of other namespaces. The library must know of these that none of theirs is here,
    /// or it would wait for them once it has heard of one.
    fn meet(&mut self, purpose: Purpose, members: &[Members]) -> Result<(), PmixError> {
        let (new, here) = self.desk.news_of(members);
        for nspace in new {
            // Where this fails the ranks are answered all the same.
            let _ = self.server.register_nspace(&nspace, 0, &[]);
        }
        if purpose != Purpose::Connect {
            return Ok(());
        }
        for rank in here {
            let ask = self.desk.brings(rank);
            if let Err(failed) = self.server.request_modex(&self.process(rank), ask)
                && let Some(message) = self.desk.brought(ask, Err(failed.number))
            {
                say(&mut self.socket, &message)?;
            }
        }
        Ok(())
    }

    /// What the shepherd should know before the rank goes on, perhaps to its end.
    fn told(&self, upcall: &Upcall) -> Option<FromPmix> {
        match upcall {
            Upcall::Finalised { process, .. } => Some(FromPmix::Finalised {
                rank: self.desk.ours(process)?,
            }),
            Upcall::Abort {
                process,
                status,
                text,
                ..
            } => Some(FromPmix::Abort {
                rank: self.desk.ours(process)?,
                status: *status,
                text: text.chars().take(TEXT_MAX).collect(),
            }),
            Upcall::Log {
                process,
                error,
                text,
                ..
            } => Some(FromPmix::Log {
                rank: self.desk.ours(process)?,
                error: *error,
                text: text.clone(),
            }),
            _ => None,
        }
    }

    /// False = stop.
    fn take_message(&mut self, message: ToPmix) -> Result<bool, PmixError> {
        match message {
            ToPmix::Start(_) => return Err(PmixError::Order),
            ToPmix::Fenced { ask, outcome } | ToPmix::Modexed { ask, outcome } => {
                self.desk.bytes(ask, outcome);
            }
            ToPmix::Named { ask, answer } => self.desk.names(ask, answer),
            ToPmix::Grouped {
                ask,
                context,
                outcome,
            } => self.desk.grouped(ask, context, outcome),
            ToPmix::Spawned { ask, answer } => {
                let answer = answer.as_deref().map_err(|status| *status);
                self.desk.spawned(ask, answer);
            }
            ToPmix::ModexWanted { ask, rank } => {
                if let Err(failed) = self.server.request_modex(&self.process(rank), ask) {
                    let outcome = Err(failed.number);
                    say(&mut self.socket, &FromPmix::ModexFound { ask, outcome })?;
                }
            }
            ToPmix::RankGone { rank } => {
                // Whoever does not listen is ended by the shepherd all the same.
                let _ = self
                    .server
                    .notify(status::PROCESS_ABORTED, &self.process(rank));
            }
            ToPmix::Stop => return Ok(false),
        }
        Ok(true)
    }

    fn process(&self, rank: u32) -> Process {
        Process {
            nspace: self.nspace.to_owned(),
            rank,
        }
    }
}

/// Characters of a rank's last words that are passed on.
const TEXT_MAX: usize = 2_000;

/// Stops the library, if it lets itself be stopped, and removes its files.
fn end(server: Server, start: &PmixStart) {
    let nspace = start.nspace.clone();
    let (done, ended) = mpsc::channel();
    thread::spawn(move || {
        let _ = server.stop(&nspace);
        let _ = done.send(());
    });
    let _ = ended.recv_timeout(END_PATIENCE);
    clean(start);
}

/// Empties the directory; the directory itself is the shepherd's.
fn clean(start: &PmixStart) {
    let Ok(entries) = fs::read_dir(Path::new(&start.directory)) else {
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let _ = if is_directory {
            fs::remove_dir_all(&path)
        } else {
            fs::remove_file(&path)
        };
    }
}
