//! The five libudev names that the static libhwloc asks for, each answering "nothing there".
//!
//! hwloc uses libudev only to name block devices, which `hpc` never looks at. Distributions ship no static libudev,
//! so giving the names ourselves keeps the binary free of everything but glibc. hwloc takes null for "udev is not
//! available". The names are local to the binary: a library loaded later (NVML, libpmix) finds its own libudev.
#![expect(
    unsafe_code,
    reason = "the linker is given C symbols by their unmangled names"
)]

use std::ffi::{c_char, c_void};

/// No udev context.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn udev_new() -> *mut c_void {
    std::ptr::null_mut()
}

/// Nothing to release.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn udev_unref(_udev: *mut c_void) -> *mut c_void {
    std::ptr::null_mut()
}

/// Nothing to release.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn udev_device_unref(_device: *mut c_void) -> *mut c_void {
    std::ptr::null_mut()
}

/// No such device.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn udev_device_new_from_subsystem_sysname(
    _udev: *mut c_void,
    _subsystem: *const c_char,
    _sysname: *const c_char,
) -> *mut c_void {
    std::ptr::null_mut()
}

/// No such property.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn udev_device_get_property_value(
    _device: *mut c_void,
    _key: *const c_char,
) -> *const c_char {
    std::ptr::null()
}
