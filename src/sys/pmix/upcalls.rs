//! What the library asks of its host. It calls on threads of its own, which must not wait: what is asked is copied,
//! queued, and a descriptor says that something is there. Most is answered later, by the value that came with it.

use super::groups::{self, GroupUpcall};
use super::layout::{
    DONE_ALREADY, OnBytes, OnDone, OnFound, RANK_LAST, RawInfo, RawProcess, SLOTS, SUCCESS, slot,
};
use super::spawn::{self, SpawnUpcall};
use super::value::{
    Found, LoweredFound, Members, Process, Published, by_nspace, directives, one_nspace, published,
    slice, text, texts, unfixed, words,
};
use crate::wire::pmix::{Purpose, status};
use nix::sys::eventfd::EventFd;
use std::ffi::{c_char, c_int, c_void};
use std::ptr;
use std::sync::RwLock;
use std::sync::mpsc::SyncSender;

/// Questions that wait to be taken; one more is refused. A client mostly waits for its answer before it asks again.
pub(super) const WAITING_MAX: usize = 65_536;
/// Values in one call to publish, names in one to look up.
const NAMES_MAX: usize = 1_024;
/// Bytes of what a rank says at once.
const LOG_BYTES_MAX: usize = crate::wire::pmix::LOG_BYTES_MAX;
/// Bytes of a published value.
const NAME_BYTES_MAX: usize = crate::wire::pmix::NAME_BYTES_MAX;

/// Something that the library asks or tells.
#[derive(Debug)]
pub enum Upcall {
    /// A rank has introduced itself.
    Connected(Process),
    /// A rank is done.
    Finalised {
        /// Which.
        process: Process,
        /// Lets the rank go on to its own end.
        reply: DoneReply,
    },
    /// A rank ends the step.
    Abort {
        /// Who.
        process: Process,
        /// With which code.
        status: i32,
        /// Its words.
        text: String,
        /// Lets the rank go on to its own end.
        reply: DoneReply,
    },
    /// All local participants of a fence are in.
    Fence {
        /// Namespace of all of them.
        nspace: String,
        /// Their ranks in order; none = all.
        ranks: Vec<u32>,
        /// What they bring.
        bytes: Vec<u8>,
        /// How long they wait.
        timeout_s: Option<u32>,
        /// Takes what all nodes bring.
        reply: BytesReply,
    },
    /// As a fence that connects or, as the flag says, disconnects.
    Connect {
        /// Disconnect.
        apart: bool,
        /// Namespace of all of them.
        nspace: String,
        /// Their ranks in order; none = all.
        ranks: Vec<u32>,
        /// How long they wait.
        timeout_s: Option<u32>,
        /// Says that all are in.
        reply: DoneReply,
    },
    /// As a fence or a connect, of processes of several namespaces.
    Meet {
        /// What for.
        purpose: Purpose,
        /// All of them.
        members: Vec<Members>,
        /// Says that all are in.
        reply: MeetReply,
    },
    /// A rank asks for further processes.
    Spawn(SpawnUpcall),
    /// A rank wants what one of another node has put.
    Modex {
        /// The other.
        process: Process,
        /// How long it waits.
        timeout_s: Option<u32>,
        /// Takes it.
        reply: BytesReply,
    },
    /// A rank publishes.
    Publish {
        /// Who.
        process: Process,
        /// What.
        entries: Vec<Published>,
        /// For whom, in the library's numbers.
        range: Option<u8>,
        /// For how long, in the library's numbers.
        persistence: Option<u8>,
        /// Says how it went.
        reply: DoneReply,
    },
    /// A rank looks up what was published.
    Lookup {
        /// Who.
        process: Process,
        /// The names.
        keys: Vec<String>,
        /// As for publishing.
        range: Option<u8>,
        /// Until it is there.
        wait: bool,
        /// But not longer.
        timeout_s: Option<u32>,
        /// Takes what was found.
        reply: FoundReply,
    },
    /// A rank takes back what it has published; no names = all.
    Unpublish {
        /// Who.
        process: Process,
        /// The names.
        keys: Vec<String>,
        /// As for publishing.
        range: Option<u8>,
        /// Says how it went.
        reply: DoneReply,
    },
    /// A rank's library has words for people, such as why it aborts.
    Log {
        /// Whose.
        process: Process,
        /// For standard error, not output.
        error: bool,
        /// The words.
        text: String,
        /// Lets the rank go on.
        reply: DoneReply,
    },
    /// The answer to [`super::Server::request_modex`].
    Put {
        /// The number given there.
        ask: u64,
        /// What the rank has put, or how it failed.
        outcome: Result<Vec<u8>, i32>,
    },
    /// The members of a group that are here want it, or its end.
    Group(GroupUpcall),
}

