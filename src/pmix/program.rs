//! Where a program looks for its libraries, as its own file says (DT_RUNPATH, and DT_RPATH of old): the compilers of an
//! MPI beside the distribution's write it there, and the MPI's PMIx library is near.
//!
//! The file is anybody's: what does not fit together says nothing.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The most headers, bytes of the table of what is dynamic, and bytes of a list of folders.
const HEADERS_MAX: u16 = 128;
const TABLE_MAX: u64 = 64 * 1024;
const LIST_MAX: usize = 16 * 1024;

const NAME: &str = "libpmix.so.2";

/// In place of each program in this list, the files by which the library may be where that program looks. A library is no
/// program, and stays, as do folders; all other files are left out, since to open one as a library may do anything.
pub(super) fn near_programs(named: &[String]) -> Vec<String> {
    let mut all = Vec::new();
    for name in named {
        match folders(Path::new(name)) {
            Some(folders) => {
                for folder in folders {
                    all.push(format!("{folder}/{NAME}"));
                    all.push(format!("{folder}/openmpi/{NAME}"));
                }
            }
            None if is_other_file(Path::new(name)) => {}
            None => all.push(name.clone()),
        }
    }
    all
}

fn is_other_file(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    let is_folder_or_nothing = path.metadata().map_or(true, |found| found.is_dir());
    !is_folder_or_nothing && !name.is_some_and(|name| name.starts_with("libpmix"))
}

/// The folders that a program names; `None` = this is no program.
fn folders(path: &Path) -> Option<Vec<String>> {
    // A pipe would be waited for.
    if !path.metadata().ok()?.is_file() {
        return None;
    }
    let file = File::open(path).ok()?;
    let list = run_path(&file)?;
    let origin = path.parent()?.to_str()?;
    let folders = list.split(':').map(|folder| {
        folder
            .replace("${ORIGIN}", origin)
            .replace("$ORIGIN", origin)
    });
    Some(folders.filter(|folder| folder.starts_with('/')).collect())
}

/// What is needed of a program header: its kind, and where its bytes are in the file and in memory.
struct Header {
    kind: u32,
    offset: u64,
    address: u64,
    length: u64,
}

const LOADED: u32 = 1;
const DYNAMIC: u32 = 2;
const INTERPRETER: u32 = 3;

/// The list of a program; empty where it names no folders, `None` where it is no program.
fn run_path(file: &File) -> Option<String> {
    let mut start = [0; 64];
    file.read_exact_at(&mut start, 0).ok()?;
    // 64 bits, little-endian.
    if !start.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let table = number64(&start, 32)?;
    let [size, count] = [54, 56].map(|at| number16(&start, at));
    if size? != 56 || count? > HEADERS_MAX {
        return None;
    }
    let mut headers = Vec::new();
    for index in 0..u64::from(count?) {
        let mut header = [0; 56];
        file.read_exact_at(&mut header, table.checked_add(index * 56)?)
            .ok()?;
        headers.push(Header {
            kind: number32(&header, 0)?,
            offset: number64(&header, 8)?,
            address: number64(&header, 16)?,
            length: number64(&header, 32)?,
        });
    }
    let of_kind = |kind| headers.iter().find(move |header| header.kind == kind);
    // What others load has none.
    of_kind(INTERPRETER)?;
    Some(named_folders(file, &headers, of_kind(DYNAMIC)).unwrap_or_default())
}

fn named_folders(file: &File, headers: &[Header], dynamic: Option<&Header>) -> Option<String> {
    const TEXTS: u64 = 5;
    const OF_OLD: u64 = 15;
    const FOLDERS: u64 = 29;
    let dynamic = dynamic?;
    let mut table = vec![0; usize::try_from(dynamic.length.min(TABLE_MAX)).ok()?];
    file.read_exact_at(&mut table, dynamic.offset).ok()?;
    let value = |wanted| {
        let mut entries = table.chunks_exact(16);
        let entry = entries.find(|entry| number64(entry, 0) == Some(wanted))?;
        number64(entry, 8)
    };
    let address = value(TEXTS)?;
    let texts = headers.iter().find_map(|header| {
        let within = address.checked_sub(header.address)?;
        (header.kind == LOADED && within < header.length)
            .then(|| header.offset.checked_add(within))?
    })?;
    let at = texts.checked_add(value(FOLDERS).or_else(|| value(OF_OLD))?)?;
    let mut list = vec![0; LIST_MAX];
    let mut filled = 0;
    while filled < list.len() {
        match file.read_at(
            &mut list[filled..],
            at.checked_add(u64::try_from(filled).ok()?)?,
        ) {
            Ok(0) | Err(_) => break,
            Ok(count) => filled += count,
        }
    }
    let end = list[..filled].iter().position(|byte| *byte == 0)?;
    list.truncate(end);
    String::from_utf8(list).ok()
}

