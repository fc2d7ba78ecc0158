use std::sync::Arc;

use heph_common::config::{self, Base};
use heph_common::query::Query;
use heph_proto::SandboxMode;

use super::*;
use crate::workspace::Request;

const CONFIG: &str = "plugins: [{builtin: buildfile, options: {defaultDriver: sh}}, {builtin: sh}]\n";
const BUILD: &str =
    "target(name = 'a', run = 'true', deps = glob('*.txt'))\ntarget(name = 'b', run = 'true', deps = ':a')\n";

/// Whether the snapshot of a small workspace is taken after `change`.
fn is_taken(change: impl FnOnce(&mut Packages, &mut Read)) -> bool {
    let directory = tempfile::tempdir().unwrap();
    let (root, file) = (directory.path().join("ws"), directory.path().join("snapshot"));
    fs::create_dir(&root).unwrap();
    fs::write(root.join("BUILD"), BUILD).unwrap();
    let config = Arc::new(
        config::parse(".hephconfig", CONFIG, Base::default())
            .unwrap()
            .config,
    );
    let open = || Workspace::open(&root, &directory.path().join("home"), &config).unwrap();
    let mut workspace = open();
    let request = Request {
        config: Arc::clone(&config),
        identity: Digest::of(b"test"),
        selector: "//...".to_owned(),
        since: None,
        environment: Arc::default(),
        sandbox: SandboxMode::Unspecified,
    };
    let everything = Query::parse("//...", "").unwrap();
    workspace.prepare(&everything, &request).unwrap();
    workspace.save(&file).unwrap();
    let (mut packages, mut rest) = read(&file).unwrap();
    change(&mut packages, &mut rest);
    write(&file, &body_of(&packages, &rest).unwrap()).unwrap();
    open().load(&file)
}

#[test]
fn what_was_saved_is_taken() {
    assert!(is_taken(|_, _| {}));
}

#[test]
fn numbers_that_mean_no_node_are_refused() {
    const NONE: Id = Id(1000);
    assert!(!is_taken(|_, rest| rest.nodes[1].links[0].target = NONE));
    assert!(!is_taken(|_, rest| drop(rest.globs.insert(NONE, Arc::default()))));
    assert!(!is_taken(|_, rest| {
        let last = Last {
            pre_key: Digest::of(b""),
            key: Digest::of(b""),
            product: Arc::default(),
            sandbox: 0,
        };
        rest.lasts.insert(NONE, Arc::new(last));
    }));
}

#[test]
fn a_cycle_is_refused() {
    assert!(!is_taken(|_, rest| {
        let own = Id(1);
        rest.nodes[1].links[0].target = own;
    }));
    assert!(!is_taken(|_, rest| {
        let last = Id(rest.nodes.len() as u32 - 1);
        let later = rest.nodes[1].links[0].clone();
        rest.nodes[0].links.push(Link {
            target: last,
            ..later
        });
    }));
}

#[test]
fn targets_that_are_not_in_their_package_are_refused() {
    assert!(!is_taken(|packages, _| packages.clear()));
    assert!(!is_taken(|packages, _| {
        let package = Arc::make_mut(packages.get_mut("").unwrap());
        package.targets.remove("a");
    }));
}

#[test]
fn an_address_that_occurs_twice_is_refused() {
    assert!(!is_taken(|_, rest| {
        let ReadNode { written, digest, .. } = &rest.nodes[2];
        let again = ReadNode {
            written: written.clone(),
            generated: None,
            digest: *digest,
            links: Vec::new(),
            inherited: None,
            native: false,
        };
        rest.nodes.push(again);
    }));
}
