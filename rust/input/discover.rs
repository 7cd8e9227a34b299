//! From the paths on the command line to the files to read.
//!
//! Directories are searched, `@list.txt` is replaced by the paths in it, and a
//! file that was named twice is read once.

mod search;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::{self, Metadata};
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::boundary::Place;
use crate::error::{Error, Result, printable};
use crate::platform::{self, path_of};

/// One file to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// What to open; `-` is standard input.
    pub path: PathBuf,
    /// The path as given, or for a file found in a directory the directory as
    /// given with the path inside it appended. Bytes that are not UTF-8 are
    /// replaced.
    pub name: String,
    /// Whether the file was found inside a directory rather than named.
    pub found: bool,
    /// Bytes on disk, known for regular files only.
    pub size: Option<u64>,
    /// The part to read, where not all is: it begins and ends between records.
    pub range: Option<Range<Place>>,
}

/// Something to read, as it was named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A path, whatever it is.
    Path(PathBuf),
    /// A file that somebody else has found, and names.
    Found(Source),
}

impl Source {
    /// Bytes to read, where that is known.
    pub fn bytes(&self) -> Option<u64> {
        self.range.as_ref().map(|range| range.end.byte - range.start.byte).or(self.size)
    }

    /// The part of the file before this one, if there is one.
    pub fn before(&self) -> Option<Self> {
        let start = self.range.as_ref()?.start;
        let range = Some(Place::default()..start);
        (start > Place::default()).then(|| Self { range, ..self.clone() })
    }
}

/// Lists the files that `inputs` stand for, each once, in the order of the
/// arguments and, within a directory, in byte order of their paths.
///
/// An input is a file, a directory (searched for sequence files), `-` for
/// standard input or `@list.txt` for a file with one path a line. `warn` gets
/// a one-line message for each thing that was left out.
///
/// # Errors
///
/// [`Error::Argument`] when there is no input or standard input is needed
/// twice, [`Error::Io`] for a path that does not exist or a folder that cannot
/// be read, [`Error::Input`] for a folder without sequence files and for a
/// list that is empty or names a path that cannot be used.
pub fn discover(inputs: &[PathBuf], warn: &mut dyn FnMut(String)) -> Result<Vec<Source>> {
    let inputs: Vec<Input> = inputs.iter().cloned().map(Input::Path).collect();
    discover_among(&inputs, warn)
}

/// Like [`discover`], but files that were found already are taken as they are.
/// They are told apart by their names.
///
/// # Errors
///
/// Those of [`discover`].
pub fn discover_among(inputs: &[Input], warn: &mut dyn FnMut(String)) -> Result<Vec<Source>> {
    if inputs.is_empty() {
        return Err(Error::Argument(
            "no input: name sequence files, folders, @list.txt or - for standard input".into(),
        ));
    }
    let mut collection = Collection::new(warn);
    for input in inputs {
        match input {
            Input::Path(path) => match list_named(path) {
                Some(list) => collection.add_list(list)?,
                None => collection.add(path)?,
            },
            Input::Found(source) => {
                let identity = Identity::Path(PathBuf::from(&source.name));
                collection.push_once(identity, source.clone());
            }
        }
        collection.warn_of_duplicates();
    }
    Ok(collection.sources)
}

/// The list of paths that an input names, if it is one.
pub(crate) fn list_named(input: &Path) -> Option<&Path> {
    path_of(input.as_os_str().as_encoded_bytes().strip_prefix(b"@")?).ok()
}

/// Which of the names of files in a folder are those of files to read, for
/// whoever lists a folder that is none of this machine's.
///
/// # Errors
///
/// [`Error::Input`], as for a `folder`, when there is none.
pub fn choose_named(folder: &Path, names: &[String]) -> Result<Vec<bool>> {
    let is_named = |name: &String| search::has_sequence_suffix(name.as_ref());
    let chosen: Vec<bool> = names.iter().map(is_named).collect();
    if chosen.contains(&true) {
        return Ok(chosen);
    }
    Err(Error::input(folder, search::no_sequence_file()))
}

/// What makes two paths the same input. Pipes are told apart by their path
/// alone: each process substitution is a stream of its own.
#[derive(PartialEq, Eq, Hash)]
enum Identity {
    File(platform::Identity),
    Path(PathBuf),
}

impl Identity {
    fn of(path: &Path, metadata: &Metadata) -> Self {
        let is_on_disk = metadata.is_file() || metadata.is_dir();
        match is_on_disk.then(|| platform::identity(path, metadata)).flatten() {
            Some(identity) => Self::File(identity),
            None => Self::Path(path.to_path_buf()),
        }
    }
}

/// The sources collected so far.
struct Collection<'a> {
    sources: Vec<Source>,
    /// Where in `sources` each input is.
    seen: HashMap<Identity, usize>,
    /// The current argument's inputs that were seen before: their names and
    /// where in `sources` they are.
    duplicates: Vec<(String, usize)>,
    /// Whether standard input is used up by a list of paths.
    list_on_stdin: bool,
    warn: &'a mut dyn FnMut(String),
}

