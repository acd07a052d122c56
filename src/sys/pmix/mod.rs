//! The PMIx server library of this machine, opened at run time: no headers, nothing linked. [`Library`] finds it,
//! [`Server`] runs it and says what it asks as [`Upcall`]s. What to answer is decided in [`crate::pmix`].
//!
//! A process has one server in its life, and that process should be there for nothing else: the library starts threads,
//! keeps state for the whole process, and what goes wrong in it takes the process with it.
//!
//! `upcalls` has what the library asks, `groups` that part of it which makes groups of ranks, `spawn` that which asks for
//! further processes. Layouts and numbers are in `layout`; `value` writes and reads what calls carry.
#![expect(
    unsafe_code,
    reason = "a library in C, whose types are declared here by hand"
)]

mod groups;
mod layout;
mod library;
mod server;
mod spawn;
mod upcalls;
mod value;

pub use groups::{GroupReply, GroupUpcall};
pub use library::{Library, LibraryError, is_there};
pub use server::{Server, Status, leave, settle_environment};
pub use spawn::{SpawnReply, SpawnUpcall};
pub use upcalls::{BytesReply, DoneReply, FoundReply, MeetReply, Upcall};
pub use value::{Found, Info, Members, Process, Published, Value};
