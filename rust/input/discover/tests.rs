#[cfg(unix)]
mod unix;

use std::fs;
use std::path::{MAIN_SEPARATOR, MAIN_SEPARATOR_STR};

use tempfile::TempDir;

use super::*;

/// A folder with files, and what [`discover`] makes of paths in it.
struct Folder(TempDir);

impl Folder {
    fn new(files: &[&str]) -> Self {
        let folder = Self(TempDir::new().unwrap());
        for file in files {
            let path = folder.path(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, ">a\nACGT\n").unwrap();
        }
        folder
    }

    fn path(&self, inside: &str) -> PathBuf {
        self.0.path().join(inside.replace('/', MAIN_SEPARATOR_STR))
    }

    /// Text with this folder's path taken out, and the separators of Unix.
    fn relative(&self, text: &str) -> String {
        let slashes = |text: &str| text.replace(MAIN_SEPARATOR, "/");
        slashes(text).replace(&slashes(&format!("{}/", self.0.path().display())), "")
    }

    fn list(&self, name: &str, lines: &[&str]) -> String {
        let paths: Vec<_> =
            lines.iter().map(|line| self.path(line).display().to_string()).collect();
        fs::write(self.path(name), paths.join("\n")).unwrap();
        format!("@{name}")
    }

    fn discover(&self, inputs: &[&str]) -> (Result<Vec<Source>>, Vec<String>) {
        let inputs: Vec<_> = inputs
            .iter()
            .map(|input| match input.strip_prefix('@') {
                Some(list) => PathBuf::from(format!("@{}", self.path(list).display())),
                None if *input == "-" => PathBuf::from(input),
                None => self.path(input),
            })
            .collect();
        let mut warnings = Vec::new();
        let result = discover(&inputs, &mut |warning| warnings.push(self.relative(&warning)));
        (result, warnings)
    }

    fn names(&self, inputs: &[&str]) -> Vec<String> {
        let (sources, warnings) = self.discover(inputs);
        assert_eq!(warnings, [""; 0]);
        self.names_of(&sources.unwrap())
    }

    fn names_of(&self, sources: &[Source]) -> Vec<String> {
        sources.iter().map(|source| self.relative(&source.name)).collect()
    }

    fn error(&self, inputs: &[&str]) -> String {
        let (result, _) = self.discover(inputs);
        let message = self.relative(&result.unwrap_err().to_string());
        assert_eq!(message.lines().count(), 1, "{message}");
        message
    }
}

#[test]
fn no_input_is_an_argument_error() {
    let result = discover(&[], &mut |_| {});
    assert!(matches!(result, Err(Error::Argument(_))));
    let result = discover(&[PathBuf::new()], &mut |_| {});
    assert!(matches!(result, Err(Error::Argument(_))));
}

#[test]
fn named_files_keep_the_order_of_the_arguments_whatever_their_name() {
    let folder = Folder::new(&["b.fa", "a.txt", "c"]);
    let (sources, _) = folder.discover(&["b.fa", "a.txt", "c"]);
    let sources = sources.unwrap();
    assert_eq!(folder.names_of(&sources), ["b.fa", "a.txt", "c"]);
    assert!(sources.iter().all(|source| !source.found));
    assert!(sources.iter().all(|source| source.size == Some(8)));
}

#[test]
fn a_directory_yields_its_sequence_files_in_byte_order() {
    let folder = Folder::new(&[
        "d/z.fa",
        "d/a.FASTA",
        "d/a/x.fna",
        "d/B.ffn",
        "d/b.fas",
        "d/q.fq",
        "d/q.fastq",
        "d/1.fa.gz",
        "d/2.FA.BGZ",
        "d/3.fna.bgzf",
        "d/4.fq.bz2",
        "d/5.fa.xz",
        "d/6.fa.ZST",
        "d/a.b/.x.fa",
        "d/.hidden.fa",
        "d/.git/x.fa",
        "d/notes.txt",
        "d/x.fa.md5",
        "d/fa",
        "d/x.fa.gz.gz",
        "d/x.gz",
        "d/deep/er/x.fa",
    ]);
    let expected = [
        "d/1.fa.gz",
        "d/2.FA.BGZ",
        "d/3.fna.bgzf",
        "d/4.fq.bz2",
        "d/5.fa.xz",
        "d/6.fa.ZST",
        "d/B.ffn",
        "d/a.FASTA",
        "d/a/x.fna",
        "d/b.fas",
        "d/deep/er/x.fa",
        "d/q.fastq",
        "d/q.fq",
        "d/z.fa",
    ];
    assert_eq!(folder.names(&["d"]), expected);
    assert_eq!(folder.names(&["d/"]), expected);
    let (sources, _) = folder.discover(&["d"]);
    let sources = sources.unwrap();
    assert!(sources.iter().all(|source| source.found && source.size == Some(8)));
    assert_eq!(folder.names(&["d/z.fa", "d/a.b/../deep", "d/a"]).len(), 3);
}

