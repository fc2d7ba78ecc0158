//! Flipped bytes, zeroed pages and cut ends, in the index and in its log: never served, never an error for a caller.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops where something is not as it should be"
)]

mod fixture;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use fixture::{Home, blob_bytes, key, publication};
use heph_cache::*;
use heph_common::Digest;

const RESULTS: u64 = 60;
const PAGE: u64 = 4096;

fn content(number: u64) -> Vec<u8> {
    let length = if number.is_multiple_of(10) { 66_000 } else { 300 };
    number
        .to_le_bytes()
        .iter()
        .copied()
        .cycle()
        .take(length)
        .collect()
}

fn publish(store: &Store, number: u64) {
    let bytes = content(number);
    let mut publication = publication(number, &[("out", &bytes), ("same", b"in all")]);
    publication.record = Some(fixture::revision(number, None));
    store.publish(publication).unwrap();
}

/// A home with some results; its index is one file when `checkpointed`, else most of it is in the log.
fn prepared(checkpointed: bool) -> Home {
    let home = Home::new();
    let store = home.open();
    for number in 0..RESULTS {
        publish(&store, number);
    }
    store.put_record("facts", b"key", b"value").unwrap();
    drop(store);
    if checkpointed {
        let connection = rusqlite::Connection::open(home.index()).unwrap();
        let row = |_: &rusqlite::Row<'_>| Ok(());
        connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], row)
            .unwrap();
    }
    home
}

/// Every lookup gives what was published or nothing, and the store works on. Returns how many results are left.
fn check(store: &Store, case: &str) -> u64 {
    let local = OriginFilter::local();
    let mut left = 0;
    for number in 0..RESULTS {
        let found = store
            .lookup(&key(number), &local)
            .unwrap_or_else(|error| panic!("{case}: {error}"));
        let bytes = content(number);
        if let Some(manifest) = found {
            let expected = fixture::manifest_of(number, &[("out", &bytes), ("same", b"in all")]);
            assert_eq!(*manifest, expected, "{case}: manifest of {number}");
            left += 1;
        }
        let blob = store
            .blob(&Digest::of(&bytes), false)
            .unwrap_or_else(|error| panic!("{case}: {error}"));
        match blob {
            Some(Blob::Inline(found)) => assert!(found == bytes, "{case}: blob of {number}"),
            Some(Blob::File(path)) => assert!(fs::read(path).unwrap() == bytes, "{case}: blob of {number}"),
            None => {}
        }
    }
    let keys: Vec<Digest> = (0..RESULTS).map(key).collect();
    store
        .contains_all(&keys, &local)
        .unwrap_or_else(|error| panic!("{case}: {error}"));
    let fact = store
        .get_record("facts", b"key")
        .unwrap_or_else(|error| panic!("{case}: {error}"));
    assert!(fact.is_none_or(|value| value == b"value"), "{case}");
    for revision in store
        .revisions("/ws", "//a:b")
        .unwrap_or_else(|error| panic!("{case}: {error}"))
    {
        let number = (0..RESULTS).find(|number| key(*number) == revision.key).unwrap();
        assert_eq!(revision.parts, fixture::revision(number, None).parts, "{case}");
    }
    left
}

/// As [`check`], and everything can be published again and is then there.
fn check_and_repair(home: &Home, case: &str) -> u64 {
    let store = home.open();
    let left = check(&store, case);
    for number in 0..RESULTS {
        publish(&store, number);
    }
    store.flush().unwrap_or_else(|error| panic!("{case}: {error}"));
    // A bad byte in a page of keys misleads SQLite's searches without an error: what is stored there can be missed again.
    let mut missed = 0;
    for number in 0..RESULTS {
        let bytes = content(number);
        match blob_bytes(&store, &Digest::of(&bytes)) {
            Some(found) => assert!(found == bytes, "{case}: {number} again"),
            None => missed += 1,
        }
    }
    assert!(missed <= 1, "{case}: {missed} contents are missed again");
    assert!(check(&store, case) >= RESULTS - 1, "{case}");
    store
        .collect_garbage(Some(0))
        .unwrap_or_else(|error| panic!("{case}: {error}"));
    left
}

fn copy(home: &Home) -> Home {
    let copied = Home::new();
    let status = Command::new("cp")
        .arg("-a")
        .arg(home.heph())
        .arg(copied.heph())
        .status()
        .unwrap();
    assert!(status.success());
    copied
}

/// Damages a file of a copied home in many places, one a time.
fn damage_everywhere(home: &Home, file: impl Fn(&Home) -> PathBuf, per_page: u64) {
    let length = fs::metadata(file(home)).unwrap().len();
    let pages = length.div_ceil(PAGE);
    assert!(pages > 4, "{} has only {length} bytes", file(home).display());
    let mut survivors = 0;
    let mut cases = 0;
    let mut case = |name: String, damage: &dyn Fn(&Path)| {
        let copied = copy(home);
        damage(&file(&copied));
        survivors += check_and_repair(&copied, &name);
        cases += 1;
    };
    for page in 0..pages {
        for part in 0..per_page {
            // An odd step, so that headers, cell pointers, keys and values are all met.
            let offset = page * PAGE + (part * (PAGE / per_page) + page * 131 + part * 37) % PAGE;
            if offset < length {
                case(format!("byte {offset} flipped"), &|path| {
                    fixture::flip(path, offset)
                });
            }
        }
        case(format!("page {page} zeroed"), &|path| {
            use std::os::unix::fs::FileExt;
            let zeros = vec![0; usize::try_from(PAGE.min(length - page * PAGE)).unwrap()];
            let file = fs::File::options().write(true).open(path).unwrap();
            file.write_all_at(&zeros, page * PAGE).unwrap();
        });
        let cut = page * PAGE + (page * 977) % PAGE;
        case(format!("cut to {cut}"), &|path| {
            let file = fs::File::options().write(true).open(path).unwrap();
            file.set_len(cut.min(length)).unwrap();
        });
    }
    println!(
        "{cases} cases, {survivors} of {} results were still found",
        cases * RESULTS
    );
    assert!(survivors > 0, "a single bad byte costs everything");
}

