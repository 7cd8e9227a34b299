use std::io::Write;

use ::bzip2::write::BzEncoder;
use ::zstd::stream::write::Encoder as ZstdEncoder;
use flate2::write::{DeflateEncoder, GzEncoder};
use flate2::{Compression, Crc, GzBuilder};
use proptest::prelude::*;

use super::*;
use crate::input::stop::StopFlag;
use crate::input::text_buffer::TextBuffer;

const TEXT: &[u8] = b">a one\nACGTNacgtn\n>b two\nGATTACAGATTACAGATTACA\n";

const BGZF_END: [u8; 28] = [
    0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 0xff, 6, 0, b'B', b'C', 2, 0, 0x1b, 0, 3, 0, 0, 0, 0, 0, 0, 0,
    0, 0,
];

/// `TEXT` as written by xz 5.4.1 with each of its checks, in three blocks and
/// with a delta filter.
const XZ_NONE: &str = "fd377a585a000000ff12d941020021010c0000008f98419ce0002e00285d001f1840072282\
     94569bceda9ae752c846d78cca92c692ba7edf690cb5d03a1841a0b68a538bbf5c000000013c2f8df1a4f806729e\
     7a010000000000595a";
const XZ_CRC32: &str = "fd377a585a0000016922de36020021010c0000008f98419ce0002e00285d001f184007228\
     294569bceda9ae752c846d78cca92c692ba7edf690cb5d03a1841a0b68a538bbf5c0000ad1764480001402f77c72\
     e7b9042990d010000000001595a";
const XZ_CRC64: &str = "fd377a585a000004e6d6b446020021010c0000008f98419ce0002e00285d001f184007228\
     294569bceda9ae752c846d78cca92c692ba7edf690cb5d03a1841a0b68a538bbf5c000074501fed19868fec00014\
     42f7302421f1fb6f37d010000000004595a";
const XZ_SHA256: &str = "fd377a585a00000ae1fb0ca1020021010c0000008f98419ce0002e00285d001f18400722\
     8294569bceda9ae752c846d78cca92c692ba7edf690cb5d03a1841a0b68a538bbf5c0000fac7a3130b591df7d2e2\
     f723c2f3ab2a07027264c8326fdbea7862e0b157fe4f00015c2f2a9a599d189b4b9a01000000000a595a";
const XZ_BLOCKS: &str = "fd377a585a0000016922de36020021010c0000008f98419c01000f3e61206f6e650a4143\
     47544e61636774002e9c95fe020021010c0000008f98419c01000f6e0a3e622074776f0a47415454414341006cec\
     53ab020021010c0000008f98419c01000e47415454414341474154544143410a0000133d18c40003241024102\
     30fbfe477b53e300d8b020000000001595a";
const XZ_DELTA: &str = "fd377a585a0000016922de36020103010021010c03d9a613e0002e00285d001f08d425d07\
     9fd37425c69cef083d7a22989dbd39a80a4da5d0eae9d279e9fec88a4773c961f280000ad1764480001402f77c72\
     e7b9042990d010000000001595a";

