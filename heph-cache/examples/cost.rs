//! What the store costs: CPU time and wall time for each result, published and looked up.
//!
//! `cargo run --release -p heph-cache --example cost [results]`

#![expect(clippy::expect_used, reason = "a developer's tool: a failure may end it")]

use std::time::{Duration, Instant};

use bytes::Bytes;
use heph_cache::*;
use heph_common::Digest;

fn main() {
    let count: u64 = std::env::args()
        .nth(1)
        .map_or(10_000, |text| text.parse().expect("a number of results"));
    let directory = std::env::temp_dir().join(format!("heph-cost-{}", std::process::id()));
    measure(&directory, count);
    std::fs::remove_dir_all(&directory).expect("the home can be removed");
}

fn measure(home: &std::path::Path, count: u64) {
    let open = || Store::open(home, StoreOptions::default()).expect("the store opens");
    let local = OriginFilter::local();
    let keys: Vec<Digest> = (0..count).map(key).collect();
    let store = step("open, new", 1, open);
    let run = store.begin_run().expect("a run begins");
    step("miss", count, || {
        for key in &keys {
            assert!(store.lookup(key, &local).expect("the index answers").is_none());
        }
    });
    step("publish, small", count, || {
        for number in 0..count {
            store.publish(publication(number)).expect("it is stored");
        }
        store.flush().expect("it is committed");
    });
    step("hit, in memory", count, || look(&store, &keys));
    drop(run);
    step("close", 1, || drop(store));
    let store = step("open, again", 1, open);
    step("begin a run", 1, || {
        drop(store.begin_run().expect("a run begins"))
    });
    step("presence, batched", count, || {
        let found = store.contains_all(&keys, &local).expect("the index answers");
        assert!(found.iter().all(|present| *present));
    });
    let token = store.presence_token().expect("the index answers");
    step("presence, by token", 1, || assert!(store.unchanged_since(&token)));
    step("hit, from the index", count, || look(&store, &keys));
    step("blob, from the index", count, || {
        for number in 0..count {
            let blob = store
                .blob(&Digest::of(&content(number)), false)
                .expect("the index answers");
            assert!(blob.is_some());
        }
    });
    let large = count / 10;
    step("publish, 100 KB file", large, || {
        for number in 0..large {
            let mut bytes = content(number);
            bytes.resize(100_000, 1);
            store
                .publish(publication_of(count + number, bytes))
                .expect("it is stored");
        }
        store.flush().expect("it is committed");
    });
    step("close", 1, || drop(store));
}

fn look(store: &Store, keys: &[Digest]) {
    for key in keys {
        let found = store
            .lookup(key, &OriginFilter::local())
            .expect("the index answers");
        assert!(found.is_some());
    }
}

/// Runs something and prints what it took: of the whole process, so the writer's thread is in it.
fn step<T>(name: &str, count: u64, run: impl FnOnce() -> T) -> T {
    let (cpu, wall) = (cpu_time(), Instant::now());
    let result = run();
    let each =
        |time: Duration| time.as_secs_f64() * 1e6 / f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    println!(
        "{name:<22} {count:>7} times  {:>9.1} us CPU  {:>9.1} us wall each",
        each(cpu_time() - cpu),
        each(wall.elapsed()),
    );
    result
}

fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(
        time.tv_sec.unsigned_abs(),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

fn key(number: u64) -> Digest {
    Digest::of(&number.to_le_bytes())
}

fn content(number: u64) -> Vec<u8> {
    format!("{number:064}").into_bytes()
}

fn publication(number: u64) -> Publication {
    publication_of(number, content(number))
}

fn publication_of(number: u64, bytes: Vec<u8>) -> Publication {
    let content = Content {
        digest: Digest::of(&bytes),
        size: bytes.len() as u64,
    };
    let parts = [
        "run", "driver", "system", "env PATH", "input a", "input b", "input c",
    ];
    Publication {
        manifest: Manifest {
            kind: "target".to_owned(),
            key: key(number),
            outputs: vec![Output {
                group: String::new(),
                path: format!("layer/out-{number}"),
                entry: Entry::File {
                    content,
                    executable: false,
                },
            }],
            log: None,
            exit_code: 0,
            platform: "linux-x86_64".to_owned(),
            sandbox: SandboxMode::Strict,
            address: format!("//layer:target-{number}"),
            producer: "0.1.0".to_owned(),
            created_unix_ms: 1_700_000_000_000,
            duration: Duration::from_millis(5),
        },
        blobs: vec![NewBlob {
            digest: content.digest,
            executable: false,
            source: BlobSource::Bytes(Bytes::from(bytes)),
        }],
        origin: Origin::Local,
        record: Some(Revision {
            root: "/workspace".to_owned(),
            address: format!("//layer:target-{number}"),
            parts: parts.map(|label| part(label, number)).to_vec(),
            history_limit: None,
        }),
        uploads: Vec::new(),
        replace: false,
        partial: false,
        always_files: false,
        lock: None,
    }
}

fn part(label: &str, number: u64) -> KeyPart {
    KeyPart {
        label: label.to_owned(),
        digest: Digest::of(format!("{label} {number}").as_bytes()),
    }
}
