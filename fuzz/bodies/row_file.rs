//! Rows from a file of any bytes, from anywhere in it: rows of the right size or an error
//! in one line, never a panic, never more memory than the file is worth.

use std::num::NonZeroUsize;

use arbitrary::Arbitrary;
use kvae::error::Result;
use kvae::layout::Layout;
use kvae::packed::Gap;
use kvae::row_file::{CountBlock, Counted, RowFile, Stretch};
use kvae::simd::Backend;

use super::common::{decoded, memory_file};

#[derive(Arbitrary, Debug)]
enum Kind {
    Log,
    Counts { size_is_two: bool, total: u64, length: u64, gc: f32 },
    Packed { start: u64, end: u64, gaps: Vec<(u32, u32)>, from: i64, to: i64 },
}

#[derive(Arbitrary, Debug)]
struct Input {
    kind: Kind,
    offsets: Vec<u64>,
    small: bool,
    bytes: Vec<u8>,
}

/// Takes the rest of an input for a file, and asks it for rows.
pub(crate) fn row_file(data: &[u8]) {
    let Some(input) = decoded::<Input>(data) else {
        return;
    };
    let (_file, path) = memory_file(&input.bytes);
    let file = RowFile::open(&[path], true).unwrap();
    let layout = Layout::new(&[3]).unwrap();
    let mut offsets = input.offsets;
    offsets.truncate(4);
    if input.small {
        for offset in &mut offsets {
            *offset %= 1 + input.bytes.len() as u64;
        }
    }
    let mut rows = vec![0.0; offsets.len() * layout.n_fields()];
    let backend = Backend::active().unwrap();
    let one = NonZeroUsize::MIN;
    let result: Result<()> = match input.kind {
        Kind::Log => file.log_rows(&offsets, one, &mut rows),
        Kind::Counts { size_is_two, total, length, gc } => {
            let n = offsets.len();
            let size = if size_is_two { 2 } else { 4 };
            let block = CountBlock { k: 3, size, offsets, totals: vec![total; n] };
            let counted =
                Counted { lengths: vec![length; n], gc: vec![gc; n], blocks: vec![block] };
            file.counted_rows(&layout, &counted, one, backend, &mut rows)
        }
        Kind::Packed { start, end, gaps, from, to } => {
            if start >= end {
                return;
            }
            let gaps: Vec<Gap> =
                gaps.iter().map(|&(start, length)| Gap { start, length }).collect();
            let stretches: Vec<Stretch> = offsets
                .iter()
                .map(|&offset| Stretch {
                    offset,
                    letters: start..end,
                    gaps: from as usize..to as usize,
                })
                .collect();
            file.packed_rows(&layout, &stretches, &gaps, one, backend, &mut rows)
        }
    };
    if let Err(error) = result {
        let message = error.to_string();
        assert!(message.starts_with("/proc/self/fd/") && !message.contains('\n'), "{message}");
    }
}