fn xz(hex: &str) -> Vec<u8> {
    let digits: Vec<_> = hex.chars().map(|c| c.to_digit(16).unwrap() as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

/// A gzip member with every optional field of the header.
fn gzip_full_header(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzBuilder::new()
        .extra(*b"XY\x03\0abc")
        .filename("genome.fa")
        .comment("made by hand")
        .write(Vec::new(), Compression::default());
    encoder.write_all(text).unwrap();
    let mut member = encoder.finish().unwrap();
    // flate2 does not write header checksums.
    member[3] |= 1 << 1;
    let header_len = 10 + 2 + 7 + "genome.fa".len() + 1 + "made by hand".len() + 1;
    let mut crc = Crc::new();
    crc.update(&member[..header_len]);
    member.splice(header_len..header_len, (crc.sum() as u16).to_le_bytes());
    member
}

fn bgzf_block(text: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text).unwrap();
    let deflated = encoder.finish().unwrap();
    let mut crc = Crc::new();
    crc.update(text);
    let mut block = BGZF_END[..16].to_vec();
    block.extend((deflated.len() as u16 + 25).to_le_bytes());
    block.extend(deflated);
    block.extend(crc.sum().to_le_bytes());
    block.extend((text.len() as u32).to_le_bytes());
    block
}

fn bgzf(text: &[u8], block_len: usize) -> Vec<u8> {
    let blocks = text.chunks(block_len).flat_map(bgzf_block);
    blocks.chain(BGZF_END).collect()
}

fn bzip2(text: &[u8]) -> Vec<u8> {
    let mut encoder = BzEncoder::new(Vec::new(), ::bzip2::Compression::fast());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn zstd(text: &[u8]) -> Vec<u8> {
    let mut encoder = ZstdEncoder::new(Vec::new(), 3).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

/// `TEXT` in every format but the plain one.
fn samples() -> Vec<(Format, Vec<u8>)> {
    let mut samples = vec![
        (Format::Gzip, gzip(TEXT)),
        (Format::Gzip, gzip_full_header(TEXT)),
        (Format::Bgzf, bgzf(TEXT, 20)),
        (Format::Bzip2, bzip2(TEXT)),
        (Format::Zstd, zstd(TEXT)),
    ];
    for hex in [XZ_NONE, XZ_CRC32, XZ_CRC64, XZ_SHA256, XZ_BLOCKS, XZ_DELTA] {
        samples.push((Format::Xz, xz(hex)));
    }
    samples
}

/// Hands out its bytes in pieces, with signals in between.
struct Trickle {
    bytes: Cursor<Vec<u8>>,
    piece: usize,
    interrupt: bool,
}

impl Trickle {
    fn new(bytes: &[u8], piece: usize) -> Self {
        Self { bytes: Cursor::new(bytes.to_vec()), piece, interrupt: true }
    }
}

impl Read for Trickle {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.interrupt = !self.interrupt;
        if !self.interrupt {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let len = buf.len().min(self.piece);
        self.bytes.read(&mut buf[..len])
    }
}

#[derive(Debug, PartialEq)]
struct Decoded {
    format: Format,
    text: Vec<u8>,
    warnings: Vec<String>,
    compressed_bytes: u64,
}

fn decode_reader(reader: impl Read + Send + 'static, buf_len: usize) -> Result<Decoded> {
    let mut decoder = Decoder::from_reader("x.fa".into(), Box::new(reader))?;
    let mut text = Vec::new();
    let mut buf = vec![0; buf_len];
    loop {
        match decoder.read(&mut buf)? {
            0 => break,
            count => text.extend(&buf[..count]),
        }
    }
    assert_eq!(decoder.read(&mut buf)?, 0, "the end is final");
    Ok(Decoded {
        format: decoder.format(),
        text,
        warnings: decoder.take_warnings(),
        compressed_bytes: decoder.compressed_bytes(),
    })
}

/// Takes what can be taken of a BGZF file as blocks.
fn decode_apart(bytes: &[u8]) -> Result<Decoded> {
    let mut decoder = Decoder::from_reader("x.fa".into(), Box::new(Cursor::new(bytes.to_vec())))?;
    let mut buf = vec![0; 4096];
    let mut text = Vec::new();
    loop {
        match decoder.read_member(&mut buf)? {
            0 => break,
            count => text.extend(&buf[..count]),
        }
    }
    while let Some(blocks) = decoder.take_blocks()? {
        text = blocks.inflate(text.into())?.to_vec();
    }
    loop {
        match decoder.read(&mut buf)? {
            0 => break,
            count => text.extend(&buf[..count]),
        }
    }
    Ok(Decoded {
        format: decoder.format(),
        text,
        warnings: decoder.take_warnings(),
        compressed_bytes: decoder.compressed_bytes(),
    })
}

fn decode(bytes: &[u8]) -> Result<Decoded> {
    let decoded = decode_reader(Cursor::new(bytes.to_vec()), 4096);
    assert_eq!(decode_apart(bytes).ok().as_ref(), decoded.as_ref().ok());
    decoded
}

/// Decodes what must be sound and silent.
fn text(bytes: &[u8]) -> Vec<u8> {
    let decoded = decode(bytes).unwrap();
    assert_eq!(decoded.warnings, [""; 0]);
    assert_eq!(decoded.compressed_bytes, bytes.len() as u64);
    decoded.text
}

fn error(bytes: &[u8]) -> String {
    let message = decode(bytes).unwrap_err().to_string();
    assert!(message.starts_with("x.fa: "), "{message}");
    assert_eq!(message.lines().count(), 1, "{message}");
    message
}

#[track_caller]
fn assert_error(bytes: &[u8], part: &str) {
    let message = error(bytes);
    assert!(message.contains(part), "{message}");
}

#[test]
fn a_decoder_can_move_to_another_thread() {
    fn assert_send<T: Send>() {}
    assert_send::<Decoder>();
}

#[test]
fn plain_text_is_passed_through() {
    assert_eq!(text(b""), b"");
    assert_eq!(text(b">"), b">");
    assert_eq!(text(TEXT), TEXT);
    let long = TEXT.repeat(20_000);
    assert_eq!(text(&long), long);
}

#[test]
fn files_shorter_than_their_magic_are_plain() {
    for bytes in [&b"\x1f"[..], b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f", b"PK\x03"] {
        assert_eq!(decode(bytes).unwrap().format, Format::Plain);
        assert_eq!(text(bytes), bytes);
    }
}

#[test]
fn every_format_is_told_by_its_content_and_decoded() {
    for (format, bytes) in samples() {
        assert_eq!(decode(&bytes).unwrap().format, format);
        assert_eq!(text(&bytes), TEXT, "{format}");
    }
}

#[test]
fn members_follow_each_other() {
    for (format, bytes) in samples() {
        assert_eq!(text(&bytes.repeat(3)), TEXT.repeat(3), "{format}");
    }
    let pair = [bgzf(TEXT, 20), gzip(TEXT), BGZF_END.to_vec()].concat();
    assert_eq!(text(&pair), TEXT.repeat(2));
    let pair = [xz(XZ_SHA256), xz(XZ_NONE)].concat();
    assert_eq!(text(&pair), TEXT.repeat(2));
}

#[test]
fn members_without_text_are_skipped() {
    for empty in [gzip(b""), BGZF_END.to_vec(), bzip2(b""), zstd(b"")] {
        assert_eq!(text(&empty.repeat(2)), b"");
    }
    let file = [gzip(b""), gzip(TEXT), gzip(b"")].concat();
    assert_eq!(text(&file), TEXT);
}

#[test]
fn text_longer_than_all_buffers_survives() {
    let long = TEXT.repeat(40_000);
    for bytes in [gzip(&long), bgzf(&long, 65_280), bzip2(&long), zstd(&long)] {
        assert_eq!(text(&bytes), long);
    }
}

#[test]
fn sizes_of_reads_and_buffers_do_not_matter() {
    for (format, bytes) in samples() {
        let file = bytes.repeat(2);
        let whole = decode(&file).unwrap();
        for piece in [1, 2, 3, 7, 1000] {
            for buf_len in [1, 2, 5, 1000] {
                let decoded = decode_reader(Trickle::new(&file, piece), buf_len).unwrap();
                assert_eq!(decoded, whole, "{format}, {piece} to {buf_len}");
            }
        }
    }
}

/// Cuts `bytes`, made of members that begin at `starts`, everywhere. `member`
/// is the text of each.
#[track_caller]
fn assert_cuts_are_noticed(bytes: &[u8], starts: &[usize]) {
    for cut in 0..bytes.len() {
        let part = &bytes[..cut];
        let decoded = decode(part);
        match decoded {
            Ok(decoded) if decoded.format == Format::Plain => assert!(cut < 6, "cut at {cut}"),
            Ok(decoded) => {
                assert!(starts.contains(&cut), "cut at {cut} was not noticed");
                assert_eq!(decoded.warnings.is_empty(), decoded.format != Format::Bgzf);
            }
            Err(error) => {
                let message = error.to_string();
                assert!(message.contains("truncated"), "cut at {cut}: {message}");
                assert!(!starts.contains(&cut), "cut at {cut}: {message}");
            }
        }
    }
}

#[test]
fn a_cut_anywhere_is_noticed() {
    for (format, bytes) in samples() {
        if format != Format::Bgzf {
            assert_cuts_are_noticed(&bytes.repeat(2), &[bytes.len()]);
        }
    }
    let blocks = [bgzf_block(&TEXT[..20]), bgzf_block(&TEXT[20..])];
    let file = [&blocks[0][..], &blocks[1], &BGZF_END].concat();
    let starts = [blocks[0].len(), blocks[0].len() + blocks[1].len()];
    assert_cuts_are_noticed(&file, &starts);
    let skippable = b"\x51\x2a\x4d\x18\x03\0\0\0abc";
    let file = [&zstd(TEXT)[..], skippable, &zstd(TEXT)].concat();
    let starts = [zstd(TEXT).len(), zstd(TEXT).len() + skippable.len()];
    assert_cuts_are_noticed(&file, &starts);
}

#[test]
fn a_changed_byte_is_an_error_or_changes_nothing() {
    for (format, bytes) in samples() {
        let checked = bytes != xz(XZ_NONE);
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << bit;
                match decode(&changed) {
                    Ok(decoded) if decoded.format == Format::Plain => {
                        assert!(at < 6 && decoded.text == changed, "{format}, byte {at}");
                    }
                    Ok(decoded) if checked => assert_eq!(decoded.text, TEXT, "{format}, byte {at}"),
                    Ok(_) => {}
                    Err(error) => assert!(matches!(error, Error::Input { .. }), "{error}"),
                }
            }
        }
    }
}

#[test]
fn wrong_checksums_and_sizes_are_corrupt() {
    let gzip = gzip(TEXT);
    for (at, part) in [(8, "corrupt (the CRC"), (4, "corrupt (the size")] {
        let mut changed = gzip.clone();
        let at = changed.len() - at;
        changed[at] ^= 1;
        assert_error(&changed, part);
        assert_error(&[&gzip[..], &changed].concat(), part);
    }
    let mut changed = bgzf(TEXT, 20);
    changed[16] ^= 1;
    assert_error(&changed, "corrupt (a block states another size");
    let mut changed = gzip_full_header(TEXT);
    changed[5] ^= 1;
    assert_error(&changed, "corrupt (the CRC of a header");
    let mut changed = bzip2(TEXT);
    changed[10] ^= 1;
    assert_error(&changed, "the bzip2 data is corrupt");
    let mut changed = zstd(TEXT);
    let last = changed.len() - 1;
    changed[last] ^= 1;
    assert_error(&changed, "the zstd data is corrupt");
    for (hex, at) in [(XZ_CRC32, 85), (XZ_CRC64, 85), (XZ_SHA256, 85)] {
        let mut changed = xz(hex);
        changed[at] ^= 1;
        assert_error(&changed, "the xz data is corrupt");
    }
}

#[test]
fn unknown_gzip_methods_flags_and_endless_headers_are_corrupt() {
    assert_error(b"\x1f\x8b\x07\x00aaaaaaaaaaaaaaa", "corrupt (unknown method");
    assert_error(b"\x1f\x8b\x08\x80aaaaaaaaaaaaaaa", "corrupt (unknown method");
    let endless = [&b"\x1f\x8b\x08\x08\0\0\0\0\0\0"[..], &vec![b'n'; 300_000]].concat();
    assert_error(&endless, "corrupt (a header without end");
}

#[test]
fn bgzf_without_its_last_block_is_a_warning() {
    let whole = bgzf(TEXT, 20);
    let decoded = decode(&whole[..whole.len() - BGZF_END.len()]).unwrap();
    assert_eq!(decoded.text, TEXT);
    let [warning] = &decoded.warnings[..] else { panic!("{:?}", decoded.warnings) };
    assert!(warning.starts_with("x.fa: no BGZF end-of-file block"), "{warning}");

    let block = Cursor::new(bgzf_block(TEXT));
    let mut reader = Decoder::from_reader("x.fa".into(), Box::new(block)).unwrap();
    while reader.read(&mut [0; 100]).unwrap() > 0 {}
    assert_eq!(reader.take_warnings().len(), 1);
    assert_eq!(reader.take_warnings().len(), 0);
}

#[test]
fn blocks_are_handed_out_whole() {
    let text: Vec<u8> = b"ACGTTGCA".repeat(400_000);
    let file = [bgzf(&text, 65_280), bgzf(&text, 1000)].concat();
    let reader = Box::new(Cursor::new(file));
    let mut decoder = Decoder::from_reader("x.fa".into(), reader).unwrap();
    let mut buf = vec![0; 1 << 17];
    let mut joined: Vec<u8> = Vec::new();
    loop {
        match decoder.read_member(&mut buf).unwrap() {
            0 => break,
            count => joined.extend(&buf[..count]),
        }
    }
    assert_eq!(joined.len(), 65_280);
    let mut runs = 0;
    while let Some(blocks) = decoder.take_blocks().unwrap() {
        joined.extend(&*blocks.inflate(TextBuffer::default()).unwrap());
        runs += 1;
    }
    assert!(joined == [&text[..], &text].concat());
    assert!(runs > 3, "{runs} runs");
    assert_eq!(decoder.read(&mut buf).unwrap(), 0);
    assert_eq!(decoder.take_warnings(), [""; 0]);
}

#[test]
fn zero_padding_is_read_over_where_the_format_allows_it() {
    for bytes in [gzip(TEXT), bgzf(TEXT, 20)] {
        for zeros in [1, 2, 5, 512, 600_000] {
            let padded = [&bytes[..], &vec![0; zeros]].concat();
            assert_eq!(text(&padded), TEXT);
        }
        let between = [&bytes[..], &[0; 512], &bytes].concat();
        assert_eq!(text(&between), TEXT.repeat(2));
    }
    // So large that what is at the end is not read before blocks are handed out.
    let long = TEXT.repeat(100_000);
    let padded = [&bgzf(&long, 65_280)[..], &[0; 512]].concat();
    assert!(text(&padded) == long);
    let bytes = xz(XZ_CRC64);
    assert_eq!(text(&[&bytes[..], &[0; 8]].concat()), TEXT);
    let between = [&bytes[..], &[0; 4], &bytes].concat();
    assert_eq!(text(&between), TEXT.repeat(2));
    assert_error(&[&bytes[..], &[0; 3]].concat(), "truncated");
    assert_error(&[&bytes[..], &[0; 3], &bytes].concat(), "trailing bytes");
    for bytes in [bzip2(TEXT), zstd(TEXT)] {
        assert_error(&[&bytes[..], &[0; 4]].concat(), "trailing bytes");
    }
}

#[test]
fn other_bytes_behind_the_data_are_an_error() {
    for (_, bytes) in samples() {
        for garbage in [&b"x"[..], b"\n", b">b\nACGT\n", b"PK\x03\x04"] {
            let message = error(&[&bytes[..], garbage].concat());
            let expected =
                format!("trailing bytes after the compressed data, from byte {} on", bytes.len());
            assert!(message.contains(&expected), "{message}");
        }
    }
    assert_error(&[gzip(TEXT), bzip2(TEXT)].concat(), "trailing bytes");
    assert_error(&[&gzip(TEXT)[..], &[0; 9], b"x"].concat(), "trailing bytes");
}

#[test]
fn data_compressed_twice_is_an_error() {
    for (format, bytes) in samples() {
        assert_error(&gzip(&bytes), "compressed twice");
        assert_error(&zstd(&bytes), "compressed twice");
        if format == Format::Gzip {
            assert_error(&bgzf(&bytes, 20), "compressed twice (gzip inside BGZF)");
        }
    }
}

#[test]
fn other_kinds_of_files_are_named() {
    for (magic, part) in [
        (&b"PK\x03\x04"[..], "looks like a zip archive: unzip it first"),
        (b"\x1f\x9d", "looks like a UNIX compress (.Z) file"),
        (b"ARROW1\0\0", "looks like an Arrow file"),
        (b"BAM\x01", "looks like a BAM file"),
    ] {
        let file = [magic, &[7; 100]].concat();
        assert_error(&file, part);
        assert_error(&gzip(&file), part);
        assert_error(&bgzf(&file, 20), part);
    }
    for magic in [&b"ustar\x0000"[..], b"ustar  \0"] {
        let mut tar = b"genome.fa".to_vec();
        tar.resize(257, 0);
        tar.extend(magic);
        tar.resize(2048, 0);
        assert_error(&tar, "looks like a tar archive");
        assert_error(&gzip(&tar), "looks like a tar archive");
        assert_error(&bzip2(&tar), "looks like a tar archive");
    }
    let rna = [&b">rna\n"[..], &b"acgu".repeat(63), b"ustarACGU\n"].concat();
    assert_eq!(rna.windows(5).position(|window| window == b"ustar"), Some(257));
    assert_eq!(text(&rna), rna);
}

#[test]
fn zstd_frames_that_carry_no_data_are_skipped() {
    let skippable = b"\x5f\x2a\x4d\x18\x03\0\0\0abc";
    let file = [skippable, &zstd(TEXT)[..], skippable].concat();
    assert_eq!(decode(&file).unwrap().format, Format::Zstd);
    assert_eq!(text(&file), TEXT);
    assert_error(&[&zstd(TEXT)[..], b"\x5f\x2a\x4d"].concat(), "truncated");
}

#[test]
fn a_zstd_window_above_the_limit_is_named() {
    let mut encoder = ZstdEncoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(28).unwrap();
    encoder.write_all(TEXT).unwrap();
    assert_error(&encoder.finish().unwrap(), "window is above 128 MiB");
}

#[test]
fn errors_of_the_file_system_keep_their_cause() {
    fn broken() -> io::Error {
        io::Error::from_raw_os_error(5)
    }
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(broken())
        }
    }
    let sound = gzip(TEXT);
    for len in [0, 10, 40, sound.len()] {
        let reader = Cursor::new(sound[..len].to_vec()).chain(Broken);
        let error = decode_reader(reader, 1000).unwrap_err();
        assert_eq!(error.to_string(), Error::io("x.fa", broken()).to_string());
    }
    let source = |path: &str| Source {
        path: path.into(),
        name: path.into(),
        found: false,
        size: None,
        range: None,
    };
    let error = Decoder::open(&source("/"), &StopFlag::default()).err().unwrap();
    assert_eq!(error.to_string(), "/: is a directory");
    let error = Decoder::open(&source("/nowhere.fa"), &StopFlag::default()).err().unwrap();
    assert_eq!(error.to_string(), "/nowhere.fa: no such file or directory");
}