/// Where upcalls go while a server runs. Whoever answers or asks holds it for reading, so once it was emptied nothing
/// reaches the library any more.
static QUEUE: RwLock<Option<Queue>> = RwLock::new(None);

pub(super) struct Queue {
    pub(super) sender: SyncSender<Upcall>,
    pub(super) wake: std::sync::Arc<EventFd>,
}

/// Lets upcalls in. False = there is a server already.
pub(super) fn open(queue: Queue) -> bool {
    let mut place = QUEUE.write().unwrap_or_else(|broken| broken.into_inner());
    if place.is_some() {
        return false;
    }
    *place = Some(queue);
    true
}

/// From now on upcalls are refused and answers go nowhere.
pub(super) fn close() {
    *QUEUE.write().unwrap_or_else(|broken| broken.into_inner()) = None;
}

/// Runs while the library is there.
pub(super) fn while_open<T>(run: impl FnOnce(&Queue) -> T) -> Option<T> {
    let place = QUEUE.read().unwrap_or_else(|broken| broken.into_inner());
    place.as_ref().map(run)
}

pub(super) fn queue(upcall: Upcall) -> c_int {
    let queued = while_open(|queue| {
        queue.sender.try_send(upcall).is_ok() && {
            // Fails only when it is full of wake-ups.
            let _ = queue.wake.write(1);
            true
        }
    });
    if queued == Some(true) {
        SUCCESS
    } else {
        status::OUT_OF_RESOURCE
    }
}

/// What the library gave us to answer with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Context(pub(super) *mut c_void);

// SAFETY: the library makes no difference between threads when it is answered; we only carry the address.
unsafe impl Send for Context {}

/// Answers that something is done, once.
#[derive(Debug)]
#[must_use = "a rank waits for it"]
pub struct DoneReply {
    call: Option<OnDone>,
    context: Context,
}

impl DoneReply {
    /// Done, or failed with a status.
    pub fn answer(self, outcome: Result<(), i32>) {
        let Some(call) = self.call else { return };
        while_open(|_| {
            // SAFETY: the library waits for one call with its own data, which this value made possible once.
            unsafe { call(outcome.err().unwrap_or(SUCCESS), self.context.0) };
        });
    }
}

/// Answers with bytes, once.
#[derive(Debug)]
#[must_use = "a rank waits for it"]
pub struct BytesReply {
    call: Option<OnBytes>,
    context: Context,
}

impl BytesReply {
    /// The bytes, or a status.
    pub fn answer(self, outcome: Result<Vec<u8>, i32>) {
        let Some(call) = self.call else { return };
        while_open(|_| match outcome {
            Ok(bytes) => {
                let kept = Box::new(bytes);
                let (pointer, size) = (kept.as_ptr().cast::<c_char>(), kept.len());
                let kept = Box::into_raw(kept).cast::<c_void>();
                // SAFETY: as for DoneReply. The bytes stay until the library calls `release` with the last argument.
                unsafe {
                    call(SUCCESS, pointer, size, self.context.0, Some(release), kept);
                }
            }
            // SAFETY: as for DoneReply; there is nothing to release.
            Err(status) => unsafe {
                call(
                    status,
                    ptr::null(),
                    0,
                    self.context.0,
                    None,
                    ptr::null_mut(),
                );
            },
        });
    }
}

/// Frees what [`BytesReply::answer`] has handed over.
unsafe extern "C" fn release(kept: *mut c_void) {
    if !kept.is_null() {
        // SAFETY: the library gives back, once, what Box::into_raw made.
        drop(unsafe { Box::from_raw(kept.cast::<Vec<u8>>()) });
    }
}

/// Answers that the processes of several namespaces have met.
#[derive(Debug)]
#[must_use = "ranks wait for it"]
pub enum MeetReply {
    /// For a fence, with what this node has brought: the others' ranks are asked one by one for theirs.
    Bytes(BytesReply, Vec<u8>),
    /// For all else.
    Done(DoneReply),
}

