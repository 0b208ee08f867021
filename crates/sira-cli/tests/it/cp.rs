//! cp: trees both ways, byte for byte.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::support::{each_place, noise, run, sira};

fn tree(root: &Path) -> BTreeMap<String, Vec<u8>> {
    fn walk(root: &Path, folder: &Path, into: &mut BTreeMap<String, Vec<u8>>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(root, &path, into);
            } else {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                into.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    let mut files = BTreeMap::new();
    walk(root, root, &mut files);
    files
}

fn make_tree(root: &Path) {
    for (at, (name, len)) in [
        ("empty", 0),
        ("one", 1),
        ("a/b/c/deep.bin", 70_000),
        ("a/with space & ünïcode", 1_000),
        ("a/b/big.bin", 2_500_000),
        (".hidden/file", 10),
    ]
    .into_iter()
    .enumerate()
    {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, noise(len, at as u64 + 1)).unwrap();
    }
}

#[test]
fn a_tree_goes_in_and_comes_back_equal() {
    each_place(|place| {
        let root = place.files.path();
        make_tree(&root.join("tree"));
        place.run(["cp", "-r", "tree", "sira://ns/in"]).exits(0);
        place.put("sira://ns/in-between", b"not below in/");
        let ran = place.run(["cp", "-r", "sira://ns/in", "back", "--json"]).exits(0);
        assert_eq!(tree(&root.join("tree")), tree(&root.join("back")), "{}", place.name);
        let json = ran.json();
        assert_eq!(json.len(), 7);
        let summary = json.last().unwrap();
        assert_eq!((&summary["files"], &summary["failed"]), (&6.into(), &0.into()));
        assert_eq!(summary["bytes"], 2_571_011);

        // From prefix to prefix, then out again.
        place.run(["cp", "-r", "-q", "sira://ns/in", "sira://copy/x"]).exits(0);
        place.run(["cp", "-r", "-q", "sira://copy", "again"]).exits(0);
        assert_eq!(tree(&root.join("tree")), tree(&root.join("again/x")));
    });
}

#[test]
fn single_files_take_the_name_that_is_given_or_their_own() {
    each_place(|place| {
        let root = place.files.path();
        fs::write(root.join("f.txt"), "f").unwrap();
        fs::write(root.join("g.txt"), "g").unwrap();
        place.run(["cp", "f.txt", "sira://ns/name"]).exits(0);
        place.run(["cp", "f.txt", "g.txt", "sira://ns/dir"]).exits(0);
        place.run(["cp", "f.txt", "sira://ns"]).exits(0);
        let keys = place.run(["ls", "-r", "sira://ns"]).exits(0).text();
        assert_eq!(keys, "dir/f.txt\ndir/g.txt\nf.txt\nname\n");
        fs::create_dir(root.join("folder")).unwrap();
        place.run(["cp", "sira://ns/dir/g.txt", "folder"]).exits(0);
        place.run(["cp", "sira://ns/dir/g.txt", "new/folder/"]).exits(0);
        place.run(["cp", "sira://ns/dir/g.txt", "renamed"]).exits(0);
        for path in ["folder/g.txt", "new/folder/g.txt", "renamed"] {
            assert_eq!(fs::read_to_string(root.join(path)).unwrap(), "g", "{path}");
        }
    });
}

#[test]
fn metadata_goes_along_from_key_to_key() {
    each_place(|place| {
        fs::write(place.files.path().join("f"), "f").unwrap();
        place.run(["cp", "f", "sira://ns/a", "--content-type", "text/x", "--meta", "k=v"]).exits(0);
        place.run(["cp", "sira://ns/a", "sira://ns/b"]).exits(0);
        let record = place.run(["stat", "sira://ns/b", "--json"]).exits(0).json().remove(0);
        assert_eq!(record["content_type"], "text/x");
        assert_eq!(record["metadata"]["k"], "v");
    });
}

