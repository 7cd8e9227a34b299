//! Files to feature files and back: what the command line does, without Python.

#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::io::Write;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, UInt64Type};
use arrow_ipc::reader::FileReader;
use arrow_ipc::writer::FileWriter;
use arrow_schema::Schema;
use flate2::write::{DeflateEncoder, GzEncoder};
use flate2::{Compression, Crc};
use kvae::count::Counter;
use kvae::error::{Error, Result};
use kvae::featurize::{Kept, Options, featurize};
use kvae::input::discover::Input;
use kvae::input::share::Shard;
use kvae::layout::Layout;
use kvae::merge::merge;
use kvae::naive;
use kvae::packed::pack;
use kvae::pipeline::Summary;
use kvae::row_file::{RowFile, Stretch};
use kvae::simd::Backend;
use tempfile::TempDir;

const WINDOW: usize = 100;

fn options(kept: Kept) -> Options {
    Options {
        layout: Layout::new(&[2, 3, 4]).unwrap(),
        window: WINDOW,
        min_length: 30,
        kept,
        sequence: true,
        skip_bad: false,
        bad: None,
        shard: None,
        threads: NonZeroUsize::new(2).unwrap(),
    }
}

/// Letters that differ from seed to seed, some of them no bases.
fn letters(length: usize, seed: usize) -> Vec<u8> {
    let mut state = seed as u64 + 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (state >> 33) as usize
    };
    (0..length).map(|_| if next() % 50 == 0 { b'N' } else { b"ACGTacgt"[next() % 8] }).collect()
}

/// Three files, and their records in the order of the files.
fn inputs(folder: &Path) -> (Vec<PathBuf>, Vec<(String, Vec<u8>)>) {
    let mut records = Vec::new();
    let mut texts = vec![Vec::new(), Vec::new(), Vec::new()];
    for i in 0..60 {
        let sequence = letters(10 + 17 * i, i);
        let id = format!("r{i}");
        let text = &mut texts[i / 20];
        if i < 40 {
            let end: &[u8] = if i < 20 { b"\n" } else { b"\r\n" };
            write!(text, ">{id} more").unwrap();
            for line in sequence.chunks(61) {
                text.extend([end, line].concat());
            }
            text.extend(end);
        } else {
            let quality = "I".repeat(sequence.len());
            let sequence = String::from_utf8(sequence.clone()).unwrap();
            write!(text, "@{id}\n{sequence}\n+\n{quality}\n").unwrap();
        }
        records.push((id, sequence));
    }
    let paths = ["a.fa", "b.fa.gz", "c.fq"].map(|name| folder.join(name)).to_vec();
    for (path, text) in paths.iter().zip(texts) {
        if path.extension().unwrap() == "gz" {
            let mut encoder = GzEncoder::new(File::create(path).unwrap(), Compression::fast());
            encoder.write_all(&text).unwrap();
            encoder.finish().unwrap();
        } else {
            fs::write(path, text).unwrap();
        }
    }
    (paths, records)
}

fn named(paths: &[PathBuf]) -> Vec<Input> {
    paths.iter().cloned().map(Input::Path).collect()
}

fn run(inputs: &[PathBuf], out: &Path, options: &Options) -> Result<Summary> {
    featurize(&named(inputs), out, out, options, &mut |_, _| Ok(()))
}

fn refusal(inputs: &[PathBuf], out: &Path, options: &Options) -> String {
    let message = run(inputs, out, options).unwrap_err().to_string();
    assert!(!message.contains('\n'), "{message}");
    message
}

fn batches(path: &Path) -> Vec<RecordBatch> {
    let reader = FileReader::try_new(File::open(path).unwrap(), None).unwrap();
    reader.map(|batch| batch.unwrap()).collect()
}