#[test]
fn files_are_opened_by_path() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.fa");
    std::fs::write(&path, gzip(TEXT)).unwrap();
    let mut decoder = Decoder::open(
        &Source { name: "x.fa".into(), path, found: true, size: None, range: None },
        &StopFlag::default(),
    )
    .unwrap();
    let mut text = [0; 1000];
    let count = decoder.read(&mut text).unwrap();
    assert_eq!(&text[..count], TEXT);
}

proptest! {
    #[test]
    fn no_bytes_make_the_decoder_panic(
        magic in prop::sample::select(samples()),
        keep in 0_usize..80,
        noise in prop::collection::vec(any::<u8>(), 0..600),
    ) {
        let start = &magic.1[..keep.min(magic.1.len())];
        let _ = decode(&[start, &noise].concat());
    }

    #[test]
    fn blocks_taken_apart_give_what_reading_gives(
        members in prop::collection::vec((0_usize..4, 0_usize..3000), 1..12),
        cut in 0_usize..2000,
        changed in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut file = bgzf_block(b">a");
        for (kind, len) in members {
            let text = b"\nGATTACA".repeat(len / 8);
            match kind {
                0 => file.extend(gzip(&text)),
                1 => file.extend(BGZF_END),
                _ => file.extend(bgzf_block(&text)),
            }
        }
        if let Some(changed) = changed {
            let at = changed.index(file.len());
            file[at] ^= 0x10;
        } else {
            file.truncate(file.len() - cut.min(file.len() / 2));
        }
        let _ = decode(&file);
    }

    #[test]
    fn any_split_into_members_gives_the_text(
        text_bytes in prop::collection::vec(prop::sample::select(b"ACGTN\n>".to_vec()), 1..3000),
        member_len in 1_usize..700,
        piece in 1_usize..300,
        buf_len in 1_usize..300,
    ) {
        for encode in [gzip, bgzf_block, bzip2, zstd] {
            let file: Vec<u8> = text_bytes.chunks(member_len).flat_map(encode).collect();
            let decoded = decode_reader(Trickle::new(&file, piece), buf_len).unwrap();
            prop_assert_eq!(&decoded.text, &text_bytes);
        }
    }
}
