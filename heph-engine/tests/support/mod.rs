//! A workspace, an engine over it, and a client that runs plans in the simplest way: no isolation, no supervision.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    dead_code,
    reason = "support of tests; each test binary uses a part of it"
)]

pub mod random;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use heph_common::Digest;
use heph_common::config::{self, LoadOptions};
use heph_engine::engine::{Engine, EngineOptions};
use heph_engine::run::Message;
use heph_engine::watch::Watching;
use heph_proto::{
    Completed, Content, EntryKind, Executed, Failed, FailureKind, OutputEntry, Plan, Produced, Report,
    RunEvent, RunRequest, SandboxMode, Start, TargetOutcome, Written, content, input, plan, report,
    run_event, run_request, variable_part,
};
use tempfile::TempDir;

/// A workspace and a home of its own.
pub struct Bench {
    directory: TempDir,
    /// The caller's environment.
    pub environment: BTreeMap<String, String>,
    /// Watches the workspaces of the engines.
    pub watching: Option<Arc<dyn Watching>>,
}

/// What a run did.
#[derive(Debug, Default)]
pub struct Ran {
    /// Addresses whose commands ran, sorted.
    pub executed: Vec<String>,
    /// How targets ended that were named.
    pub outcomes: HashMap<String, TargetOutcome>,
    /// Failures by address.
    pub failures: HashMap<String, Failed>,
    /// The last event.
    pub finished: heph_proto::Finished,
    /// Reasons of a dry run.
    pub would_run: BTreeMap<String, String>,
    /// Outputs of selected targets by path.
    pub outputs: BTreeMap<String, Vec<u8>>,
    /// Files that were written to the tree.
    pub written: Vec<String>,
}

