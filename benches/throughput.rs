//! Counting and rows of real contigs on several threads, beside the limits of
//! the machine in the same run.
//!
//!     cargo bench --bench throughput -- contigs.fa [--threads 2] [--runs 7]
//!
//! The contigs are read into memory first, but where a line says that it is
//! about the file. Every figure is the median over the
//! runs, in which the measurements take turns, and in CPU time unless it says
//! otherwise, so that it holds on a machine that is doing something else too.

#![allow(clippy::print_stdout)]

use std::fs::File;
use std::hint::black_box;
use std::io::{BufReader, Read};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use flate2::read::MultiGzDecoder;
use kvae::count::Counter;
use kvae::features::RowBuilder;
use kvae::featurize::{Kept, Options};
use kvae::input::discover::{Input, discover};
use kvae::input::stop::StopFlag;
use kvae::input::text::TextReader;
use kvae::input::text_buffer::TextPool;
use kvae::layout::Layout;
use kvae::memory;
use kvae::simd::{Backend, TABLE};

/// Work on a file that is measured.
type OnFile = fn(&PathBuf);

/// Contigs that a thread takes at a time.
const SHARE: usize = 64;

fn main() {
    let options = Arguments::parse();
    let contigs = read(&options.path);
    let bases: usize = contigs.iter().map(Vec::len).sum();
    println!(
        "{}: {} contigs, {bases} bases; {} threads, median of {} runs",
        options.path.display(),
        contigs.len(),
        options.threads,
        options.runs
    );
    let mut results: Vec<(String, Vec<f64>, Vec<f64>)> = Vec::new();
    for _ in 0..options.runs {
        let is_gzip = options.path.extension().is_some_and(|extension| extension == "gz");
        let mut parsing: Vec<(&str, OnFile)> =
            vec![("limit: reading the file", limit_file), ("reading and parsing the file", parse)];
        if is_gzip {
            parsing.push(("limit: inflating the file", limit_inflating));
        }
        let parsing = parsing
            .into_iter()
            .map(|(name, work)| (name.to_string(), measure(bases, || work(&options.path))));
        let files = [("packed", Kept::Packed), ("counts", Kept::Counts), ("log", Kept::Log)];
        let files = files.into_iter().map(|(name, kept)| {
            let work = || featurize(&options.path, kept, options.threads);
            (format!("file to file, {name}"), measure(bases, work))
        });
        let parsing = parsing.chain(files);
        let all = parsing.chain(measurements(&contigs, options.threads));
        for (i, (name, measured)) in all.enumerate() {
            if results.len() == i {
                results.push((name, Vec::new(), Vec::new()));
            }
            results[i].1.push(measured.cpu.as_secs_f64() / measured.units * 1e9);
            results[i].2.push(measured.wall.as_secs_f64() / measured.units * 1e9);
        }
    }
    println!("{:34} {:>16} {:>16}", "", "CPU ns per base", "wall ns per base");
    for (name, cpu, wall) in &mut results {
        println!("{name:34} {:16.3} {:16.3}", median(cpu), median(wall));
    }
}

struct Arguments {
    path: PathBuf,
    threads: usize,
    runs: usize,
}

impl Arguments {
    fn parse() -> Self {
        let mut options = Self { path: PathBuf::new(), threads: 2, runs: 7 };
        let mut arguments = std::env::args().skip(1);
        let number = |text: Option<String>| text.and_then(|text| text.parse().ok());
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                // What cargo says to every benchmark.
                "--bench" => {}
                "--threads" => options.threads = number(arguments.next()).expect("a number"),
                "--runs" => options.runs = number(arguments.next()).expect("a number"),
                path => options.path = path.into(),
            }
        }
        if options.path.as_os_str().is_empty() {
            println!("give a FASTA file: see benches/README.md");
            std::process::exit(0);
        }
        options
    }
}

fn read(path: &PathBuf) -> Vec<Vec<u8>> {
    let sources = discover(std::slice::from_ref(path), &mut |_| ()).expect("a file");
    let mut reader = TextReader::open(&sources[0], &StopFlag::default(), &TextPool::default())
        .expect("a readable file");
    let mut contigs: Vec<Vec<u8>> = Vec::new();
    while let Some(chunk) = reader.next_chunk().expect("readable text") {
        let parsed = chunk.parse(Backend::Scalar);
        for piece in parsed.pieces {
            let letters = &parsed.letters[piece.letters];
            match contigs.last_mut() {
                Some(last) if piece.header.is_none() => last.extend_from_slice(letters),
                _ => contigs.push(letters.to_vec()),
            }
        }
    }
    contigs
}

/// The bytes of the file into one buffer, on one thread.
fn limit_file(path: &PathBuf) {
    let mut file = File::open(path).expect("a readable file");
    let mut buffer = vec![0; 1 << 20];
    while file.read(&mut buffer).expect("a readable file") > 0 {
        black_box(&mut buffer);
    }
}

/// Everything before counting, on one thread.
fn parse(path: &PathBuf) {
    let sources = discover(std::slice::from_ref(path), &mut |_| ()).expect("a file");
    let mut reader = TextReader::open(&sources[0], &StopFlag::default(), &TextPool::default())
        .expect("a readable file");
    let backend = Backend::active().expect("a backend");
    while let Some(chunk) = reader.next_chunk().expect("readable text") {
        black_box(chunk.parse(backend));
    }
}

