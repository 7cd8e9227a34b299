//! Linux, macOS and their like.

#[cfg(feature = "python")]
use std::ffi::CStr;
use std::ffi::OsStr;
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// Fills `bytes` from a place in the file.
pub(crate) fn read_exact_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    file.read_exact_at(bytes, offset)
}

/// Writes some of `bytes` to a place in the file; how many.
pub(crate) fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<usize> {
    file.write_at(bytes, offset)
}

/// What tells a file or folder from every other one, by whatever path.
pub(crate) type Identity = (u64, u64);

/// The identity of a file or folder.
#[allow(clippy::unnecessary_wraps, reason = "others have to ask, and may get no answer")]
pub(crate) fn identity(_: &Path, metadata: &Metadata) -> Option<Identity> {
    Some((metadata.dev(), metadata.ino()))
}

/// Opens a file, without waiting for a named pipe's writer: reading does that.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let is_pipe = path.metadata().is_ok_and(|metadata| metadata.file_type().is_fifo());
    let flags = if is_pipe { libc::O_NONBLOCK } else { 0 };
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

/// Standard input without the small buffer of [`io::Stdin`].
pub(crate) fn open_stdin() -> io::Result<File> {
    Ok(File::from(io::stdin().as_fd().try_clone_to_owned()?))
}

/// A file that is open already, and is closed with the answer.
///
/// # Safety
/// Nobody else may close or own the descriptor.
#[cfg(feature = "python")]
pub(crate) unsafe fn file_of_descriptor(descriptor: i32) -> File {
    use std::os::fd::FromRawFd;

    // SAFETY: the caller's promise is the one that is asked for.
    unsafe { File::from_raw_fd(descriptor) }
}

/// Starts a thread that no signal is given to: given to another than the main one, it would
/// interrupt no system call there, and Python would not hear of it.
#[cfg(feature = "python")]
pub(crate) fn spared_signals<T>(start: impl FnOnce() -> T) -> T {
    use std::mem::MaybeUninit;

    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    let mut before = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: both sets are written before they are read, here and below.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_BLOCK, all.as_ptr(), before.as_mut_ptr());
    }
    // The new thread has this one's mask.
    let started = start();
    // SAFETY: the mask is the one that was there.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), std::ptr::null_mut()) };
    started
}

/// Waits until there is something to read, or the end; whether there is.
pub(crate) fn wait_for_input(file: &File, patience: Duration) -> io::Result<bool> {
    let patience = Timespec { tv_sec: 0, tv_nsec: patience.subsec_nanos().into() };
    match poll(&mut [PollFd::new(file, PollFlags::IN)], Some(&patience)) {
        Ok(0) | Err(Errno::INTR) => Ok(false),
        Ok(_) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// Whether a link leads back to itself.
pub(crate) fn is_link_loop(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ELOOP)
}

/// Words for what the operating system says in others than Unix does.
pub(crate) fn words_for(_: &io::Error) -> Option<&'static str> {
    None
}

/// The path that some text names.
#[allow(clippy::unnecessary_wraps, reason = "not all bytes are a path elsewhere")]
pub(crate) fn path_of(text: &[u8]) -> io::Result<&Path> {
    Ok(Path::new(OsStr::from_bytes(text)))
}

/// Removes a file, if it is there, and asks for no memory.
#[cfg(feature = "python")]
pub(crate) fn remove_without_memory(path: &CStr) {
    // SAFETY: the text ends with a zero, and nothing else is read.
    unsafe { libc::unlink(path.as_ptr()) };
}

/// Ends the process, and runs nothing of what is registered to be run then.
#[cfg(feature = "python")]
pub(crate) fn exit_at_once(code: i32) -> ! {
    // SAFETY: it takes any code and does not return.
    unsafe { libc::_exit(code) }
}

/// What is done when the process aborts, to be put back.
#[cfg(feature = "python")]
pub(crate) struct OnAbort(libc::sigaction);

#[cfg(feature = "python")]
impl OnAbort {
    /// Calls `handle` in the thread that aborts; the former way is returned.
    pub(crate) fn call(handle: extern "C" fn(libc::c_int)) -> Self {
        // SAFETY: all zeros are a valid action, without flags.
        let (mut action, mut former): (libc::sigaction, libc::sigaction) =
            unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
        action.sa_sigaction = handle as *const () as libc::sighandler_t;
        // SAFETY: both are actions, and the handler takes a signal's number, as it has to.
        unsafe { libc::sigaction(libc::SIGABRT, &raw const action, &raw mut former) };
        Self(former)
    }

    /// Puts the former way back.
    pub(crate) fn restore(&self) {
        // SAFETY: the action is one that was there.
        unsafe { libc::sigaction(libc::SIGABRT, &raw const self.0, std::ptr::null_mut()) };
    }
}

/// A pipe as [`wait_for_input`] takes it.
#[cfg(test)]
pub(crate) fn file_of(pipe: io::PipeReader) -> File {
    File::from(std::os::fd::OwnedFd::from(pipe))
}
