//! Sequences in memory to arrays in memory, on several threads.

use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::allocation::{scope_of_threads, starting, zeros};
use crate::canonical::columns;
use crate::count::{CountWriter, Counter};
use crate::error::{Error, Result};
use crate::features::RowBuilder;
use crate::layout::Layout;
use crate::simd::Backend;

/// Bytes of the array that a thread fills at a time: many of the largest
/// pages, so that threads seldom touch a new one together, and each clears it.
const SHARE_BYTES: usize = 1 << 25;

/// An array of this size may still be in the caches when it is read.
const CACHED_BYTES: usize = 1 << 22;

/// Counts of the canonical k-mers of every sequence: a row of columns each,
/// one row after the other.
///
/// # Errors
/// [`Error::Argument`] if a sequence is too long for 32-bit counts,
/// [`Error::OutOfMemory`] if the counts are too many.
pub fn count(
    sequences: &[&[u8]],
    k: usize,
    threads: NonZeroUsize,
    backend: Backend,
) -> Result<Vec<u32>> {
    let mut counts = zeros(sequences.len() * columns(k).len())?;
    count_into(sequences, k, threads, backend, &mut counts)?;
    Ok(counts)
}

/// [`count`], into an array that is there already.
///
/// # Errors
/// Those of [`count`].
///
/// # Panics
/// If the array has another size.
pub fn count_into(
    sequences: &[&[u8]],
    k: usize,
    threads: NonZeroUsize,
    backend: Backend,
    counts: &mut [u32],
) -> Result<()> {
    if let Some(i) = sequences.iter().position(|x| u32::try_from(x.len()).is_err()) {
        return Err(Error::Argument(format!(
            "sequence {i} is longer than 4,294,967,295 letters: cut it into pieces"
        )));
    }
    let tools = || (Counter::new([k], backend), CountWriter::new(backend));
    fill(counts, sequences, threads, tools, |(counter, writer), sequence, row| {
        counter.count(sequence);
        writer.write(counter.counts(k), k, row, |count| count as u32);
    });
    Ok(())
}

/// The log-space row of every sequence, one after the other.
///
/// # Errors
/// [`Error::OutOfMemory`].
pub fn featurize(
    sequences: &[&[u8]],
    layout: &Layout,
    threads: NonZeroUsize,
    backend: Backend,
) -> Result<Vec<f32>> {
    let mut rows = zeros(sequences.len() * layout.n_fields())?;
    featurize_into(sequences, layout, threads, backend, &mut rows);
    Ok(rows)
}

/// [`featurize`], into an array that is there already.
///
/// # Panics
/// If the array has another size.
pub fn featurize_into(
    sequences: &[&[u8]],
    layout: &Layout,
    threads: NonZeroUsize,
    backend: Backend,
    rows: &mut [f32],
) {
    let is_large = size_of_val(rows) > CACHED_BYTES;
    let tools = || {
        let builder = RowBuilder::new(layout.clone(), backend);
        let builder = if is_large { builder.streaming() } else { builder };
        (Counter::new(layout.ks(), backend), builder)
    };
    fill(rows, sequences, threads, tools, |(counter, rows), sequence, row| {
        counter.count(sequence);
        rows.write(counter, row);
    });
}

/// Has the row of every item in `array` written by some thread, each with
/// tools of its own.
pub(crate) fn fill<Item: Sync, T: Send, Tools>(
    array: &mut [T],
    items: &[Item],
    threads: NonZeroUsize,
    tools: impl Fn() -> Tools + Sync,
    write: impl Fn(&mut Tools, &Item, &mut [T]) + Sync,
) {
    if items.is_empty() {
        return;
    }
    assert!(array.len().is_multiple_of(items.len()), "as many rows as items");
    let width = array.len() / items.len();
    let largest = (SHARE_BYTES / (width * size_of::<T>())).max(1);
    let share = items.len().div_ceil(threads.get().saturating_mul(4)).clamp(1, largest);
    let shares = Mutex::new(items.chunks(share).zip(array.chunks_mut(share * width)));
    let work = || {
        let mut tools = tools();
        loop {
            let share = shares.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some((items, rows)) = share else {
                return;
            };
            for (item, row) in items.iter().zip(rows.chunks_mut(width)) {
                write(&mut tools, item, row);
            }
        }
    };
    let n_threads = threads.get().min(items.len().div_ceil(share));
    scope_of_threads(|scope| {
        for _ in 1..n_threads {
            // Those that are refused are missed by nothing but the clock.
            let _ = starting(|| thread::Builder::new().spawn_scoped(scope, work));
        }
        work();
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::naive;

    #[test]
    fn rows_are_in_order_whatever_the_threads() {
        let sequences: Vec<Vec<u8>> = (0..100u32)
            .map(|i| (0..i * 3).map(|j| b"ACGT"[((i + j * j) % 4) as usize]).collect())
            .collect();
        let sequences: Vec<&[u8]> = sequences.iter().map(Vec::as_slice).collect();
        let expected: Vec<u32> = sequences
            .iter()
            .flat_map(|sequence| naive::count(sequence, 4).into_values())
            .map(|count| count as u32)
            .collect();
        for threads in [1, 2, 7].map(|n| NonZeroUsize::new(n).unwrap()) {
            assert_eq!(count(&sequences, 4, threads, Backend::Scalar).unwrap(), expected);
            let layout = Layout::new(&[3]).unwrap();
            let rows = featurize(&sequences[1..], &layout, threads, Backend::Scalar).unwrap();
            assert_eq!(rows.len(), 99 * 34);
            let last = naive::row(sequences[99], &[3], &[]);
            assert!(
                rows[98 * 34..].iter().zip(last).all(|(x, y)| (f64::from(*x) - y).abs() < 1e-6)
            );
        }
        assert!(count(&[], 4, NonZeroUsize::MIN, Backend::Scalar).unwrap().is_empty());
    }
}
