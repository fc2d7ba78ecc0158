//! Locks keep equal work from being done twice, across threads and processes, and end with their holder.

#![expect(
    clippy::unwrap_used,
    reason = "a test stops where something is not as it should be"
)]

mod fixture;

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fixture::{Home, Process, key};
use heph_cache::{Holder, LockBackend, Store};

const LONG: Duration = Duration::from_secs(60);
const ROLE: &str = "HEPH_TEST_HOME";

/// Another process that holds the lock of key 1 until it is killed.
fn holder(home: &Home) -> Process {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "role_hold", "--nocapture"])
        .env(ROLE, home.heph())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let child = Process(child);
    let store = home.open();
    let deadline = Instant::now() + LONG;
    while store.locks().try_acquire(&key(1)).unwrap().is_some() {
        assert!(Instant::now() < deadline, "the other process takes no lock");
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}

/// Not a test of its own: what the other process does.
#[test]
fn role_hold() {
    let Ok(home) = std::env::var(ROLE) else { return };
    let store = Store::open(std::path::Path::new(&home), fixture::options()).unwrap();
    let _guard = store.locks().acquire(&key(1), LONG).unwrap().unwrap();
    loop {
        std::thread::park();
    }
}

#[test]
fn a_lock_is_held_by_one_and_freed_on_drop() {
    for backend in [LockBackend::Fs, LockBackend::Mem] {
        let home = Home::new();
        let store = home.open_with(|options| options.lock = backend);
        let guard = store.locks().try_acquire(&key(1)).unwrap().unwrap();
        assert!(store.locks().try_acquire(&key(1)).unwrap().is_none());
        assert_eq!(store.locks().holder(&key(1)), Holder::Process(std::process::id()));
        let other = store.locks().try_acquire(&key(2)).unwrap();
        assert!(other.is_some(), "another key is free");
        let patience = Duration::from_millis(20);
        assert!(store.locks().acquire(&key(1), patience).unwrap().is_none());
        drop(guard);
        assert!(store.locks().try_acquire(&key(1)).unwrap().is_some());
    }
}

#[test]
fn two_stores_exclude_each_other_by_file_and_not_by_memory() {
    for (backend, excluded) in [(LockBackend::Fs, true), (LockBackend::Mem, false)] {
        let home = Home::new();
        let open = || home.open_with(|options| options.lock = backend);
        let (first, second) = (open(), open());
        let _guard = first.locks().try_acquire(&key(1)).unwrap().unwrap();
        assert_eq!(second.locks().try_acquire(&key(1)).unwrap().is_none(), excluded);
    }
}

#[test]
fn threads_are_woken_and_take_turns() {
    let home = Home::new();
    let store = home.open();
    let inside = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..50 {
                    let guard = store.locks().acquire(&key(1), LONG).unwrap().unwrap();
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two inside");
                    inside.fetch_sub(1, Ordering::SeqCst);
                    drop(guard);
                }
            });
        }
    });
}

#[test]
fn a_waiter_learns_who_holds_it_and_gets_it_when_that_one_is_killed() {
    let home = Home::new();
    let store = home.open();
    let mut child = holder(&home);
    let deadline = Instant::now() + LONG;
    while store.locks().holder(&key(1)) != Holder::Process(child.0.id()) {
        assert!(Instant::now() < deadline, "the holder is never named");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(
        store
            .locks()
            .acquire(&key(1), Duration::from_millis(30))
            .unwrap()
            .is_none()
    );
    child.kill();
    let guard = store.locks().acquire(&key(1), LONG).unwrap();
    assert!(guard.is_some());
    assert_eq!(store.locks().holder(&key(1)), Holder::Process(std::process::id()));
}

#[test]
fn locks_survive_a_cache_that_is_cleared() {
    let home = Home::new();
    let (first, second) = (home.open(), home.open());
    let _guard = first.locks().try_acquire(&key(1)).unwrap().unwrap();
    second.clear().unwrap();
    assert!(second.locks().try_acquire(&key(1)).unwrap().is_none());
}