#[test]
fn a_hidden_file_or_folder_may_be_named() {
    let folder = Folder::new(&[".h/x.fa", ".y.fa"]);
    assert_eq!(folder.names(&[".h", ".y.fa"]), [".h/x.fa", ".y.fa"]);
}

#[test]
fn a_directory_without_sequence_files_is_an_error() {
    let folder = Folder::new(&["d/readme.txt", "d/.x.fa"]);
    let message = folder.error(&["d"]);
    assert!(message.starts_with("d: no sequence file in this folder"), "{message}");
    assert!(message.contains(".fasta") && message.contains(".zst"), "{message}");
}

#[test]
fn a_missing_path_is_an_error_that_names_it() {
    let folder = Folder::new(&["a.fa"]);
    assert_eq!(folder.error(&["a.fa", "nope.fa"]), "nope.fa: no such file or directory");
}

#[test]
fn a_file_named_twice_is_read_once() {
    let folder = Folder::new(&["d/a.fa", "d/b.fa"]);
    let (sources, warnings) = folder.discover(&["d/a.fa", "d/a.fa"]);
    assert_eq!(folder.names_of(&sources.unwrap()), ["d/a.fa"]);
    assert_eq!(warnings, ["d/a.fa: named more than once, read once"]);

    let (sources, warnings) = folder.discover(&["d/b.fa", "d", "d/../d/a.fa"]);
    assert_eq!(folder.names_of(&sources.unwrap()), ["d/b.fa", "d/a.fa"]);
    assert_eq!(
        warnings,
        [
            "d/b.fa: named more than once, read once",
            "d/../d/a.fa: the same file as d/a.fa, read once"
        ]
    );
}

#[test]
fn standard_input_is_read_once() {
    let folder = Folder::new(&["a.fa"]);
    let (sources, warnings) = folder.discover(&["-", "a.fa", "-"]);
    let sources = sources.unwrap();
    assert_eq!(folder.names_of(&sources), ["-", "a.fa"]);
    assert_eq!((sources[0].path.as_path(), sources[0].size), (Path::new("-"), None));
    assert_eq!(warnings, ["standard input: named more than once, read once"]);

    let result = discover(&["-".into(), "@-".into()], &mut |_| {});
    assert!(matches!(result, Err(Error::Argument(_))));
}

#[test]
fn a_list_names_files_and_folders() {
    let folder = Folder::new(&["b.fa", "d/x.fa", "a.fa", "@odd.fa"]);
    let list = folder.list("list.txt", &["b.fa", "d", "@odd.fa"]);
    assert_eq!(folder.names(&["a.fa", &list]), ["a.fa", "b.fa", "d/x.fa", "@odd.fa"]);
}

#[test]
fn a_list_may_have_windows_line_ends_blank_lines_and_no_last_newline() {
    let folder = Folder::new(&["b.fa", " a.fa"]);
    let (first, second) = (folder.path("b.fa"), folder.path(" a.fa"));
    let text = format!("\u{feff}{}\r\n\r\n  \t\n\n{}", first.display(), second.display());
    fs::write(folder.path("list.txt"), text).unwrap();
    assert_eq!(folder.names(&["@list.txt"]), ["b.fa", " a.fa"]);
}

#[test]
fn errors_of_a_list_name_it_and_the_line() {
    let folder = Folder::new(&["a.fa", "empty/readme"]);
    let list = folder.list("list.txt", &["a.fa", "nope.fa"]);
    assert_eq!(folder.error(&[&list]), "list.txt, line 2: nope.fa: no such file or directory");
    let list = folder.list("list.txt", &["empty"]);
    assert!(folder.error(&[&list]).starts_with("list.txt, line 1: empty: no sequence file"));
    assert_eq!(folder.error(&["@none.txt"]), "none.txt: no such file or directory");
    fs::write(folder.path("blank.txt"), "\n\r\n").unwrap();
    assert!(folder.error(&["@blank.txt"]).starts_with("blank.txt: the list names no file"));
    let result = discover(&["@".into()], &mut |_| {});
    assert!(matches!(result, Err(Error::Argument(_))));
}

#[test]
fn files_that_were_found_are_taken_as_they_are_and_once() {
    let folder = Folder::new(&["d/a.fa"]);
    let found = |name: &str| {
        let path = folder.path("nowhere");
        Source { path, name: name.into(), found: true, size: Some(7), range: None }
    };
    let inputs = [
        Input::Found(found("s3://b/x.fa")),
        Input::Path(folder.path("d")),
        Input::Found(found("s3://b/y.fa")),
        Input::Found(found("s3://b/x.fa")),
    ];
    let mut warnings = Vec::new();
    let sources = discover_among(&inputs, &mut |warning| warnings.push(warning)).unwrap();
    assert_eq!(folder.names_of(&sources), ["s3://b/x.fa", "d/a.fa", "s3://b/y.fa"]);
    assert_eq!(sources[2], found("s3://b/y.fa"));
    assert_eq!(warnings, ["s3://b/x.fa: named more than once, read once"]);
}