#[test]
fn rows_are_those_of_the_definition() {
    let folder = TempDir::new().unwrap();
    let (paths, records) = inputs(folder.path());
    let out = folder.path().join("out.arrow");
    let summary = run(&paths, &out, &options(Kept::Log)).unwrap();
    assert_eq!(summary.total().records, 60);
    let sequences: std::collections::HashMap<_, _> = records.iter().cloned().collect();
    let mut count = 0;
    for batch in batches(&out) {
        let column = |name| batch.column_by_name(name).unwrap();
        let ids = column("id").as_string::<i32>();
        let starts = column("start").as_primitive::<UInt64Type>();
        let ends = column("end").as_primitive::<UInt64Type>();
        let lengths = column("length").as_primitive::<UInt64Type>();
        let features = column("features").as_fixed_size_list();
        for i in 0..batch.num_rows() {
            let (start, end) = (starts.value(i) as usize, ends.value(i) as usize);
            let window = &sequences[ids.value(i)][start..end];
            assert_eq!(lengths.value(i), window.len() as u64);
            let row = naive::row(window, &[4, 3], &[2]);
            let found = features.value(i);
            let found = found.as_primitive::<Float32Type>().values();
            assert_eq!(found.len(), row.len());
            for (x, y) in found.iter().zip(&row) {
                assert!((f64::from(*x) - y).abs() <= 2e-6 * y.abs().max(1.0), "{x} {y}");
            }
            count += 1;
        }
    }
    assert_eq!(count, summary.total().rows);
    let letters: usize = records.iter().map(|(_, letters)| letters.len()).sum();
    assert!(count as usize * WINDOW * 2 > letters);
}

#[test]
fn threads_change_nothing() {
    let folder = TempDir::new().unwrap();
    let (paths, _) = inputs(folder.path());
    for kept in [Kept::Log, Kept::Counts, Kept::Packed] {
        let files = [1, 3].map(|threads| {
            let out = folder.path().join(format!("{threads}.arrow"));
            let threads = NonZeroUsize::new(threads).unwrap();
            run(&paths, &out, &Options { threads, ..options(kept) }).unwrap();
            fs::read(out).unwrap()
        });
        assert!(files[0] == files[1], "{kept:?}");
        assert!(RowFile::open(&[folder.path().join("1.arrow")], true).is_ok());
    }
    let whole = Options { window: 0, sequence: false, ..options(Kept::Log) };
    let out = folder.path().join("whole.arrow");
    let summary = run(&paths, &out, &whole).unwrap();
    assert_eq!(summary.total().rows, summary.total().records - summary.total().too_short);
}

/// Shards in files, each with the position of its first input.
fn shards(paths: &[PathBuf], folder: &Path, options: &Options) -> Vec<(PathBuf, i32)> {
    let mut parts = Vec::new();
    for index in 0..4 {
        let shard = Shard { index, count: 4 };
        let out = folder.join(format!("{index}.arrow"));
        let options = Options { shard: Some(shard), ..options.clone() };
        let summary = run(paths, &out, &options).unwrap();
        if summary.total().rows > 0 {
            let name = Path::new(&summary.names[0]).file_name().unwrap();
            let first = paths.iter().position(|path| path.ends_with(name)).unwrap();
            parts.push((out, first as i32));
        }
    }
    parts
}

fn join(parts: &[(PathBuf, i32)], names: &[String], out: &Path) -> Result<(u64, u64)> {
    merge(parts, names, out, out, &mut |_| Ok(()))
}

#[test]
fn merged_shards_are_the_file() {
    let folder = TempDir::new().unwrap();
    let (paths, _) = inputs(folder.path());
    for kept in [Kept::Log, Kept::Counts, Kept::Packed] {
        let whole = folder.path().join("whole.arrow");
        let summary = run(&paths, &whole, &options(kept)).unwrap();
        let parts = shards(&paths, folder.path(), &options(kept));
        let out = folder.path().join("merged.arrow");
        let (rows, letters) = join(&parts, &summary.names, &out).unwrap();
        assert_eq!((rows, letters), (summary.total().rows, summary.total().letters));
        assert!(fs::read(&whole).unwrap() == fs::read(&out).unwrap(), "{kept:?}");
    }
}

