//! The running server: one call of the library's for each method. Calls that answer later are waited for.

use super::layout::{DONE_ALREADY, NSPACE_SIZE, OnDone, RANK_LAST, SLOTS, SUCCESS};
use super::library::Library;
use super::upcalls::{self, Queue, Upcall, WAITING_MAX};
use super::value::{Info, Lowered, Process, Value, c_text, fixed, text};
use crate::wire::pmix::status;
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::ffi::{c_char, c_int, c_void};
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// A call that the library has not answered after so long is given up.
const PATIENCE: Duration = Duration::from_secs(30);
/// The most variables of one rank, a multiple of what versions set.
const VARIABLES_MAX: usize = 1_024;
/// Who hears of an event that the server tells: all of this node.
const RANGE_LOCAL: u8 = 2;

/// A call of the library's failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// Which.
    pub doing: &'static str,
    /// The library's number.
    pub number: i32,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} failed with status {}", self.doing, self.number)
    }
}

impl std::error::Error for Status {}

fn check(doing: &'static str, number: i32) -> Result<(), Status> {
    if number == SUCCESS || number == DONE_ALREADY {
        Ok(())
    } else {
        Err(Status { doing, number })
    }
}

/// Takes from the environment of this process what would change how the library behaves, and sets these instead.
///
/// # Errors
/// When this process has more than one thread.
pub fn settle_environment(variables: &[(&str, &str)]) -> std::io::Result<()> {
    if std::fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(std::io::Error::other("other threads run already"));
    }
    let strange: Vec<_> = std::env::vars_os()
        .map(|(name, _)| name)
        .filter(|name| {
            let name = name.as_encoded_bytes();
            [&b"PMIX_"[..], b"OMPI_", b"PRTE_", b"OPAL_", b"HWLOC_"]
                .iter()
                .any(|prefix| name.starts_with(prefix))
        })
        .collect();
    for name in strange {
        // SAFETY: this is the only thread.
        unsafe { std::env::remove_var(name) };
    }
    for (name, value) in variables {
        // SAFETY: this is the only thread.
        unsafe { std::env::set_var(name, value) };
    }
    Ok(())
}

/// Ends this process at once, whatever threads of the library's do.
pub fn leave(code: u8) -> ! {
    // SAFETY: nothing runs afterwards; files of ours are not buffered.
    unsafe { libc::_exit(i32::from(code)) }
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    library: Library,
    upcalls: Receiver<Upcall>,
    wake: Arc<EventFd>,
}

impl Server {
    /// Starts the library's threads. Once in the life of a process.
    ///
    /// # Errors
    /// The library's status, or ours when there is a server already.
    pub fn start(library: Library, infos: &[Info]) -> Result<Self, Status> {
        let doing = "PMIx_server_init";
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let wake = EventFd::from_value_and_flags(0, flags).map_err(|_| Status {
            doing,
            number: status::OUT_OF_RESOURCE,
        })?;
        let wake = Arc::new(wake);
        let (sender, upcalls) = mpsc::sync_channel(WAITING_MAX);
        let queue = Queue {
            sender,
            wake: wake.clone(),
        };
        if !upcalls::open(queue) {
            return Err(Status {
                doing,
                number: status::ERROR,
            });
        }
        // Version 6 passes what members say of themselves in another form.
        let with_groups = library.major() < 6;
        // Some versions may keep the address.
        let module: &'static mut [*const c_void; SLOTS] =
            Box::leak(Box::new(upcalls::module(with_groups)));
        let mut infos = Lowered::new(infos);
        // SAFETY: the module is longer than any version's and stays; the infos stay for the call, which is all that
        // this one needs them for.
        let number = unsafe {
            (library.init)(
                module.as_mut_ptr().cast::<c_void>(),
                infos.pointer(),
                infos.count(),
            )
        };
        if let Err(status) = check(doing, number) {
            upcalls::close();
            return Err(status);
        }
        Ok(Server {
            library,
            upcalls,
            wake,
        })
    }

