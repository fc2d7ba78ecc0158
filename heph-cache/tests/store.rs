//! What a caller of the store can rely on.

mod fixture;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::Duration;

use bytes::Bytes;
use fixture::{Home, blob_bytes, key, manifest_of, options, publication};
use heph_cache::*;
use heph_common::Digest;

#[test]
fn what_is_published_is_found_at_once_later_and_by_others() {
    let home = Home::new();
    let store = home.open();
    let published = store
        .publish(publication(1, &[("a", b"one"), ("dir/b", b"two")]))
        .unwrap();
    let local = OriginFilter::local();
    assert_eq!(store.lookup(&key(1), &local).unwrap(), Some(published.clone()));
    assert_eq!(blob_bytes(&store, &Digest::of(b"one")).unwrap(), b"one");
    store.flush().unwrap();
    let other = home.open();
    assert_eq!(other.lookup(&key(1), &local).unwrap(), Some(published));
    assert_eq!(blob_bytes(&other, &Digest::of(b"two")).unwrap(), b"two");
    assert_eq!(other.lookup(&key(2), &local).unwrap(), None);
    assert_eq!(
        other.contains_all(&[key(2), key(1)], &local).unwrap(),
        [false, true]
    );
}

#[test]
fn dropping_the_store_writes_what_waits() {
    let home = Home::new();
    home.open().publish(publication(1, &[("a", b"one")])).unwrap();
    assert!(
        home.open()
            .lookup(&key(1), &OriginFilter::local())
            .unwrap()
            .is_some()
    );
}

#[test]
fn large_artifacts_are_files_with_modes_and_small_ones_are_not() {
    let home = Home::new();
    let store = home.open();
    let large = vec![7; 100_000];
    let mut publication = publication(1, &[("large", &large), ("small", b"s")]);
    publication.manifest.outputs.push(Output {
        group: String::new(),
        path: "tool".to_owned(),
        entry: Entry::File {
            content: Content {
                digest: Digest::of(&large),
                size: large.len() as u64,
            },
            executable: true,
        },
    });
    publication.blobs.push(NewBlob {
        digest: Digest::of(&large),
        executable: true,
        source: BlobSource::Bytes(Bytes::from(large.clone())),
    });
    store.publish(publication).unwrap();
    for (executable, mode) in [(false, 0o444), (true, 0o555)] {
        let Some(Blob::File(path)) = store.blob(&Digest::of(&large), executable).unwrap() else {
            panic!("a large blob is a file");
        };
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, mode);
        assert!(fs::read(path).unwrap() == large);
    }
    assert_eq!(
        store.blob(&Digest::of(b"s"), false).unwrap(),
        Some(Blob::Inline(Bytes::from_static(b"s")))
    );
    store.flush().unwrap();
    let stats = store.stats().unwrap();
    assert_eq!((stats.actions, stats.inline_blobs, stats.file_blobs), (1, 1, 2));
    assert_eq!(stats.file_bytes, 200_000);
}

#[test]
fn a_file_is_moved_in_unless_it_has_other_links() {
    let home = Home::new();
    let store = home.open();
    let large = vec![3; 80_000];
    for (number, links) in [(1, 1), (2, 2)] {
        let source = home.path().join(format!("out-{number}"));
        let bytes = [large.clone(), vec![number]].concat();
        fs::write(&source, &bytes).unwrap();
        if links == 2 {
            fs::hard_link(&source, home.path().join("other-name")).unwrap();
        }
        let inode = fs::metadata(&source).unwrap().ino();
        let mut publication = publication(u64::from(number), &[("out", &bytes)]);
        publication.blobs[0].source = BlobSource::File(source.clone());
        store.publish(publication).unwrap();
        assert!(!source.exists());
        let Some(Blob::File(path)) = store.blob(&Digest::of(&bytes), false).unwrap() else {
            panic!("a large blob is a file");
        };
        assert_eq!(fs::metadata(path).unwrap().ino() == inode, links == 1);
    }
}