#[test]
fn shards_of_many_batches_are_merged_to_batches_of_the_file() {
    let folder = TempDir::new().unwrap();
    let paths: Vec<PathBuf> = (0..4)
        .map(|i| {
            let path = folder.path().join(format!("{i}.fa"));
            // 700 to 1,000 rows each, no multiple of a batch.
            fs::write(&path, [b">long\n", &letters(70_000 + 10_007 * i, i)[..]].concat()).unwrap();
            path
        })
        .collect();
    for kept in [Kept::Log, Kept::Counts, Kept::Packed] {
        let whole = folder.path().join("whole.arrow");
        let summary = run(&paths, &whole, &options(kept)).unwrap();
        let parts = shards(&paths, folder.path(), &options(kept));
        assert!(parts.iter().any(|(part, _)| batches(part).len() > 1));
        let out = folder.path().join("merged.arrow");
        let mut seen = Vec::new();
        let mut watch = |rows| {
            seen.push(rows);
            Ok(())
        };
        merge(&parts, &summary.names, &out, &out, &mut watch).unwrap();
        assert!(seen.is_sorted() && seen.last() == Some(&summary.total().rows));
        assert!(fs::read(&whole).unwrap() == fs::read(&out).unwrap(), "{kept:?}");
        // Stopped in the middle, whoever reads or writes stops, too.
        let mut watch = |rows| if rows > 600 { Err(Error::Interrupted) } else { Ok(()) };
        let stopped = merge(&parts, &summary.names, &out, &out, &mut watch);
        assert!(matches!(stopped, Err(Error::Interrupted)));
    }
}

#[test]
fn shards_without_rows_make_no_file() {
    let folder = TempDir::new().unwrap();
    let empty = folder.path().join("empty.fa");
    fs::write(&empty, ">a\nACGT\n").unwrap();
    let part = folder.path().join("part.arrow");
    let shard = Some(Shard { index: 0, count: 1 });
    let summary = run(&[empty], &part, &Options { shard, ..options(Kept::Log) }).unwrap();
    assert_eq!(summary.total().rows, 0);
    let out = folder.path().join("out.arrow");
    let told = join(&[(part, 0)], &summary.names, &out).unwrap_err().to_string();
    assert!(told.contains("part.arrow: no row is left"), "{told}");

    let plain = folder.path().join("plain.arrow");
    FileWriter::try_new(File::create(&plain).unwrap(), &Schema::empty()).unwrap().finish().unwrap();
    let told = join(&[(plain, 0)], &summary.names, &out).unwrap_err().to_string();
    assert!(told.contains("plain.arrow: has no checksums"), "{told}");
}

#[test]
fn what_cannot_be_merged_is_named() {
    let folder = TempDir::new().unwrap();
    let (paths, _) = inputs(folder.path());
    let parts = shards(&paths, folder.path(), &options(Kept::Log));
    let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    let out = folder.path().join("merged.arrow");
    let refused = |parts: &[(PathBuf, i32)]| {
        let message = join(parts, &names, &out).unwrap_err().to_string();
        assert!(!message.contains('\n'), "{message}");
        message
    };
    assert_eq!(refused(&[]), "no file to merge");
    let text = folder.path().join("text.arrow");
    fs::write(&text, "no Arrow file at all, but long enough to look for its end").unwrap();
    assert!(refused(&[(text, 0)]).contains("text.arrow: "));
    let missing = folder.path().join("missing.arrow");
    assert!(refused(&[(missing, 0)]).contains("missing.arrow: "));

    let other = folder.path().join("other.arrow");
    run(&paths, &other, &Options { window: 200, ..options(Kept::Log) }).unwrap();
    let mixed = [parts[0].clone(), (other, 0)];
    assert!(refused(&mixed).contains("other.arrow: has rows of other options"));

    let damaged = format!("{}: ", parts[1].0.display());
    let mut bytes = fs::read(&parts[1].0).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&parts[1].0, &bytes).unwrap();
    assert!(refused(&parts).starts_with(&damaged), "{}", refused(&parts));
    fs::write(&parts[1].0, &bytes[..middle]).unwrap();
    assert!(refused(&parts).starts_with(&damaged), "{}", refused(&parts));

    let stopped = merge(&parts[..1], &names, &out, &out, &mut |_| Err(Error::Interrupted));
    assert!(matches!(stopped, Err(Error::Interrupted)));
    let nowhere = folder.path().join("no/folder.arrow");
    assert!(join(&parts[..1], &names, &nowhere).is_err());
}