    /// Readable when [`Server::next_upcall`] has something.
    #[must_use]
    pub fn wake(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    /// What the library asks next; ask until there is nothing.
    pub fn next_upcall(&mut self) -> Option<Upcall> {
        // Read first: what comes after it wakes again.
        let _ = self.wake.read();
        self.upcalls.try_recv().ok()
    }

    /// The node map for these host names.
    ///
    /// # Errors
    /// The library's status.
    pub fn node_map(&self, names: &str) -> Result<Value, Status> {
        self.map("PMIx_generate_regex", self.library.generate_regex, names)
    }

    /// The process map for these ranks, by node.
    ///
    /// # Errors
    /// The library's status.
    pub fn process_map(&self, ranks: &str) -> Result<Value, Status> {
        self.map("PMIx_generate_ppn", self.library.generate_ppn, ranks)
    }

    /// Since version 4 a list may be given as it is, marked so. That is done for all of them: what those versions make
    /// of long lists is compressed, has zero bytes in it, and 4.2 then fails to read its own work.
    fn map(
        &self,
        doing: &'static str,
        generate: unsafe extern "C" fn(*const c_char, *mut *mut c_char) -> c_int,
        list: &str,
    ) -> Result<Value, Status> {
        if self.library.major() >= 4 {
            return Ok(Value::Text(format!("raw:{list}")));
        }
        let list = c_text(list);
        let mut made: *mut c_char = ptr::null_mut();
        // SAFETY: a text in, and a text from malloc out.
        check(doing, unsafe { generate(list.as_ptr(), &mut made) })?;
        // SAFETY: as above.
        let value = unsafe { text(made) };
        // SAFETY: the result is ours to free.
        unsafe { libc::free(made.cast::<c_void>()) };
        if value.starts_with("blob:") {
            return Err(Status {
                doing,
                number: status::NOT_SUPPORTED,
            });
        }
        Ok(Value::Text(value))
    }

    /// Makes a namespace known, with so many ranks here.
    ///
    /// # Errors
    /// The library's status.
    pub fn register_nspace(
        &self,
        nspace: &str,
        local: usize,
        infos: &[Info],
    ) -> Result<(), Status> {
        let name = fixed::<NSPACE_SIZE>(nspace);
        let local = c_int::try_from(local).unwrap_or(c_int::MAX);
        let mut kept = Lowered::new(infos);
        wait_for(
            "PMIx_server_register_nspace",
            &mut kept,
            |kept, call, data| {
                // SAFETY: the infos stay until the library has called back.
                unsafe {
                    (self.library.register_nspace)(
                        name.as_ptr(),
                        local,
                        kept.pointer(),
                        kept.count(),
                        Some(call),
                        data,
                    )
                }
            },
        )
    }

    /// Lets a rank connect, as this user and group.
    ///
    /// # Errors
    /// The library's status.
    pub fn register_client(&self, client: &Process, uid: u32, gid: u32) -> Result<(), Status> {
        let raw = client.raw();
        wait_for(
            "PMIx_server_register_client",
            &mut Lowered::new(&[]),
            |_, call, data| {
                // SAFETY: the library copies the process.
                unsafe {
                    (self.library.register_client)(
                        &raw,
                        uid,
                        gid,
                        ptr::null_mut(),
                        Some(call),
                        data,
                    )
                }
            },
        )
    }

    /// What a rank needs in its environment.
    ///
    /// # Errors
    /// The library's status.
    pub fn setup_fork(&self, client: &Process) -> Result<Vec<(String, String)>, Status> {
        let raw = client.raw();
        // SAFETY: a list of one null, from malloc, as the library may make it longer.
        let mut list = unsafe { libc::calloc(1, size_of::<*mut c_char>()) }.cast::<*mut c_char>();
        // SAFETY: a process and such a list.
        let number = unsafe { (self.library.setup_fork)(&raw, &mut list) };
        let mut variables = Vec::new();
        let mut at = list;
        // SAFETY: the list ends with a null; each text in it is from malloc and ours.
        while !at.is_null() && !unsafe { *at }.is_null() {
            // SAFETY: as above.
            let pair = unsafe { text(*at) };
            // SAFETY: as above.
            unsafe {
                libc::free((*at).cast::<c_void>());
                at = at.add(1);
            }
            if let Some((name, value)) = pair.split_once('=')
                && variables.len() < VARIABLES_MAX
            {
                variables.push((name.to_owned(), value.to_owned()));
            }
        }
        // SAFETY: from malloc, and its texts are gone.
        unsafe { libc::free(list.cast::<c_void>()) };
        check("PMIx_server_setup_fork", number)?;
        Ok(variables)
    }

    /// Asks for what a local rank has put; answered by [`Upcall::Put`] with this number, once it has.
    ///
    /// # Errors
    /// The library's status; then no answer follows.
    pub fn request_modex(&self, whose: &Process, ask: u64) -> Result<(), Status> {
        let raw = whose.raw();
        let ask = usize::try_from(ask).expect("a machine of 64 bits");
        // SAFETY: the library copies the process; the last argument is a number that only comes back.
        let number = unsafe {
            (self.library.modex_request)(
                &raw,
                Some(upcalls::on_put),
                ptr::without_provenance_mut(ask),
            )
        };
        check("PMIx_server_dmodex_request", number)
    }

    /// Tells the ranks of this node that something has happened to a process, as far as they listen.
    ///
    /// # Errors
    /// The library's status.
    pub fn notify(&self, event: i32, affected: &Process) -> Result<(), Status> {
        if affected.rank >= RANK_LAST {
            return Err(Status {
                doing: "PMIx_Notify_event",
                number: status::BAD_PARAMETER,
            });
        }
        let raw = affected.raw();
        let infos = [Info::new("pmix.evproc", Value::Process(affected.clone()))];
        wait_for(
            "PMIx_Notify_event",
            &mut Lowered::new(&infos),
            |kept, call, data| {
                // SAFETY: the infos stay until the library has called back, and it copies the process.
                unsafe {
                    (self.library.notify_event)(
                        event,
                        &raw,
                        RANGE_LOCAL,
                        kept.pointer(),
                        kept.count(),
                        Some(call),
                        data,
                    )
                }
            },
        )
    }

    /// Takes back a namespace and stops the library. Answers given later go nowhere.
    ///
    /// # Errors
    /// The library's status.
    pub fn stop(self, nspace: &str) -> Result<(), Status> {
        let name = fixed::<NSPACE_SIZE>(nspace);
        let gone = wait_for(
            "PMIx_server_deregister_nspace",
            &mut Lowered::new(&[]),
            |_, call, data| {
                // SAFETY: the library copies the name.
                unsafe { (self.library.deregister_nspace)(name.as_ptr(), Some(call), data) };
                SUCCESS
            },
        );
        upcalls::close();
        // SAFETY: nobody calls the library any more: answers look whether the queue is there.
        let number = unsafe { (self.library.finalize)() };
        gone.and(check("PMIx_server_finalize", number))
    }
}

/// A place for the answer to one call.
#[derive(Default)]
struct Answer {
    status: Mutex<Option<i32>>,
    there: Condvar,
}

unsafe extern "C" fn on_answer(status: c_int, data: *mut c_void) {
    // SAFETY: the other half of the Arc::into_raw in `wait_for`; the library calls once.
    let answer = unsafe { Arc::from_raw(data.cast::<Answer>()) };
    *answer
        .status
        .lock()
        .unwrap_or_else(|broken| broken.into_inner()) = Some(status);
    answer.there.notify_one();
}

/// Makes a call that answers later and waits for that. What it was given is kept for ever if the answer does not come.
fn wait_for(
    doing: &'static str,
    kept: &mut Lowered,
    call: impl FnOnce(&mut Lowered, OnDone, *mut c_void) -> c_int,
) -> Result<(), Status> {
    let answer = Arc::new(Answer::default());
    let theirs = Arc::into_raw(answer.clone());
    let number = call(kept, on_answer, theirs.cast_mut().cast::<c_void>());
    if number != SUCCESS {
        // SAFETY: no callback follows, so their half is ours again.
        drop(unsafe { Arc::from_raw(theirs) });
        return check(doing, number);
    }
    let waiting = answer
        .status
        .lock()
        .unwrap_or_else(|broken| broken.into_inner());
    let (answered, _) = answer
        .there
        .wait_timeout_while(waiting, PATIENCE, |status| status.is_none())
        .unwrap_or_else(|broken| broken.into_inner());
    let Some(number) = *answered else {
        drop(answered);
        std::mem::forget(std::mem::replace(kept, Lowered::new(&[])));
        return Err(Status {
            doing,
            number: status::TIMEOUT,
        });
    };
    check(doing, number)
}