impl<'a> Collection<'a> {
    fn new(warn: &'a mut dyn FnMut(String)) -> Self {
        Self {
            sources: Vec::new(),
            seen: HashMap::new(),
            duplicates: Vec::new(),
            list_on_stdin: false,
            warn,
        }
    }

    /// Adds a path that was named, whatever it is.
    fn add(&mut self, path: &Path) -> Result<()> {
        if path.as_os_str().is_empty() {
            return Err(Error::Argument("an input is an empty path".into()));
        }
        if is_stdin(path) {
            return self.add_stdin();
        }
        let metadata = fs::metadata(path).map_err(|error| Error::io(path, error))?;
        if metadata.is_dir() {
            self.add_directory(path)
        } else {
            self.push(path.to_path_buf(), &metadata, false);
            Ok(())
        }
    }

    fn add_stdin(&mut self) -> Result<()> {
        if self.list_on_stdin {
            return Err(stdin_used_twice());
        }
        let path = PathBuf::from("-");
        let name = "-".into();
        let source = Source { path: path.clone(), name, found: false, size: None, range: None };
        self.push_once(Identity::Path(path), source);
        Ok(())
    }

    fn add_directory(&mut self, directory: &Path) -> Result<()> {
        let files = search::sequence_files(directory, self.warn)?;
        for (path, metadata) in files {
            self.push(path, &metadata, true);
        }
        Ok(())
    }

    /// Adds every path of a list. An entry that begins with `@` is a file of
    /// that name: lists do not nest.
    fn add_list(&mut self, list: &Path) -> Result<()> {
        if list.as_os_str().is_empty() {
            return Err(Error::Argument(
                "@ without a path: write @list.txt, or ./@ for a file of that name".into(),
            ));
        }
        let text = self.read_list(list)?;
        let mut empty = true;
        for (line, path) in (1..).zip(list_entries(&text)) {
            if path.is_empty() {
                continue;
            }
            empty = false;
            path_of(path)
                .map_err(|error| Error::io(list, error))
                .and_then(|path| self.add(path))
                .map_err(|error| blame_line(error, list, line))?;
        }
        if empty {
            return Err(Error::input(list, "the list names no file: write one path a line"));
        }
        Ok(())
    }

    fn read_list(&mut self, list: &Path) -> Result<Vec<u8>> {
        if !is_stdin(list) {
            return fs::read(list).map_err(|error| Error::io(list, error));
        }
        let taken = Identity::Path(list.to_path_buf());
        if self.list_on_stdin || self.seen.contains_key(&taken) {
            return Err(stdin_used_twice());
        }
        self.list_on_stdin = true;
        let mut text = Vec::new();
        io::stdin().lock().read_to_end(&mut text).map_err(|error| Error::io(list, error))?;
        Ok(text)
    }

    fn push(&mut self, path: PathBuf, metadata: &Metadata, found: bool) {
        let identity = Identity::of(&path, metadata);
        let source = Source {
            name: path.to_string_lossy().into_owned(),
            path,
            found,
            size: metadata.is_file().then_some(metadata.len()),
            range: None,
        };
        self.push_once(identity, source);
    }

    fn push_once(&mut self, identity: Identity, source: Source) {
        match self.seen.entry(identity) {
            Entry::Occupied(first) => self.duplicates.push((source.name, *first.get())),
            Entry::Vacant(place) => {
                place.insert(self.sources.len());
                self.sources.push(source);
            }
        }
    }

    /// One warning an argument: a folder given twice holds thousands of files.
    fn warn_of_duplicates(&mut self) {
        let duplicates = std::mem::take(&mut self.duplicates);
        let Some((name, first)) = duplicates.first() else {
            return;
        };
        let name = printable(Path::new(name));
        let first = printable(Path::new(&self.sources[*first].name));
        let message = if name == first {
            format!("{name}: named more than once, read once")
        } else {
            format!("{name}: the same file as {first}, read once")
        };
        (self.warn)(match duplicates.len() - 1 {
            0 => message,
            more => format!("{message} (and {more} more)"),
        });
    }
}

fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

fn stdin_used_twice() -> Error {
    Error::Argument("standard input can be read once: use - or @-, not both".into())
}

/// The lines of a list without their ends; one that is blank comes out empty.
fn list_entries(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    text.split(|&byte| byte == b'\n').map(|line| {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.trim_ascii().is_empty() { &[] } else { line }
    })
}

/// Says which line of a list named the path that `error` is about.
fn blame_line(error: Error, list: &Path, line: u64) -> Error {
    match error {
        Error::Io { .. } | Error::Input { .. } => Error::input_at(list, line, error.to_string()),
        other => other,
    }
}