#[test]
fn mistakes_are_one_line_or_left_out() {
    let folder = TempDir::new().unwrap();
    let (paths, _) = inputs(folder.path());
    let out = folder.path().join("out.arrow");
    let log = options(Kept::Log);
    let bad = folder.path().join("bad.fa");
    fs::write(&bad, ">a\nACGT\nAC;GT\n").unwrap();
    let with_bad = [&paths[..], &[bad]].concat();
    assert!(refusal(&with_bad, &out, &log).contains("bad.fa, line 3: "));
    let lenient = Options { skip_bad: true, ..log.clone() };
    let summary = run(&with_bad, &out, &lenient).unwrap();
    assert_eq!(summary.bad.len(), 1);
    assert!(summary.bad[0].contains("bad.fa, line 3: "), "{:?}", summary.bad);

    let short = folder.path().join("short.fa");
    fs::write(&short, ">a\nACGTN\n").unwrap();
    assert!(refusal(&[short], &out, &log).contains("no "));
    let missing = folder.path().join("missing.fa");
    assert!(refusal(&[missing], &out, &log).contains("missing.fa: "));
    let input = paths[0].clone();
    assert!(refusal(&paths, &input, &log).contains("the output is one of the inputs"));
    let nowhere = folder.path().join("no/folder.arrow");
    assert!(refusal(&paths, &nowhere, &log).contains("no/folder.arrow: "));
    let nothing = Options { sequence: false, ..options(Kept::Packed) };
    assert!(refusal(&paths, &out, &nothing).contains("nothing but the sequences"));
}

#[test]
fn a_run_stops_when_it_is_told_to() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("large.fa");
    let mut text = b">a\n".to_vec();
    // So long that nothing is done before it is told for the first time.
    text.extend(b"GATTACAACGT\n".repeat(8_000_000));
    fs::write(&path, text).unwrap();
    let out = folder.path().join("out.arrow");
    let mut watch = |_, _| Err(Error::Interrupted);
    let stopped = featurize(&named(&[path]), &out, &out, &options(Kept::Log), &mut watch);
    assert!(matches!(stopped, Err(Error::Interrupted)));
}

/// BGZF, in blocks of some bytes.
fn bgzf(text: &[u8], block_len: usize) -> Vec<u8> {
    let mut file = Vec::new();
    for block in text.chunks(block_len).chain([&b""[..]]) {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(block).unwrap();
        let deflated = encoder.finish().unwrap();
        let mut crc = Crc::new();
        crc.update(block);
        file.extend(b"\x1f\x8b\x08\x04\0\0\0\0\0\xff\x06\0BC\x02\0");
        file.extend((deflated.len() as u16 + 25).to_le_bytes());
        file.extend(deflated);
        file.extend(crc.sum().to_le_bytes());
        file.extend((block.len() as u32).to_le_bytes());
    }
    file
}

#[test]
fn blocks_are_inflated_by_all_threads_to_the_same_rows() {
    let folder = TempDir::new().unwrap();
    let mut text = Vec::new();
    for i in 0..40 {
        writeln!(text, ">r{i}").unwrap();
        text.extend(letters(100_000, i));
        text.push(b'\n');
    }
    let files = [("plain.fa", text.clone()), ("blocks.fa.gz", bgzf(&text, 50_000))];
    let features = files.map(|(name, content)| {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        let out = folder.path().join("out.arrow");
        let threads = NonZeroUsize::new(3).unwrap();
        run(&[path], &out, &Options { threads, ..options(Kept::Log) }).unwrap();
        let columns = |batch: RecordBatch| batch.column_by_name("features").unwrap().clone();
        batches(&out).into_iter().map(columns).collect::<Vec<_>>()
    });
    assert!(features[0] == features[1]);
    let damaged = folder.path().join("damaged.fa.gz");
    let mut content = bgzf(&text, 50_000);
    let middle = content.len() / 2;
    content[middle] ^= 1;
    fs::write(&damaged, content).unwrap();
    let out = folder.path().join("out.arrow");
    let message = refusal(&[damaged], &out, &options(Kept::Log));
    assert!(message.contains("damaged.fa.gz: the BGZF data is corrupt"), "{message}");
}