#[test]
fn wrong_publications_are_refused_and_leave_nothing() {
    let home = Home::new();
    let store = home.open();
    let local = OriginFilter::local();
    let mut wrong = publication(1, &[("a", b"one")]);
    wrong.blobs[0].source = BlobSource::Bytes(Bytes::from_static(b"two"));
    assert!(matches!(
        store.publish(wrong),
        Err(StoreError::WrongContent { .. })
    ));
    let mut missing = publication(2, &[("a", b"one")]);
    missing.blobs.clear();
    assert!(matches!(
        store.publish(missing),
        Err(StoreError::MissingContent { .. })
    ));
    let outside = publication(3, &[("../a", b"one")]);
    assert!(matches!(store.publish(outside), Err(StoreError::Manifest(_))));
    let source = home.path().join("source");
    fs::write(&source, vec![1; 70_000]).unwrap();
    let mut changed = publication(4, &[("a", &vec![2; 70_000])]);
    changed.blobs[0].source = BlobSource::CopyOf(source);
    assert!(matches!(
        store.publish(changed),
        Err(StoreError::WrongContent { .. })
    ));
    for number in 1..=4 {
        assert_eq!(store.lookup(&key(number), &local).unwrap(), None);
    }
    store.flush().unwrap();
    assert_eq!(store.stats().unwrap().actions, 0);
}

#[test]
fn content_that_is_stored_need_not_be_given_again() {
    let home = Home::new();
    let store = home.open();
    let large = vec![9; 70_000];
    store
        .publish(publication(1, &[("a", b"one"), ("b", &large)]))
        .unwrap();
    let mut again = publication(2, &[("c", b"one"), ("d", &large)]);
    again.blobs.clear();
    store.publish(again).unwrap();
    store.flush().unwrap();
    store.forget(&key(1)).unwrap();
    store.collect_garbage(None).unwrap();
    assert!(blob_bytes(&store, &Digest::of(&large)).unwrap() == large);
    store.forget(&key(2)).unwrap();
    store.collect_garbage(None).unwrap();
    let reopened = home.open();
    assert_eq!(blob_bytes(&reopened, &Digest::of(&large)), None);
    assert_eq!(store.stats().unwrap().file_bytes, 0);
}

#[test]
fn only_origins_that_a_request_accepts_are_read() {
    let home = Home::new();
    let store = home.open();
    let scope = Digest::of(b"scope");
    let mut remote = publication(1, &[("a", b"remote")]);
    remote.origin = Origin::Remote(scope);
    store.publish(remote).unwrap();
    let local = OriginFilter::local();
    let accepting = OriginFilter::with_remote([scope]);
    for flushed in [false, true] {
        if flushed {
            store.flush().unwrap();
        }
        assert_eq!(store.lookup(&key(1), &local).unwrap(), None);
        assert_eq!(store.contains_all(&[key(1)], &local).unwrap(), [false]);
        assert!(store.lookup(&key(1), &accepting).unwrap().is_some());
        assert_eq!(store.lookup(&key(1), &local).unwrap(), None);
    }
    store.publish(publication(1, &[("a", b"local")])).unwrap();
    store.flush().unwrap();
    let fresh = home.open();
    for origins in [&local, &accepting] {
        let found = fresh.lookup(&key(1), origins).unwrap().unwrap();
        assert_eq!(found.outputs, manifest_of(1, &[("a", b"local")]).outputs);
    }
}

#[test]
fn a_second_result_of_a_key_replaces_the_first() {
    let home = Home::new();
    let store = home.open();
    for bytes in [b"first".as_slice(), b"second"] {
        store.publish(publication(1, &[("a", bytes)])).unwrap();
        store.flush().unwrap();
    }
    let found = home
        .open()
        .lookup(&key(1), &OriginFilter::local())
        .unwrap()
        .unwrap();
    assert_eq!(found.outputs, manifest_of(1, &[("a", b"second")]).outputs);
    store.collect_garbage(None).unwrap();
    assert_eq!(store.stats().unwrap().inline_blobs, 1);
}

#[test]
fn a_blob_deleted_behind_its_back_is_a_miss_and_can_be_made_again() {
    let home = Home::new();
    let store = home.open();
    let large = vec![5; 70_000];
    let digest = Digest::of(&large);
    store.publish(publication(1, &[("a", &large)])).unwrap();
    for flushed in [false, true] {
        if flushed {
            store.flush().unwrap();
        }
        let Some(Blob::File(path)) = store.blob(&digest, false).unwrap() else {
            panic!("a large blob is a file");
        };
        fs::remove_file(&path).unwrap();
        assert_eq!(store.blob(&digest, false).unwrap(), None);
        store.publish(publication(1, &[("a", &large)])).unwrap();
        assert!(blob_bytes(&store, &digest).unwrap() == large);
    }
}

