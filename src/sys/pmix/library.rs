//! Finds and opens the library.

use super::layout::{OnDone, OnPut, RawInfo, RawProcess};
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::fmt;
use std::mem;
use std::path::{Path, PathBuf};

const NAME: &str = "libpmix.so.2";
/// The major versions whose layouts are known; the name of the file is the same for all of them.
const MAJORS: std::ops::RangeInclusive<u32> = 3..=6;

/// Directories of distributions, after the dynamic linker's own; `{}` is the machine's.
const DIRECTORIES: [&str; 10] = [
    "/usr/lib/{}-linux-gnu/pmix2/lib",
    "/usr/lib/{}-linux-gnu",
    "/usr/lib/{}-linux-gnu/openmpi/lib",
    "/usr/lib64",
    "/usr/lib64/openmpi/lib",
    "/usr/lib64/pmix/lib",
    "/usr/lib",
    "/usr/local/lib64",
    "/usr/local/lib",
    "/opt/pmix/lib",
];

/// No library was found that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LibraryError {
    /// What was found wanting, where something was found.
    found: Vec<String>,
    /// What was searched.
    searched: Vec<String>,
}

impl fmt::Display for LibraryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "no usable PMIx library: install libpmix2 (Debian, Ubuntu) or pmix (Fedora), or name its file"
        )?;
        for found in &self.found {
            write!(f, "; {found}")?;
        }
        write!(f, "; searched: {}", self.searched.join(", "))
    }
}

impl std::error::Error for LibraryError {}

/// The functions of an open library. It stays open, as its threads may outlive whoever opened it.
#[derive(Clone, Copy)]
pub struct Library {
    version: &'static str,
    pub(super) init: unsafe extern "C" fn(*mut c_void, *mut RawInfo, usize) -> c_int,
    pub(super) finalize: unsafe extern "C" fn() -> c_int,
    pub(super) register_nspace: unsafe extern "C" fn(
        *const c_char,
        c_int,
        *mut RawInfo,
        usize,
        Option<OnDone>,
        *mut c_void,
    ) -> c_int,
    pub(super) deregister_nspace: unsafe extern "C" fn(*const c_char, Option<OnDone>, *mut c_void),
    pub(super) register_client: unsafe extern "C" fn(
        *const RawProcess,
        u32,
        u32,
        *mut c_void,
        Option<OnDone>,
        *mut c_void,
    ) -> c_int,
    pub(super) setup_fork: unsafe extern "C" fn(*const RawProcess, *mut *mut *mut c_char) -> c_int,
    pub(super) modex_request:
        unsafe extern "C" fn(*const RawProcess, Option<OnPut>, *mut c_void) -> c_int,
    pub(super) generate_regex: unsafe extern "C" fn(*const c_char, *mut *mut c_char) -> c_int,
    pub(super) generate_ppn: unsafe extern "C" fn(*const c_char, *mut *mut c_char) -> c_int,
    pub(super) notify_event: unsafe extern "C" fn(
        c_int,
        *const RawProcess,
        u8,
        *mut RawInfo,
        usize,
        Option<OnDone>,
        *mut c_void,
    ) -> c_int,
}

impl fmt::Debug for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Library({})", self.version)
    }
}

impl Library {
    /// Opens the first library that can be used: those named (files, or directories with one), then by its plain name,
    /// then in the usual directories, unless only these are to be tried.
    ///
    /// # Errors
    /// What was searched, what was wrong with what was found, and what to install.
    pub fn open(named: &[String], only_these: bool) -> Result<Self, LibraryError> {
        let mut error = LibraryError {
            found: Vec::new(),
            searched: Vec::new(),
        };
        for candidate in candidates(named, only_these) {
            error.searched.push(candidate.display().to_string());
            match try_open(&candidate) {
                Ok(library) => return Ok(library),
                Err(why) => {
                    let is_file = candidate.is_absolute() && candidate.exists();
                    let is_strange = !why.contains("cannot open shared object file");
                    if is_file || is_strange {
                        error.found.push(format!("{}: {why}", candidate.display()));
                    }
                }
            }
        }
        Err(error)
    }

    /// What the library says of itself, such as `PMIx 4.2.2`.
    #[must_use]
    pub fn version(&self) -> &str {
        self.version
    }

    /// The number before the first dot.
    pub(super) fn major(&self) -> u32 {
        major(self.version).unwrap_or(0)
    }
}

/// Whether a file is where [`Library::open`] would look, but for what only the dynamic linker knows.
#[must_use]
pub fn is_there(named: &[String], only_these: bool) -> bool {
    let candidates = candidates(named, only_these).into_iter();
    let mut files = candidates.filter(|path| path.is_absolute());
    files.any(|path| path.is_file())
}

fn candidates(named: &[String], only_these: bool) -> Vec<PathBuf> {
    let named = named.iter().filter(|name| !name.is_empty()).map(|name| {
        let path = Path::new(name);
        if path.is_dir() {
            path.join(NAME)
        } else {
            path.to_owned()
        }
    });
    let usual = DIRECTORIES
        .iter()
        .map(|directory| Path::new(&directory.replace("{}", std::env::consts::ARCH)).join(NAME));
    let usual = std::iter::once(PathBuf::from(NAME)).chain(usual);
    named.chain(usual.filter(|_| !only_these)).collect()
}