impl MeetReply {
    /// All are in, or a status.
    pub fn answer(self, outcome: Result<(), i32>) {
        match self {
            MeetReply::Bytes(reply, bytes) => reply.answer(outcome.map(|()| bytes)),
            MeetReply::Done(reply) => reply.answer(outcome),
        }
    }
}

/// Answers with what a lookup found, once.
#[derive(Debug)]
#[must_use = "a rank waits for it"]
pub struct FoundReply {
    call: Option<OnFound>,
    context: Context,
}

impl FoundReply {
    /// What was found, or a status.
    pub fn answer(self, outcome: Result<Vec<Found>, i32>) {
        let Some(call) = self.call else { return };
        let (status, found) = match outcome {
            Ok(found) => (SUCCESS, found),
            Err(status) => (status, Vec::new()),
        };
        let mut lowered = LoweredFound::new(&found);
        while_open(|_| {
            // SAFETY: as for DoneReply; the library copies before it returns.
            unsafe { call(status, lowered.pointer(), lowered.count(), self.context.0) };
        });
    }
}

/// Our functions, where the library looks for them. Empty = not supported.
pub(super) fn module(with_groups: bool) -> [*const c_void; SLOTS] {
    let mut slots = [ptr::null(); SLOTS];
    slots[slot::CONNECTED] = on_connected as *const c_void;
    slots[slot::FINALISED] = on_finalised as *const c_void;
    slots[slot::ABORT] = on_abort as *const c_void;
    slots[slot::FENCE] = on_fence as *const c_void;
    slots[slot::MODEX] = on_modex as *const c_void;
    slots[slot::PUBLISH] = on_publish as *const c_void;
    slots[slot::LOOKUP] = on_lookup as *const c_void;
    slots[slot::UNPUBLISH] = on_unpublish as *const c_void;
    slots[slot::SPAWN] = spawn::on_spawn as *const c_void;
    slots[slot::CONNECT] = on_connect as *const c_void;
    slots[slot::DISCONNECT] = on_disconnect as *const c_void;
    slots[slot::LOG] = on_log as *const c_void;
    slots[slot::REGISTER_EVENTS] = on_register_events as *const c_void;
    if with_groups {
        slots[slot::GROUP] = groups::on_group as *const c_void;
    }
    slots[slot::DEREGISTER_EVENTS] = on_deregister_events as *const c_void;
    slots
}

/// # Safety
/// `process` is null or the library's.
pub(super) unsafe fn process(process: *const RawProcess) -> Option<Process> {
    // SAFETY: as the caller promises.
    let raw = unsafe { process.as_ref() }?;
    (raw.rank < RANK_LAST).then(|| Process {
        nspace: unfixed(&raw.nspace),
        rank: raw.rank,
    })
}

unsafe extern "C" fn on_connected(
    who: *const RawProcess,
    _object: *mut c_void,
    _call: Option<OnDone>,
    _context: *mut c_void,
) -> c_int {
    // SAFETY: the library passes the client's name.
    match unsafe { process(who) }.map(|who| queue(Upcall::Connected(who))) {
        Some(SUCCESS) => DONE_ALREADY,
        Some(status) => status,
        None => status::BAD_PARAMETER,
    }
}

unsafe extern "C" fn on_finalised(
    who: *const RawProcess,
    _object: *mut c_void,
    call: Option<OnDone>,
    context: *mut c_void,
) -> c_int {
    // SAFETY: the library passes the client's name.
    let Some(process) = (unsafe { process(who) }) else {
        return status::BAD_PARAMETER;
    };
    let answer = queue(Upcall::Finalised {
        process,
        reply: DoneReply {
            call,
            context: Context(context),
        },
    });
    // Without a callback there is nothing that it could wait for.
    if answer == SUCCESS && call.is_none() {
        DONE_ALREADY
    } else {
        answer
    }
}

unsafe extern "C" fn on_abort(
    who: *const RawProcess,
    _object: *mut c_void,
    code: c_int,
    words: *const c_char,
    _processes: *mut RawProcess,
    _count: usize,
    call: Option<OnDone>,
    context: *mut c_void,
) -> c_int {
    // SAFETY: the library passes the client's name and a text or null.
    let (who, words) = unsafe { (process(who), text(words)) };
    let Some(process) = who else {
        return status::BAD_PARAMETER;
    };
    // Whom it names is not asked: a step lives and ends as a whole.
    queue(Upcall::Abort {
        process,
        status: code,
        text: words,
        reply: DoneReply {
            call,
            context: Context(context),
        },
    })
}