#[test]
fn damage_of_the_index_is_a_miss() {
    damage_everywhere(&prepared(true), Home::index, 4);
}

#[test]
fn damage_of_the_log_is_a_miss() {
    let log = |home: &Home| {
        let mut path = home.index().into_os_string();
        path.push("-wal");
        PathBuf::from(path)
    };
    damage_everywhere(&prepared(false), log, 1);
}

/// Damage is done by another process: closing a file here would end SQLite's locks on it (fcntl(2)).
fn zero_from_outside(path: &Path, first_page: u64, pages: u64) {
    let status = Command::new("dd")
        .args(["if=/dev/zero", "bs=4096", "conv=notrunc", "status=none"])
        .arg(format!("of={}", path.display()))
        .arg(format!("seek={first_page}"))
        .arg(format!("count={pages}"))
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
fn a_new_generation_is_made_while_others_have_the_old_one_open() {
    let home = prepared(true);
    let without_memory = || home.open_with(|options| options.memory.capacity = 0);
    let (first, second) = (without_memory(), without_memory());
    assert_eq!(
        (check(&first, "sound"), check(&second, "sound")),
        (RESULTS, RESULTS)
    );
    let before = home.index();
    let pages = fs::metadata(&before).unwrap().len() / PAGE;
    zero_from_outside(&before, 1, pages - 1);
    // Pages that a connection has in memory are good; a new process sees only what is on the disk.
    let third = without_memory();
    check(&third, "damaged");
    publish(&third, 0);
    third.flush().unwrap();
    let after = home.index();
    assert_ne!(before, after, "a new generation");
    assert!(before.exists(), "others have the old one open");
    check(&first, "old one open");
    publish(&first, 1);
    publish(&second, 2);
    for store in [&first, &second] {
        let run = store.begin_run().unwrap();
        assert!(
            store.lookup(&key(0), &OriginFilter::local()).unwrap().is_some(),
            "followed"
        );
        drop(run);
        store.flush().unwrap();
    }
    for number in 0..3 {
        let found = third.lookup(&key(number), &OriginFilter::local()).unwrap();
        assert!(found.is_some(), "{number}");
    }
    drop((first, second, third));
    let last = home.open();
    last.clear().unwrap();
    assert!(!before.exists(), "nobody has it open any more");
}

#[test]
fn blobs_that_an_old_generation_names_stay_while_it_is_open() {
    let home = prepared(true);
    let old = home.open_with(|options| options.memory.capacity = 0);
    let digest = Digest::of(&content(0));
    assert!(old.blob(&digest, false).unwrap().is_some());
    let new = home.open();
    new.clear().unwrap();
    assert_eq!(new.blob(&digest, false).unwrap(), None);
    assert!(blob_bytes(&old, &digest) == Some(content(0)), "still named");
    let run = old.begin_run().unwrap();
    assert_eq!(old.blob(&digest, false).unwrap(), None, "it has followed");
    drop(run);
    drop(old);
    new.clear().unwrap();
    assert_eq!(home.blob_files(), Vec::<PathBuf>::new());
}

#[test]
fn the_name_of_the_generation_may_be_damaged_or_gone() {
    for text in [
        None,
        Some(""),
        Some("garbage\n"),
        Some("1-9999\n"),
        Some("\0\0\0\0"),
    ] {
        let home = prepared(true);
        let current = home.heph().join("cache/CURRENT");
        match text {
            None => fs::remove_file(&current).unwrap(),
            Some(text) => fs::write(&current, text).unwrap(),
        }
        let store = home.open();
        let left = check(&store, &format!("CURRENT is {text:?}"));
        if text != Some("1-9999\n") {
            assert_eq!(left, RESULTS, "the index is still there: {text:?}");
        }
        publish(&store, 0);
        store.flush().unwrap();
        assert!(
            home.open()
                .lookup(&key(0), &OriginFilter::local())
                .unwrap()
                .is_some()
        );
    }
}

#[test]
fn the_name_of_another_format_is_left_alone() {
    let home = prepared(true);
    let current = home.heph().join("cache/CURRENT");
    fs::write(&current, "2-0007\n1-0001\n").unwrap();
    let store = home.open();
    assert_eq!(check(&store, "two formats"), RESULTS);
    store.clear().unwrap();
    assert_eq!(fs::read_to_string(&current).unwrap(), "1-0002\n2-0007\n");
}

#[test]
fn a_cache_that_is_removed_while_open_is_made_again() {
    for again in [false, true] {
        let home = prepared(true);
        let store = home.open();
        fs::remove_dir_all(home.heph().join("cache")).unwrap();
        if again {
            // Somebody else has made it anew, so its generation has the same number.
            home.open();
        }
        check(&store, "removed");
        let run = store.begin_run().unwrap();
        assert_eq!(check(&store, "removed"), 0);
        for number in 0..RESULTS {
            publish(&store, number);
        }
        store.flush().unwrap();
        assert_eq!(check(&home.open(), "made again"), RESULTS);
        drop(run);
    }
}
