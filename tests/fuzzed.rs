//! The bodies of the fuzz targets, with inputs that fuzzing has found and changes of them.
//!
//! Always the same ones, so that what fails once fails again; looking for new ones is what
//! `cargo fuzz` is for.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use flate2::read::GzDecoder;

#[path = "../fuzz/bodies/mod.rs"]
mod bodies;

/// Changed inputs for each that was found.
const CHANGES: usize = 4;

#[test]
fn records() {
    replay("records", bodies::records);
}

#[test]
fn decompress() {
    replay("decompress", bodies::decompress);
}

#[test]
fn count() {
    replay("count", bodies::count);
}

#[test]
fn row_file() {
    replay("row_file", bodies::row_file);
}

fn replay(target: &str, body: fn(&[u8])) {
    let inputs = inputs(target);
    assert!(inputs.len() > 50, "{}", inputs.len());
    let mut random = Random(0x6b76_6165);
    for input in &inputs {
        try_one(body, input);
        for _ in 0..CHANGES {
            let other = &inputs[random.below(inputs.len())];
            try_one(body, &changed(input, other, &mut random));
        }
    }
}

/// Runs it, and shows the input where that ends in a panic.
fn try_one(body: fn(&[u8]), input: &[u8]) {
    let ended = catch_unwind(AssertUnwindSafe(|| body(input)));
    assert!(ended.is_ok(), "failed with \"{}\"", input.escape_ascii());
}

/// What led to a mistake, and what reached all that was reached.
fn inputs(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let archive = File::open(folder.join("inputs").join(format!("{target}.tar.gz"))).unwrap();
    let mut archive_bytes = Vec::new();
    GzDecoder::new(archive).read_to_end(&mut archive_bytes).unwrap();
    let mut inputs = files_of_tar(&archive_bytes);
    if let Ok(entries) = fs::read_dir(folder.join("regressions").join(target)) {
        let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        inputs.extend(paths.iter().map(|path| fs::read(path).unwrap()));
    }
    inputs
}

/// The contents of the plain files, in order.
fn files_of_tar(mut archive: &[u8]) -> Vec<Vec<u8>> {
    const BLOCK: usize = 512;
    let mut files = Vec::new();
    while let Some((header, rest)) = archive.split_at_checked(BLOCK) {
        if header[0] == 0 {
            break;
        }
        let size = std::str::from_utf8(&header[124..135]).unwrap();
        let size = usize::from_str_radix(size, 8).unwrap();
        if header[156] == b'0' {
            files.push(rest[..size].to_vec());
        }
        archive = &rest[size.next_multiple_of(BLOCK)..];
    }
    files
}

/// An input with a few changes of the kinds that a fuzzer makes.
fn changed(input: &[u8], other: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..=random.below(3) {
        let at = random.below(bytes.len() + 1);
        let end = at + random.below(bytes.len() + 1 - at);
        match random.below(6) {
            0 => bytes.truncate(end),
            1 => drop(bytes.drain(at..end)),
            2 => bytes.extend_from_within(at..end),
            3 => {
                let from = random.below(other.len() + 1);
                bytes.splice(at..end, other[from..].iter().copied());
            }
            4 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            _ if at < bytes.len() => bytes[at] = random.below(256) as u8,
            _ => {}
        }
        bytes.truncate(1 << 13);
    }
    bytes
}

/// Numbers that are the same each time (xorshift).
struct Random(u64);

impl Random {
    /// One below `bound`.
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % bound
    }
}
