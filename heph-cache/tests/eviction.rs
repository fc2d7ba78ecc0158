//! Eviction takes the least recently used, and never what a live run uses.

#![expect(
    clippy::unwrap_used,
    reason = "a test stops where something is not as it should be"
)]

mod fixture;

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fixture::{Home, blob_bytes, key, publication};
use heph_cache::*;
use heph_common::Digest;

const GRACE: Duration = Duration::from_secs(2);

fn content(number: u64) -> Vec<u8> {
    let length = if number.is_multiple_of(4) { 66_000 } else { 500 };
    number
        .to_le_bytes()
        .iter()
        .copied()
        .cycle()
        .take(length)
        .collect()
}

fn publish(store: &Store, number: u64) {
    store
        .publish(publication(number, &[("out", &content(number))]))
        .unwrap();
}

/// Whether a result is there, and then with its blob.
fn is_there(store: &Store, number: u64) -> bool {
    let Some(manifest) = store.lookup(&key(number), &OriginFilter::local()).unwrap() else {
        return false;
    };
    assert_eq!(manifest.key, key(number));
    let found = blob_bytes(store, &Digest::of(&content(number)));
    assert!(
        found == Some(content(number)),
        "{number} is there without its blob"
    );
    true
}

/// Makes everything that is stored `seconds` older, as if the clock had moved on.
fn age(home: &Home, seconds: i64) {
    let connection = rusqlite::Connection::open(home.index()).unwrap();
    connection.busy_timeout(Duration::from_secs(10)).unwrap();
    connection
        .execute("UPDATE action SET used=used-?1", [seconds])
        .unwrap();
    connection
        .execute("UPDATE blob SET freed=freed-?1 WHERE freed>0", [seconds])
        .unwrap();
    connection
        .execute("UPDATE record SET time=time-1000*?1", [seconds])
        .unwrap();
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(Instant::now() < deadline, "{what} takes too long");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_least_recently_used_go_first() {
    let home = Home::new();
    let store = home.open();
    for number in 0..100 {
        publish(&store, number);
    }
    store.flush().unwrap();
    age(&home, 7200);
    // A new process, for the memory tier knows better when they were used.
    drop(store);
    let store = home.open();
    let used: Vec<u64> = (0..100).step_by(5).collect();
    for number in &used {
        assert!(is_there(&store, *number));
    }
    let before = store.stats().unwrap();
    let total = before.file_bytes + before.index_bytes;
    let report = store.collect_garbage(Some(total / 2)).unwrap();
    assert!(report.remaining_bytes <= total / 2, "{report:?}");
    assert!(report.actions > 0 && report.bytes > 0, "{report:?}");
    for number in used {
        assert!(is_there(&store, number), "{number} was used last");
    }
    assert!(store.stats().unwrap().actions > 20, "no more than needed goes");
}

#[test]
fn the_limit_is_kept_in_the_background() {
    let home = Home::new();
    let limit = 4 << 20;
    let store = home.open_with(|options| options.max_size = Some(limit));
    for number in 0..400 {
        publish(&store, number);
    }
    let size = || {
        let stats = store.stats().unwrap();
        stats.file_bytes + stats.index_bytes
    };
    let files = || -> u64 {
        let files = home.blob_files();
        let metadata = files.iter().filter_map(|path| path.metadata().ok());
        metadata.map(|metadata| metadata.len()).sum()
    };
    // Files go after the rows that named them.
    wait_until("getting below the limit", || {
        publish(&store, 400);
        store.flush().unwrap();
        size() <= limit && files() <= limit
    });
    assert!(is_there(&store, 400));
}

/// Ends the other threads also when this one fails.
struct Finally<'a>(&'a AtomicBool);

