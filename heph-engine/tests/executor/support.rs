//! Executors, plans and reports for the tests.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use heph_engine::executor::{Control, Executor, ExecutorOptions};
use heph_proto::content::Content as Held;
use heph_proto::input::Source;
use heph_proto::plan::Action;
use heph_proto::report::Outcome;
use heph_proto::tool::Program;
use heph_proto::variable_part::Part;
use heph_proto::{
    Command, Completed, EntryKind, Failed, Input, OutputSpec, Plan, Report, SandboxMode, Tool, Variable,
    VariablePart,
};

/// Programs that the tests' commands use.
const BASE: &[&str] = &[
    "sh", "bash", "cat", "cksum", "cp", "cut", "chmod", "dd", "echo", "env", "find", "grep", "head",
    "hostname", "id", "kill", "ln", "ls", "mkdir", "mkfifo", "mv", "od", "printf", "pwd", "readlink", "rm",
    "sed", "setsid", "sleep", "sort", "stat", "tail", "touch", "true", "truncate", "tr", "uname", "wc",
    "sync", "nohup", "mktemp", "df", "test",
];

/// A home, a workspace and an executor of one test.
pub struct Bench {
    pub executor: Executor,
    pub home: PathBuf,
    pub root: PathBuf,
    runtime: tokio::runtime::Runtime,
    directory: Option<tempfile::TempDir>,
}

/// The example `sandboxed`: supervisor, and a client that can be killed.
pub fn sandboxed() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let path = tests.ancestors().nth(2).unwrap().join("examples/sandboxed");
    assert!(
        path.exists(),
        "{} is missing: cargo build -p heph-engine --examples",
        path.display()
    );
    path
}

pub fn supervisor() -> Vec<OsString> {
    vec![sandboxed().into(), "supervise".into()]
}

/// The modes that work here; says which do not.
pub fn modes(bench: &Bench, test: &str) -> Vec<SandboxMode> {
    match bench.is_strict(test) {
        true => vec![SandboxMode::Strict, SandboxMode::Standard],
        false => vec![SandboxMode::Standard],
    }
}

impl Bench {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut bench = Self::at(directory.path());
        bench.directory = Some(directory);
        bench
    }

    /// A bench below a directory that is the caller's.
    pub fn at(directory: &Path) -> Self {
        let directory = directory.canonicalize().unwrap();
        let (home, root) = (directory.join("home"), directory.join("workspace"));
        std::fs::create_dir_all(&root).unwrap();
        Self::with(&home, &root)
    }

    pub fn with(home: &Path, root: &Path) -> Self {
        let options = ExecutorOptions {
            home: home.to_owned(),
            supervisor: supervisor(),
            jobs: 3,
            ..ExecutorOptions::default()
        };
        Self {
            executor: Executor::new(options),
            home: home.to_owned(),
            root: root.to_owned(),
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap(),
            directory: None,
        }
    }

    pub fn run(&self, plan: Plan) -> Report {
        self.run_with(plan, Control::default())
    }

    pub fn run_with(&self, plan: Plan, control: Control) -> Report {
        self.runtime.block_on(self.executor.execute(plan, control))
    }

    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    /// A plan that runs a shell script in package `pkg`.
    pub fn plan(&self, mode: SandboxMode, script: &str) -> Plan {
        Plan {
            address: "//pkg:target".to_owned(),
            package: "pkg".to_owned(),
            sandbox_id: "0123456789abcdef".to_owned(),
            action: Some(Action::Command(Command {
                argv: ["sh", "-euc", script].map(str::to_owned).to_vec(),
                script: None,
            })),
            sandbox: mode.into(),
            base: base(),
            base_digest: "b".repeat(64),
            workspace_root: self.root.to_str().unwrap().to_owned(),
            log_lines: 10,
            ..Plan::default()
        }
    }

    /// Writes a file of the workspace and gives the input for it.
    pub fn source(&self, path: &str, text: &str) -> Input {
        let file = self.root.join(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, text).unwrap();
        Input {
            path: path.to_owned(),
            kind: EntryKind::File.into(),
            digest: digest(text.as_bytes()),
            size: text.len() as u64,
            source: Some(Source::SourceFile(file.to_str().unwrap().to_owned())),
            read_only: false,
        }
    }

    /// Whether strict mode works here; says so when not.
    pub fn is_strict(&self, test: &str) -> bool {
        let probe = self.block_on(self.executor.probe());
        if let Some(obstacle) = &probe.obstacle {
            eprintln!("SKIPPED: {test}: strict mode does not work here: {obstacle}");
        }
        probe.mode == SandboxMode::Strict
    }
}

