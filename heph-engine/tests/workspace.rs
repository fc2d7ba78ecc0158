//! Selecting, linking and remembering, over real directories.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests may fail by panicking"
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use heph_common::config::{self, LoadOptions};
use heph_common::query::Query;
use heph_engine::problem::{Problem, Problems};
use heph_engine::run::Prepared;
use heph_engine::workspace::{Request, Workspace};
use heph_proto::SandboxMode;
use tempfile::TempDir;

struct Fixture {
    directory: TempDir,
}

impl Fixture {
    fn new(files: &[(&str, &str)]) -> Self {
        let fixture = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        fixture.write(".hephconfig", "plugins:\n- builtin: buildfile\n- builtin: sh\n");
        for (path, text) in files {
            fixture.write(path, text);
        }
        fixture
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("ws")
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.root().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn open(&self) -> Workspace {
        let root = self.root();
        let options = LoadOptions {
            root: Some(&root),
            user_layer: None,
            profiles: &[],
            home_directory: None,
        };
        let config = config::load(&options).unwrap().config;
        Workspace::open(&root, &self.directory.path().join("home"), &config).unwrap()
    }

    fn snapshot(&self) -> PathBuf {
        self.directory.path().join("snapshot")
    }
}

fn prepare(workspace: &mut Workspace, query: &str) -> Result<Prepared, Problems> {
    let request = Request {
        config: Arc::default(),
        identity: heph_common::Digest::of(b""),
        selector: query.to_owned(),
        since: None,
        environment: Arc::default(),
        sandbox: SandboxMode::Unspecified,
    };
    workspace.prepare(&Query::parse(query, "").unwrap(), &request)
}

fn selected(workspace: &mut Workspace, query: &str) -> Vec<String> {
    let prepared = prepare(workspace, query).unwrap();
    prepared
        .selected
        .iter()
        .map(|id| prepared.graph.node(*id).definition.address.to_string())
        .collect()
}

fn problem(fixture: &Fixture, query: &str) -> String {
    let problems = prepare(&mut fixture.open(), query).unwrap_err();
    let show = |problem: &Problem| {
        let place = problem
            .place
            .as_ref()
            .map(|place| format!("{place}: "))
            .unwrap_or_default();
        let hint = problem
            .hint
            .as_ref()
            .map(|hint| format!("\nhint: {hint}"))
            .unwrap_or_default();
        format!("{place}{}{hint}", problem.message)
    };
    problems.iter().map(show).collect::<Vec<_>>().join("\n--\n")
}

const TWO: &[(&str, &str)] = &[
    (
        "a/BUILD",
        "target(name = \"x\", driver = \"sh\", run = \"cp $SRC $OUT\", deps = [file(\"in.txt\"), \"//b:y\"], out = \"x.txt\", labels = [\"one\"])\n",
    ),
    ("a/in.txt", "in"),
    (
        "b/BUILD",
        "target(name = \"y\", driver = \"sh\", run = \"echo > $OUT\", out = \"y.txt\", labels = [\"two\"])\n",
    ),
    (
        "b/c/BUILD",
        "target(name = \"z\", driver = \"sh\", run = \"echo > $OUT\", out = \"z.txt\", deps = [\"//a:x\"])\n",
    ),
];

#[test]
fn every_form_of_query_selects_what_it_says() {
    let fixture = Fixture::new(TWO);
    let mut workspace = fixture.open();
    for (query, expected) in [
        ("//...", vec!["//a:x", "//b:y", "//b/c:z"]),
        ("//b/...", vec!["//b:y", "//b/c:z"]),
        ("//b", vec!["//b:y"]),
        ("//a:x", vec!["//a:x"]),
        ("label(two)", vec!["//b:y"]),
        ("addr(//a:x)", vec!["//a:x"]),
        ("package(b)", vec!["//b:y"]),
        ("package_prefix(b)", vec!["//b:y", "//b/c:z"]),
        ("deps(//b/c:z)", vec!["//a:x", "//b:y"]),
        ("rdeps(//b:y)", vec!["//a:x", "//b/c:z"]),
        ("//... && !label(two)", vec!["//a:x", "//b/c:z"]),
        ("//a:x || label(two)", vec!["//a:x", "//b:y"]),
        ("//... && (label(one) || label(two))", vec!["//a:x", "//b:y"]),
    ] {
        assert_eq!(selected(&mut workspace, query), expected, "{query}");
        assert_eq!(
            selected(&mut fixture.open(), query),
            expected,
            "{query}, in a fresh workspace"
        );
    }
}

#[test]
fn dependencies_come_before_dependants() {
    let fixture = Fixture::new(TWO);
    let prepared = prepare(&mut fixture.open(), "//b/c:z").unwrap();
    let order: Vec<String> = prepared
        .order
        .iter()
        .map(|id| prepared.graph.node(*id).definition.address.to_string())
        .collect();
    assert_eq!(order, ["//@heph/fs:file@f=a/in.txt", "//b:y", "//a:x", "//b/c:z"]);
}

#[test]
fn a_snapshot_is_used_and_every_change_is_seen() {
    let fixture = Fixture::new(TWO);
    let names = |workspace: &mut Workspace| selected(workspace, "//...");
    let mut first = fixture.open();
    let all = names(&mut first);
    first.save(&fixture.snapshot()).unwrap();
    let load = || {
        let mut workspace = fixture.open();
        assert!(workspace.load(&fixture.snapshot()));
        workspace
    };
    assert_eq!(names(&mut load()), all);
    let digest = |workspace: &mut Workspace, address: &str| {
        let prepared = prepare(workspace, address).unwrap();
        prepared.graph.node(prepared.selected[0]).digest
    };
    let before = digest(&mut load(), "//b:y");
    fixture.write(
        "b/BUILD",
        "target(name = \"y\", driver = \"sh\", run = \"echo 2 > $OUT\", out = \"y.txt\")\n",
    );
    assert_ne!(digest(&mut load(), "//b:y"), before);
    fixture.write(
        "d/BUILD",
        "target(name = \"new\", driver = \"sh\", run = \"echo > $OUT\", out = \"o\")\n",
    );
    assert!(names(&mut load()).contains(&"//d:new".to_owned()));
    std::fs::remove_dir_all(fixture.root().join("b/c")).unwrap();
    assert!(!names(&mut load()).contains(&"//b/c:z".to_owned()));
}

#[test]
fn a_damaged_snapshot_is_dropped() {
    let fixture = Fixture::new(TWO);
    let mut workspace = fixture.open();
    selected(&mut workspace, "//...");
    workspace.save(&fixture.snapshot()).unwrap();
    let bytes = std::fs::read(fixture.snapshot()).unwrap();
    for index in (0..bytes.len()).step_by(bytes.len() / 60 + 1) {
        let mut bad = bytes.clone();
        bad[index] ^= 0x40;
        std::fs::write(fixture.snapshot(), &bad).unwrap();
        assert!(!fixture.open().load(&fixture.snapshot()), "flipped byte {index}");
        std::fs::write(fixture.snapshot(), &bytes[..index]).unwrap();
        assert!(!fixture.open().load(&fixture.snapshot()), "cut at {index}");
    }
    assert!(!fixture.open().load(Path::new("/nowhere")));
}

#[test]
fn transitive_dependencies_reach_dependants_and_go_through_groups() {
    let fixture = Fixture::new(&[
        (
            "l/BUILD",
            "target(name = \"lib\", driver = \"sh\", run = \"echo > $OUT\", out = \"lib.a\", transitive = {\"deps\": [\":hdr\"], \"env\": {\"K\": \"v\"}})\n\
             target(name = \"hdr\", driver = \"sh\", run = \"echo > $OUT\", out = \"h.h\", deps = [\":lib\"])\n\
             target(name = \"all\", driver = \"group\", deps = [\":lib\"])\n",
        ),
        (
            "m/BUILD",
            "target(name = \"m\", driver = \"sh\", run = \"echo > $OUT\", out = \"m\", deps = [\"//l:all\"])\n",
        ),
    ]);
    let prepared = prepare(&mut fixture.open(), "//m:m").unwrap();
    let node = prepared.graph.node(prepared.selected[0]);
    let links: Vec<String> = node
        .links
        .iter()
        .map(|link| prepared.graph.node(link.target).definition.address.to_string())
        .collect();
    assert_eq!(links, ["//l:all", "//l:hdr"]);
    assert_eq!(node.inherited.as_ref().unwrap().env["K"], "v");
}

#[test]
fn what_is_wrong_is_said_with_place_and_cure() {
    let cycle = Fixture::new(&[
        (
            "a/BUILD",
            "target(name = \"x\", driver = \"sh\", run = \"true\", deps = [\"//b:y\"])\n",
        ),
        (
            "b/BUILD",
            "\n\ntarget(name = \"y\", driver = \"sh\", run = \"true\", deps = [\"//a:x\"])\n",
        ),
    ]);
    insta::assert_snapshot!(problem(&cycle, "//a:x"), @"
    a/BUILD:1:1: dependency cycle:
      //a:x (a/BUILD:1:1) needs
      //b:y (b/BUILD:3:1) needs
      //a:x
    hint: remove one of these dependencies; move what both need into a target of its own
    ");
    let two = Fixture::new(&[(
        "p/BUILD",
        "target(name = \"x\", driver = \"sh\", run = \"true\", out = \"o.txt\")\ntarget(name = \"y\", driver = \"sh\", run = \"true\", out = \"o.txt\")\n",
    )]);
    insta::assert_snapshot!(problem(&two, "//..."), @"
    p/BUILD:2:1: p/o.txt is produced by both //p:y and //p:x (p/BUILD:1:1)
    hint: give one of the outputs another name
    ");
    let fixture = Fixture::new(TWO);
    insta::assert_snapshot!(problem(&fixture, "//a:xx"), @"
    no targets matched //a:xx
    hint: did you mean //a:x?
    ");
    insta::assert_snapshot!(problem(&fixture, "//aa/..."), @"
    no targets matched //aa/...
    hint: did you mean //a?
    ");
    insta::assert_snapshot!(problem(&fixture, "label(nobody)"), @"
    no targets matched label(nobody)
    hint: heph query //... lists all targets
    ");
    let missing = Fixture::new(&[(
        "a/BUILD",
        "target(name = \"x\", driver = \"sh\", run = \"true\", deps = [\":yy\"])\ntarget(name = \"y\", driver = \"sh\", run = \"true\")\n",
    )]);
    insta::assert_snapshot!(problem(&missing, "//a:x"), @"
    a/BUILD:1:1: //a:x depends on //a:yy, which does not exist
    hint: did you mean //a:y?
    ");
    let absent = Fixture::new(&[(
        "a/BUILD",
        "target(name = \"x\", driver = \"sh\", run = \"true\", deps = [\"//nowhere:y\"])\n",
    )]);
    insta::assert_snapshot!(problem(&absent, "//a:x"), @"a/BUILD:1:1: //a:x depends on //nowhere:y, but //nowhere has no BUILD file");
}
