//! What was published stays published when the index is given up, replaced or removed while it is in use.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fixture;

use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use fixture::{Home, blob_bytes, key, publication};
use heph_cache::*;
use heph_common::Digest;

fn publish(store: &Store, number: u64) {
    let bytes = number.to_le_bytes();
    let mut publication = publication(number, &[("out", &bytes), ("large", &large(number))]);
    publication.record = Some(fixture::revision(number, None));
    store.publish(publication).unwrap();
}

/// Content that is a file.
fn large(number: u64) -> Vec<u8> {
    number.to_le_bytes().repeat(10_000)
}

fn found(store: &Store, number: u64) -> bool {
    let manifest = store.lookup(&key(number), &OriginFilter::local()).unwrap();
    if manifest.is_some() {
        let contents = [number.to_le_bytes().to_vec(), large(number)];
        for bytes in contents {
            assert!(
                blob_bytes(store, &Digest::of(&bytes)) == Some(bytes),
                "content of {number}"
            );
        }
    }
    manifest.is_some()
}

/// A store that answers from the index alone.
fn open(home: &Home) -> Store {
    home.open_with(|options| options.memory.capacity = 0)
}

/// Damages all of the index but its first page. By another process: closing a file here would end SQLite's locks
/// on it (fcntl(2)).
fn damage(home: &Home) {
    let index = home.index();
    let row = |_: &rusqlite::Row<'_>| Ok(());
    let connection = rusqlite::Connection::open(&index).unwrap();
    // Others may be writing: then the log keeps some good pages.
    let _ = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], row);
    let pages = fs::metadata(&index).unwrap().len() / 4096;
    let status = Command::new("dd")
        .args(["if=/dev/zero", "bs=4096", "conv=notrunc", "status=none", "seek=1"])
        .arg(format!("of={}", index.display()))
        .arg(format!("count={}", pages - 1))
        .status()
        .unwrap();
    assert!(status.success());
}

fn remove_cache(home: &Home) {
    fs::remove_dir_all(home.heph().join("cache")).unwrap();
}

#[test]
fn what_was_committed_outlives_damage_that_a_lookup_finds() {
    let home = Home::new();
    let store = open(&home);
    (0..20).for_each(|number| publish(&store, number));
    store.flush().unwrap();
    let before = home.index();
    damage(&home);
    assert!((0..20).all(|number| found(&store, number)));
    assert_ne!(before, home.index(), "the damage was found");
    let other = open(&home);
    assert!((0..20).all(|number| found(&other, number)));
    assert_eq!(other.revisions("/ws", "//a:b").unwrap().len(), 20);
}

#[test]
fn what_was_committed_outlives_damage_that_a_publish_finds() {
    let home = Home::new();
    let store = open(&home);
    (0..20).for_each(|number| publish(&store, number));
    store.flush().unwrap();
    store.forget(&key(7)).unwrap();
    let before = home.index();
    damage(&home);
    publish(&store, 20);
    store.flush().unwrap();
    assert_ne!(before, home.index(), "the damage was found");
    let other = open(&home);
    for number in 0..=20 {
        assert_eq!(found(&other, number), number != 7, "{number}");
    }
}

#[test]
fn results_follow_a_generation_that_another_process_has_made() {
    let home = Home::new();
    let store = open(&home);
    let run = store.begin_run().unwrap();
    publish(&store, 0);
    store.flush().unwrap();
    let before = home.index();
    damage(&home);
    let other = open(&home);
    assert_ne!(before, home.index(), "the other has found the damage");
    assert!(!found(&other, 0), "what was in the old one is gone with it");
    publish(&store, 1);
    store.flush().unwrap();
    for number in 0..2 {
        assert!(found(&store, number) && found(&other, number), "{number}");
    }
    // What is committed last follows when the run ends.
    damage(&home);
    let third = open(&home);
    drop(run);
    assert!((0..2).all(|number| found(&third, number)));
}

#[test]
fn nothing_comes_back_that_was_cleared_or_removed() {
    let clear = |home: &Home| assert!(open(home).clear().is_ok());
    let remove_and_use = |home: &Home| {
        remove_cache(home);
        drop(home.open());
    };
    let empty: [&dyn Fn(&Home); 3] = [&clear, &remove_cache, &remove_and_use];
    for empty in empty {
        let home = Home::new();
        let store = open(&home);
        publish(&store, 0);
        store.flush().unwrap();
        empty(&home);
        publish(&store, 1);
        store.flush().unwrap();
        let other = open(&home);
        for store in [&store, &other] {
            assert!(!found(store, 0), "it was thrown away");
            assert!(found(store, 1), "it was published afterwards");
        }
    }
}