fn try_open(path: &Path) -> Result<Library, String> {
    let name = CString::new(path.as_os_str().as_encoded_bytes())
        .map_err(|_| "no file name has a zero byte".to_owned())?;
    // SAFETY: runs the initialisers of a library that whoever runs this machine, or the step's own user, put there.
    let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    if handle.is_null() {
        return Err(linker_says());
    }
    // SAFETY: the type is that of the library's headers.
    let version: unsafe extern "C" fn() -> *const c_char =
        unsafe { symbol(handle, c"PMIx_Get_version")? };
    // SAFETY: answers with a text that lives as long as the library, which is never closed.
    let version: &'static CStr = unsafe { CStr::from_ptr(version()) };
    let version = version
        .to_str()
        .map_err(|_| "its version is no text".to_owned())?;
    if !major(version).is_some_and(|major| MAJORS.contains(&major)) {
        return Err(format!(
            "its version is not one of {} to {} (\"{version}\")",
            MAJORS.start(),
            MAJORS.end()
        ));
    }
    // SAFETY: the types are those of the headers of the major versions that passed above.
    Ok(unsafe {
        Library {
            version,
            init: symbol(handle, c"PMIx_server_init")?,
            finalize: symbol(handle, c"PMIx_server_finalize")?,
            register_nspace: symbol(handle, c"PMIx_server_register_nspace")?,
            deregister_nspace: symbol(handle, c"PMIx_server_deregister_nspace")?,
            register_client: symbol(handle, c"PMIx_server_register_client")?,
            setup_fork: symbol(handle, c"PMIx_server_setup_fork")?,
            modex_request: symbol(handle, c"PMIx_server_dmodex_request")?,
            generate_regex: symbol(handle, c"PMIx_generate_regex")?,
            generate_ppn: symbol(handle, c"PMIx_generate_ppn")?,
            notify_event: symbol(handle, c"PMIx_Notify_event")?,
        }
    })
}

/// A function of the library.
///
/// # Safety
/// `F` is a function pointer of the type that the function of this name has.
unsafe fn symbol<F: Copy>(handle: *mut c_void, name: &CStr) -> Result<F, String> {
    const { assert!(size_of::<F>() == size_of::<*mut c_void>()) };
    // SAFETY: an open handle and a text that ends.
    let address = unsafe { libc::dlsym(handle, name.as_ptr()) };
    if address.is_null() {
        return Err(format!("it has no {}", name.to_string_lossy()));
    }
    // SAFETY: an address of code, read as a function pointer of the same size, of the type that the caller vouches for.
    Ok(unsafe { mem::transmute_copy::<*mut c_void, F>(&address) })
}

fn linker_says() -> String {
    // SAFETY: answers with null or a text that lives until the next call of the linker's.
    let text = unsafe { libc::dlerror() };
    if text.is_null() {
        return "the dynamic linker does not say why".to_owned();
    }
    // SAFETY: as above, and copied at once.
    unsafe { CStr::from_ptr(text) }
        .to_string_lossy()
        .into_owned()
}

/// Of `PMIx 4.2.2, PMIx Standard: ...` or `OpenPMIx 5.0.11 (...)`: the first word that begins as a number.
fn major(version: &str) -> Option<u32> {
    let digits = |word: &str| word.split('.').next().and_then(|first| first.parse().ok());
    version.split_whitespace().find_map(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_is_found_in_what_libraries_say() {
        for (text, expected) in [
            ("OpenPMIx 3.2.5 (PMIx Standard: 3.2)", Some(3)),
            ("PMIx 4.2.2, PMIx Standard: 4.1, Stable ABI: 0.0", Some(4)),
            (
                "OpenPMIx 5.0.11rc1, repo rev: v5.0.11 (PMIx Standard)",
                Some(5),
            ),
            ("OpenPMIx 12.0", Some(12)),
            ("PMIx", None),
            ("", None),
        ] {
            assert_eq!(major(text), expected, "{text}");
        }
    }

    #[test]
    fn a_missing_library_says_what_was_searched_and_what_to_install() {
        let path = "/no/such/libpmix.so.2".to_owned();
        let why = try_open(Path::new(&path)).unwrap_err();
        let error = LibraryError {
            found: vec![why],
            searched: candidates(&[path, "/".to_owned()], false)
                .iter()
                .map(|path| path.display().to_string())
                .collect(),
        };
        let text = error.to_string();
        for words in [
            "install libpmix2",
            "pmix (Fedora)",
            "/no/such/libpmix.so.2, /libpmix.so.2, libpmix.so.2, /usr/lib/",
        ] {
            assert!(text.contains(words), "{text}");
        }
    }

    #[test]
    fn another_library_is_refused_with_its_reason() {
        let why = try_open(Path::new("libc.so.6")).unwrap_err();
        assert_eq!(why, "it has no PMIx_Get_version");
    }
}
