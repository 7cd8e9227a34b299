//! Memory that may be refused.
//!
//! What may be large is asked for with [`reserve`] or [`zeros`], and where there
//! is no more, [`Error::OutOfMemory`] goes to whoever asked. Everything else is
//! small and asked for by the standard library and other crates, which cannot be
//! told no: then [`OneLineAndOut`], the allocator of the extension module, ends
//! the process as an error does, in one line and without temporary files, where
//! Rust's own would abort it. The few bytes that the standard library asks the system itself
//! for when a thread is started are past every allocator: [`starting`] ends its abort alike.

use std::cell::Cell;
use std::thread;

use crate::error::{Error, Result};
use crate::platform::advise_large_pages;

#[cfg(all(feature = "python", unix))]
pub(crate) use ending::leave_for;
#[cfg(feature = "python")]
pub(crate) use ending::{OneLineAndOut, forget_temporary, remember_temporary};
#[cfg(all(feature = "python", unix))]
pub(crate) use starts::starting;

/// Starts a thread.
#[cfg(not(all(feature = "python", unix)))]
pub(crate) fn starting<T>(start: impl FnOnce() -> T) -> T {
    start()
}

/// A scope of threads, as that of the standard library.
pub(crate) fn scope_of_threads<'env, T>(
    act: impl for<'scope> FnOnce(&'scope thread::Scope<'scope, 'env>) -> T,
) -> T {
    // A thread that is not Rust's is known to the standard library from here on, which takes
    // as many bytes.
    starting(thread::current);
    thread::scope(act)
}

thread_local! {
    /// Whether this thread can be told that there is no more memory.
    static MAY_BE_REFUSED: Cell<bool> = const { Cell::new(false) };
}

/// Runs something that can be told that there is no more memory.
pub(crate) fn may_be_refused<T>(ask: impl FnOnce() -> T) -> T {
    let before = MAY_BE_REFUSED.replace(true);
    let answer = ask();
    MAY_BE_REFUSED.set(before);
    answer
}

/// Makes room for more items behind those of `items`.
///
/// # Errors
/// [`Error::OutOfMemory`]; `items` is as it was then.
pub(crate) fn reserve<T>(items: &mut Vec<T>, additional: usize) -> Result<()> {
    if items.capacity() - items.len() >= additional {
        return Ok(());
    }
    may_be_refused(|| items.try_reserve(additional)).map_err(|_| refused::<T>(additional))
}

/// Appends a copy.
///
/// # Errors
/// [`Error::OutOfMemory`]; `items` is as it was then.
pub(crate) fn append<T: Copy>(items: &mut Vec<T>, more: &[T]) -> Result<()> {
    reserve(items, more.len())?;
    items.extend_from_slice(more);
    Ok(())
}

/// Makes `items` longer by zeros, or shorter.
///
/// # Errors
/// [`Error::OutOfMemory`]; `items` is as it was then.
pub(crate) fn resize<T: Copy + Default>(items: &mut Vec<T>, length: usize) -> Result<()> {
    reserve(items, length.saturating_sub(items.len()))?;
    items.resize(length, T::default());
    Ok(())
}

/// An array of zeros that no one has touched yet.
///
/// Its pages are cleared by the operating system when they are first written,
/// so by the threads that fill it; large ones where there are any, because
/// with small ones that takes longer than computing what is written.
///
/// # Errors
/// [`Error::OutOfMemory`].
pub(crate) fn zeros<T: bytemuck::Zeroable>(length: usize) -> Result<Vec<T>> {
    let array = may_be_refused(|| bytemuck::allocation::try_zeroed_vec(length));
    let array = array.map_err(|()| refused::<T>(length))?;
    advise_large_pages(&array);
    Ok(array)
}

fn refused<T>(items: usize) -> Error {
    Error::OutOfMemory { bytes: items.saturating_mul(size_of::<T>()) }
}