fn number16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes
        .get(at..)?
        .first_chunk()
        .copied()
        .map(u16::from_le_bytes)
}

fn number32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes
        .get(at..)?
        .first_chunk()
        .copied()
        .map(u32::from_le_bytes)
}

fn number64(bytes: &[u8], at: usize) -> Option<u64> {
    bytes
        .get(at..)?
        .first_chunk()
        .copied()
        .map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A program of three headers, its table and one text.
    fn made(text: &str, tag: u64) -> Vec<u8> {
        let mut file = b"\x7fELF\x02\x01".to_vec();
        file.resize(64, 0);
        file[32] = 64;
        file[54] = 56;
        file[56] = 3;
        let table = 64_u64 + 3 * 56;
        let texts = table + 32;
        let length = 1 + u64::try_from(text.len()).unwrap() + 1;
        // Its bytes are in memory at a page's distance from where they are in the file.
        for (kind, offset, length) in [
            (INTERPRETER, 0, 0),
            (LOADED, 0, texts + length),
            (DYNAMIC, table, 32),
        ] {
            let mut header = vec![0; 56];
            header[..4].copy_from_slice(&kind.to_le_bytes());
            header[8..16].copy_from_slice(&u64::to_le_bytes(offset));
            header[16..24].copy_from_slice(&u64::to_le_bytes(offset + 4096));
            header[32..40].copy_from_slice(&u64::to_le_bytes(length));
            file.extend(header);
        }
        for number in [5, texts + 4096, tag, 1] {
            file.extend(u64::to_le_bytes(number));
        }
        file.push(0);
        file.extend(text.as_bytes());
        file.push(0);
        file
    }

    #[test]
    fn a_program_says_where_its_libraries_are() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("program");
        let name = path.to_str().unwrap().to_owned();
        let origin = folder.path().to_str().unwrap();
        for tag in [15, 29] {
            fs::write(&path, made("/opt/mpi/lib:$ORIGIN/../lib:rest", tag)).unwrap();
            let expected = [
                "/opt/mpi/lib/libpmix.so.2".to_owned(),
                "/opt/mpi/lib/openmpi/libpmix.so.2".to_owned(),
                format!("{origin}/../lib/libpmix.so.2"),
                format!("{origin}/../lib/openmpi/libpmix.so.2"),
            ];
            assert_eq!(near_programs(std::slice::from_ref(&name)), expected);
        }
        // Names none.
        fs::write(&path, made("/opt", 1)).unwrap();
        assert!(near_programs(&[name]).is_empty());
        assert!(
            near_programs(&["/proc/self/exe".to_owned()])
                .iter()
                .all(|file| file.ends_with(NAME))
        );
    }

    #[test]
    fn what_is_no_program_stays_and_what_is_cut_says_nothing() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("libpmix.so.2");
        let name = path.to_str().unwrap().to_owned();
        let whole = made("/opt/mpi/lib", 29);
        for end in 0..whole.len() {
            fs::write(&path, &whole[..end]).unwrap();
            let near = near_programs(std::slice::from_ref(&name));
            assert!(near.is_empty() || near == [name.clone()], "{end}: {near:?}");
        }
        let mut library = whole;
        library[64] = 6;
        fs::write(&path, library).unwrap();
        let named = [name, "/no/such/file".to_owned(), "/tmp".to_owned()];
        assert_eq!(near_programs(&named), named);
        let script = folder.path().join("run.sh");
        fs::write(&script, "#!/bin/sh\n").unwrap();
        let others = [script.to_str().unwrap(), "/dev/null"].map(str::to_owned);
        assert!(near_programs(&others).is_empty());
    }
}
