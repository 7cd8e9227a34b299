//! Kernels and the choice between their instantiations, made at run time.
//!
//! `unsafe` is calling code compiled for instructions that were found on this
//! machine.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

use crate::dna;
use crate::error::{Error, Result};

// Inlining into the instantiations is what gives a body their instructions,
// and `|` between comparisons is what keeps its loops free of branches.
#[allow(clippy::inline_always, clippy::needless_bitwise_bool)]
mod kernels;
#[allow(clippy::inline_always)]
mod loss;
#[allow(clippy::inline_always)]
mod reals;
#[allow(clippy::inline_always)]
mod words;
// The names of intrinsics say where they are from.
#[cfg(target_arch = "x86_64")]
#[allow(clippy::wildcard_imports)]
mod x86;

pub use kernels::{Sum, Tally};
pub use loss::{CUTS, Criterion, LEAST_FREQUENCY, ProfileRow, Row, Sums};
pub use words::{WORD_LENGTH, WORDS, n_words};

/// Entries of a table of 7-mers: any 16-bit integer is an index, so counting
/// needs no bounds check. Only the first 4^7 entries are 7-mers, and only
/// [`USED`] are ever touched.
pub const TABLE: usize = 1 << 16;

/// The entries that counting touches: the 7-mers and the one after them, for
/// windows that are not counted.
pub const USED: usize = (1 << 14) + 1;

/// Canonical 7-mers.
pub const HEPTAMERS: usize = dna::n_canonical(7);

/// Space for the counts of all canonical 7-mers and of one more vector, which
/// moving them together may overwrite.
pub const HEPTAMERS_PADDED: usize = HEPTAMERS + 64;

/// Which instructions the kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Backend {
    /// What every machine of the architecture has; the reference.
    Scalar,
    /// x86-64 with AVX2 and BMI2.
    Avx2,
    /// x86-64 with AVX-512 F, BW, DQ, VL, VBMI and VBMI2.
    Avx512,
}

/// Environment variable that forces a backend.
pub const OVERRIDE: &str = "KVAE_SIMD";

impl Backend {
    /// Every backend, the most capable last.
    pub const ALL: [Self; 3] = [Self::Scalar, Self::Avx2, Self::Avx512];

    /// Whether this machine has the instructions.
    pub fn is_available(self) -> bool {
        match self {
            Self::Scalar => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("bmi2"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                Self::Avx2.is_available()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512vbmi")
                    && is_x86_feature_detected!("avx512vbmi2")
            }
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx2 | Self::Avx512 => false,
        }
    }

    /// The backends that this machine can run.
    pub fn available() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|backend| backend.is_available())
    }

    /// The backend in use: the one that [`OVERRIDE`] names, else the most
    /// capable one. Decided once per process.
    ///
    /// # Errors
    /// [`Error::Argument`] if the variable names none, or one that this
    /// machine lacks.
    pub fn active() -> Result<Self> {
        static ACTIVE: OnceLock<std::result::Result<Backend, String>> = OnceLock::new();
        ACTIVE.get_or_init(Self::choose).clone().map_err(Error::Argument)
    }

    fn choose() -> std::result::Result<Self, String> {
        let best = Self::available().last().unwrap_or(Self::Scalar);
        let Some(name) = std::env::var_os(OVERRIDE).filter(|name| !name.is_empty()) else {
            return Ok(best);
        };
        let forced: Self = name.to_string_lossy().parse()?;
        if forced.is_available() {
            Ok(forced)
        } else {
            Err(format!("{OVERRIDE}={forced}: this machine lacks the instructions"))
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scalar => "scalar",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        })
    }
}

impl FromStr for Backend {
    type Err = String;

    fn from_str(name: &str) -> std::result::Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|backend| backend.to_string() == name)
            .ok_or_else(|| format!("{OVERRIDE}={name}: use scalar, avx2 or avx512"))
    }
}

