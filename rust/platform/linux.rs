//! What Linux can do and others cannot, or not in this way.

use std::fs::File;

use rustix::fs::{FallocateFlags, OFlags, fallocate, fcntl_getfl, fcntl_setfl};
use rustix::mm::{Advice, madvise};

/// Turns writing past the page cache on, where the file system can do it, or off.
pub(crate) fn set_direct(file: &File, on: bool) {
    if let Ok(mut flags) = fcntl_getfl(file) {
        flags.set(OFlags::DIRECT, on);
        let _ = fcntl_setfl(file, flags);
    }
}

/// Whether writes go past the page cache.
pub(crate) fn is_direct(file: &File) -> bool {
    fcntl_getfl(file).is_ok_and(|flags| flags.contains(OFlags::DIRECT))
}

/// Reserves space without making the file longer. A file system that cannot
/// do that, or has less, is none the worse.
pub(crate) fn reserve(file: &File, from: u64, length: u64) {
    let _ = fallocate(file, FallocateFlags::KEEP_SIZE, from, length);
}

/// Asks for large pages for the inside of an array.
pub(crate) fn advise_large_pages<T>(array: &[T]) {
    /// The size of a large page on the machines where there are such.
    const LARGE_PAGE: usize = 1 << 21;
    let start = array.as_ptr().addr().next_multiple_of(LARGE_PAGE);
    let end = (array.as_ptr().addr() + size_of_val(array)) / LARGE_PAGE * LARGE_PAGE;
    if start < end {
        let start = array.as_ptr().with_addr(start).cast_mut().cast();
        // SAFETY: the range is within the array, and the advice changes
        // nothing in it. That it may be refused is no loss.
        let _ = unsafe { madvise(start, end - start.addr(), Advice::LinuxHugepage) };
    }
}
