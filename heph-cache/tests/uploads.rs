//! The queue of uploads, and what was purged, as a coordinator can rely on them.

mod fixture;

use std::time::Duration;

use fixture::{Home, key, publication};
use heph_cache::*;
use heph_common::Digest;

const LONG: Duration = Duration::from_secs(600);

fn queued(number: u64) -> Publication {
    let mut queued = publication(number, &[("a", b"one")]);
    queued.uploads = vec!["shared".to_owned()];
    queued
}

fn keys(leased: &Leased) -> Vec<Digest> {
    leased.own.iter().map(|upload| upload.key).collect()
}

#[test]
fn what_waits_is_one_owners_until_it_lets_go_dies_or_its_time_is_over() {
    let home = Home::new();
    let (store, other) = (home.open(), home.open());
    store.publish(queued(1)).unwrap();
    store.publish(queued(2)).unwrap();
    store.flush().unwrap();
    let caches = ["shared".to_owned()];
    let (one, two) = (store.lessee().unwrap(), other.lessee().unwrap());
    let lease =
        |store: &Store, lessee: &Lessee, length| store.lease_uploads(lessee, &caches, length).unwrap();
    assert_eq!(keys(&lease(&store, &one, LONG)), [key(1), key(2)]);
    let refused = lease(&other, &two, LONG);
    assert_eq!((refused.own.len(), refused.others), (0, 2));
    // What comes later is nobody's yet; other caches are not meant.
    store.publish(queued(3)).unwrap();
    store.flush().unwrap();
    assert_eq!(keys(&lease(&other, &two, LONG)), [key(3)]);
    let elsewhere = other.lease_uploads(&two, &["another".to_owned()], LONG).unwrap();
    assert_eq!((elsewhere.own.len(), elsewhere.others), (0, 0));

    store.release_uploads(&one).unwrap();
    store.flush().unwrap();
    assert_eq!(
        keys(&lease(&other, &two, Duration::ZERO)),
        [key(1), key(2), key(3)]
    );
    std::thread::sleep(Duration::from_millis(2));
    assert_eq!(
        keys(&lease(&store, &one, LONG)),
        [key(1), key(2), key(3)],
        "their time is over"
    );
    drop(one);
    assert_eq!(
        keys(&lease(&other, &two, LONG)),
        [key(1), key(2), key(3)],
        "its owner is gone"
    );
}

#[test]
fn a_replacement_that_comes_while_something_is_sent_waits_on() {
    let home = Home::new();
    let store = home.open();
    store.publish(queued(1)).unwrap();
    store.flush().unwrap();
    let before = store.uploads().unwrap().remove(0);
    assert!(!before.replace);
    let mut forced = queued(1);
    forced.replace = true;
    store.publish(forced).unwrap();
    store.upload_failed(&key(1), "shared").unwrap();
    store.sent(&before).unwrap();
    store.flush().unwrap();
    let after = store.uploads().unwrap().remove(0);
    assert_eq!((after.replace, after.tries), (true, 1));
    store.sent(&after).unwrap();
    store.flush().unwrap();
    assert_eq!(store.uploads().unwrap(), []);
}

#[test]
fn what_was_purged_is_gone_with_its_uploads_and_older_results_stay_away() {
    let home = Home::new();
    let store = home.open();
    let all = OriginFilter::with_remote([Digest::of(b"origin")]);
    let made_at = |millis: u64, origin: Origin| {
        let mut made = queued(1);
        made.manifest.created_unix_ms = millis;
        made.origin = origin;
        if origin != Origin::Local {
            made.uploads.clear();
        }
        made
    };
    let remote = Origin::Remote(Digest::of(b"origin"));
    store.publish(made_at(1000, Origin::Local)).unwrap();
    store.publish(made_at(1000, remote)).unwrap();
    store.purge(&key(1), 2000).unwrap();
    assert_eq!(store.lookup(&key(1), &all).unwrap(), None);
    assert_eq!(store.uploads().unwrap(), []);
    assert_eq!(store.purged_until(&key(1)).unwrap(), Some(2000));
    assert_eq!(store.purged_until(&key(2)).unwrap(), None);

    // One that was on its way.
    store.publish(made_at(2000, remote)).unwrap();
    store.flush().unwrap();
    assert_eq!(home.open().lookup(&key(1), &all).unwrap(), None);
    store.publish(made_at(2001, remote)).unwrap();
    store.publish(made_at(2001, Origin::Local)).unwrap();
    store.flush().unwrap();
    assert_eq!(store.results(&key(1)).unwrap().len(), 2);

    // An older purge takes nothing back, and nothing newer.
    store.purge(&key(1), 1500).unwrap();
    assert_eq!(store.purged_until(&key(1)).unwrap(), Some(2000));
    assert_eq!(store.results(&key(1)).unwrap().len(), 2);
    assert_eq!(store.uploads().unwrap().len(), 1);
}
