//! Counts of k-mers of up to five bases, when no longer ones are wanted.
//!
//! Words of six bases are counted at every few positions, so that each k-mer
//! lies in exactly one of them, and the k-mers are summed up once per sequence
//! ([`crate::simd::Backend::count_words`]). What is left at the ends of runs is
//! added one by one, so the counts are exact.

use std::sync::LazyLock;

use super::{Composition, Run, find_runs};
use crate::canonical::columns;
use crate::dna::{self, n_kmers};
use crate::simd::{Backend, WORD_LENGTH, WORDS, n_words};

/// The longest k-mers that are counted this way.
pub(super) const LONGEST: usize = 5;

/// k-mers that the table of words can hold without one wrapping around.
const ROOM: usize = u16::MAX as usize;

/// k-mers of a long run that are counted at a time.
const PIECE: usize = 1 << 15;

/// Counts one sequence after another into a table that it keeps.
#[derive(Debug)]
pub(super) struct ShortCounter {
    /// The longest k that is wanted, at least 3.
    k: usize,
    backend: Backend,
    /// Counts of words, in fours that differ in the first base.
    words: Box<[[u16; 4]; WORDS / 4]>,
    /// k-mers in those words.
    pending: usize,
    /// k-mers of the sequence by integers of forward k-mers, and one entry
    /// more, which is always 0.
    kmers: Vec<u64>,
}

impl ShortCounter {
    /// A counter of these k, where it can count them.
    pub(super) fn new(ks: &[usize], backend: Backend) -> Option<Self> {
        let k = ks.iter().copied().max()?.max(3);
        (k <= LONGEST).then(|| Self {
            k,
            backend,
            words: Box::new([[0; 4]; WORDS / 4]),
            pending: 0,
            kmers: vec![0; n_kmers(k) + 1],
        })
    }

    /// Counts `sequence`: its runs, what it is composed of, and the counts of
    /// every k by column, for those that have room in `out`.
    pub(super) fn count(
        &mut self,
        sequence: &[u8],
        runs: &mut Vec<Run>,
        out: &mut [Vec<u64>],
    ) -> Composition {
        self.kmers.fill(0);
        if sequence.len() <= ROOM && self.add(sequence) {
            find_runs(sequence, true, runs);
        } else {
            self.clear();
            let all_bases = sequence.len() > ROOM && self.backend.all_bases(sequence);
            find_runs(sequence, all_bases, runs);
            for run in &*runs {
                self.add_run(run.of(sequence));
            }
        }
        self.flush();
        self.derive(sequence, runs, out)
    }

    fn clear(&mut self) {
        *self.words = [[0; 4]; WORDS / 4];
        self.pending = 0;
    }

    /// Adds the k-mers of a run, in pieces that the table has room for.
    fn add_run(&mut self, bases: &[u8]) {
        let starts = (bases.len() + 1).saturating_sub(self.k);
        for start in (0..starts).step_by(PIECE) {
            let end = starts.min(start + PIECE);
            if self.pending + (end - start) > ROOM {
                self.flush();
            }
            self.add(&bases[start..end + self.k - 1]);
        }
    }

    /// Adds the k-mers of letters that should all be bases, which it tells.
    fn add(&mut self, letters: &[u8]) -> bool {
        let words = self.words.as_flattened_mut().first_chunk_mut();
        let table: &mut [u16; WORDS] = words.expect("the table has all words");
        let only_bases = match self.k {
            3 => self.backend.count_words::<4>(letters, table),
            4 => self.backend.count_words::<3>(letters, table),
            _ => self.backend.count_words::<2>(letters, table),
        };
        if only_bases {
            let stride = WORD_LENGTH + 1 - self.k;
            let in_words = stride * n_words(letters.len(), stride);
            self.pending += in_words;
            // No word fits at the very end.
            for kmer in letters.get(in_words..).unwrap_or_default().windows(self.k) {
                self.kmers[encode(kmer)] += 1;
            }
        }
        only_bases
    }

    /// Adds the k-mers of the words to those of the sequence, and forgets the
    /// words.
    fn flush(&mut self) {
        self.pending = 0;
        let mut lasts = [0; WORDS / 4];
        self.backend.sum_lasts(self.words.as_flattened(), &mut lasts);
        let mut found = [[0; 4]; WORDS / 16];
        let fives = found.as_flattened_mut();
        self.backend.take_firsts(&mut *self.words, &lasts, fives);
        let mut shorter = [0; WORDS / 16];
        for k in (self.k..LONGEST).rev() {
            let n = n_kmers(k);
            let mut lasts_of_lasts = [0; WORDS / 16];
            self.backend.sum_lasts(&lasts[..4 * n], &mut lasts_of_lasts[..n]);
            lasts[..n].copy_from_slice(&lasts_of_lasts[..n]);
            self.backend.take_firsts(&mut found[..n], &lasts[..n], &mut shorter[..n]);
            found.as_flattened_mut()[..n].copy_from_slice(&shorter[..n]);
        }
        for (count, &more) in self.kmers[..n_kmers(self.k)].iter_mut().zip(found.as_flattened()) {
            *count += u64::from(more);
        }
    }

    /// From the k-mers, the counts of all shorter ones by column, and with the
    /// shortest the composition.
    fn derive(&mut self, sequence: &[u8], runs: &[Run], out: &mut [Vec<u64>]) -> Composition {
        let mut k = self.k;
        loop {
            fold(&self.kmers, k, &mut out[k]);
            if k == 1 {
                break;
            }
            k -= 1;
            // Every shorter k-mer begins a longer one, but for a run's last.
            let n = n_kmers(k);
            for i in 0..n {
                self.kmers[i] += self.kmers[i + n] + self.kmers[i + 2 * n] + self.kmers[i + 3 * n];
            }
            self.kmers[n] = 0;
            for run in runs.iter().filter(|run| run.length >= k) {
                self.kmers[encode(&run.of(sequence)[run.length - k..])] += 1;
            }
        }
        let [adenines, cytosines, thymines, guanines] = [0, 1, 2, 3].map(|code| self.kmers[code]);
        let gc = cytosines + guanines;
        Composition { length: sequence.len() as u64, acgt: gc + adenines + thymines, gc }
    }
}

/// Writes the counts of canonical k-mers, by column; nothing into an empty
/// `out`.
fn fold(kmers: &[u64], k: usize, out: &mut [u64]) {
    for (count, strands) in out.iter_mut().zip(&STRANDS[k]) {
        *count = strands.iter().map(|&strand| kmers[usize::from(strand)]).sum();
    }
}

/// By k and column, where the k-mer and its reverse complement are counted; for
/// a palindrome the second is the entry past all.
static STRANDS: LazyLock<[Vec<[u16; 2]>; LONGEST + 1]> = LazyLock::new(|| {
    std::array::from_fn(|k| {
        if k == 0 {
            return Vec::new();
        }
        let columns = columns(k);
        let strands = columns.kmers.iter().zip(&columns.reverse);
        let place = |kmer: u32| {
            let mut word = [0; LONGEST];
            word.iter_mut().zip(dna::letters(kmer, k)).for_each(|(to, letter)| *to = letter);
            encode(&word[..k]) as u16
        };
        let past_all = n_kmers(k) as u16;
        strands
            .map(|(&kmer, &reverse)| {
                [place(kmer), if reverse == kmer { past_all } else { place(reverse) }]
            })
            .collect()
    })
});

/// The integer of a k-mer whose lowest bits are the first base, coded ACTG.
fn encode(kmer: &[u8]) -> usize {
    kmer.iter().rev().fold(0, |integer, &letter| integer << 2 | usize::from(letter >> 1 & 3))
}