#[test]
fn empty_files_are_told() {
    let folder = TempDir::new().unwrap();
    let inside = folder.path().join("in");
    fs::create_dir(&inside).unwrap();
    fs::write(inside.join("a.fa"), [b">a\n", &letters(500, 1)[..]].concat()).unwrap();
    fs::write(inside.join("b.fa"), " \n").unwrap();
    let out = folder.path().join("out.arrow");
    let summary = run(std::slice::from_ref(&inside), &out, &options(Kept::Log)).unwrap();
    assert_eq!(summary.warnings.len(), 1);
    assert!(summary.warnings[0].contains("b.fa: the file is empty"), "{:?}", summary.warnings);
    let named = [inside.join("b.fa")];
    assert!(refusal(&named, &out, &options(Kept::Log)).contains("b.fa: the file is empty"));
}

#[test]
fn rows_of_packed_letters_are_those_of_the_definition() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("packed");
    let sequence = letters(1_003, 5);
    let backend = Backend::active().unwrap();
    let layout = Layout::new(&[3]).unwrap();
    let mut counter = Counter::new([3], backend);
    counter.count(&sequence);
    let (mut bytes, mut gaps) = (Vec::new(), Vec::new());
    pack(&sequence, counter.runs(), backend, &mut bytes, &mut gaps).unwrap();
    fs::write(&path, &bytes).unwrap();
    let file = RowFile::open(&[&path], true).unwrap();
    assert_eq!((file.bases(), file.digests()), (vec![0], vec![None]));
    let stretch = |end| Stretch { offset: 0, letters: 0..end, gaps: 0..gaps.len() };
    let mut row = vec![0.0; layout.n_fields()];
    let one = NonZeroUsize::MIN;
    file.packed_rows(&layout, &[stretch(1_003)], &gaps, one, backend, &mut row).unwrap();
    for (x, y) in row.iter().zip(naive::row(&sequence, &[3], &[])) {
        assert!((f64::from(*x) - y).abs() <= 2e-6 * y.abs().max(1.0), "{x} {y}");
    }
    let beyond = file.packed_rows(&layout, &[stretch(9_000)], &gaps, one, backend, &mut row);
    assert!(beyond.unwrap_err().to_string().starts_with(path.to_str().unwrap()));
}

#[test]
fn every_part_of_a_feature_file_is_held_against_its_checksum() {
    let folder = TempDir::new().unwrap();
    let (paths, _) = inputs(folder.path());
    let out = folder.path().join("out.arrow");
    run(&paths, &out, &options(Kept::Log)).unwrap();
    let whole = RowFile::open(&[&out], true).unwrap();
    assert!(whole.digests()[0].is_some());
    let content = fs::read(&out).unwrap();
    whole.verify(0, content.len() as u64).unwrap();
    whole.verify_message(0, 0).unwrap();
    whole.verify_message(0, 99).unwrap();
    whole.verify_message(7, 0).unwrap();
    for at in (0..content.len()).step_by(content.len() / 150) {
        let mut damaged = content.clone();
        damaged[at] ^= 4;
        fs::write(&out, damaged).unwrap();
        let found = RowFile::open(&[&out], true)
            .and_then(|file| file.verify(0, content.len() as u64).map(|()| file.digests()));
        match found {
            Err(error) => assert!(error.to_string().starts_with(out.to_str().unwrap()), "{error}"),
            // Another end of the file makes it one without checksums.
            Ok(digests) => assert_eq!(digests, [None], "{at}"),
        }
    }
}