pub fn digest(bytes: &[u8]) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(blake3::hash(bytes).as_bytes())
}

pub fn base() -> Vec<Tool> {
    BASE.iter()
        .filter_map(|name| {
            let path = ["/usr/bin", "/bin"].iter().map(|at| Path::new(at).join(name));
            let path = path.into_iter().find(|path| path.exists())?;
            Some(host_tool(name, &path))
        })
        .collect()
}

pub fn host_tool(name: &str, path: &Path) -> Tool {
    let program = Some(Program::Host(path.to_str().unwrap().to_owned()));
    Tool {
        name: name.to_owned(),
        program,
    }
}

pub fn inline(path: &str, text: &str) -> Input {
    Input {
        path: path.to_owned(),
        kind: EntryKind::File.into(),
        digest: digest(text.as_bytes()),
        size: text.len() as u64,
        source: Some(Source::Inline(text.as_bytes().to_vec().into())),
        read_only: false,
    }
}

/// Waits until something holds; fails loudly when that takes unreasonably long.
#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !holds() {
        assert!(
            start.elapsed().as_secs() < 60,
            "still not so after a minute: {what}"
        );
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// Processes that have a descriptor or their command line in a directory, or work there, as lines for people.
pub fn processes_of(marker: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else {
            continue;
        };
        let read = |name: &str| std::fs::read(entry.path().join(name)).unwrap_or_default();
        let line = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
        let environment = String::from_utf8_lossy(&read("environ")).into_owned();
        if pid != std::process::id() && (line.contains(marker) || environment.contains(marker)) {
            found.push(format!("{pid}: {line}"));
        }
    }
    found
}

pub fn variable(name: &str, value: &str) -> Variable {
    let part = Some(Part::Text(value.to_owned()));
    Variable {
        name: name.to_owned(),
        parts: vec![VariablePart { part }],
    }
}

pub fn output(path: &str) -> OutputSpec {
    OutputSpec {
        path: path.trim_end_matches('/').to_owned(),
        directory: path.ends_with('/'),
        glob: path.contains('*'),
        ..OutputSpec::default()
    }
}

#[track_caller]
pub fn completed(report: &Report) -> &Completed {
    match &report.outcome {
        Some(Outcome::Completed(completed)) => completed,
        other => panic!("not completed: {other:#?}\nlog: {}", log(report)),
    }
}

#[track_caller]
pub fn failed(report: &Report) -> &Failed {
    match &report.outcome {
        Some(Outcome::Failed(failed)) => failed,
        other => panic!("not failed: {other:#?}\nlog: {}", log(report)),
    }
}

/// What the command printed, when it is small.
pub fn log(report: &Report) -> String {
    match report.log.as_ref().and_then(|log| log.content.clone()) {
        Some(Held::Inline(bytes)) => String::from_utf8_lossy(&bytes).into_owned(),
        Some(Held::File(path)) => std::fs::read_to_string(path).unwrap(),
        None => match &report.outcome {
            Some(Outcome::Failed(failed)) => failed.log_tail.join("\n"),
            _ => String::new(),
        },
    }
}

/// Paths of the outputs with their kinds and contents, or where links point.
pub fn outputs(report: &Report) -> Vec<(String, EntryKind, String)> {
    completed(report)
        .outputs
        .iter()
        .map(|produced| {
            let entry = produced.entry.clone().unwrap();
            let text = match produced
                .content
                .as_ref()
                .and_then(|content| content.content.clone())
            {
                Some(Held::Inline(bytes)) => String::from_utf8_lossy(&bytes).into_owned(),
                Some(Held::File(path)) => std::fs::read_to_string(path).unwrap(),
                None => entry.link_target.clone(),
            };
            (entry.path.clone(), entry.kind(), text)
        })
        .collect()
}