impl Bench {
    /// A workspace of these files.
    pub fn new(files: &[(&str, &str)]) -> Self {
        let environment = [("PATH", "/usr/bin:/bin")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        let bench = Self {
            directory: tempfile::tempdir().unwrap(),
            environment,
            watching: None,
        };
        bench.write(
            ".hephconfig",
            "plugins:\n- builtin: buildfile\n- builtin: sh\n- builtin: textfile\n",
        );
        for (path, text) in files {
            bench.write(path, text);
        }
        bench
    }

    pub fn root(&self) -> PathBuf {
        self.directory.path().join("ws")
    }

    pub fn home(&self) -> PathBuf {
        self.directory.path().join("home")
    }

    pub fn write(&self, path: &str, text: &str) {
        let path = self.root().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub fn engine(&self) -> Engine {
        self.engine_at(&self.home())
    }

    pub fn engine_at(&self, home: &Path) -> Engine {
        let root = self.root();
        let options = LoadOptions {
            root: Some(&root),
            user_layer: None,
            profiles: &[],
            home_directory: None,
        };
        let config = Arc::new(config::load(&options).unwrap().config);
        Engine::open(EngineOptions {
            home: home.to_owned(),
            config,
            jobs: 2,
            build: "test".to_owned(),
            watching: self.watching.clone(),
            keeper: Vec::new(),
        })
        .unwrap()
    }

    pub fn start(&self, query: &str) -> Start {
        let root = self.root();
        let options = LoadOptions {
            root: Some(&root),
            user_layer: None,
            profiles: &[],
            home_directory: None,
        };
        let config = config::load(&options).unwrap().config;
        let workspace = heph_proto::Workspace {
            root: root.to_string_lossy().into_owned(),
            config: serde_json::to_vec(&config).unwrap().into(),
            package: String::new(),
            environment: self.environment.clone().into_iter().collect(),
            home: self.home().to_string_lossy().into_owned(),
        };
        Start {
            workspace: Some(workspace),
            query: query.to_owned(),
            selector: query.to_owned(),
            log_lines: 10,
            ..Start::default()
        }
    }

    /// A run in a process of its own, as far as the engine can tell.
    pub fn run(&self, query: &str) -> Ran {
        self.run_start(&self.start(query))
    }

    pub fn run_start(&self, start: &Start) -> Ran {
        let engine = self.engine();
        let ran = self.run_in(&engine, start);
        self.rest(&engine, start);
        ran
    }

    /// What a host does after an answer.
    pub fn rest(&self, engine: &Engine, start: &Start) {
        engine.rest(&heph_engine::engine::Asked::read(start.workspace.as_ref()).unwrap());
    }

    /// A run in an engine that is warm.
    pub fn run_in(&self, engine: &Engine, start: &Start) -> Ran {
        self.run_with(engine, start, &|plan| self.execute(plan))
    }

    /// The same with another way to run plans.
    pub fn run_with(&self, engine: &Engine, start: &Start, execute: &dyn Fn(&Plan) -> Report) -> Ran {
        self.run_watched(engine, start, execute, &|_| {})
    }

    /// The same, where somebody hears of the targets that wait for another run.
    pub fn run_watched(
        &self,
        engine: &Engine,
        start: &Start,
        execute: &dyn Fn(&Plan) -> Report,
        waiting: &dyn Fn(&str),
    ) -> Ran {
        let (own, inbox) = crossbeam_channel::unbounded();
        let ran = Mutex::new(Ran::default());
        let answers = own.clone();
        let answer = |request| {
            answers
                .send(Message::Request(RunRequest {
                    request: Some(request),
                }))
                .unwrap()
        };
        let event = |event: RunEvent| {
            let mut ran = ran.lock().unwrap();
            match event.event.unwrap() {
                run_event::Event::Execute(asked) => {
                    let plan = asked.plan.unwrap();
                    ran.executed.push(plan.address.clone());
                    answer(run_request::Request::Executed(Executed {
                        id: asked.id,
                        report: Some(execute(&plan)),
                    }));
                }
                run_event::Event::Target(done) => {
                    ran.outcomes.insert(done.address.clone(), done.outcome());
                    done.failed
                        .and_then(|failed| ran.failures.insert(done.address, failed));
                }
                run_event::Event::Write(request) => {
                    for file in &request.files {
                        let to = self.root().join(&file.path);
                        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
                        std::fs::write(to, bytes_of(file)).unwrap();
                        ran.written.push(file.path.clone());
                    }
                    let changed = request.files.len() as u32;
                    answer(run_request::Request::Written(Written {
                        id: request.id,
                        failed: None,
                        changed,
                    }));
                }
                run_event::Event::Outputs(outputs) => {
                    ran.outputs.extend(
                        outputs
                            .files
                            .iter()
                            .map(|file| (file.path.clone(), bytes_of(file))),
                    );
                }
                run_event::Event::WouldRun(would) => {
                    ran.would_run.insert(would.address, would.reason);
                }
                run_event::Event::Waiting(told) => waiting(&told.address),
                run_event::Event::Finished(finished) => ran.finished = finished,
                _ => {}
            }
        };
        engine.run(start, own, &inbox, &event);
        let mut ran = ran.into_inner().unwrap();
        ran.executed.sort();
        ran
    }

    pub fn execute(&self, plan: &Plan) -> Report {
        let sandbox = tempfile::tempdir().unwrap();
        let top = sandbox.path();
        let ws = top.join("ws");
        for input in &plan.inputs {
            let to = ws.join(&input.path);
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            let bytes = bytes_of(input);
            if matches!(input.source, Some(input::Source::SourceFile(_)))
                && Digest::of(&bytes).as_bytes() != &*input.digest
            {
                return stale(input);
            }
            std::fs::write(&to, bytes).unwrap();
        }
        let directory = ws.join(&plan.package);
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::create_dir_all(top.join("list")).unwrap();
        for list in &plan.lists {
            std::fs::write(top.join("list").join(&list.name), list.lines.join("\n") + "\n").unwrap();
        }
        let Some(plan::Action::Command(command)) = &plan.action else {
            panic!("not a command")
        };
        let mut process = Command::new(&command.argv[0]);
        process
            .args(&command.argv[1..])
            .args(&command.script)
            .current_dir(&directory)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .stdin(Stdio::null());
        for variable in &plan.environment {
            let parts = variable
                .parts
                .iter()
                .map(|part| match part.part.as_ref().unwrap() {
                    variable_part::Part::Text(text) => text.clone(),
                    variable_part::Part::SandboxPath(path) => top.join(path).to_string_lossy().into_owned(),
                });
            process.env(&variable.name, parts.collect::<String>());
        }
        let output = process.output().unwrap();
        let outcome = match output.status.success() {
            true => report::Outcome::Completed(Completed {
                outputs: plan.outputs.iter().map(|output| produced(&ws, output)).collect(),
            }),
            false => report::Outcome::Failed(Failed {
                kind: FailureKind::Command.into(),
                exit_code: output.status.code(),
                message: String::from_utf8_lossy(&output.stderr).into_owned(),
                ..Failed::default()
            }),
        };
        Report {
            outcome: Some(outcome),
            sandbox: SandboxMode::Standard.into(),
            ..Report::default()
        }
    }
}

/// A report that says that an input changed.
pub fn stale(input: &heph_proto::Input) -> Report {
    let outcome = report::Outcome::Stale(heph_proto::Stale {
        path: input.path.clone(),
    });
    Report {
        outcome: Some(outcome),
        ..Report::default()
    }
}

fn produced(ws: &Path, output: &heph_proto::OutputSpec) -> Produced {
    let bytes = std::fs::read(ws.join(&output.path)).unwrap();
    let digest: bytes::Bytes = Digest::of(&bytes).as_bytes().to_vec().into();
    let size = bytes.len() as u64;
    let entry = OutputEntry {
        group: output.group.clone(),
        path: output.path.clone(),
        kind: EntryKind::File.into(),
        digest: digest.clone(),
        size,
        link_target: String::new(),
    };
    Produced {
        entry: Some(entry),
        content: Some(Content {
            content: Some(content::Content::Inline(bytes.into())),
            digest,
            size,
        }),
    }
}

/// The bytes of an input.
pub fn bytes_of(input: &heph_proto::Input) -> Vec<u8> {
    match input.source.as_ref().unwrap() {
        input::Source::SourceFile(path) | input::Source::BlobFile(path) => std::fs::read(path).unwrap(),
        input::Source::Inline(bytes) => bytes.to_vec(),
        input::Source::LinkTarget(_) => Vec::new(),
    }
}

/// Files of a directory tree with their content, without `.hephconfig`.
pub fn files_below(root: &Path) -> HashSet<PathBuf> {
    let mut found = HashSet::new();
    let mut pending = vec![root.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else {
                found.insert(path.strip_prefix(root).unwrap().to_owned());
            }
        }
    }
    found
}
