//! Where a file is written through the cache, and pages are what they are.

use std::fs::File;

pub(crate) fn set_direct(_: &File, _: bool) {}

pub(crate) fn is_direct(_: &File) -> bool {
    false
}

pub(crate) fn reserve(_: &File, _: u64, _: u64) {}

pub(crate) fn advise_large_pages<T>(_: &[T]) {}
