//! Files as a tar archive, in the form in which they go to a node and come from it.

use anyhow::{Context, bail};
use glob::{MatchOptions, Pattern};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tar::{Archive, Builder, EntryType, Header};

/// The last member of what goes to a node: without it the archive has not come whole (`put.sh`).
const END: &str = ".hpc-cp-end";

/// Writes these files as members under their own names, and that nothing is missing.
pub(super) fn pack(to: impl Write, sources: &[PathBuf], deep: bool) -> anyhow::Result<()> {
    let mut archive = Builder::new(to);
    for source in sources {
        let name = name_of(source)?;
        add(&mut archive, source, Path::new("./").join(name), deep)?;
    }
    let mut end = Header::new_gnu();
    end.set_entry_type(EntryType::Regular);
    end.set_mode(0o600);
    end.set_size(0);
    archive.append_data(&mut end, END, io::empty())?;
    archive.finish()?;
    archive.into_inner()?.flush()?;
    Ok(())
}

/// The name that a file goes by; for `.` and the like its directory's own.
pub(in crate::cli) fn name_of(source: &Path) -> anyhow::Result<PathBuf> {
    if let Some(name) = source.file_name()
        && !source.ends_with("..")
    {
        return Ok(name.into());
    }
    let whole =
        fs::canonicalize(source).with_context(|| format!("cannot find {}", source.display()))?;
    match whole.file_name() {
        Some(name) => Ok(name.into()),
        None => bail!("/ has no name to go by: name what is in it"),
    }
}

/// What a file is, and that it may be sent; symbolic links count for what they lead to unless directories are entered.
pub(super) fn look(source: &Path, deep: bool) -> anyhow::Result<fs::Metadata> {
    let looked = if deep {
        fs::symlink_metadata(source)
    } else {
        fs::metadata(source)
    };
    let kind = match looked {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            bail!("there is no {}", source.display())
        }
        looked => looked.with_context(|| format!("cannot look at {}", source.display()))?,
    };
    if kind.is_dir() && !deep {
        bail!("{} is a directory: say -r", source.display());
    }
    if !(kind.is_dir() || kind.is_file() || kind.is_symlink()) {
        bail!(
            "{} is neither file nor directory nor symbolic link",
            source.display()
        );
    }
    Ok(kind)
}

fn add<W: Write>(
    archive: &mut Builder<W>,
    source: &Path,
    name: PathBuf,
    deep: bool,
) -> anyhow::Result<()> {
    let kind = look(source, deep)?;
    let unreadable = || format!("cannot read {}", source.display());
    let mut header = Header::new_gnu();
    if kind.is_symlink() {
        let leads_to = fs::read_link(source).with_context(unreadable)?;
        header.set_metadata(&kind);
        header.set_size(0);
        archive.append_link(&mut header, name, leads_to)?;
    } else if kind.is_dir() {
        archive.append_dir(&name, source).with_context(unreadable)?;
        let mut inner: Vec<_> = fs::read_dir(source)
            .and_then(Iterator::collect::<io::Result<Vec<_>>>)
            .with_context(unreadable)?;
        inner.sort_by_key(fs::DirEntry::file_name);
        for entry in inner {
            let name = name.join(entry.file_name());
            add(archive, &entry.path(), name, deep)?;
        }
    } else {
        let file = File::open(source).with_context(unreadable)?;
        header.set_metadata(&kind);
        header.set_mode(kind.permissions().mode() & 0o777);
        header.set_size(kind.len());
        let whole = Whole {
            left: kind.len(),
            file,
        };
        archive
            .append_data(&mut header, name, whole)
            .with_context(unreadable)?;
    }
    Ok(())
}

/// As many bytes of a file as its header says: no more, and an error when there are fewer.
struct Whole {
    file: File,
    left: u64,
}

impl Read for Whole {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(into.len());
        if most == 0 {
            return Ok(0);
        }
        let length = self.file.read(&mut into[..most])?;
        if length == 0 {
            return Err(io::Error::other("it became shorter while it was read"));
        }
        self.left -= length as u64;
        Ok(length)
    }
}

/// Unpacks into an empty directory. No member leaves it, whatever the archive says (the crate sees to that), nor gets
/// rights beyond those of usual files.
pub(super) fn unpack(from: impl Read, into: &Path) -> io::Result<()> {
    let mut archive = Archive::new(from);
    archive.set_preserve_mtime(true);
    archive.unpack(into)?;
    // What follows the end is padding; whoever writes it must not find us gone.
    io::copy(&mut archive.into_inner(), &mut io::sink())?;
    Ok(())
}

/// Whether what came is what was asked for: a node that sends other names could replace any file beside them.
pub(super) fn check(came: &Path, asked: &str, deep: bool) -> anyhow::Result<()> {
    let last = asked.trim_end_matches('/');
    let last = last.rsplit('/').next().unwrap_or_default();
    // The node alone knows the name of its `.`.
    let any_name = matches!(last, "" | "." | "..");
    let pattern = Pattern::new(last).ok();
    // As in a shell.
    let rules = MatchOptions {
        require_literal_leading_dot: true,
        ..MatchOptions::default()
    };
    let mut count = 0;
    for entry in fs::read_dir(came)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        count += 1;
        let is_asked_for = if any_name {
            count == 1
        } else {
            name == last
                || pattern
                    .as_ref()
                    .is_some_and(|pattern| pattern.matches_with(&name, rules))
        };
        if !is_asked_for || (entry.file_type()?.is_dir() && !deep) {
            bail!("it sent {name}, which was not asked for");
        }
    }
    Ok(())
}

