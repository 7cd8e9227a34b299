//! Windows.

#[cfg(feature = "python")]
use std::ffi::CStr;
use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind};
use std::os::windows::fs::FileExt;
use std::os::windows::io::{AsHandle, AsRawHandle};
use std::path::{Path, PathBuf};
use std::time::Duration;

use windows_sys::Win32::Foundation::{ERROR_BROKEN_PIPE, ERROR_CANT_RESOLVE_FILENAME};
use windows_sys::Win32::Foundation::{WAIT_OBJECT_0, WAIT_TIMEOUT};
#[cfg(feature = "python")]
use windows_sys::Win32::Storage::FileSystem::DeleteFileW;
use windows_sys::Win32::Storage::FileSystem::{FILE_TYPE_PIPE, GetFileType};
use windows_sys::Win32::System::Pipes::PeekNamedPipe;
use windows_sys::Win32::System::Threading::WaitForSingleObject;
#[cfg(feature = "python")]
use windows_sys::Win32::System::Threading::{GetCurrentProcess, TerminateProcess};

/// Fills `bytes` from a place in the file.
pub(crate) fn read_exact_at(file: &File, mut bytes: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.seek_read(bytes, offset) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                bytes = &mut bytes[count..];
                offset += count as u64;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Writes some of `bytes` to a place in the file; how many.
pub(crate) fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<usize> {
    file.seek_write(bytes, offset)
}

/// What tells a file or folder from every other one, by whatever path: where its
/// links lead.
pub(crate) type Identity = PathBuf;

/// The identity of a file or folder.
pub(crate) fn identity(path: &Path, _: &Metadata) -> Option<Identity> {
    fs::canonicalize(path).ok()
}

/// Opens a file.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    if path.is_dir() {
        // Windows would speak of permissions.
        return Err(ErrorKind::IsADirectory.into());
    }
    File::open(path)
}

/// Standard input without the small buffer of [`io::Stdin`].
pub(crate) fn open_stdin() -> io::Result<File> {
    Ok(File::from(io::stdin().as_handle().try_clone_to_owned()?))
}

/// Waits until there is something to read, or the end; whether there is.
pub(crate) fn wait_for_input(file: &File, patience: Duration) -> io::Result<bool> {
    let handle = file.as_raw_handle();
    // SAFETY: the handle belongs to a file that is open.
    if unsafe { GetFileType(handle) } != FILE_TYPE_PIPE {
        // A console is signalled when somebody has typed, a device always.
        // SAFETY: as above.
        return match unsafe { WaitForSingleObject(handle, patience.as_millis() as u32) } {
            WAIT_OBJECT_0 => Ok(true),
            WAIT_TIMEOUT => Ok(false),
            _ => Err(io::Error::last_os_error()),
        };
    }
    let mut available = 0;
    let (none, no_place) = (std::ptr::null_mut(), std::ptr::null_mut());
    // SAFETY: as above; nothing is written but the number of bytes.
    let peeked = unsafe {
        PeekNamedPipe(handle, none, 0, no_place, &raw mut available, std::ptr::null_mut())
    };
    if peeked == 0 {
        let error = io::Error::last_os_error();
        // Its writer has gone: that is the end, which reading finds.
        let is_end = error.raw_os_error() == Some(ERROR_BROKEN_PIPE as i32);
        return if is_end { Ok(true) } else { Err(error) };
    }
    if available == 0 {
        // A pipe cannot be waited for without reading it.
        std::thread::sleep(patience);
    }
    Ok(available > 0)
}

/// Whether a link leads back to itself.
pub(crate) fn is_link_loop(error: &io::Error) -> bool {
    error.raw_os_error() == Some(ERROR_CANT_RESOLVE_FILENAME as i32)
}

/// Words for what the operating system says in others than Unix does.
pub(crate) fn words_for(error: &io::Error) -> Option<&'static str> {
    error.raw_os_error()?;
    match error.kind() {
        ErrorKind::NotFound => Some("no such file or directory"),
        ErrorKind::PermissionDenied => Some("permission denied, or open in another program"),
        ErrorKind::StorageFull => Some("no space left on device"),
        _ => None,
    }
}

/// The path that some text names, which has to be UTF-8 here.
pub(crate) fn path_of(text: &[u8]) -> io::Result<&Path> {
    match std::str::from_utf8(text) {
        Ok(text) => Ok(Path::new(text)),
        Err(_) => Err(io::Error::new(ErrorKind::InvalidInput, "the path is not UTF-8")),
    }
}

/// Removes a file, if it is there, and asks for no memory; one that is open goes when it
/// is closed. The path is UTF-8.
#[cfg(feature = "python")]
pub(crate) fn remove_without_memory(path: &CStr) {
    let mut text = [0; 4096];
    let Ok(path) = path.to_str() else {
        return;
    };
    // The last one stays a zero.
    let mut units = path.encode_utf16();
    for (unit, found) in text[..4095].iter_mut().zip(&mut units) {
        *unit = found;
    }
    if units.next().is_none() {
        // SAFETY: the text ends with a zero, and nothing else is read.
        unsafe { DeleteFileW(text.as_ptr()) };
    }
}

/// Ends the process, and runs nothing of what is registered to be run then.
#[cfg(feature = "python")]
pub(crate) fn exit_at_once(code: i32) -> ! {
    // SAFETY: the handle of the process itself is always sound.
    unsafe { TerminateProcess(GetCurrentProcess(), code as u32) };
    // Not reached: a process ends itself before the call returns.
    std::process::abort()
}

/// A pipe as [`wait_for_input`] takes it.
#[cfg(test)]
pub(crate) fn file_of(pipe: io::PipeReader) -> File {
    File::from(std::os::windows::io::OwnedHandle::from(pipe))
}
