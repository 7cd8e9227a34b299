//! Kernels on one thread, beside the limits of the machine in the same run.
//!
//! `cargo bench` runs all of it; `cargo bench -- rows` what has `rows` in its
//! name. Throughputs are in bases: 1 Gitem/s is 1 ns per base.

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use kvae::count::Counter;
use kvae::features::RowBuilder;
use kvae::layout::Layout;
use kvae::naive;
use kvae::simd::{Backend, TABLE, USED};

/// Length of a contig.
const LENGTH: usize = 5000;

/// Contigs in an iteration: together beyond the L2 cache.
const CONTIGS: usize = 1000;

fn main() {
    divan::main();
}

/// Contigs of a Markov chain, so that k-mers are as uneven as in a genome.
fn contigs() -> Vec<Vec<u8>> {
    let mut state = 88_172_645_463_325_252u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let preferences: Vec<[u8; 8]> =
        (0..256).map(|_| std::array::from_fn(|_| b"ACGT"[(random() >> 40) as usize % 4])).collect();
    (0..CONTIGS)
        .map(|_| {
            let mut context = 0usize;
            (0..LENGTH)
                .map(|_| {
                    let letter = preferences[context][(random() >> 40) as usize % 8];
                    let code = (letter >> 1 & 3) as usize;
                    context = (context << 2 | code) & 255;
                    letter
                })
                .collect()
        })
        .collect()
}

fn bases() -> ItemsCount {
    ItemsCount::new(CONTIGS * LENGTH)
}

fn backends() -> impl Iterator<Item = Backend> {
    Backend::available()
}

/// 7-, 4- and 3-mers, GC and length.
#[divan::bench(args = backends())]
fn count(bencher: Bencher, backend: Backend) {
    let contigs = contigs();
    let mut counter = Counter::new([7, 4, 3], backend);
    bencher.counter(bases()).bench_local(|| {
        for contig in &contigs {
            counter.count(black_box(contig));
        }
    });
}

/// The same, and the log-space row into a buffer that is used again.
#[divan::bench(args = backends())]
fn rows(bencher: Bencher, backend: Backend) {
    let contigs = contigs();
    let layout = Layout::default();
    let mut row = vec![0.0; layout.n_fields()];
    let mut counter = Counter::new(layout.ks(), backend);
    let mut builder = RowBuilder::new(layout, backend);
    bencher.counter(bases()).bench_local(|| {
        for contig in &contigs {
            counter.count(black_box(contig));
            builder.write(&counter, &mut row);
            black_box(&mut row);
        }
    });
}

/// 7-mers alone, without what is derived from them.
#[divan::bench(args = backends())]
fn heptamers(bencher: Bencher, backend: Backend) {
    let contigs = contigs();
    let mut table: Box<[u8; TABLE]> = vec![0; TABLE].into_boxed_slice().try_into().expect("length");
    bencher.counter(bases()).bench_local(|| {
        for contig in &contigs {
            backend.clear(&mut table);
            black_box(backend.count_heptamers(black_box(contig), &mut table));
        }
    });
}

/// Two bits a base, as the file keeps them.
#[divan::bench(args = backends())]
fn pack(bencher: Bencher, backend: Backend) {
    let contigs = contigs();
    let mut packed = vec![0; LENGTH.div_ceil(4)];
    bencher.counter(bases()).bench_local(|| {
        for contig in &contigs {
            backend.pack(black_box(contig), &mut packed);
            black_box(&mut packed);
        }
    });
}

/// 4-mers, GC and length, without any longer k-mers.
#[divan::bench(args = backends())]
fn count_four(bencher: Bencher, backend: Backend) {
    let contigs = contigs();
    let mut counter = Counter::new([4], backend);
    bencher.counter(bases()).bench_local(|| {
        for contig in &contigs {
            counter.count(black_box(contig));
        }
    });
}

/// The same, and the log-space row into a buffer that is used again.
#[divan::bench(args = backends())]
fn rows_four(bencher: Bencher, backend: Backend) {
    let contigs = contigs();
    let layout = Layout::new(&[4]).expect("a layout");
    let mut row = vec![0.0; layout.n_fields()];
    let mut counter = Counter::new(layout.ks(), backend);
    let mut builder = RowBuilder::new(layout, backend);
    bencher.counter(bases()).bench_local(|| {
        for contig in &contigs {
            counter.count(black_box(contig));
            builder.write(&counter, &mut row);
            black_box(&mut row);
        }
    });
}

/// Every k from 1 to 8 alone.
#[divan::bench(args = 1..=8)]
fn count_one_k(bencher: Bencher, k: usize) {
    let contigs = contigs();
    let mut counter = Counter::new([k], Backend::active().expect("backend"));
    bencher.counter(bases()).bench_local(|| {
        for contig in &contigs {
            counter.count(black_box(contig));
        }
    });
}

/// The definition, on one contig.
#[divan::bench]
fn definition(bencher: Bencher) {
    let contigs = contigs();
    bencher
        .counter(ItemsCount::new(LENGTH))
        .bench_local(|| [7, 4, 3].map(|k| naive::count(black_box(&contigs[0]), k).len()));
}

/// Limit: one increment of a byte per base, at indices that are there already.
#[divan::bench]
fn limit_increments(bencher: Bencher) {
    let contigs = contigs();
    let indices: Vec<Vec<u16>> = contigs
        .iter()
        .map(|contig| {
            let hash = |seven: &[u8]| {
                seven.iter().fold(0u16, |hash, &x| hash << 2 | u16::from(x >> 1 & 3)) & 0x3fff
            };
            contig.windows(7).map(hash).collect()
        })
        .collect();
    let mut table: Box<[u8; TABLE]> = vec![0; TABLE].into_boxed_slice().try_into().expect("length");
    bencher.counter(bases()).bench_local(|| {
        for indices in &indices {
            for &index in indices {
                let counter = &mut table[usize::from(index)];
                *counter = counter.wrapping_add(1);
            }
        }
        black_box(&mut table[..USED]);
    });
}

/// Limit: reading the letters once.
#[divan::bench(args = backends())]
fn limit_reading(bencher: Bencher, backend: Backend) {
    let contigs = contigs();
    bencher.counter(bases()).bench_local(|| {
        contigs.iter().filter(|contig| backend.all_bases(black_box(contig))).count()
    });
}

/// Limit: writing memory that is there already.
#[divan::bench]
fn limit_writing(bencher: Bencher) {
    let mut memory = vec![1u8; 1 << 28];
    bencher.counter(BytesCount::new(memory.len())).bench_local(|| {
        black_box(&mut memory).fill(black_box(7));
    });
}
