//! Reading that can be called off while it waits.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::platform::wait_for_input;

/// How long a pipe is waited for before looking at the flag again.
const PATIENCE: Duration = Duration::from_millis(50);

/// A request to stop, shared by all who work on a run.
#[derive(Clone, Debug, Default)]
pub struct StopFlag(Arc<AtomicBool>);

impl StopFlag {
    /// Asks everyone to stop.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether someone asked to stop.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A file that gives up once it is asked to, even a pipe that nobody writes to.
#[derive(Debug)]
pub(super) struct StoppableFile {
    file: File,
    stop: StopFlag,
    /// Whether a read may have to wait for somebody.
    may_wait: bool,
}

impl StoppableFile {
    pub(super) fn new(file: File, stop: StopFlag) -> Self {
        let may_wait = !file.metadata().is_ok_and(|metadata| metadata.is_file());
        Self { file, stop, may_wait }
    }

    /// Waits until there is something to read, or the end.
    fn wait(&self) -> io::Result<()> {
        loop {
            if self.stop.is_set() {
                return Err(io::Error::other("interrupted"));
            }
            if wait_for_input(&self.file, PATIENCE)? {
                return Ok(());
            }
        }
    }
}

impl Read for StoppableFile {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.may_wait {
                self.wait()?;
            } else if self.stop.is_set() {
                return Err(io::Error::other("interrupted"));
            }
            match self.file.read(buf) {
                // A named pipe is opened without blocking: see `platform::open`.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                result => return result,
            }
        }
    }
}
