//! Where a program looks for its libraries, as its own file says (DT_RUNPATH, and DT_RPATH of old): the compilers of an
//! MPI beside the distribution's write it there, and the MPI's PMIx library is near.
//!
//! The file is anybody's: what does not fit together says nothing.

use object::elf::{
    DT_RPATH, DT_RUNPATH, DT_STRSZ, DT_STRTAB, FileHeader64, PT_INTERP, ProgramHeader64,
};
use object::read::elf::{Dyn, FileHeader, ProgramHeader};
use object::{LittleEndian, ReadCache};
use std::fs::File;
use std::path::Path;

/// The most bytes of a list of folders.
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

/// The list of a program; empty where it names no folders, `None` where it is no program.
fn run_path(file: &File) -> Option<String> {
    let bytes = &ReadCache::new(file);
    let header = FileHeader64::<LittleEndian>::parse(bytes).ok()?;
    let segments = header.program_headers(LittleEndian, bytes).ok()?;
    // What others load has none.
    let mut kinds = segments.iter().map(|segment| segment.p_type(LittleEndian));
    kinds.find(|kind| *kind == PT_INTERP)?;
    Some(named_folders(bytes, segments).unwrap_or_default())
}

fn named_folders<'data>(
    bytes: &'data ReadCache<&File>,
    segments: &'data [ProgramHeader64<LittleEndian>],
) -> Option<String> {
    let mut tables = segments.iter();
    let table = tables.find_map(|segment| segment.dynamic(LittleEndian, bytes).ok()?)?;
    let value = |wanted| {
        let mut entries = table.iter();
        let entry = entries.find(|entry| entry.d_tag(LittleEndian) == wanted)?;
        Some(entry.d_val(LittleEndian))
    };
    let (address, length) = (value(DT_STRTAB)?, value(DT_STRSZ)?);
    let mut texts = segments.iter().filter_map(|segment| {
        let range = segment.data_range(LittleEndian, bytes, address, length);
        range.ok()?
    });
    let at = value(DT_RUNPATH).or_else(|| value(DT_RPATH))?;
    let texts = texts.next()?.get(usize::try_from(at).ok()?..)?;
    let end = texts.iter().position(|byte| *byte == 0)?;
    String::from_utf8(texts[..end.min(LIST_MAX)].to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use object::elf::{PT_DYNAMIC, PT_LOAD};
    use std::fs;

    /// A program of three headers, its table and one text.
    fn made(text: &str, tag: u64) -> Vec<u8> {
        let mut file = b"\x7fELF\x02\x01\x01".to_vec();
        file.resize(64, 0);
        file[32] = 64;
        file[54] = 56;
        file[56] = 3;
        let table = 64_u64 + 3 * 56;
        let texts = table + 48;
        let length = 1 + u64::try_from(text.len()).unwrap() + 1;
        // Its bytes are in memory at a page's distance from where they are in the file.
        for (kind, offset, length) in [
            (PT_INTERP, 0, 0),
            (PT_LOAD, 0, texts + length),
            (PT_DYNAMIC, table, 48),
        ] {
            let mut header = vec![0; 56];
            header[..4].copy_from_slice(&kind.0.to_le_bytes());
            header[8..16].copy_from_slice(&u64::to_le_bytes(offset));
            header[16..24].copy_from_slice(&u64::to_le_bytes(offset + 4096));
            header[32..40].copy_from_slice(&u64::to_le_bytes(length));
            file.extend(header);
        }
        for number in [5, texts + 4096, 10, length, tag, 1] {
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