impl Drop for Finally<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_live_run_keeps_what_it_uses_under_load() {
    let home = Home::new();
    let old = 0..300u64;
    let store = home.open();
    for number in old.clone() {
        publish(&store, number);
    }
    store.flush().unwrap();
    age(&home, 7200);
    drop(store);
    let limited = || {
        home.open_with(|options| {
            options.max_size = Some(1 << 20);
            options.grace = GRACE;
        })
    };
    let done = AtomicBool::new(false);
    let (runner, collector, publisher) = (limited(), limited(), limited());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                collector.collect_garbage(Some(0)).unwrap();
            }
        });
        scope.spawn(|| {
            let run = publisher.begin_run().unwrap();
            for number in 1000.. {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                publish(&publisher, number);
                assert!(is_there(&publisher, number), "{number} was published in this run");
            }
            drop(run);
        });
        let _done = Finally(&done);
        let run = runner.begin_run().unwrap();
        // Some of the old ones may have gone before the run began, or may be near their end; what it has found
        // once stays.
        let found: Vec<u64> = old.clone().filter(|number| is_there(&runner, *number)).collect();
        let mine = 10_000..10_060u64;
        for number in mine.clone() {
            publish(&runner, number);
        }
        let until = Instant::now() + GRACE * 3;
        while Instant::now() < until {
            let fresh = home.open();
            for number in found.iter().copied().chain(mine.clone().take(20)) {
                assert!(is_there(&runner, number), "{number} is used by a live run");
            }
            runner.flush().unwrap();
            for number in found.iter().copied().chain(mine.clone()) {
                assert!(is_there(&fresh, number), "{number} is used by a live run");
            }
        }
        drop(run);
    });
    // With the runs their claims end.
    let report = collector.collect_garbage(Some(0)).unwrap();
    assert_eq!(collector.stats().unwrap().actions, 0, "{report:?}");
}

#[test]
fn what_is_chosen_goes_after_the_grace_unless_it_is_used() {
    let home = Home::new();
    let store = home.open_with(|options| options.grace = GRACE);
    for number in 0..20 {
        publish(&store, number);
    }
    store.flush().unwrap();
    age(&home, 7200);
    drop(store);
    let store = home.open_with(|options| options.grace = GRACE);
    let run = store.begin_run().unwrap();
    let token = store.presence_token().unwrap();
    let report = store.collect_garbage(Some(0)).unwrap();
    assert_eq!((report.actions, report.doomed), (0, 20));
    assert!(
        !store.unchanged_since(&token),
        "a caller that looks nothing up must begin to"
    );
    for number in 0..5 {
        assert!(is_there(&store, number), "there is still time");
    }
    let keys: Vec<Digest> = (5..10).map(key).collect();
    assert_eq!(
        store.contains_all(&keys, &OriginFilter::local()).unwrap(),
        [true; 5]
    );
    store.flush().unwrap();
    wait_until("deleting", || store.stats().unwrap().actions == 10);
    let left = (0..20).filter(|number| is_there(&store, *number)).count();
    assert_eq!(left, 10);
    drop(run);
}

