//! Random operations on a store give what they give on a map.

#![expect(
    clippy::unwrap_used,
    reason = "a test stops where something is not as it should be"
)]

mod fixture;

use std::collections::HashMap;
use std::fs;

use fixture::{Home, blob_bytes, key, publication};
use heph_cache::*;
use heph_common::Digest;
use proptest::prelude::*;

/// What is done to the store. Keys and contents are few, so that they meet.
#[derive(Clone, Debug)]
enum Step {
    Publish { key: u64, content: u8, large: bool },
    PublishRemote { key: u64, content: u8 },
    Lookup { key: u64 },
    Forget { key: u64 },
    Flush,
    Reopen,
    CollectNothing,
    CollectAll,
    DeleteBlob { content: u8 },
    Clear,
}

fn step() -> impl Strategy<Value = Step> {
    let key = 0..6u64;
    let content = 0..5u8;
    prop_oneof![
        6 => (key.clone(), content.clone(), any::<bool>())
            .prop_map(|(key, content, large)| Step::Publish { key, content, large }),
        2 => (key.clone(), content.clone()).prop_map(|(key, content)| Step::PublishRemote { key, content }),
        6 => key.clone().prop_map(|key| Step::Lookup { key }),
        2 => key.prop_map(|key| Step::Forget { key }),
        2 => Just(Step::Flush),
        2 => Just(Step::Reopen),
        2 => Just(Step::CollectNothing),
        1 => Just(Step::CollectAll),
        1 => content.prop_map(|content| Step::DeleteBlob { content }),
        1 => Just(Step::Clear),
    ]
}

fn bytes(content: u8, large: bool) -> Vec<u8> {
    vec![content; if large { 70_000 } else { 7 }]
}

fn scope() -> Digest {
    Digest::of(b"scope")
}

/// What should be there: local and remote results, and which large blobs somebody has deleted.
#[derive(Default)]
struct Model {
    local: HashMap<u64, Vec<u8>>,
    remote: HashMap<u64, Vec<u8>>,
    lost: Vec<u8>,
}

impl Model {
    fn check(&mut self, store: &Store, number: u64) {
        let by_request = [
            (OriginFilter::local(), self.local.get(&number)),
            (
                OriginFilter::with_remote([scope()]),
                self.local.get(&number).or_else(|| self.remote.get(&number)),
            ),
        ];
        for (origins, expected) in by_request {
            let found = store.lookup(&key(number), &origins).unwrap();
            let outputs = found.map(|manifest| manifest.outputs.clone());
            let expected_outputs =
                expected.map(|bytes| fixture::manifest_of(number, &[("a", bytes)]).outputs);
            assert_eq!(outputs, expected_outputs, "result {number}");
            let present = store.contains_all(&[key(number)], &origins).unwrap();
            assert_eq!(present, [expected.is_some()], "presence of {number}");
            let Some(bytes) = expected else { continue };
            let lost = bytes.len() > 100 && self.lost.contains(&bytes[0]);
            let blob = blob_bytes(store, &Digest::of(bytes));
            assert!(
                blob.as_ref() == (!lost).then_some(bytes),
                "blob of {number}, lost: {lost}"
            );
        }
    }
}

fn run(steps: Vec<Step>, linger: u64, memory: usize) {
    let home = Home::new();
    let open = || {
        home.open_with(|options| {
            options.linger = std::time::Duration::from_millis(linger);
            options.memory.capacity = memory;
        })
    };
    let mut store = open();
    let mut model = Model::default();
    for step in steps {
        match step {
            Step::Publish { key, content, large } => {
                let bytes = bytes(content, large);
                store.publish(publication(key, &[("a", &bytes)])).unwrap();
                if large {
                    model.lost.retain(|lost| *lost != content);
                }
                model.local.insert(key, bytes);
            }
            Step::PublishRemote { key, content } => {
                let bytes = bytes(content, false);
                let mut publication = publication(key, &[("a", &bytes)]);
                publication.origin = Origin::Remote(scope());
                store.publish(publication).unwrap();
                model.remote.insert(key, bytes);
            }
            Step::Lookup { key } => model.check(&store, key),
            Step::Forget { key: number } => {
                store.forget(&key(number)).unwrap();
                model.local.remove(&number);
                model.remote.remove(&number);
            }
            Step::Flush => store.flush().unwrap(),
            Step::Reopen => {
                drop(store);
                store = open();
            }
            Step::CollectNothing => drop(store.collect_garbage(None).unwrap()),
            Step::CollectAll => {
                store.collect_garbage(Some(0)).unwrap();
                model.local.clear();
                model.remote.clear();
            }
            Step::DeleteBlob { content } => {
                if let Some(Blob::File(path)) = store.blob(&Digest::of(&bytes(content, true)), false).unwrap()
                {
                    fs::remove_file(path).unwrap();
                    model.lost.push(content);
                }
            }
            Step::Clear => {
                store.clear().unwrap();
                model.local.clear();
                model.remote.clear();
            }
        }
    }
    for key in 0..6 {
        model.check(&store, key);
    }
    // Nothing is left over: with all results gone, all blobs go.
    store.collect_garbage(Some(0)).unwrap();
    let stats = store.stats().unwrap();
    assert_eq!(
        (
            stats.actions,
            stats.inline_blobs,
            stats.file_blobs,
            stats.file_bytes
        ),
        (0, 0, 0, 0)
    );
    assert_eq!(home.blob_files(), Vec::<std::path::PathBuf>::new());
    assert_eq!(stats.damaged_generations, 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_store_is_a_map(
        steps in proptest::collection::vec(step(), 1..40),
        linger in prop_oneof![Just(0u64), Just(15)],
        memory in prop_oneof![Just(0usize), Just(1 << 20)],
    ) {
        run(steps, linger, memory);
    }
}
