//! The upcall for groups of ranks: made by all of their members, with a number where one is wanted, and ended by them.
//!
//! What members say of themselves at it (endpoints, and Open MPI's own numbers of communicators) comes as bytes of the
//! library's, and goes back to it with those of the other nodes, one after another.

use super::layout::{
    DONE_ALREADY, KEY_SIZE, OnInfos, RawArray, RawBytes, RawData, RawInfo, RawProcess, RawValue,
    SUCCESS, group, kind,
};
use super::upcalls::{Context, Upcall, queue, while_open};
use super::value::{directives, fixed, one_nspace, slice, text, unfixed};
use crate::wire::pmix::{GROUP_MAX, status};
use std::ffi::{c_char, c_int, c_void};
use std::ptr;

/// All members of a group that are on this node want it, or its end.
#[derive(Debug)]
pub struct GroupUpcall {
    /// Its name.
    pub name: String,
    /// They want its end.
    pub ends: bool,
    /// Namespace of all members.
    pub nspace: String,
    /// Their ranks in order; none = all.
    pub ranks: Vec<u32>,
    /// Nobody elsewhere is to be asked.
    pub is_local: bool,
    /// It is to have a number.
    pub wants_context: bool,
    /// What the members here say of themselves.
    pub bytes: Vec<u8>,
    /// How long they wait.
    pub timeout_s: Option<u32>,
    /// Says how it went.
    pub reply: GroupReply,
}

/// Answers that a group is there, or is no more, once.
#[derive(Debug)]
#[must_use = "a rank waits for it"]
pub struct GroupReply {
    call: Option<OnInfos>,
    context: Context,
    /// As the library gave them; it wants them back. Empty when a group ends.
    members: Members,
}

struct Members(Vec<RawProcess>);

impl std::fmt::Debug for Members {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Members({})", self.0.len())
    }
}

impl GroupReply {
    /// The group's number, if it has one, and what all members have said of themselves; or a status.
    pub fn answer(self, outcome: Result<(Option<u64>, Vec<u8>), i32>) {
        let Some(call) = self.call else { return };
        let (status, kept) = match outcome {
            Ok((context, bytes)) if !self.members.0.is_empty() => {
                (SUCCESS, Kept::new(self.members.0, context, &bytes))
            }
            Ok(_) => (SUCCESS, None),
            Err(status) => (status, None),
        };
        while_open(|_| match kept {
            Some(kept) => {
                let kept = Box::into_raw(kept);
                // SAFETY: just made, and read by nobody else before the library is called.
                let (infos, count) = unsafe { ((*kept).infos.as_mut_ptr(), (*kept).infos.len()) };
                // SAFETY: the library waits for one call with its own data, which this value made possible once. What it
                // is given stays until it calls `release` with the last argument.
                unsafe {
                    call(
                        status,
                        infos,
                        count,
                        self.context.0,
                        Some(release),
                        kept.cast::<c_void>(),
                    );
                }
            }
            // SAFETY: as above; there is nothing to release.
            None => unsafe {
                call(
                    status,
                    ptr::null_mut(),
                    0,
                    self.context.0,
                    None,
                    ptr::null_mut(),
                );
            },
        });
    }
}

/// What the library reads after it was called.
struct Kept {
    infos: Vec<RawInfo>,
    members: Vec<RawProcess>,
    array: RawArray,
}

