//! The one error type of the crate.
//!
//! Every message is a single line that names the file it is about and, where
//! there is one, the line or record, so that the command line can print it as
//! it is.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::platform::words_for;

/// Shorthand for results of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong between a sequence file and a feature file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A request that makes no sense whatever the files hold.
    #[error("{0}")]
    Argument(String),

    /// The operating system refused something.
    #[error("{}: {}", printable(path), describe(source))]
    Io {
        /// The file or folder concerned.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },

    /// A file whose content is not what it should be.
    #[error("{}: {message}", Place { path, line: *line })]
    Input {
        /// The file concerned.
        path: PathBuf,
        /// 1-based line, where one is to blame.
        line: Option<u64>,
        /// What is wrong and what to do about it.
        message: String,
    },

    /// So many bytes more could not be had.
    #[error(
        "not enough memory: {} MB more were refused: give fewer threads (-t), or more memory",
        bytes.div_ceil(1_000_000)
    )]
    OutOfMemory {
        /// Bytes that were asked for.
        bytes: usize,
    },

    /// Not a single thread could be started.
    #[error("no thread can be started ({}): give fewer of them (-t)", describe(.0))]
    NoThread(io::Error),

    /// The caller asked to stop (Ctrl-C, SIGTERM).
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// An [`Error::Io`] about `path`.
    pub fn io(path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::Io { path: path.into(), source }
    }

    /// An [`Error::Input`] about the whole of `path`.
    pub fn input(path: impl Into<PathBuf>, message: impl Into<String>) -> Self {
        Self::Input { path: path.into(), line: None, message: message.into() }
    }

    /// An [`Error::Input`] about one line of `path`.
    pub fn input_at(path: impl Into<PathBuf>, line: u64, message: impl Into<String>) -> Self {
        Self::Input { path: path.into(), line: Some(line), message: message.into() }
    }
}

struct Place<'a> {
    path: &'a PathBuf,
    line: Option<u64>,
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable(self.path))?;
        match self.line {
            Some(line) => write!(f, ", line {line}"),
            None => Ok(()),
        }
    }
}

/// A path on one line: `-` is spelled out, control characters are escaped and
/// bytes that are not UTF-8 replaced.
pub fn printable(path: &Path) -> String {
    if path == Path::new("-") {
        return "standard input".into();
    }
    path.to_string_lossy()
        .chars()
        .map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() })
        .collect()
}

/// The operating system's answer without Rust's "(os error 2)".
fn describe(error: &io::Error) -> String {
    if let Some(words) = words_for(error) {
        return words.into();
    }
    let text = error.to_string();
    match text.find(" (os error") {
        Some(at) => {
            let mut text = text[..at].to_string();
            if let Some(first) = text.get_mut(..1) {
                first.make_ascii_lowercase();
            }
            text
        }
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_one_line_and_name_the_place() {
        let error = Error::io("a\nb.fa", io::Error::from_raw_os_error(2));
        assert_eq!(error.to_string(), "a\\nb.fa: no such file or directory");
        let error = Error::input_at("-", 7, "letter '!' is not a base");
        assert_eq!(error.to_string(), "standard input, line 7: letter '!' is not a base");
    }
}