#[test]
fn a_killed_runs_claim_ends() {
    const ROLE: &str = "HEPH_TEST_HOME";
    if let Ok(home) = std::env::var(ROLE) {
        let store = Store::open(std::path::Path::new(&home), fixture::options()).unwrap();
        let _run = store.begin_run().unwrap();
        println!("began");
        loop {
            std::thread::park();
        }
    }
    let home = Home::new();
    let store = home.open();
    for number in 0..10 {
        publish(&store, number);
    }
    store.flush().unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_killed_runs_claim_ends", "--nocapture"])
        .env(ROLE, home.heph())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut child = fixture::Process(child);
    wait_until("beginning", || store.stats().unwrap().live_runs == 1);
    let report = store.collect_garbage(Some(0)).unwrap();
    assert_eq!(
        (report.actions, report.doomed),
        (0, 0),
        "all was used within the hour"
    );
    child.kill();
    assert_eq!(store.stats().unwrap().live_runs, 0);
    assert_eq!(store.collect_garbage(Some(0)).unwrap().actions, 10);
    assert_eq!(home.blob_files(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn blobs_of_a_replaced_result_stay_while_a_run_may_use_them() {
    let home = Home::new();
    let store = home.open();
    let run = store.begin_run().unwrap();
    publish(&store, 4);
    store
        .publish(publication(4, &[("out", b"another result of the same key")]))
        .unwrap();
    store.flush().unwrap();
    store.collect_garbage(Some(0)).unwrap();
    assert!(blob_bytes(&store, &Digest::of(&content(4))) == Some(content(4)));
    drop(run);
    store.collect_garbage(None).unwrap();
    assert_eq!(blob_bytes(&store, &Digest::of(&content(4))), None);
}

#[test]
fn files_that_killed_writers_left_are_swept() {
    let home = Home::new();
    let store = home.open();
    publish(&store, 0);
    store.flush().unwrap();
    let directory = home.blob_files()[0].parent().unwrap().to_owned();
    let orphans = [
        directory.join(Digest::of(b"nobody").to_hex()),
        directory.join(".unfinished"),
    ];
    for orphan in &orphans {
        std::fs::write(orphan, b"x").unwrap();
    }
    assert_eq!(store.sweep().unwrap().blobs, 0, "they may be somebody's work");
    store.clear().unwrap();
    assert_eq!(home.blob_files(), Vec::<std::path::PathBuf>::new());
}

fn publish_revision(store: &Store, number: u64) {
    let mut publication = publication(number, &[("out", &content(number))]);
    publication.record = Some(fixture::revision(number, Some(1)));
    store.publish(publication).unwrap();
}

#[test]
fn what_a_targets_history_lets_go_is_gone_after_the_run() {
    let home = Home::new();
    let store = home.open();
    let run = store.begin_run().unwrap();
    for number in 0..200 {
        publish_revision(&store, number);
    }
    store.flush().unwrap();
    assert!(is_there(&store, 0), "the run may use it");
    drop(run);
    store.flush().unwrap();
    let left: Vec<u64> = (0..200).filter(|number| is_there(&store, *number)).collect();
    assert_eq!(left, [199]);
}

#[test]
fn what_a_targets_history_lets_go_waits_for_the_runs_of_others() {
    let home = Home::new();
    let (store, other) = (home.open(), home.open());
    let run = store.begin_run().unwrap();
    let others_run = other.begin_run().unwrap();
    publish_revision(&store, 0);
    publish_revision(&store, 1);
    drop(run);
    store.flush().unwrap();
    assert!(is_there(&other, 0), "the other run may use it");
    drop(others_run);
    // A process that was killed leaves it to the next one that writes.
    drop(store);
    let store = home.open();
    let run = store.begin_run().unwrap();
    publish_revision(&store, 2);
    store.flush().unwrap();
    drop(run);
    store.flush().unwrap();
    assert_eq!(
        [0, 1, 2].map(|number| is_there(&store, number)),
        [false, false, true]
    );
}

#[test]
fn what_a_targets_history_lets_go_is_gone_when_everything_is_written() {
    let home = Home::new();
    let store = home.open();
    // The run ends before what it published is written.
    let run = store.begin_run().unwrap();
    publish_revision(&store, 0);
    publish_revision(&store, 1);
    drop(run);
    store.flush().unwrap();
    assert_eq!([0, 1].map(|number| is_there(&store, number)), [false, true]);
    // Nor does it take a run.
    publish_revision(&store, 2);
    store.flush().unwrap();
    assert_eq!([1, 2].map(|number| is_there(&store, number)), [false, true]);
}

#[test]
fn facts_go_with_the_results_of_their_time() {
    let home = Home::new();
    let store = home.open();
    store.put_record("facts", b"old", &[0; 4000]).unwrap();
    publish(&store, 0);
    store.flush().unwrap();
    age(&home, 3600);
    store.put_record("facts", b"new", b"value").unwrap();
    publish(&store, 1);
    store.flush().unwrap();
    let fact = |key: &[u8]| store.get_record("facts", key).unwrap();
    store.collect_garbage(None).unwrap();
    assert!(fact(b"old").is_some(), "there is room");
    let size = store.stats().unwrap().index_bytes + store.stats().unwrap().file_bytes;
    store.collect_garbage(Some(size - 1)).unwrap();
    assert_eq!((is_there(&store, 0), is_there(&store, 1)), (false, true));
    assert_eq!((fact(b"old"), fact(b"new")), (None, Some(b"value".to_vec())));
    store.collect_garbage(Some(0)).unwrap();
    assert_eq!(fact(b"new"), None);
}