/// Merges one file into a place as `cp` does: directories into directories, files renamed over files.
pub(super) fn place(from: &Path, to: &Path) -> anyhow::Result<()> {
    let cannot = || format!("cannot put {} in place", to.display());
    let is_link = |path: &Path| fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink());
    if fs::metadata(to).is_ok_and(|there| !there.is_file() && !there.is_dir()) {
        bail!("{} is no regular file: it was left as it is", to.display());
    }
    if !to.is_dir() || (is_link(from) && is_link(to)) {
        return fs::rename(from, to).with_context(cannot);
    }
    if !fs::symlink_metadata(from).with_context(cannot)?.is_dir() {
        bail!("{} is a directory and what comes is none", to.display());
    }
    for entry in fs::read_dir(from).with_context(cannot)? {
        let entry = entry.with_context(cannot)?;
        place(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> tempfile::TempDir {
        let tree = tempfile::tempdir().unwrap();
        let inside = tree.path().join("d");
        fs::create_dir(&inside).unwrap();
        fs::write(inside.join("file"), "one").unwrap();
        fs::set_permissions(inside.join("file"), fs::Permissions::from_mode(0o4750)).unwrap();
        std::os::unix::fs::symlink("file", inside.join("link")).unwrap();
        tree
    }

    #[test]
    fn a_tree_comes_out_as_it_went_in_but_for_special_rights() {
        let (tree, out) = (tree(), tempfile::tempdir().unwrap());
        let mut packed = Vec::new();
        pack(&mut packed, &[tree.path().join("d")], true).unwrap();
        unpack(packed.as_slice(), out.path()).unwrap();
        let inside = out.path().join("d");
        assert_eq!(fs::read(inside.join("file")).unwrap(), b"one");
        assert_eq!(
            fs::metadata(inside.join("file"))
                .unwrap()
                .permissions()
                .mode()
                & 0o7777,
            0o750
        );
        assert_eq!(
            fs::read_link(inside.join("link")).unwrap(),
            Path::new("file")
        );
        assert!(out.path().join(END).exists());
    }

    #[test]
    fn a_member_that_would_leave_the_directory_does_not() {
        let out = tempfile::tempdir().unwrap();
        let inner = out.path().join("inner");
        fs::create_dir(&inner).unwrap();
        let mut archive = Builder::new(Vec::new());
        let mut link = Header::new_gnu();
        link.set_entry_type(EntryType::Symlink);
        link.set_size(0);
        archive.append_link(&mut link, "way", "..").unwrap();
        let mut header = Header::new_gnu();
        header.set_size(1);
        header.set_mode(0o644);
        archive
            .append_data(&mut header, "way/out", &b"x"[..])
            .unwrap();
        // The builder itself refuses such names.
        let mut header = Header::new_gnu();
        header.set_size(1);
        header.set_mode(0o644);
        header.as_mut_bytes()[..6].copy_from_slice(b"../out");
        header.set_cksum();
        archive.append(&header, &b"x"[..]).unwrap();
        let packed = archive.into_inner().unwrap();
        let _ = unpack(packed.as_slice(), &inner);
        assert!(!out.path().join("out").exists());
    }

    #[test]
    fn what_is_placed_over_a_tree_merges_with_it() {
        let (tree, there) = (tree(), tempfile::tempdir().unwrap());
        let old = there.path().join("d");
        fs::create_dir(&old).unwrap();
        fs::write(old.join("file"), "old").unwrap();
        fs::write(old.join("other"), "other").unwrap();
        place(&tree.path().join("d"), &old).unwrap();
        assert_eq!(fs::read(old.join("file")).unwrap(), b"one");
        assert_eq!(fs::read(old.join("other")).unwrap(), b"other");
        let file = there.path().join("file");
        fs::write(&file, "x").unwrap();
        let refused = place(&file, &old).unwrap_err().to_string();
        assert!(refused.contains("is a directory"), "{refused}");
    }

    #[test]
    fn only_what_was_asked_for_is_taken() {
        let came = tempfile::tempdir().unwrap();
        fs::write(came.path().join("a.csv"), "").unwrap();
        let fits = |asked: &str| check(came.path(), asked, false).is_ok();
        for asked in [
            "/x/a.csv", "a.csv", "x/*.csv", "[ab].csv", "?.csv/", "", ".", "x/..",
        ] {
            assert!(fits(asked), "{asked}");
        }
        for asked in ["b.csv", "/x/a.csv/y", "x/*.txt", "a"] {
            assert!(!fits(asked), "{asked}");
        }
        fs::write(came.path().join(".profile"), "").unwrap();
        for asked in ["*", "*.csv", "."] {
            assert!(!fits(asked), "{asked}");
        }
        let tree = tree();
        assert!(check(tree.path(), "d", true).is_ok());
        assert!(check(tree.path(), "d", false).is_err());
    }

    #[test]
    fn what_cannot_be_sent_is_named() {
        let tree = tree();
        let said = |path: &Path, deep| look(path, deep).unwrap_err().to_string();
        assert!(said(&tree.path().join("d"), false).contains("say -r"));
        assert!(said(&tree.path().join("none"), false).contains("there is no"));
        assert!(said(Path::new("/dev/null"), true).contains("neither file"));
        assert!(name_of(Path::new("/")).is_err());
        assert_eq!(name_of(Path::new("/usr/.")).unwrap(), Path::new("usr"));
    }
}
