//! What operating systems do differently, and the only place that asks which
//! one this is.

#[cfg(not(target_os = "linux"))]
mod elsewhere;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(not(target_os = "linux"))]
pub(crate) use elsewhere::*;
#[cfg(target_os = "linux")]
pub(crate) use linux::*;
#[cfg(unix)]
pub(crate) use unix::*;
#[cfg(windows)]
pub(crate) use windows::*;

use std::fs::File;
use std::io::{self, ErrorKind};

/// Writes `bytes` to a place in the file.
pub(crate) fn write_all_at(file: &File, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match write_at(file, bytes, offset) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => {
                offset += count as u64;
                bytes = &bytes[count..];
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::path::Path;
    use std::time::Duration;

    use super::*;

    #[test]
    fn bytes_are_read_and_written_at_their_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let mut file = File::create_new(&path).unwrap();
        file.write_all(b"0123456789").unwrap();
        assert_eq!(write_at(&file, b"ab", 3).unwrap(), 2);
        write_all_at(&file, b"xyz", 9).unwrap();
        let file = File::open(&path).unwrap();
        let mut middle = [0; 5];
        read_exact_at(&file, &mut middle, 2).unwrap();
        assert_eq!(&middle, b"2ab56");
        read_exact_at(&file, &mut middle, 7).unwrap();
        assert_eq!(&middle, b"78xyz");
        let error = read_exact_at(&file, &mut middle, 8).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_file_has_one_identity_under_every_path() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        std::fs::write(&a, "").unwrap();
        std::fs::write(&b, "").unwrap();
        let identity = |path: &Path| identity(path, &path.metadata().unwrap());
        assert!(identity(&a).is_some());
        assert_eq!(identity(&a), identity(&folder.path().join(".").join("a")));
        assert_ne!(identity(&a), identity(&b));
    }

    const PATIENCE: Duration = Duration::from_millis(5);

    #[test]
    fn a_pipe_is_waited_for() {
        let (reader, mut writer) = io::pipe().unwrap();
        let reader = file_of(reader);
        assert!(!wait_for_input(&reader, PATIENCE).unwrap());
        writer.write_all(b"x").unwrap();
        assert!(wait_for_input(&reader, PATIENCE).unwrap());
        drop(writer);
        assert!(wait_for_input(&reader, PATIENCE).unwrap());
        assert_eq!(io::read_to_string(reader).unwrap(), "x");
    }

    #[test]
    fn text_names_paths() {
        assert_eq!(path_of("a/ä".as_bytes()).unwrap(), Path::new("a/ä"));
    }
}