#[test]
fn an_index_that_was_made_anew_is_not_taken_for_the_old_one() {
    let home = Home::new();
    let store = open(&home);
    let token = store.presence_token().unwrap();
    assert!(store.unchanged_since(&token));
    drop(store);
    remove_cache(&home);
    // The first generation again, without a deletion, as before.
    assert!(!open(&home).unchanged_since(&token));
}

#[test]
fn nothing_is_lost_when_generations_are_given_up_again_and_again_under_writers() {
    const WRITERS: u64 = 2;
    const EACH: u64 = 400;
    let home = Home::new();
    let published = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (home, published) = (&home, &published);
                scope.spawn(move || {
                    let store = open(home);
                    let run = store.begin_run().unwrap();
                    for number in writer * EACH..(writer + 1) * EACH {
                        publish(&store, number);
                        assert!(found(&store, number), "{number} is visible at once");
                        if number.is_multiple_of(7) {
                            store.flush().unwrap();
                            assert!(found(&store, number), "{number} is committed");
                        }
                        published.fetch_add(1, Ordering::Relaxed);
                    }
                    drop(run);
                })
            })
            .collect();
        for round in 1..=5 {
            while published.load(Ordering::Relaxed) < round * 120
                && !writers.iter().all(|writer| writer.is_finished())
            {
                std::thread::yield_now();
            }
            damage(&home);
            drop(open(&home));
        }
    });
    let store = open(&home);
    assert!(store.stats().unwrap().generation > 3, "generations were given up");
    let lost: Vec<u64> = (0..WRITERS * EACH)
        .filter(|number| !found(&store, *number))
        .collect();
    assert_eq!(lost, Vec::<u64>::new());
}

#[test]
fn what_is_evicted_from_a_new_generation_is_not_found_in_memory() {
    let home = Home::new();
    let store = home.open();
    for last in [false, true] {
        publish(&store, 0);
        assert!(found(&store, 0));
        assert_eq!(store.collect_garbage(Some(0)).unwrap().actions, 1);
        assert!(!found(&store, 0), "evicted, after a new generation: {last}");
        store.clear().unwrap();
    }
}

/// An index of another format, as another version of heph would leave it, that names one blob.
fn foreign_index(home: &Home, name: &str, blob: &Digest, days: u64) {
    let directory = home.heph().join("cache/db").join(name);
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("lock"), "").unwrap();
    let connection = rusqlite::Connection::open(directory.join("index.db")).unwrap();
    let make = "CREATE TABLE blob(digest BLOB, variant INTEGER, inode INTEGER)";
    connection.execute(make, []).unwrap();
    let row = (blob.as_bytes(), 1, 1);
    connection
        .execute("INSERT INTO blob VALUES (?1, ?2, ?3)", row)
        .unwrap();
    drop(connection);
    let written = SystemTime::now() - Duration::from_secs(days * 24 * 3600);
    for file in fs::read_dir(&directory).unwrap() {
        let file = fs::File::options()
            .append(true)
            .open(file.unwrap().path())
            .unwrap();
        file.set_modified(written).unwrap();
    }
}

#[test]
fn indexes_of_other_formats_go_when_nobody_has_used_them_for_a_month() {
    let home = Home::new();
    let store = home.open();
    publish(&store, 0);
    store.flush().unwrap();
    let blob = Digest::of(&large(0));
    let database = home.heph().join("cache/db");
    for (name, days) in [("2-0007", 31), ("3-0001", 29), ("0-0002", 400)] {
        foreign_index(&home, name, &blob, days);
    }
    let used = fs::File::open(database.join("0-0002/lock")).unwrap();
    used.lock_shared().unwrap();
    store.clear().unwrap();
    let is_there = |name: &str| database.join(name).exists();
    assert!(!is_there("2-0007"), "nobody's");
    assert!(is_there("3-0001"), "its heph may come back");
    assert!(is_there("0-0002"), "in use");
    assert_eq!(home.blob_files().len(), 1, "two other indexes name it");
    drop(used);
    fs::remove_dir_all(database.join("3-0001")).unwrap();
    store.clear().unwrap();
    assert!(!is_there("0-0002"));
    assert_eq!(home.blob_files().len(), 0);
}