#[cfg(feature = "python")]
mod ending {
    use std::alloc::{GlobalAlloc, Layout, System};
    use std::ffi::CStr;
    use std::io::{self, IsTerminal, Write};
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Mutex, PoisonError};
    use std::thread;
    use std::{fmt, process};

    use super::MAY_BE_REFUSED;
    use crate::error::Error;
    use crate::platform::{exit_at_once, remove_without_memory};

    /// The system's allocator, with another end than an abort.
    pub(crate) struct OneLineAndOut;

    // SAFETY: all calls are passed on to the system's allocator as they are; where that
    // refuses, its answer is returned, or the process ends without unwinding.
    unsafe impl GlobalAlloc for OneLineAndOut {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            // SAFETY: the caller's promises are those that are asked for.
            answer(unsafe { System.alloc(layout) }, layout.size())
        }

        unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
            // SAFETY: the same.
            answer(unsafe { System.alloc_zeroed(layout) }, layout.size())
        }

        unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
            // SAFETY: the same.
            answer(unsafe { System.realloc(memory, layout, size) }, size)
        }

        unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
            // SAFETY: the same.
            unsafe { System.dealloc(memory, layout) }
        }
    }

    #[inline]
    fn answer(memory: *mut u8, bytes: usize) -> *mut u8 {
        if memory.is_null() {
            refuse(bytes);
        }
        memory
    }

    /// Returns where the thread can be told, and ends the process elsewhere.
    #[cold]
    fn refuse(bytes: usize) {
        if !MAY_BE_REFUSED.get() {
            leave(bytes);
        }
    }

    /// Bytes of a path that is remembered.
    const LONGEST: usize = 4096;

    /// A temporary file, in memory that is there already.
    struct Temporary {
        path: [u8; LONGEST],
        /// 0 where there is none.
        length: usize,
        /// Whose it is: a process that was forked has the table of its parent.
        process: u32,
    }

    /// Temporary files of this process; there are few at a time.
    static TEMPORARY: Mutex<[Temporary; 32]> =
        Mutex::new([const { Temporary { path: [0; LONGEST], length: 0, process: 0 } }; 32]);

    /// Remembers a file that is to go if the process ends for want of memory; its
    /// place, unless there are too many or its path is too long.
    pub(crate) fn remember_temporary(path: &[u8]) -> Option<usize> {
        let mut table = TEMPORARY.lock().unwrap_or_else(PoisonError::into_inner);
        let place = table.iter().position(|temporary| temporary.length == 0)?;
        let temporary = &mut table[place];
        // A zero ends it.
        let room = temporary.path.get_mut(..path.len() + 1)?;
        room[..path.len()].copy_from_slice(path);
        room[path.len()] = 0;
        temporary.length = path.len();
        temporary.process = process::id();
        Some(place)
    }

    /// Forgets the file at a place that [`remember_temporary`] has told.
    pub(crate) fn forget_temporary(place: usize) {
        let mut table = TEMPORARY.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(temporary) = table.get_mut(place) {
            temporary.length = 0;
        }
    }

    /// Ends the process as an error does, without any memory.
    pub(super) fn leave(bytes: usize) -> ! {
        end(format_args!("kvae: error: {}", Error::OutOfMemory { bytes }), 1, |_| ())
    }

    /// Ends the process as a signal's handler does, whatever the other threads are at.
    #[cfg(unix)]
    pub(crate) fn leave_for(what: &str, code: i32) -> ! {
        end(format_args!("kvae: {what}"), code, |path| {
            // Of folders, what is in them has to go first.
            if let Ok(path) = crate::platform::path_of(path.to_bytes()) {
                let _ = std::fs::remove_dir_all(path);
            }
        })
    }

    /// Ends the process in a line and without its temporary files, for each of which `remove`
    /// is called first.
    fn end(what: fmt::Arguments<'_>, code: i32, remove: impl Fn(&CStr)) -> ! {
        static IS_LEAVING: AtomicBool = AtomicBool::new(false);
        if IS_LEAVING.swap(true, Ordering::AcqRel) {
            // Another thread does all this.
            loop {
                thread::yield_now();
            }
        }
        // Nobody who has the table asks for memory.
        let table = TEMPORARY.lock().unwrap_or_else(PoisonError::into_inner);
        for temporary in table.iter().filter(|temporary| temporary.length > 0) {
            let path = CStr::from_bytes_with_nul(&temporary.path[..=temporary.length]);
            if let Ok(path) = path
                && temporary.process == process::id()
            {
                remove(path);
                remove_without_memory(path);
            }
        }
        let mut line = [0; 256];
        let mut rest = &mut line[..];
        // The progress that stands in a terminal's line, and has hidden the cursor.
        let clear = if io::stderr().is_terminal() { "\r\x1b[2K\x1b[?25h" } else { "" };
        let _ = writeln!(rest, "{clear}{what}");
        let rest = rest.len();
        let length = line.len() - rest;
        let _ = io::stderr().write_all(&line[..length]);
        exit_at_once(code)
    }
}

#[cfg(all(feature = "python", unix))]
mod starts {
    use std::cell::Cell;
    use std::sync::{Mutex, PoisonError};

    use super::ending::leave;
    use crate::platform::OnAbort;

    /// Bytes that the standard library asks for, of which there are no more.
    const OF_A_THREAD: usize = 48;

    thread_local! {
        /// Whether this thread starts another one.
        static IS_STARTING: Cell<bool> = const { Cell::new(false) };
    }

    /// How many threads start others, and what an abort did before the first one.
    static STARTING: Mutex<(usize, Option<OnAbort>)> = Mutex::new((0, None));

    /// Starts a thread; where there is no memory for it, the process ends as it does
    /// elsewhere, after the standard library has said so in a line of its own.
    pub(crate) fn starting<T>(start: impl FnOnce() -> T) -> T {
        count(true);
        IS_STARTING.set(true);
        let started = start();
        IS_STARTING.set(false);
        count(false);
        started
    }

    fn count(one_more: bool) {
        let mut starting = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
        if one_more {
            if starting.0 == 0 {
                starting.1 = Some(OnAbort::call(aborted));
            }
            starting.0 += 1;
        } else {
            starting.0 -= 1;
            if starting.0 == 0
                && let Some(former) = starting.1.take()
            {
                former.restore();
            }
        }
    }

    /// Ends the process for want of memory; another thread's abort goes on.
    extern "C" fn aborted(_: libc::c_int) {
        if IS_STARTING.get() {
            leave(OF_A_THREAD);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_of_any_size_are_zero() {
        for length in [0, 1, 1000, 1 << 20, (1 << 22) + 77] {
            let array = zeros::<f32>(length).unwrap();
            assert_eq!(array.len(), length);
            assert!(array.iter().all(|&x| x.to_bits() == 0));
        }
    }

    #[test]
    fn what_is_refused_is_told_and_changes_nothing() {
        // More than there are addresses.
        const TOO_MUCH: usize = 1 << 50;
        let mut items = vec![1u64, 2];
        for error in [
            reserve(&mut items, TOO_MUCH).unwrap_err(),
            resize(&mut items, TOO_MUCH).unwrap_err(),
            zeros::<u64>(TOO_MUCH).unwrap_err(),
        ] {
            assert!(matches!(error, Error::OutOfMemory { .. }), "{error}");
            assert_eq!(error.to_string().lines().count(), 1);
        }
        assert_eq!(items, [1, 2]);
        append(&mut items, &[3]).unwrap();
        resize(&mut items, 5).unwrap();
        assert_eq!(items, [1, 2, 3, 0, 0]);
        assert!(!MAY_BE_REFUSED.get());
    }
}
