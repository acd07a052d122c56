//! The library's types as they lie in memory, and its numbers. They have been the same from 3.2 to 6.1 on 64-bit
//! machines; what is asserted below is what its headers give there.

use std::ffi::{c_char, c_void};
use std::mem::{offset_of, size_of};

pub(super) const NSPACE_SIZE: usize = 256;
pub(super) const KEY_SIZE: usize = 512;

/// A process: namespace and rank.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct RawProcess {
    pub(super) nspace: [c_char; NSPACE_SIZE],
    pub(super) rank: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct RawBytes {
    pub(super) bytes: *mut c_char,
    pub(super) size: usize,
}

/// The parts of a value's union that we write or read.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) union RawData {
    pub(super) flag: bool,
    pub(super) byte: u8,
    pub(super) text: *mut c_char,
    pub(super) int: i32,
    pub(super) number16: u16,
    pub(super) number32: u32,
    pub(super) bytes: RawBytes,
    pub(super) process: *mut RawProcess,
    pub(super) array: *mut RawArray,
    pub(super) whole: [u64; 3],
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct RawValue {
    pub(super) kind: u16,
    pub(super) data: RawData,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct RawInfo {
    pub(super) key: [c_char; KEY_SIZE],
    pub(super) flags: u32,
    pub(super) value: RawValue,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct RawArray {
    pub(super) kind: u16,
    pub(super) size: usize,
    pub(super) array: *mut c_void,
}

/// A program that is to run.
#[repr(C)]
pub(super) struct RawApp {
    pub(super) command: *mut c_char,
    pub(super) arguments: *mut *mut c_char,
    pub(super) environment: *mut *mut c_char,
    pub(super) directory: *mut c_char,
    pub(super) ranks: i32,
    pub(super) infos: *mut RawInfo,
    pub(super) info_count: usize,
}

/// What a lookup answers with.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct RawFound {
    pub(super) process: RawProcess,
    pub(super) key: [c_char; KEY_SIZE],
    pub(super) value: RawValue,
}

const _: () = {
    assert!(size_of::<usize>() == 8);
    assert!(size_of::<RawProcess>() == 260 && offset_of!(RawProcess, rank) == 256);
    assert!(size_of::<RawValue>() == 32 && offset_of!(RawValue, data) == 8);
    assert!(size_of::<RawInfo>() == 552 && offset_of!(RawInfo, flags) == 512);
    assert!(offset_of!(RawInfo, value) == 520);
    assert!(size_of::<RawBytes>() == 16 && offset_of!(RawBytes, size) == 8);
    assert!(size_of::<RawArray>() == 24 && offset_of!(RawArray, array) == 16);
    assert!(size_of::<RawApp>() == 56 && offset_of!(RawApp, infos) == 40);
    assert!(size_of::<RawFound>() == 808 && offset_of!(RawFound, value) == 776);
};

/// Numbers of types.
pub(super) mod kind {
    pub(in crate::sys::pmix) const FLAG: u16 = 1;
    pub(in crate::sys::pmix) const TEXT: u16 = 3;
    pub(in crate::sys::pmix) const SIZE: u16 = 4;
    pub(in crate::sys::pmix) const INT: u16 = 6;
    pub(in crate::sys::pmix) const NUMBER_LAST: u16 = 17;
    pub(in crate::sys::pmix) const NUMBER16: u16 = 13;
    pub(in crate::sys::pmix) const NUMBER32: u16 = 14;
    pub(in crate::sys::pmix) const STATUS: u16 = 20;
    pub(in crate::sys::pmix) const PROCESS: u16 = 22;
    pub(in crate::sys::pmix) const INFO: u16 = 24;
    pub(in crate::sys::pmix) const BYTES: u16 = 27;
    pub(in crate::sys::pmix) const ARRAY: u16 = 39;
    pub(in crate::sys::pmix) const RANK: u16 = 40;
}

/// All ranks of a namespace.
pub(super) const RANK_WILDCARD: u32 = u32::MAX - 1;
/// Larger ones are not ranks, but words such as the one above.
pub(super) const RANK_LAST: u32 = u32::MAX - 50;

/// How calls and upcalls end.
pub(super) const SUCCESS: i32 = 0;
/// Done already; no callback follows.
pub(super) const DONE_ALREADY: i32 = -157;

/// Called when something is done.
pub(super) type OnDone = unsafe extern "C" fn(status: i32, data: *mut c_void);
/// Called when memory that was handed over is no longer needed.
pub(super) type OnRelease = unsafe extern "C" fn(data: *mut c_void);
/// Called with what a fence or another node gave.
pub(super) type OnBytes = unsafe extern "C" fn(
    status: i32,
    bytes: *const c_char,
    size: usize,
    data: *mut c_void,
    release: Option<OnRelease>,
    release_data: *mut c_void,
);
/// Called with what a lookup found.
pub(super) type OnFound =
    unsafe extern "C" fn(status: i32, found: *mut RawFound, count: usize, data: *mut c_void);
/// Called with what a local rank has put.
pub(super) type OnPut =
    unsafe extern "C" fn(status: i32, bytes: *mut c_char, size: usize, data: *mut c_void);

/// Called with the namespace of processes that were spawned.
pub(super) type OnSpawned =
    unsafe extern "C" fn(status: i32, nspace: *mut c_char, data: *mut c_void);

/// Called with keys and values.
pub(super) type OnInfos = unsafe extern "C" fn(
    status: i32,
    infos: *mut RawInfo,
    count: usize,
    data: *mut c_void,
    release: Option<OnRelease>,
    release_data: *mut c_void,
);

/// What is to be done to a group.
pub(super) mod group {
    pub(in crate::sys::pmix) const CONSTRUCT: i32 = 0;
    pub(in crate::sys::pmix) const DESTRUCT: i32 = 1;
}

/// Functions of ours that the library calls, by number; longer than any version reads.
pub(super) const SLOTS: usize = 64;

/// Their numbers.
pub(super) mod slot {
    pub(in crate::sys::pmix) const CONNECTED: usize = 0;
    pub(in crate::sys::pmix) const FINALISED: usize = 1;
    pub(in crate::sys::pmix) const ABORT: usize = 2;
    pub(in crate::sys::pmix) const FENCE: usize = 3;
    pub(in crate::sys::pmix) const MODEX: usize = 4;
    pub(in crate::sys::pmix) const PUBLISH: usize = 5;
    pub(in crate::sys::pmix) const LOOKUP: usize = 6;
    pub(in crate::sys::pmix) const UNPUBLISH: usize = 7;
    pub(in crate::sys::pmix) const SPAWN: usize = 8;
    pub(in crate::sys::pmix) const CONNECT: usize = 9;
    pub(in crate::sys::pmix) const DISCONNECT: usize = 10;
    pub(in crate::sys::pmix) const REGISTER_EVENTS: usize = 11;
    pub(in crate::sys::pmix) const LOG: usize = 17;
    pub(in crate::sys::pmix) const DEREGISTER_EVENTS: usize = 12;
    pub(in crate::sys::pmix) const GROUP: usize = 25;
}