unsafe extern "C" fn on_fence(
    processes: *const RawProcess,
    count: usize,
    infos: *const RawInfo,
    info_count: usize,
    data: *mut c_char,
    size: usize,
    call: Option<OnBytes>,
    context: *mut c_void,
) -> c_int {
    // SAFETY: the library passes so many processes, infos and bytes, for the time of the call.
    let (processes, infos, bytes) = unsafe {
        (
            slice(processes, count),
            slice(infos, info_count),
            slice(data.cast::<u8>(), size).to_vec(),
        )
    };
    let reply = BytesReply {
        call,
        context: Context(context),
    };
    let upcall = match one_nspace(processes) {
        Some((nspace, ranks)) => Upcall::Fence {
            nspace,
            ranks,
            bytes,
            timeout_s: directives(infos).timeout_s,
            reply,
        },
        None => match by_nspace(processes) {
            Some(members) => Upcall::Meet {
                purpose: Purpose::Fence,
                members,
                reply: MeetReply::Bytes(reply, bytes),
            },
            None => return status::NOT_SUPPORTED,
        },
    };
    let answer = queue(upcall);
    if answer == SUCCESS {
        // SAFETY: the bytes come from the library's malloc and are ours once the call is taken; they were copied.
        unsafe { libc::free(data.cast::<c_void>()) };
    }
    answer
}

/// # Safety
/// As for the two that follow.
unsafe fn connect(
    apart: bool,
    (processes, count): (*const RawProcess, usize),
    (infos, info_count): (*const RawInfo, usize),
    reply: DoneReply,
) -> c_int {
    // SAFETY: the library passes so many processes and infos.
    let (processes, infos) = unsafe { (slice(processes, count), slice(infos, info_count)) };
    if let Some((nspace, ranks)) = one_nspace(processes) {
        return queue(Upcall::Connect {
            apart,
            nspace,
            ranks,
            timeout_s: directives(infos).timeout_s,
            reply,
        });
    }
    let Some(members) = by_nspace(processes) else {
        return status::NOT_SUPPORTED;
    };
    let purpose = if apart {
        Purpose::Disconnect
    } else {
        Purpose::Connect
    };
    queue(Upcall::Meet {
        purpose,
        members,
        reply: MeetReply::Done(reply),
    })
}

unsafe extern "C" fn on_connect(
    processes: *const RawProcess,
    count: usize,
    infos: *const RawInfo,
    info_count: usize,
    call: Option<OnDone>,
    context: *mut c_void,
) -> c_int {
    let reply = DoneReply {
        call,
        context: Context(context),
    };
    // SAFETY: passed on as they came.
    unsafe { connect(false, (processes, count), (infos, info_count), reply) }
}

unsafe extern "C" fn on_disconnect(
    processes: *const RawProcess,
    count: usize,
    infos: *const RawInfo,
    info_count: usize,
    call: Option<OnDone>,
    context: *mut c_void,
) -> c_int {
    let reply = DoneReply {
        call,
        context: Context(context),
    };
    // SAFETY: passed on as they came.
    unsafe { connect(true, (processes, count), (infos, info_count), reply) }
}

unsafe extern "C" fn on_modex(
    whose: *const RawProcess,
    infos: *const RawInfo,
    info_count: usize,
    call: Option<OnBytes>,
    context: *mut c_void,
) -> c_int {
    // SAFETY: the library passes a process and so many infos.
    let (whose, infos) = unsafe { (process(whose), slice(infos, info_count)) };
    let Some(process) = whose else {
        return status::NOT_FOUND;
    };
    queue(Upcall::Modex {
        process,
        timeout_s: directives(infos).timeout_s,
        reply: BytesReply {
            call,
            context: Context(context),
        },
    })
}

