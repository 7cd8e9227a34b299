//! The feature layout: which field of a row means what.
//!
//! This is the only place that knows it. Tables, the file's metadata and the
//! Python package all derive from a [`Layout`].

use serde_json::{Value, json};

use crate::canonical::columns;
use crate::dna::MAX_K;
use crate::error::{Error, Result};

/// Added to every frequency before the logarithm, so that an absent k-mer is
/// ln(1e-6) = −13.8155.
pub const PSEUDOCOUNT: f64 = 1e-6;

/// The k of the blocks between length and GC, in their order. Blocks of any
/// other k follow after GC, so these never move.
const LEADING: [usize; 3] = [7, 4, 3];

/// The blocks of a row unless something else is asked for.
pub const DEFAULT_KS: [usize; 3] = LEADING;

/// Rows without as many bases in a row are left out, whatever their blocks.
pub const SHORTEST_RUN: usize = 7;

/// Version of the rules in [`Layout::describe`]. A change in the meaning of
/// any field must change it.
const RULES: u32 = 1;

/// What the fields of a block hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// ln(bases in the row).
    Length,
    /// ln(frequency + pseudocount) of each canonical k-mer of this k.
    Kmers(usize),
    /// ln(GC fraction + pseudocount).
    Gc,
}

/// A run of fields that belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// What the fields hold.
    pub content: Content,
    /// First field.
    pub start: usize,
    /// One past the last field.
    pub stop: usize,
}

impl Block {
    /// The block's name in files and in Python: `7-mers`, `gc`, `length`.
    pub fn name(&self) -> String {
        match self.content {
            Content::Length => "length".into(),
            Content::Kmers(k) => format!("{k}-mers"),
            Content::Gc => "gc".into(),
        }
    }

    /// k of a k-mer block.
    pub fn k(&self) -> Option<usize> {
        match self.content {
            Content::Kmers(k) => Some(k),
            Content::Length | Content::Gc => None,
        }
    }
}

/// The fields of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    blocks: Vec<Block>,
}

impl Layout {
    /// The layout with blocks of these k, in any order.
    ///
    /// # Errors
    /// [`Error::Argument`] if there is none, one is repeated or outside 1 to 8.
    pub fn new(ks: &[usize]) -> Result<Self> {
        check_ks(ks)?;
        let leading = LEADING.into_iter().filter(|k| ks.contains(k));
        let trailing = (1..=MAX_K).filter(|k| ks.contains(k) && !LEADING.contains(k));
        let contents = std::iter::once(Content::Length)
            .chain(leading.map(Content::Kmers))
            .chain(std::iter::once(Content::Gc))
            .chain(trailing.map(Content::Kmers));
        let mut stop = 0;
        let blocks = contents
            .map(|content| {
                let start = stop;
                stop += match content {
                    Content::Kmers(k) => columns(k).len(),
                    Content::Length | Content::Gc => 1,
                };
                Block { content, start, stop }
            })
            .collect();
        Ok(Self { blocks })
    }

    /// The blocks, in the order of their fields.
    pub fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// The k of the k-mer blocks, in the order of their fields.
    pub fn ks(&self) -> impl Iterator<Item = usize> + '_ {
        self.blocks.iter().filter_map(Block::k)
    }

    /// Number of fields in a row.
    pub fn n_fields(&self) -> usize {
        self.blocks.last().map_or(0, |block| block.stop)
    }

    /// Every rule that gives a field its meaning, as text.
    pub fn describe(&self) -> String {
        use std::fmt::Write as _;
        let mut text = format!(
            "kvae features {RULES}\nbases ACGT=0123, U=T, others break windows\n\
             canonical: lexicographic minimum of k-mer and reverse complement, \
             palindromes once, columns ascending\n\
             k-mers: ln(count/sum+{PSEUDOCOUNT:e})\n\
             gc: ln((G+C)/(A+C+G+T)+{PSEUDOCOUNT:e})\nlength: ln(letters)\nfloat32\n"
        );
        for block in &self.blocks {
            let _ = writeln!(text, "{} {}..{}", block.name(), block.start, block.stop);
        }
        text
    }

    /// A short name for [`Layout::describe`]: equal exactly where rows mean
    /// the same.
    pub fn fingerprint(&self) -> String {
        format!("{:016x}", fnv1a(self.describe().as_bytes()))
    }

    /// The layout as it stands in the metadata of files.
    pub fn to_json(&self) -> Value {
        let blocks: Vec<Value> = self
            .blocks
            .iter()
            .map(|block| {
                json!({
                    "name": block.name(),
                    "k": block.k(),
                    "start": block.start,
                    "stop": block.stop,
                })
            })
            .collect();
        json!({
            "blocks": blocks,
            "fingerprint": self.fingerprint(),
            "pseudocount": PSEUDOCOUNT,
        })
    }
}