#[test]
fn a_changed_blob_file_is_found_and_a_touched_one_is_verified() {
    let home = Home::new();
    let store = home.open();
    let large = vec![5; 70_000];
    let digest = Digest::of(&large);
    store.publish(publication(1, &[("a", &large)])).unwrap();
    store.flush().unwrap();
    let Some(Blob::File(path)) = store.blob(&digest, false).unwrap() else {
        panic!("a large blob is a file");
    };
    let past = std::time::SystemTime::now() - Duration::from_secs(86_400);
    fs::File::open(&path).unwrap().set_modified(past).unwrap();
    assert!(blob_bytes(&store, &digest).unwrap() == large);
    for damage in 0..3 {
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        match damage {
            0 => fixture::flip(&path, 33_333),
            1 => fs::File::options()
                .write(true)
                .open(&path)
                .unwrap()
                .set_len(4096)
                .unwrap(),
            _ => fs::write(&path, vec![0; 70_000]).unwrap(),
        }
        assert_eq!(store.blob(&digest, false).unwrap(), None, "damage {damage}");
        store.publish(publication(1, &[("a", &large)])).unwrap();
        store.flush().unwrap();
        assert!(blob_bytes(&store, &digest).unwrap() == large);
    }
}

#[test]
fn blobs_of_an_earlier_boot_are_hashed_at_first_use() {
    let home = Home::new();
    let large = vec![5; 70_000];
    let digest = Digest::of(&large);
    let first = home.open_with(|options| options.boot = Some("first".to_owned()));
    first.publish(publication(1, &[("a", &large)])).unwrap();
    let Some(Blob::File(path)) = first.blob(&digest, false).unwrap() else {
        panic!("a large blob is a file");
    };
    drop(first);
    // What a power cut does: the name and the times are there, the bytes are not.
    let metadata = fs::metadata(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    fixture::flip(&path, 1000);
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(metadata.modified().unwrap()).unwrap();
    let same_boot = home.open_with(|options| options.boot = Some("first".to_owned()));
    assert!(
        same_boot.blob(&digest, false).unwrap().is_some(),
        "trusted by its times"
    );
    drop(same_boot);
    let second = home.open_with(|options| options.boot = Some("second".to_owned()));
    assert_eq!(second.blob(&digest, false).unwrap(), None);
    second.publish(publication(1, &[("a", &large)])).unwrap();
    drop(second);
    let third = home.open_with(|options| options.boot = Some("third".to_owned()));
    assert!(blob_bytes(&third, &digest).unwrap() == large);
}

#[test]
fn key_parts_outlive_results_and_the_last_twenty_are_kept() {
    let home = Home::new();
    let store = home.open();
    for number in 0..30u64 {
        let mut publication = publication(number, &[("a", &number.to_le_bytes())]);
        publication.record = Some(fixture::revision(number, None));
        store.publish(publication).unwrap();
        store.flush().unwrap();
    }
    for number in 0..30 {
        store.forget(&key(number)).unwrap();
    }
    let revisions = store.revisions("/ws", "//a:b").unwrap();
    let keys: Vec<Digest> = revisions.iter().map(|revision| revision.key).collect();
    assert_eq!(keys, (10..30).rev().map(key).collect::<Vec<_>>());
    assert_eq!(revisions[0].parts, fixture::revision(29, None).parts);
    assert_eq!(store.revisions("/other", "//a:b").unwrap(), []);
    store
        .remember_parts(&key(15), &fixture::revision(15, None))
        .unwrap();
    store.flush().unwrap();
    assert_eq!(store.revisions("/ws", "//a:b").unwrap()[0].key, key(15));
    assert_eq!(
        store.parts(&key(29)).unwrap(),
        Some(fixture::revision(29, None).parts)
    );
    assert_eq!(
        store.parts(&key(3)).unwrap(),
        None,
        "only the latest keys are remembered"
    );
}

#[test]
fn history_trims_older_results_of_one_target_in_one_workspace() {
    let home = Home::new();
    let store = home.open();
    // Another workspace has the first one as its own.
    let mut elsewhere = fixture::revision(0, None);
    elsewhere.root = "/elsewhere".to_owned();
    store.remember_parts(&key(0), &elsewhere).unwrap();
    for number in 0..5u64 {
        let mut publication = publication(number, &[("a", &number.to_le_bytes())]);
        publication.record = Some(fixture::revision(number, Some(2)));
        store.publish(publication).unwrap();
        store.flush().unwrap();
    }
    store.collect_garbage(None).unwrap();
    let keys: Vec<Digest> = (0..5).map(key).collect();
    let present = store.contains_all(&keys, &OriginFilter::local()).unwrap();
    assert_eq!(present, [true, false, false, true, true]);
    assert_eq!(store.revisions("/ws", "//a:b").unwrap().len(), 5);
}

#[test]
fn records_are_kept_and_replaced() {
    let home = Home::new();
    let store = home.open();
    store.put_record("tools", b"gcc", b"1").unwrap();
    store.put_record("tools", b"gcc", b"2").unwrap();
    store.put_record("files", b"gcc", b"3").unwrap();
    store.flush().unwrap();
    assert_eq!(store.get_record("tools", b"gcc").unwrap(), Some(b"2".to_vec()));
    assert_eq!(store.get_record("files", b"gcc").unwrap(), Some(b"3".to_vec()));
    assert_eq!(store.get_record("files", b"ld").unwrap(), None);
}

#[test]
fn a_token_tells_whether_anything_went_away() {
    let home = Home::new();
    let store = home.open();
    store.publish(publication(1, &[("a", b"one")])).unwrap();
    store.flush().unwrap();
    let token = store.presence_token().unwrap();
    assert!(store.unchanged_since(&token));
    store.publish(publication(2, &[("a", b"two")])).unwrap();
    store.flush().unwrap();
    assert!(store.unchanged_since(&token), "more is no change");
    let other = home.open();
    other.forget(&key(1)).unwrap();
    assert!(!store.unchanged_since(&token));
}

#[test]
fn uploads_pin_their_results() {
    let home = Home::new();
    let store = home.open();
    let mut pinned = publication(1, &[("a", b"one")]);
    pinned.uploads = vec!["shared".to_owned()];
    store.publish(pinned).unwrap();
    store.publish(publication(2, &[("a", b"two")])).unwrap();
    store.collect_garbage(Some(0)).unwrap();
    let keys = [key(1), key(2)];
    let local = OriginFilter::local();
    assert_eq!(store.contains_all(&keys, &local).unwrap(), [true, false]);
    assert_eq!(store.uploads().unwrap()[0].cache, "shared");
    store.uploaded(&key(1), "shared").unwrap();
    store.collect_garbage(Some(0)).unwrap();
    assert_eq!(store.contains_all(&keys, &local).unwrap(), [false, false]);
}

#[test]
fn clearing_removes_everything_unless_a_run_lives() {
    let home = Home::new();
    let store = home.open();
    let large = vec![5; 70_000];
    store.publish(publication(1, &[("a", &large)])).unwrap();
    let run = store.begin_run().unwrap();
    assert!(matches!(store.clear(), Err(StoreError::InUse { runs: 1, .. })));
    drop(run);
    store.clear().unwrap();
    assert_eq!(store.lookup(&key(1), &OriginFilter::local()).unwrap(), None);
    assert_eq!(home.blob_files(), Vec::<std::path::PathBuf>::new());
    store.publish(publication(1, &[("a", &large)])).unwrap();
    assert!(blob_bytes(&store, &Digest::of(&large)).unwrap() == large);
}

#[test]
fn without_memory_everything_comes_from_the_index() {
    let home = Home::new();
    let store = home.open_with(|options| options.memory.capacity = 0);
    store.publish(publication(1, &[("a", b"one")])).unwrap();
    store.flush().unwrap();
    assert!(store.lookup(&key(1), &OriginFilter::local()).unwrap().is_some());
    assert_eq!(blob_bytes(&store, &Digest::of(b"one")).unwrap(), b"one");
}

#[test]
fn an_unwritable_home_is_told_apart() {
    let home = Home::new();
    let file = home.path().join("file");
    fs::write(&file, b"").unwrap();
    assert!(matches!(
        Store::open(&file, options()),
        Err(StoreError::Unwritable { .. })
    ));
    assert!(matches!(
        Store::open(&file.join("below"), options()),
        Err(StoreError::Unwritable { .. })
    ));
    if rustix::process::geteuid().is_root() {
        let theirs = home.path().join("theirs");
        fs::create_dir(&theirs).unwrap();
        std::os::unix::fs::chown(&theirs, Some(12345), None).unwrap();
        let error = Store::open(&theirs, options()).unwrap_err();
        assert!(matches!(error, StoreError::ForeignHome { owner: 12345, .. }));
        assert!(error.hint().unwrap().contains("HEPH_HOME"));
    }
}