unsafe extern "C" fn on_publish(
    who: *const RawProcess,
    infos: *const RawInfo,
    info_count: usize,
    call: Option<OnDone>,
    context: *mut c_void,
) -> c_int {
    // SAFETY: the library passes the client's name and so many infos.
    let (who, infos) = unsafe { (process(who), slice(infos, info_count)) };
    // SAFETY: as above.
    let entries = unsafe { published(infos, NAME_BYTES_MAX) };
    let (Some(process), Some(entries)) = (who, entries) else {
        return status::NOT_SUPPORTED;
    };
    if entries.is_empty() || entries.len() > NAMES_MAX {
        return status::BAD_PARAMETER;
    }
    let seen = directives(infos);
    queue(Upcall::Publish {
        process,
        entries,
        range: seen.range,
        persistence: seen.persistence,
        reply: DoneReply {
            call,
            context: Context(context),
        },
    })
}

unsafe extern "C" fn on_lookup(
    who: *const RawProcess,
    keys: *const *mut c_char,
    infos: *const RawInfo,
    info_count: usize,
    call: Option<OnFound>,
    context: *mut c_void,
) -> c_int {
    // SAFETY: the library passes the client's name, a list that ends, and so many infos.
    let (who, keys, infos) = unsafe {
        (
            process(who),
            texts(keys, NAMES_MAX),
            slice(infos, info_count),
        )
    };
    let Some(process) = who.filter(|_| !keys.is_empty()) else {
        return status::BAD_PARAMETER;
    };
    let seen = directives(infos);
    queue(Upcall::Lookup {
        process,
        keys,
        range: seen.range,
        wait: seen.wait,
        timeout_s: seen.timeout_s,
        reply: FoundReply {
            call,
            context: Context(context),
        },
    })
}

unsafe extern "C" fn on_unpublish(
    who: *const RawProcess,
    keys: *const *mut c_char,
    infos: *const RawInfo,
    info_count: usize,
    call: Option<OnDone>,
    context: *mut c_void,
) -> c_int {
    // SAFETY: the library passes the client's name, a list that ends, and so many infos.
    let (who, keys, infos) = unsafe {
        (
            process(who),
            texts(keys, NAMES_MAX),
            slice(infos, info_count),
        )
    };
    let Some(process) = who else {
        return status::BAD_PARAMETER;
    };
    queue(Upcall::Unpublish {
        process,
        keys,
        range: directives(infos).range,
        reply: DoneReply {
            call,
            context: Context(context),
        },
    })
}

/// This one has no status to return, so that its callback says everything.
unsafe extern "C" fn on_log(
    who: *const RawProcess,
    infos: *const RawInfo,
    info_count: usize,
    _directives: *const RawInfo,
    _directive_count: usize,
    call: Option<OnDone>,
    context: *mut c_void,
) {
    let reply = || DoneReply {
        call,
        context: Context(context),
    };
    // SAFETY: the library passes the client's name and so many infos.
    let (who, infos) = unsafe { (process(who), slice(infos, info_count)) };
    // SAFETY: as above.
    let words = unsafe { words(infos, LOG_BYTES_MAX) };
    let (Some(process), Some((error, text))) = (who, words) else {
        return reply().answer(Err(status::NOT_SUPPORTED));
    };
    let upcall = Upcall::Log {
        process,
        error,
        text,
        reply: reply(),
    };
    if queue(upcall) != SUCCESS {
        reply().answer(Err(status::OUT_OF_RESOURCE));
    }
}

/// Whatever happens to a step ends it, so there is nothing that would have to be watched for.
unsafe extern "C" fn on_register_events(
    _codes: *mut c_int,
    _count: usize,
    _infos: *const RawInfo,
    _info_count: usize,
    _call: Option<OnDone>,
    _context: *mut c_void,
) -> c_int {
    DONE_ALREADY
}

unsafe extern "C" fn on_deregister_events(
    _codes: *mut c_int,
    _count: usize,
    _call: Option<OnDone>,
    _context: *mut c_void,
) -> c_int {
    DONE_ALREADY
}

/// What a local rank has put, for another node.
pub(super) unsafe extern "C" fn on_put(
    status: c_int,
    bytes: *mut c_char,
    size: usize,
    ask: *mut c_void,
) {
    let outcome = if status == SUCCESS {
        // SAFETY: so many bytes, the library's, for the time of the call.
        Ok(unsafe { slice(bytes.cast::<u8>(), size) }.to_vec())
    } else {
        Err(status)
    };
    queue(Upcall::Put {
        ask: u64::try_from(ask.addr()).unwrap_or(u64::MAX),
        outcome,
    });
}