/// Instantiates a kernel body for every backend, as a method of [`Backend`].
macro_rules! kernel {
    (
        $(#[$doc:meta])*
        fn $name:ident $(<$t:ident: $bound:path>)? ($($arg:ident: $ty:ty),*) $(-> $out:ty)?
        = $body:path
    ) => {
        impl Backend {
            $(#[$doc])*
            pub fn $name $(<$t: $bound>)? (self, $($arg: $ty),*) $(-> $out)? {
                #[cfg(target_arch = "x86_64")]
                #[target_feature(enable = "avx2,bmi2")]
                fn avx2 $(<$t: $bound>)? ($($arg: $ty),*) $(-> $out)? {
                    $body($($arg),*)
                }
                #[cfg(target_arch = "x86_64")]
                #[target_feature(enable = "avx2,bmi2,avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vbmi2")]
                fn avx512 $(<$t: $bound>)? ($($arg: $ty),*) $(-> $out)? {
                    $body($($arg),*)
                }
                match self {
                    #[cfg(target_arch = "x86_64")]
                    // SAFETY: the guard found the instructions on this machine.
                    Self::Avx2 if self.is_available() => unsafe { avx2($($arg),*) },
                    #[cfg(target_arch = "x86_64")]
                    // SAFETY: as above.
                    Self::Avx512 if self.is_available() => unsafe { avx512($($arg),*) },
                    _ => $body($($arg),*),
                }
            }
        }
    };
}

kernel! {
    /// Whether every letter is one of ACGTU, in either case.
    fn all_bases(letters: &[u8]) -> bool = kernels::all_bases
}

kernel! {
    /// ln(count / total + pseudocount) of every count, which must be below
    /// 2^52, rounded to float32.
    fn log_frequencies(counts: &[u64], total: u64, logarithms: &mut [f32])
        = kernels::log_frequencies
}

kernel! {
    /// Packs letters four a byte, the first in the lowest bits. Letters that
    /// are not bases become any base.
    fn pack(letters: &[u8], packed: &mut [u8]) = kernels::pack
}

kernel! {
    /// For every k-mer, the sum over the sixteen (k+2)-mers that have it in the
    /// middle; both tables are indexed by k-mers as integers.
    fn middles<T: Sum>(longer: &[T], sums: &mut [T]) = kernels::middles
}

kernel! {
    /// For every k-mer, the sum over the four (k+1)-mers that begin with it and
    /// the four that end with it; both tables are indexed by k-mers as integers.
    fn halves<T: Sum>(longer: &[T], sums: &mut [T]) = kernels::halves
}

kernel! {
    /// For every 5-mer, the counts of the sixteen 7-mers around it together.
    fn sum_ends(table: &[u8; TABLE], sums: &mut [u32; 1 << 10]) = kernels::sum_ends
}

kernel! {
    /// Sums of counts of words over the last base, by what precedes it. Words
    /// are integers whose lowest bits are the first base.
    fn sum_lasts(words: &[u16], sums: &mut [u16]) = words::sum_lasts
}

kernel! {
    /// Squared errors of a row's values, the cross-entropy of its gate, their gradients and
    /// what metrics need. Where the space is linear, the softplus of a value is a frequency;
    /// else it is the logarithm of one.
    fn errors(row: &mut Row<'_>, is_linear: bool, criterion: &Criterion) -> Sums = loss::errors
}

kernel! {
    /// The likelihood of a row under the profile that is said of it, its gradients and what
    /// metrics need, and the profile.
    fn profile(row: &mut ProfileRow<'_>, criterion: &Criterion) -> Sums = loss::profile
}

/// What [`Backend::move_lines`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Bytes it has read.
    pub read: usize,
    /// Letters in them, which were moved.
    pub letters: usize,
    /// Line ends in them.
    pub lines: usize,
    /// Whether the last byte it has read is a line end.
    pub ends_line: bool,
}

impl Backend {
    /// Moves the letters of lines from `from` on to `to`, which is not behind
    /// it, and leaves the line ends out. It stops before anything that is
    /// neither a base nor a line end, and anywhere it likes to.
    // Only x86-64 has more than the compiler finds.
    #[cfg_attr(not(target_arch = "x86_64"), allow(unused_variables))]
    pub fn move_lines(self, text: &mut [u8], from: usize, to: usize) -> Moved {
        match self {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the guard found the instructions on this machine.
            Self::Avx2 if self.is_available() => unsafe { x86::move_lines_avx2(text, from, to) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Self::Avx512 if self.is_available() => unsafe {
                x86::move_lines_avx512(text, from, to)
            },
            _ => Moved::default(),
        }
    }

    /// Adds the words of six bases that begin at every `STRIDE`-th letter to
    /// `table`, each at the integer whose lowest bits are its first base, coded
    /// ACTG. Returns whether all letters are bases; where not, what was added
    /// is undefined.
    pub fn count_words<const STRIDE: usize>(
        self,
        letters: &[u8],
        table: &mut [u16; WORDS],
    ) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the guard found the instructions on this machine.
            Self::Avx2 if self.is_available() => unsafe {
                x86::count_words_avx2::<STRIDE>(letters, table)
            },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Self::Avx512 if self.is_available() => unsafe {
                x86::count_words_avx512::<STRIDE>(letters, table)
            },
            _ => words::count_words::<STRIDE>(letters, table),
        }
    }

    /// Sums of counts of words over the first base, by what follows it, each
    /// with one `more`; the counts are set to zero. All sums together must be
    /// less than 2^16, and as many as whole vectors hold.
    pub fn take_firsts(self, words: &mut [[u16; 4]], more: &[u16], sums: &mut [u16]) {
        debug_assert!(sums.len().is_multiple_of(16));
        match self {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the guard found the instructions on this machine.
            Self::Avx2 | Self::Avx512 if self.is_available() => unsafe {
                x86::take_firsts_avx2(words, more, sums);
            },
            _ => words::take_firsts(words, more, sums),
        }
    }

    /// Sets all entries that counting touches to zero.
    pub fn clear(self, table: &mut [u8; TABLE]) {
        match self {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the guard found the instructions on this machine.
            Self::Avx512 if self.is_available() => unsafe { x86::clear_avx512(table) },
            _ => table[..USED].fill(0),
        }
    }

    /// Adds the 7-mers of `letters` to `table`, each window that holds only
    /// bases at the 14-bit integer of its canonical form, and returns whether
    /// all letters are bases.
    pub fn count_heptamers<T: Tally>(self, letters: &[u8], table: &mut [T; TABLE]) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the guard found the instructions on this machine.
            Self::Avx2 if self.is_available() => unsafe {
                x86::count_heptamers_avx2(letters, table)
            },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Self::Avx512 if self.is_available() => unsafe {
                x86::count_heptamers_avx512(letters, table)
            },
            _ => kernels::count_heptamers(letters, table),
        }
    }

    /// Moves the counts of the canonical 7-mers together, in the order of the
    /// columns, and returns the greatest. The entries past them are undefined.
    pub fn compact_heptamers(self, table: &[u8; TABLE], counts: &mut [u8; HEPTAMERS_PADDED]) -> u8 {
        match self {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the guard found the instructions on this machine.
            Self::Avx2 if self.is_available() => unsafe {
                x86::compact_heptamers_avx2(table, counts)
            },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Self::Avx512 if self.is_available() => unsafe {
                x86::compact_heptamers_avx512(table, counts)
            },
            _ => kernels::compact_heptamers(table, counts),
        }
    }

    /// Looks every count up; none may exceed `greatest`. A row that is not read
    /// again soon may go past the caches where `stream` says so.
    // Only the intrinsics of x86-64 stream.
    #[cfg_attr(not(target_arch = "x86_64"), allow(unused_variables))]
    pub fn look_up(
        self,
        counts: &[u8],
        greatest: u8,
        logarithms: &[f32; 256],
        row: &mut [f32],
        stream: bool,
    ) {
        match self {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the guard found the instructions on this machine.
            Self::Avx2 if self.is_available() => unsafe {
                if stream {
                    x86::look_up_avx2::<true>(counts, greatest, logarithms, row);
                } else {
                    x86::look_up_avx2::<false>(counts, greatest, logarithms, row);
                }
            },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Self::Avx512 if self.is_available() => unsafe {
                if stream {
                    x86::look_up_avx512::<true>(counts, greatest, logarithms, row);
                } else {
                    x86::look_up_avx512::<false>(counts, greatest, logarithms, row);
                }
            },
            _ => kernels::look_up(counts, greatest, logarithms, row),
        }
    }
}
