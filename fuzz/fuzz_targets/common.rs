//! What the targets share.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use rustix::fs::{MemfdFlags, memfd_create};

/// A file in memory that holds `bytes`, and a path to open it by.
pub fn memory_file(bytes: &[u8]) -> (File, PathBuf) {
    let mut file = File::from(memfd_create("kvae-fuzz", MemfdFlags::CLOEXEC).unwrap());
    file.write_all(bytes).unwrap();
    let path = format!("/proc/self/fd/{}", file.as_raw_fd()).into();
    (file, path)
}