fn measurements(
    contigs: &[Vec<u8>],
    threads: usize,
) -> impl Iterator<Item = (String, Measured)> + '_ {
    let bases: usize = contigs.iter().map(Vec::len).sum();
    let limits = [
        ("limit: reading the letters", limit_reading as fn(&[Vec<u8>], usize)),
        ("limit: one increment per base", limit_increments),
    ];
    let limits = limits
        .into_iter()
        .map(move |(name, work)| (name.to_string(), measure(bases, || work(contigs, threads))));
    let kernels = Backend::available().flat_map(move |backend| {
        [
            (format!("count, {backend}"), measure(bases, || count(contigs, threads, backend))),
            (format!("rows, {backend}"), measure(bases, || rows(contigs, threads, backend))),
        ]
    });
    let arrays = std::iter::once_with(move || {
        let backend = Backend::active().expect("a backend");
        let threads = NonZeroUsize::new(threads).expect("threads");
        let contigs: Vec<&[u8]> = contigs.iter().map(Vec::as_slice).collect();
        let layout = Layout::default();
        let rows = measure(bases, || {
            black_box(memory::featurize(&contigs, &layout, threads, backend)).expect("memory");
        });
        let n = contigs.len() * layout.n_fields();
        let fill = measure(bases, || fill_fresh(n, threads.get()));
        [
            ("rows, fresh array".to_string(), rows),
            ("limit: filling a fresh array".to_string(), fill),
        ]
    });
    limits.chain(kernels).chain(arrays.flatten())
}

fn count(contigs: &[Vec<u8>], threads: usize, backend: Backend) {
    share(contigs, threads, || {
        let mut counter = Counter::new([7, 4, 3], backend);
        move |contig: &Vec<u8>| {
            counter.count(contig);
            black_box(&counter);
        }
    });
}

fn rows(contigs: &[Vec<u8>], threads: usize, backend: Backend) {
    let layout = Layout::default();
    share(contigs, threads, || {
        let mut counter = Counter::new(layout.ks(), backend);
        let mut builder = RowBuilder::new(layout.clone(), backend);
        let mut row = vec![0.0; layout.n_fields()];
        move |contig: &Vec<u8>| {
            counter.count(contig);
            builder.write(&counter, &mut row);
            black_box(&mut row);
        }
    });
}

fn limit_reading(contigs: &[Vec<u8>], threads: usize) {
    let backend = Backend::active().expect("a backend");
    share(contigs, threads, || {
        move |contig: &Vec<u8>| {
            black_box(backend.all_bases(contig));
        }
    });
}

/// Increments of bytes at indices that cost next to nothing to find.
fn limit_increments(contigs: &[Vec<u8>], threads: usize) {
    share(contigs, threads, || {
        let mut table = vec![0u8; TABLE];
        move |contig: &Vec<u8>| {
            let table: &mut [u8; TABLE] = (&mut table[..]).try_into().expect("length");
            for pair in contig.as_chunks::<2>().0 {
                // Two letters stand for two indices below 4^7.
                let index = u16::from_le_bytes(*pair) & 0x3fff;
                table[usize::from(index)] = table[usize::from(index)].wrapping_add(1);
                let index = index ^ 0x1555;
                table[usize::from(index)] = table[usize::from(index)].wrapping_add(1);
            }
            black_box(table);
        }
    });
}

fn fill_fresh(n: usize, threads: usize) {
    let mut array = vec![0.0f32; n];
    thread::scope(|scope| {
        for part in array.chunks_mut(n.div_ceil(threads)) {
            scope.spawn(|| part.fill(black_box(-13.8)));
        }
    });
    black_box(array);
}

/// Has every contig worked on by some thread.
fn share<Work: FnMut(&Vec<u8>)>(
    contigs: &[Vec<u8>],
    threads: usize,
    new_worker: impl Fn() -> Work + Sync,
) {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut work = new_worker();
                loop {
                    let start = next.fetch_add(SHARE, Ordering::Relaxed);
                    let Some(rest) = contigs.get(start..) else {
                        return;
                    };
                    rest.iter().take(SHARE).for_each(&mut work);
                }
            });
        }
    });
}

struct Measured {
    cpu: Duration,
    wall: Duration,
    units: f64,
}

fn measure(units: usize, work: impl FnOnce()) -> Measured {
    let (cpu, wall) = (cpu_time(), Instant::now());
    work();
    Measured { cpu: cpu_time().saturating_sub(cpu), wall: wall.elapsed(), units: units as f64 }
}

/// CPU time of all threads of this process, in the kernel too.
fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec that lives through the call.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The text of a gzip file into one buffer, by the crate that `kvae` uses, on
/// one thread.
fn limit_inflating(path: &PathBuf) {
    let file = File::open(path).expect("a readable file");
    let mut text = MultiGzDecoder::new(BufReader::with_capacity(1 << 18, file));
    let mut buffer = vec![0; 1 << 18];
    while text.read(&mut buffer).expect("a sound gzip file") > 0 {
        black_box(&mut buffer);
    }
}

/// The file to a new feature file.
fn featurize(path: &Path, kept: Kept, threads: usize) {
    let folder = tempfile::tempdir_in(path.parent().expect("a folder")).expect("a new folder");
    let out = folder.path().join("feats.arrow");
    let options = Options {
        layout: Layout::default(),
        window: 5000,
        min_length: 1000,
        kept,
        sequence: true,
        skip_bad: false,
        bad: None,
        shard: None,
        threads: NonZeroUsize::new(threads).expect("threads"),
    };
    let input = [Input::Path(path.to_path_buf())];
    kvae::featurize::featurize(&input, &out, &out, &options, &mut |_, _| Ok(())).expect("rows");
}
