//! What the bodies share.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use arbitrary::{Arbitrary, Unstructured};
use rustix::fs::{MemfdFlags, memfd_create};

/// A file in memory that holds `bytes`, and a path to open it by.
pub(super) fn memory_file(bytes: &[u8]) -> (File, PathBuf) {
    let mut file = File::from(memfd_create("kvae-fuzz", MemfdFlags::CLOEXEC).unwrap());
    file.write_all(bytes).unwrap();
    let path = format!("/proc/self/fd/{}", file.as_raw_fd()).into();
    (file, path)
}

/// What an input stands for, if it is long enough.
pub(super) fn decoded<'a, T: Arbitrary<'a>>(data: &'a [u8]) -> Option<T> {
    T::arbitrary_take_rest(Unstructured::new(data)).ok()
}
