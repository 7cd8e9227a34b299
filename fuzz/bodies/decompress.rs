//! Compressed data: read in small pieces, in large ones, and block by block, it gives the
//! same text or is refused in one line.

use std::io::{Cursor, Read};
use std::path::PathBuf;

use kvae::input::compression::Decoder;
use kvae::input::text_buffer::TextPool;

/// What an input may grow to: a small file of zeros is a large text.
const LIMIT: usize = 1 << 22;

/// Hands out a few bytes at a time.
struct Slow(Cursor<Vec<u8>>, usize);

impl Read for Slow {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let n = buf.len().min(self.1);
        self.0.read(&mut buf[..n])
    }
}

type Text = Result<Vec<u8>, String>;

/// Decompresses in every way.
pub(crate) fn decompress(data: &[u8]) {
    let Some(whole) = read(data, usize::MAX, 1 << 18) else {
        return;
    };
    let is_zstd = data.starts_with(b"\x28\xb5\x2f\xfd") || data.get(1..4) == Some(b"\x2a\x4d\x18");
    for (portion, buffer) in [(1, 1 << 16), (7, 13), (4096, 1000)] {
        if buffer < 1000 && whole.as_ref().map_or(0, Vec::len) > 1 << 16 {
            continue;
        }
        let Some(slowly) = read(data, portion, buffer) else {
            continue;
        };
        // libzstd accepts some frames that hold nothing when it sees all of them at once, and
        // calls them corrupt when it does not.
        if !is_zstd || slowly.is_ok() == whole.is_ok() {
            compare(&slowly, &whole);
        }
    }
    if let Some(apart) = read_apart(data) {
        compare(&apart, &whole);
    }
}

/// Both read the same, or both fail; what is broken may be found in another place.
fn compare(one: &Text, other: &Text) {
    match (one, other) {
        (Ok(a), Ok(b)) => assert!(a == b),
        (Err(a), Err(b)) => assert!(one_line(a) && one_line(b), "{a} {b}"),
        (a, b) => panic!("{:?} {:?}", a.as_ref().map(Vec::len), b.as_ref().map(Vec::len)),
    }
}

fn one_line(message: &str) -> bool {
    message.starts_with("input: ") && !message.contains('\n')
}

fn open(data: &[u8], portion: usize) -> Result<Decoder, String> {
    let inner = Slow(Cursor::new(data.to_vec()), portion);
    Decoder::from_reader(PathBuf::from("input"), Box::new(inner)).map_err(|e| e.to_string())
}

fn read(data: &[u8], portion: usize, buffer: usize) -> Option<Text> {
    let mut decoder = match open(data, portion) {
        Ok(decoder) => decoder,
        Err(message) => return Some(Err(message)),
    };
    let mut text = Vec::new();
    let mut buffer = vec![0; buffer];
    loop {
        match decoder.read(&mut buffer) {
            Ok(0) => return Some(Ok(text)),
            Ok(n) => text.extend_from_slice(&buffer[..n]),
            Err(error) => return Some(Err(error.to_string())),
        }
        if text.len() > LIMIT {
            return None;
        }
    }
}

/// As the threads do it: blocks are inflated elsewhere.
fn read_apart(data: &[u8]) -> Option<Text> {
    let mut decoder = match open(data, usize::MAX) {
        Ok(decoder) if decoder.may_have_blocks() => decoder,
        _ => return None,
    };
    let mut text = Vec::new();
    let mut buffer = vec![0; 1 << 18];
    // The head was decoded to judge the content.
    loop {
        match decoder.read_member(&mut buffer) {
            Ok(0) => break,
            Ok(n) => text.extend_from_slice(&buffer[..n]),
            Err(error) => return Some(Err(error.to_string())),
        }
    }
    while decoder.may_have_blocks() && text.len() <= LIMIT {
        match decoder.take_blocks() {
            Ok(None) => break,
            Ok(Some(blocks)) => match blocks.inflate(TextPool::default().take()) {
                Ok(part) => text.extend_from_slice(&part),
                Err(error) => return Some(Err(error.to_string())),
            },
            Err(error) => return Some(Err(error.to_string())),
        }
    }
    loop {
        match decoder.read(&mut buffer) {
            Ok(0) => return Some(Ok(text)),
            Ok(n) => text.extend_from_slice(&buffer[..n]),
            Err(error) => return Some(Err(error.to_string())),
        }
        if text.len() > LIMIT {
            return None;
        }
    }
}
