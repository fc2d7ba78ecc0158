//! A workspace whose snapshot is damaged. Used by a fuzz target, and by a test of heph-engine that keeps it compiling.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use heph_common::Digest;
use heph_common::config::{self, Base, Config};
use heph_common::query::Query;
use heph_engine::problem::Problems;
use heph_engine::workspace::{Request, Workspace, snapshot};
use heph_proto::SandboxMode;

const CONFIG: &str =
    "plugins: [{builtin: buildfile, options: {defaultDriver: sh}}, {builtin: sh}, {builtin: textfile}]\n";
const FILES: &[(&str, &str)] = &[
    (
        "a/BUILD",
        "target(name = 'gen', run = 'cat $SRC > $OUT', deps = {'in': glob('*.txt')}, out = {'h': 'x.h', 'c': 'x.c'}, env = {'A': 'b'},\n\
         transitive = {'env': {'B': 'c'}, 'deps': ['//b:text']}, labels = ['one'], timeout = '5m')\n\
         target(name = 'use', run = '$TOOL', deps = ':gen|h', tools = '//b:tool', out = 'dist/', cache = {'history': 2}, approval = True)\n",
    ),
    ("a/one.txt", "1\n"),
    ("a/two.txt", "2\n"),
    (
        "b/BUILD",
        "target(name = 'text', driver = 'textfile', text = 'hello', out = 'hello.txt')\n\
         target(name = 'tool', driver = 'group', deps = '//@heph/bin:sh')\n\
         target(name = 'all', driver = 'group', deps = query('label(one)'))\n",
    ),
];

/// A workspace that was prepared and saved.
pub struct Saved {
    directory: tempfile::TempDir,
    config: Arc<Config>,
    body: Vec<u8>,
}

impl Saved {
    /// Makes it, in memory where there is such a directory.
    pub fn new() -> Self {
        let directory = tempfile::tempdir_in("/dev/shm")
            .or_else(|_| tempfile::tempdir())
            .expect("a directory");
        let root = directory.path().join("ws");
        for (path, text) in FILES {
            let path = root.join(path);
            fs::create_dir_all(path.parent().expect("it has one")).expect("made");
            fs::write(path, text).expect("written");
        }
        let config = config::parse(".hephconfig", CONFIG, Base::default())
            .expect("it is right")
            .config;
        let mut saved = Self {
            directory,
            config: Arc::new(config),
            body: Vec::new(),
        };
        let mut workspace = saved.open();
        assert_eq!(saved.prepare(&mut workspace), Ok(()));
        workspace.save(&saved.file()).expect("saved");
        saved.body = fs::read(saved.file()).expect("read").split_off(snapshot::HEADER);
        assert!(saved.load(&saved.body), "an undamaged one is taken");
        saved
    }

    /// Damages the snapshot as `edits` say, and loads it. Each edit is four bytes: what to do, where (two), a value.
    pub fn load_damaged(&self, edits: &[u8]) -> bool {
        let mut body = self.body.clone();
        for edit in edits.chunks_exact(4) {
            let at = usize::from(u16::from_le_bytes([edit[1], edit[2]])) % body.len().max(1);
            let (what, value) = (edit[0], edit[3]);
            match what % 6 {
                _ if body.is_empty() => {}
                0 | 1 => body[at] = value,
                2 => body[at] = body[at].wrapping_add(value % 3).wrapping_sub(1),
                3 => body.insert(at, value),
                4 => drop(body.remove(at)),
                _ => body.truncate(at),
            }
        }
        self.load(&body)
    }

    fn load(&self, body: &[u8]) -> bool {
        let mut whole = snapshot::header_of(body);
        whole.extend(body);
        fs::write(self.file(), whole).expect("written");
        let mut workspace = self.open();
        if !workspace.load(&self.file()) {
            return false;
        }
        let graph = workspace.graph();
        let all: Vec<_> = graph.iter().map(|(id, _)| id).collect();
        assert_eq!(graph.closure(&all).len(), graph.len());
        assert_eq!(graph.dependants().len(), graph.len());
        // What it says may be wrong, and is then an error or found out by `stat`.
        drop(self.prepare(&mut workspace));
        true
    }

    fn open(&self) -> Workspace {
        let path = |name: &str| self.directory.path().join(name);
        Workspace::open(&path("ws"), &path("home"), &self.config).expect("it can be opened")
    }

    fn prepare(&self, workspace: &mut Workspace) -> Result<(), Problems> {
        let request = Request {
            config: Arc::clone(&self.config),
            identity: Digest::of(b"fuzz"),
            selector: "//...".to_owned(),
            since: None,
            environment: Arc::new([("PATH".to_owned(), "/usr/bin:/bin".to_owned())].into()),
            sandbox: SandboxMode::Unspecified,
        };
        let everything = Query::parse("//...", "").expect("a query");
        workspace.prepare(&everything, &request).map(drop)
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("snapshot")
    }
}