impl Kept {
    /// `None` = there is no memory left.
    fn new(members: Vec<RawProcess>, context: Option<u64>, bytes: &[u8]) -> Option<Box<Kept>> {
        let mut kept = Box::new(Kept {
            infos: Vec::with_capacity(3),
            array: RawArray {
                kind: kind::PROCESS,
                size: members.len(),
                array: ptr::null_mut(),
            },
            members,
        });
        kept.array.array = kept.members.as_mut_ptr().cast::<c_void>();
        let array = &raw mut kept.array;
        let mut add = |key, kind, write: &dyn Fn(&mut RawData)| {
            let mut data = RawData { whole: [0; 3] };
            write(&mut data);
            kept.infos.push(RawInfo {
                key: fixed::<KEY_SIZE>(key),
                flags: 0,
                value: RawValue { kind, data },
            });
        };
        add("pmix.grp.mbrs", kind::ARRAY, &|data| data.array = array);
        if let Some(context) = context {
            add("pmix.grp.ctxid", kind::SIZE, &|data| {
                data.whole = [context, 0, 0];
            });
        }
        if !bytes.is_empty() {
            // The library takes these as its own, frees them, and leaves a null where they were.
            // SAFETY: so many bytes, written at once.
            let copy = unsafe { libc::malloc(bytes.len()) }.cast::<c_char>();
            if copy.is_null() {
                return None;
            }
            // SAFETY: two places of that length, of which one is new.
            unsafe { ptr::copy_nonoverlapping(bytes.as_ptr().cast::<c_char>(), copy, bytes.len()) };
            add("pmix.grp.endpt", kind::BYTES, &|data| {
                data.bytes = RawBytes {
                    bytes: copy,
                    size: bytes.len(),
                };
            });
        }
        Some(kept)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        for info in &self.infos {
            if info.value.kind == kind::BYTES {
                // SAFETY: written as bytes above: from malloc, or null where the library has taken them.
                unsafe { libc::free(info.value.data.bytes.bytes.cast::<c_void>()) };
            }
        }
    }
}

/// Frees what [`GroupReply::answer`] has handed over.
unsafe extern "C" fn release(kept: *mut c_void) {
    if !kept.is_null() {
        // SAFETY: the library gives back, once, what Box::into_raw made.
        drop(unsafe { Box::from_raw(kept.cast::<Kept>()) });
    }
}

/// What is said of a group.
#[derive(Default)]
struct Wishes {
    wants_context: bool,
    is_local: bool,
    /// It is more than we offer: members that are not named, or that come later.
    is_strange: bool,
    bytes: Vec<u8>,
}

/// # Safety
/// The infos are the library's, so that their types say what they hold.
unsafe fn wishes(infos: &[RawInfo]) -> Wishes {
    let mut seen = Wishes::default();
    for info in infos {
        let value = &info.value;
        // Each of the members here may have said it. A flag that is said without a value is set.
        // SAFETY: the type says that this is a flag, and it is read as the byte that it is.
        let is_set =
            || value.kind == 0 || (value.kind == kind::FLAG && unsafe { value.data.byte } != 0);
        match unfixed(&info.key).as_str() {
            "pmix.grp.actxid" => seen.wants_context |= is_set(),
            "pmix.grp.lcl" => seen.is_local |= is_set(),
            "pmix.grp.add" | "pmix.grp.btstrp" => seen.is_strange = true,
            "pmix.grp.endpt" if value.kind == kind::BYTES => {
                // SAFETY: the type says that these are bytes.
                let object = unsafe { value.data.bytes };
                // SAFETY: as above.
                seen.bytes
                    .extend_from_slice(unsafe { slice(object.bytes.cast::<u8>(), object.size) });
            }
            _ => {}
        }
    }
    seen
}

pub(super) unsafe extern "C" fn on_group(
    operation: c_int,
    name: *const c_char,
    processes: *const RawProcess,
    count: usize,
    infos: *const RawInfo,
    info_count: usize,
    call: Option<OnInfos>,
    context: *mut c_void,
) -> c_int {
    // SAFETY: the library passes a text, so many processes and so many infos, for the time of the call.
    let (name, processes, infos) = unsafe {
        (
            text(name),
            slice(processes, count),
            slice(infos, info_count),
        )
    };
    // SAFETY: as above.
    let wishes = unsafe { wishes(infos) };
    let ends = match operation {
        group::CONSTRUCT => false,
        group::DESTRUCT => true,
        _ => return status::NOT_SUPPORTED,
    };
    if name.is_empty() || name.len() > GROUP_MAX {
        return status::BAD_PARAMETER;
    }
    let Some((nspace, ranks)) = one_nspace(processes).filter(|_| !wishes.is_strange) else {
        return status::NOT_SUPPORTED;
    };
    // Version 5 asks a second time where the end of a group of this node alone is not answered at once.
    if ends && wishes.is_local {
        return DONE_ALREADY;
    }
    let members = if ends { &[] } else { processes };
    queue(Upcall::Group(GroupUpcall {
        name,
        ends,
        nspace,
        ranks,
        is_local: wishes.is_local,
        wants_context: wishes.wants_context,
        bytes: wishes.bytes,
        timeout_s: directives(infos).timeout_s,
        reply: GroupReply {
            call,
            context: Context(context),
            members: Members(members.to_vec()),
        },
    }))
}
