//! Links, pipes, permissions and names as Unix has them.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use super::*;

#[test]
fn an_unreadable_folder_is_an_error() {
    let folder = Folder::new(&["d/a.fa", "d/closed/b.fa"]);
    let closed = folder.path("d/closed");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
    // Root reads everything: nothing to see then.
    if fs::read_dir(&closed).is_err() {
        assert_eq!(folder.error(&["d"]), "d/closed: permission denied");
    }
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_file_is_read_once_by_whatever_link() {
    let folder = Folder::new(&["d/a.fa", "d/b.fa"]);
    symlink(folder.path("d/a.fa"), folder.path("link.fa")).unwrap();
    fs::hard_link(folder.path("d/b.fa"), folder.path("hard.fa")).unwrap();

    let (sources, warnings) = folder.discover(&["link.fa", "hard.fa", "d"]);
    assert_eq!(folder.names_of(&sources.unwrap()), ["link.fa", "hard.fa"]);
    assert_eq!(warnings, ["d/a.fa: the same file as link.fa, read once (and 1 more)"]);
}

#[test]
fn links_are_followed_and_loops_survived() {
    let folder = Folder::new(&["d/real/a.fa", "other/b.fa", "c.fa"]);
    symlink(".", folder.path("d/self")).unwrap();
    symlink("../..", folder.path("d/real/up")).unwrap();
    symlink(folder.path("other"), folder.path("d/out")).unwrap();
    symlink(folder.path("c.fa"), folder.path("d/named.fa")).unwrap();
    let (sources, warnings) = folder.discover(&["d"]);
    assert_eq!(folder.names_of(&sources.unwrap()), ["d/named.fa", "d/out/b.fa", "d/real/a.fa"]);
    assert!(warnings.iter().all(|warning| warning.contains("already searched")
        || warning.contains("the same file as d/named.fa")));
    assert!(warnings.iter().any(|warning| warning.starts_with("d/self: ")));
}

#[test]
fn folders_that_all_link_to_each_other_are_searched_once() {
    let folder = Folder::new(&[]);
    for a in 0..12 {
        fs::create_dir_all(folder.path(&format!("d/{a}"))).unwrap();
        File::create(folder.path(&format!("d/{a}/x.fa"))).unwrap();
        for b in 0..12 {
            symlink(format!("../{b}"), folder.path(&format!("d/{a}/to{b}"))).unwrap();
        }
    }
    let (sources, _) = folder.discover(&["d"]);
    let names = folder.names_of(&sources.unwrap());
    assert_eq!(names.len(), 12);
    assert!(names.iter().all(|name| !name.contains("to")), "{names:?}");
}

#[test]
fn a_link_that_leads_nowhere_is_a_warning_inside_a_folder_only() {
    let folder = Folder::new(&["d/a.fa"]);
    symlink("missing.fa", folder.path("d/dangling.fa")).unwrap();
    symlink("loop.fa", folder.path("d/loop.fa")).unwrap();
    let (sources, warnings) = folder.discover(&["d"]);
    assert_eq!(folder.names_of(&sources.unwrap()), ["d/a.fa"]);
    assert_eq!(
        warnings,
        [
            "d/dangling.fa: a link that leads nowhere, skipped",
            "d/loop.fa: a link that leads nowhere, skipped"
        ]
    );
    assert!(folder.error(&["d/dangling.fa"]).contains("no such file"));
}

#[test]
fn pipes_are_read_when_named_and_ignored_in_a_folder() {
    let folder = Folder::new(&["d/a.fa"]);
    let pipe = folder.path("d/pipe.fa");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    symlink("pipe.fa", folder.path("d/to_pipe.fa")).unwrap();
    assert_eq!(folder.names(&["d"]), ["d/a.fa"]);

    let (sources, _) = folder.discover(&["d/pipe.fa", "d/to_pipe.fa"]);
    let sources = sources.unwrap();
    assert_eq!(sources.len(), 2);
    assert!(sources.iter().all(|source| source.size.is_none()));

    let (sources, warnings) = folder.discover(&["d/pipe.fa", "d/pipe.fa"]);
    assert_eq!((sources.unwrap().len(), warnings.len()), (1, 1));
}

#[test]
fn names_that_are_not_utf8_are_replaced_and_still_open() {
    let folder = Folder::new(&["d/a.fa"]);
    let odd = folder.path("d").join(OsStr::from_bytes(b"\xff\n.fa"));
    fs::write(&odd, ">a\nA\n").unwrap();
    let (sources, _) = folder.discover(&["d"]);
    let sources = sources.unwrap();
    assert_eq!(folder.names_of(&sources), ["d/a.fa", "d/\u{fffd}\n.fa"]);
    assert_eq!(sources[1].path, odd);
}
