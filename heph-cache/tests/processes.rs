//! Four processes publish and look up in one home at once, 10,000 results each, a quarter of them shared with a
//! neighbour; two of the four run in other pid namespaces, as containers that share the home would. Nothing is lost,
//! nothing is wrong.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking; without libtest's harness the lints cannot tell"
)]

mod fixture;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use heph_cache::*;
use heph_common::Digest;

/// Results of one process.
const EACH: u64 = 10_000;
/// Where the next process's results begin.
const STRIDE: u64 = 7_500;
const PROCESSES: u64 = 4;

fn main() {
    if let Ok(number) = std::env::var("HEPH_TEST_ROLE") {
        let home = std::env::var("HEPH_TEST_HOME").expect("a role has a home");
        return work(Path::new(&home), number.parse().expect("a role is a number"));
    }
    if !std::env::args().any(|argument| argument == "--list") {
        four_processes_share_a_home();
    }
}

fn four_processes_share_a_home() {
    let began = Instant::now();
    let home = fixture::Home::new();
    let namespaces = pid_namespaces_work();
    if !namespaces {
        fixture::skipped(
            "processes: other pid namespaces",
            "unshare(1) is refused; all four share one",
        );
    }
    let children: Vec<Child> = (0..PROCESSES)
        .map(|number| start(&home, number, namespaces && number >= 2))
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success(), "a process failed");
    }
    let store = home.open();
    let local = OriginFilter::local();
    let last = (PROCESSES - 1) * STRIDE + EACH;
    for number in 0..last {
        let manifest = store.lookup(&fixture::key(number), &local).unwrap();
        verify(
            &store,
            number,
            &manifest.unwrap_or_else(|| panic!("{number} is lost")),
        );
    }
    let stats = store.stats().unwrap();
    assert_eq!(stats.actions, last);
    assert_eq!(stats.generation, 1, "no damage was seen");
    assert_eq!(stats.live_runs, 0);
    println!("test four_processes_share_a_home: ok, {:?}", began.elapsed());
}

fn unshare() -> Command {
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--kill-child"]);
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command
}

fn pid_namespaces_work() -> bool {
    let tried = unshare().arg("true").stderr(Stdio::null()).status();
    tried.is_ok_and(|status| status.success())
}

fn start(home: &fixture::Home, number: u64, own_namespace: bool) -> Child {
    let program = std::env::current_exe().unwrap();
    let mut command = match own_namespace {
        true => {
            let mut command = unshare();
            command.arg(program);
            command
        }
        false => Command::new(program),
    };
    command
        .env("HEPH_TEST_ROLE", number.to_string())
        .env("HEPH_TEST_HOME", home.heph());
    command.spawn().unwrap()
}

/// Every hundredth result is a large file, the others are small.
fn content(number: u64) -> Vec<u8> {
    let length = if number.is_multiple_of(100) { 66_000 } else { 100 };
    number
        .to_le_bytes()
        .iter()
        .copied()
        .cycle()
        .take(length)
        .collect()
}

fn verify(store: &Store, number: u64, manifest: &Manifest) {
    let bytes = content(number);
    assert_eq!(
        manifest.outputs,
        fixture::manifest_of(number, &[("out", &bytes)]).outputs
    );
    let found = fixture::blob_bytes(store, &Digest::of(&bytes));
    assert!(found.as_deref() == Some(bytes.as_slice()), "blob of {number}");
}

fn work(home: &Path, process: u64) {
    let store = Store::open(home, fixture::options()).unwrap();
    let _run = store.begin_run().unwrap();
    let local = OriginFilter::local();
    let first = process * STRIDE;
    let mut found = 0;
    for number in first..first + EACH {
        if let Some(manifest) = store.lookup(&fixture::key(number), &local).unwrap() {
            verify(&store, number, &manifest);
            found += 1;
            continue;
        }
        let bytes = content(number);
        let mut publication = fixture::publication(number, &[("out", &bytes)]);
        publication.record = Some(Revision {
            address: format!("//a:{number}"),
            ..fixture::revision(number, None)
        });
        let manifest = store.publish(publication).unwrap();
        verify(&store, number, &manifest);
        // What others publish is looked up while they do.
        let other = (number * 7919) % ((PROCESSES - 1) * STRIDE + EACH);
        if let Some(manifest) = store.lookup(&fixture::key(other), &local).unwrap() {
            verify(&store, other, &manifest);
        }
    }
    store.flush().unwrap();
    for number in first..first + EACH {
        assert!(
            store.lookup(&fixture::key(number), &local).unwrap().is_some(),
            "{number} is lost"
        );
    }
    eprintln!("process {process} (pid {}): {found} found", std::process::id());
}