#[test]
fn a_dry_run_copies_nothing() {
    each_place(|place| {
        let root = place.files.path();
        make_tree(&root.join("tree"));
        let ran = place.run(["cp", "-r", "-n", "tree", "sira://ns/in"]).exits(0);
        assert_eq!(ran.text().lines().count(), 6);
        assert!(ran.text().contains("would copy tree/one -> sira://ns/in/one"), "{}", ran.text());
        assert_eq!(place.run(["ls", "-r", "sira://ns"]).exits(0).text(), "");
    });
}

#[test]
fn keys_that_would_leave_the_folder_are_refused_and_the_rest_is_copied() {
    each_place(|place| {
        let root = place.files.path();
        for key in ["in/../../escape", "in/ok", "in//double", "in/a/"] {
            place.put(&format!("sira://ns/{key}"), b"x");
        }
        let ran = place.run(["cp", "-r", "sira://ns/in", "out/inner"]).exits(2);
        assert!(ran.stderr.contains("cannot be a file name"), "{}", ran.stderr);
        assert!(ran.stderr.contains("3 of 4 files were not copied"), "{}", ran.stderr);
        assert_eq!(tree(root).into_keys().collect::<Vec<_>>(), ["out/inner/ok"]);
    });
}

#[test]
fn sources_that_are_not_there_or_do_not_fit_are_refused() {
    each_place(|place| {
        let root = place.files.path();
        fs::create_dir_all(root.join("d1")).unwrap();
        fs::create_dir_all(root.join("d2")).unwrap();
        fs::write(root.join("d1/same"), "1").unwrap();
        fs::write(root.join("d2/same"), "2").unwrap();
        place.run(["cp", "missing", "sira://ns/k"]).exits(3);
        place.run(["cp", "sira://ns/missing", "f"]).exits(3);
        place.run(["cp", "-r", "sira://ns/missing", "f"]).exits(3);
        place.run(["cp", "d1", "sira://ns/k"]).exits(2);
        place.run(["cp", "sira://ns/", "f"]).exits(2);
        place.run(["cp", "d1/same", "d2/same"]).exits(2);
        let ran = place.run(["cp", "-r", "d1", "d2", "sira://ns"]).exits(2);
        assert!(ran.stderr.contains("two files would be copied"), "{}", ran.stderr);
        assert_eq!(place.run(["ls", "-r", "sira://ns"]).exits(0).text(), "");
    });
}

#[cfg(unix)]
#[test]
fn links_to_files_are_followed_and_links_to_folders_are_not() {
    each_place(|place| {
        let root = place.files.path();
        fs::create_dir_all(root.join("t/real")).unwrap();
        fs::write(root.join("t/real/f"), "f").unwrap();
        std::os::unix::fs::symlink("real/f", root.join("t/link")).unwrap();
        std::os::unix::fs::symlink("../t", root.join("t/loop")).unwrap();
        let ran = place.run(["cp", "-r", "t", "sira://ns"]).exits(0);
        assert!(ran.stderr.contains("left out"), "{}", ran.stderr);
        assert_eq!(place.run(["ls", "-r", "sira://ns"]).exits(0).text(), "link\nreal/f\n");
    });
}

#[test]
fn a_file_that_cannot_be_written_does_not_stop_the_others() {
    each_place(|place| {
        let root = place.files.path();
        for key in ["a", "b", "c"] {
            place.put(&format!("sira://ns/{key}"), key.as_bytes());
        }
        fs::create_dir_all(root.join("out/b")).unwrap();
        let ran = place.run(["cp", "-r", "sira://ns", "out"]).exits(2);
        assert!(ran.stderr.contains("out/b is a folder"), "{}", ran.stderr);
        assert_eq!(tree(&root.join("out")).into_keys().collect::<Vec<_>>(), ["a", "c"]);
    });
}

#[test]
fn a_server_that_goes_away_is_retryable() {
    let files = tempfile::tempdir().unwrap();
    fs::write(files.path().join("f"), "f").unwrap();
    let ran = run(sira()
        .args(["cp", "f", "sira://ns/f", "--server", "http://127.0.0.1:1"])
        .current_dir(files.path()));
    ran.exits(5);
}