impl Default for Layout {
    fn default() -> Self {
        Self::new(&DEFAULT_KS).expect("the default k are valid")
    }
}

fn check_ks(ks: &[usize]) -> Result<()> {
    if ks.is_empty() {
        return Err(Error::Argument("no k given: use for instance 7,4,3".into()));
    }
    for (i, &k) in ks.iter().enumerate() {
        if !(1..=MAX_K).contains(&k) {
            return Err(Error::Argument(format!("k = {k} is not supported: use 1 to {MAX_K}")));
        }
        if ks[..i].contains(&k) {
            return Err(Error::Argument(format!("k = {k} is given twice")));
        }
    }
    Ok(())
}

/// The 64-bit FNV-1a hash: stable for ever and no defence against intent,
/// which a layout needs no more than that.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(ks: &[usize]) -> Vec<(String, usize, usize)> {
        let layout = Layout::new(ks).unwrap();
        let blocks = layout.blocks().iter();
        blocks.map(|b| (b.name(), b.start, b.stop)).collect()
    }

    fn place(name: &str, start: usize, stop: usize) -> (String, usize, usize) {
        (name.into(), start, stop)
    }

    #[test]
    fn default_row_is_the_contract() {
        let expected = vec![
            place("length", 0, 1),
            place("7-mers", 1, 8193),
            place("4-mers", 8193, 8329),
            place("3-mers", 8329, 8361),
            place("gc", 8361, 8362),
        ];
        assert_eq!(places(&[7, 4, 3]), expected);
        assert_eq!(places(&[3, 7, 4]), expected);
        assert_eq!(Layout::default().n_fields(), 8362);
    }

    #[test]
    fn other_blocks_follow_gc_and_move_nothing() {
        let mut expected = places(&[7, 4, 3]);
        expected.push(place("5-mers", 8362, 8874));
        expected.push(place("6-mers", 8874, 10_954));
        assert_eq!(places(&[7, 6, 5, 4, 3]), expected);
        let alone = vec![place("length", 0, 1), place("4-mers", 1, 137), place("gc", 137, 138)];
        assert_eq!(places(&[4]), alone);
    }

    #[test]
    fn fingerprints_differ_where_rows_do() {
        let prints: Vec<String> = [&[7, 4, 3][..], &[7, 4], &[4], &[7, 6, 5, 4, 3]]
            .into_iter()
            .map(|ks| Layout::new(ks).unwrap().fingerprint())
            .collect();
        for (i, print) in prints.iter().enumerate() {
            assert!(!prints[..i].contains(print));
        }
        // A change here makes every earlier file and model unreadable.
        assert_eq!(prints[0], "25cda67b2336e497");
    }

    #[test]
    fn impossible_ks_are_refused() {
        for ks in [&[][..], &[0], &[9], &[7, 7]] {
            assert!(matches!(Layout::new(ks), Err(Error::Argument(_))), "{ks:?}");
        }
    }

    #[test]
    fn fnv1a_matches_its_published_vectors() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
    }
}
