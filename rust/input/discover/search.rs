//! The search of a directory for sequence files.

use std::collections::{HashSet, VecDeque};
use std::ffi::OsStr;
use std::fs::{self, DirEntry, Metadata};
use std::io;
use std::path::{MAIN_SEPARATOR, Path, PathBuf};

use super::Identity;
use crate::error::{Error, Result, printable};
use crate::platform::is_link_loop;

/// What a file in a directory must end with to be read.
const SEQUENCE_SUFFIXES: [&str; 7] = [".fa", ".fasta", ".fna", ".ffn", ".fas", ".fq", ".fastq"];

/// What may follow a sequence suffix.
const COMPRESSION_SUFFIXES: [&str; 6] = [".gz", ".bgz", ".bgzf", ".bz2", ".xz", ".zst"];

/// The sequence files in and below `directory`, in byte order of their paths.
///
/// Links are followed, and each folder is entered once, by its shortest path:
/// that ends link loops and keeps folders that link to each other from
/// multiplying.
///
/// # Errors
///
/// [`Error::Io`] for a folder or link that cannot be read, [`Error::Input`]
/// when no sequence file is found.
pub(super) fn sequence_files(
    directory: &Path,
    warn: &mut dyn FnMut(String),
) -> Result<Vec<(PathBuf, Metadata)>> {
    let mut files = Vec::new();
    let mut entered = HashSet::new();
    let mut pending = VecDeque::from([directory.to_path_buf()]);
    while let Some(folder) = pending.pop_front() {
        let unreadable = |error| Error::io(&folder, error);
        let metadata = fs::metadata(&folder).map_err(unreadable)?;
        if !entered.insert(Identity::of(&folder, &metadata)) {
            let folder = printable(&folder);
            warn(format!("{folder}: a link to a folder already searched, skipped"));
            continue;
        }
        for entry in visible_entries(&folder).map_err(unreadable)? {
            let path = entry.path();
            match classify(&entry).map_err(|error| Error::io(&path, error))? {
                Found::Folder => pending.push_back(path),
                Found::Sequence(metadata) => files.push((path, metadata)),
                Found::DanglingLink => {
                    let path = printable(&path);
                    warn(format!("{path}: a link that leads nowhere, skipped"));
                }
                Found::Other => {}
            }
        }
    }
    if files.is_empty() {
        return Err(Error::input(directory, no_sequence_file()));
    }
    files.sort_by_cached_key(|(path, _)| order(path));
    Ok(files)
}

/// What paths are sorted by: their bytes, the same wherever they are read.
fn order(path: &Path) -> Vec<u8> {
    let bytes = path.as_os_str().as_encoded_bytes().iter();
    bytes.map(|&byte| if byte == MAIN_SEPARATOR as u8 { b'/' } else { byte }).collect()
}

/// The entries of `folder` whose names do not begin with a dot, sorted so that
/// the folder a link competes with does not depend on the file system.
fn visible_entries(folder: &Path) -> io::Result<Vec<DirEntry>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            entries.push(entry);
        }
    }
    entries.sort_by_key(DirEntry::file_name);
    Ok(entries)
}

/// What an entry of a directory is to the search.
enum Found {
    Folder,
    Sequence(Metadata),
    DanglingLink,
    /// Another kind of file, a pipe, a socket, a device.
    Other,
}

fn classify(entry: &DirEntry) -> io::Result<Found> {
    let named_as_sequence = has_sequence_suffix(&entry.file_name());
    let kind = entry.file_type()?;
    if kind.is_dir() {
        return Ok(Found::Folder);
    }
    // Spares a call to the file system for each file that is of no interest.
    let may_be_read = kind.is_symlink() || (kind.is_file() && named_as_sequence);
    if !may_be_read {
        return Ok(Found::Other);
    }
    match fs::metadata(entry.path()) {
        Ok(metadata) if metadata.is_dir() => Ok(Found::Folder),
        Ok(metadata) if metadata.is_file() && named_as_sequence => Ok(Found::Sequence(metadata)),
        Ok(_) => Ok(Found::Other),
        Err(error) if kind.is_symlink() && leads_nowhere(&error) => Ok(Found::DanglingLink),
        Err(error) => Err(error),
    }
}

/// Whether a link's target is missing or the link leads back to itself.
fn leads_nowhere(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || is_link_loop(error)
}

/// Whether a file in a directory is named as one to read.
pub(super) fn has_sequence_suffix(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes().to_ascii_lowercase();
    let stem = COMPRESSION_SUFFIXES
        .iter()
        .find_map(|suffix| name.strip_suffix(suffix.as_bytes()))
        .unwrap_or(&name);
    SEQUENCE_SUFFIXES.iter().any(|suffix| stem.ends_with(suffix.as_bytes()))
}

/// What is wrong with a directory without such files.
pub(super) fn no_sequence_file() -> String {
    format!(
        "no sequence file in this folder (looked for names that end in {}, alone or with {})",
        SEQUENCE_SUFFIXES.join(" "),
        COMPRESSION_SUFFIXES.join(" "),
    )
}
