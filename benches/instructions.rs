//! Instructions per base of the kernels, counted by valgrind.
//!
//!     cargo bench --bench instructions
//!
//! Times drift with the machine, instructions do not: they are the same in
//! every run of one build, so a change of a percent is a change of the code.
//! Every figure is the difference between two runs that differ only in how
//! often they go over the contigs, so that start-up is not in it.
//!
//! valgrind knows no AVX-512; its kernels are left out where it says so.

#![allow(clippy::print_stdout)]

use std::hint::black_box;
use std::process::{Command, Stdio};

use kvae::count::Counter;
use kvae::features::RowBuilder;
use kvae::layout::Layout;
use kvae::simd::Backend;

/// Length of a contig.
const LENGTH: usize = 5000;

/// Contigs that are gone over.
const CONTIGS: usize = 20;

/// How often they are gone over in the longer run; once in the shorter.
const ROUNDS: usize = 11;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    match &arguments[..] {
        [kernel, backend, rounds] => {
            let backend = Backend::available().find(|b| b.to_string() == *backend);
            let rounds = rounds.parse().expect("a number of rounds");
            run(kernel, backend.expect("a backend of this machine"), rounds);
        }
        _ => table(),
    }
}

/// Runs itself under valgrind, for every kernel and backend.
fn table() {
    if Command::new("valgrind").arg("--version").stdout(Stdio::null()).status().is_err() {
        println!("valgrind is not installed: nothing is counted");
        return;
    }
    println!("{:24} {:>22}", "", "instructions per base");
    for kernel in ["encode", "count", "rows", "count-4"] {
        for backend in Backend::available() {
            let counted = |rounds| instructions(kernel, backend, rounds);
            match counted(1).and_then(|once| Ok(counted(ROUNDS)? - once)) {
                Ok(difference) => {
                    let bases = ((ROUNDS - 1) * CONTIGS * LENGTH) as f64;
                    println!("{:24} {:22.3}", format!("{kernel}, {backend}"), difference / bases);
                }
                Err(reason) => println!("{kernel}, {backend}: left out ({reason})"),
            }
        }
    }
}

fn instructions(kernel: &str, backend: Backend, rounds: usize) -> Result<f64, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args([kernel, &backend.to_string(), &rounds.to_string()])
        .output()
        .map_err(|error| error.to_string())?;
    let log = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err("valgrind does not know its instructions".into());
    }
    let collected = log.lines().find_map(|line| line.split("Collected : ").nth(1));
    let count = collected.and_then(|count| count.trim().parse().ok());
    count.ok_or_else(|| "valgrind counted nothing".into())
}

fn run(kernel: &str, backend: Backend, rounds: usize) {
    let contigs = contigs();
    let layout = match kernel {
        "count-4" => Layout::new(&[4]).expect("a layout"),
        _ => Layout::default(),
    };
    let mut counter = Counter::new(layout.ks(), backend);
    let mut builder = RowBuilder::new(layout.clone(), backend);
    let mut row = vec![0.0; layout.n_fields()];
    for contig in std::iter::repeat_n(&contigs, rounds).flatten() {
        if kernel == "encode" {
            black_box(backend.all_bases(contig));
            continue;
        }
        counter.count(contig);
        black_box(&counter);
        if kernel == "rows" {
            builder.write(&counter, &mut row);
            black_box(&mut row);
        }
    }
}

/// Random contigs, the same in every run.
fn contigs() -> Vec<Vec<u8>> {
    let mut state = 88_172_645_463_325_252u64;
    let mut letter = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        b"ACGT"[(state >> 40) as usize % 4]
    };
    (0..CONTIGS).map(|_| (0..LENGTH).map(|_| letter()).collect()).collect()
}
