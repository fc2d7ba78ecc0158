//! Where one test lives.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use tempfile::TempDir;

use crate::process::{daemons_of, has_ended};
use crate::{Build, Command, Redactor, Terminal};

/// How `heph` reaches its coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It hosts it in its own process.
    InProcess,
    /// A daemon, which the first call starts.
    Fresh,
    /// A daemon that has seen the workspace before each run.
    Warm,
}

impl Mode {
    /// The one that `HEPH_TEST_MODE` names.
    fn chosen() -> Self {
        match std::env::var("HEPH_TEST_MODE").as_deref() {
            Ok("fresh") => Self::Fresh,
            Ok("warm") => Self::Warm,
            Ok("in-process") | Err(_) => Self::InProcess,
            Ok(other) => panic!("HEPH_TEST_MODE is {other}, and not in-process, fresh or warm"),
        }
    }

    /// Value of `HEPH_DAEMON`.
    pub fn variable(self) -> &'static str {
        match self {
            Self::InProcess => "off",
            Self::Fresh | Self::Warm => "require",
        }
    }
}

/// A daemon that is asked to end does so within this time.
const DAEMON_END: Duration = Duration::from_secs(20);

/// The user's layer where there may be a daemon: one whose test was killed ends soon.
const SHORT_LIFE: &str = "daemon:\n  idleTimeout: 60s\n";

/// All plugins that ship with heph.
pub const CONFIG: &str = "\
plugins:
  - builtin: buildfile
  - builtin: exec
  - builtin: bash
  - builtin: sh
  - builtin: textfile
  - builtin: http_fetch
";

/// A home, a workspace and everything else that a call of `heph` sees, all in one temporary directory.
#[derive(Debug)]
pub struct Environment {
    directory: TempDir,
    mode: Mode,
    path: Vec<PathBuf>,
    variables: Vec<(String, String)>,
}

impl Default for Environment {
    fn default() -> Self {
        Self::new()
    }
}

impl Environment {
    /// A workspace with a `.hephconfig` that registers every plugin, and nothing else.
    pub fn new() -> Self {
        Self::bare().with_config()
    }

    /// With a `.hephconfig` that registers every plugin.
    #[must_use]
    pub fn with_config(self) -> Self {
        self.write(".hephconfig", CONFIG);
        self
    }

    /// An empty directory in place of a workspace.
    pub fn bare() -> Self {
        Self::within(&std::env::temp_dir())
    }

    /// As [`Environment::bare`], below a directory of the caller's choice (another file system).
    pub fn within(parent: &Path) -> Self {
        let directory = tempfile::Builder::new()
            .prefix("heph-test-")
            .tempdir_in(parent)
            .expect("a temporary directory");
        let environment = Self {
            directory,
            mode: Mode::chosen(),
            path: ["/usr/local/bin", "/usr/bin", "/bin"].map(PathBuf::from).to_vec(),
            variables: Vec::new(),
        };
        for own in [
            environment.root(),
            environment.user_home(),
            environment.temporary(),
        ] {
            std::fs::create_dir(&own).unwrap_or_else(|error| panic!("create {}: {error}", own.display()));
        }
        let mode = environment.mode;
        environment.with_mode(mode)
    }

    /// With another mode than the suite's.
    #[must_use]
    pub fn with_mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        let layer = self.user_home().join(".config/heph/hephconfig");
        if mode == Mode::InProcess {
            // There is none unless another mode has made it.
            let _ = std::fs::remove_dir_all(self.user_home().join(".config"));
        } else {
            std::fs::create_dir_all(layer.parent().expect("a directory")).expect("make directories");
            std::fs::write(layer, SHORT_LIFE).expect("write the user's layer");
        }
        self
    }

    /// The workspace root.
    pub fn root(&self) -> PathBuf {
        self.directory.path().join("workspace")
    }

    /// `HEPH_HOME`; made by heph.
    pub fn home(&self) -> PathBuf {
        self.directory.path().join("home")
    }

    /// `HOME`.
    pub fn user_home(&self) -> PathBuf {
        self.directory.path().join("user")
    }

    /// `TMPDIR`.
    pub fn temporary(&self) -> PathBuf {
        self.directory.path().join("tmp")
    }

    /// A place beside all of these.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// How `heph` reaches its coordinator.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Puts a directory in front of `PATH`.
    pub fn prepend_path(&mut self, directory: PathBuf) {
        self.path.insert(0, directory);
    }

    /// Sets a variable for every call.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        self.variables.retain(|(known, _)| known != name);
        self.variables.push((name.to_owned(), value.into()));
    }

    /// The whole environment of a call.
    pub fn variables(&self) -> Vec<(String, String)> {
        let text = |path: PathBuf| path.to_str().expect("a temporary directory in UTF-8").to_owned();
        let path = self
            .path
            .iter()
            .map(|part| text(part.clone()))
            .collect::<Vec<_>>()
            .join(":");
        let mut all = vec![
            ("HEPH_DAEMON".to_owned(), self.mode.variable().to_owned()),
            ("HEPH_HOME".to_owned(), text(self.home())),
            ("HEPH_DISABLE_TELEMETRY".to_owned(), "1".to_owned()),
            ("HOME".to_owned(), text(self.user_home())),
            ("TMPDIR".to_owned(), text(self.temporary())),
            ("PATH".to_owned(), path),
            ("TERM".to_owned(), "xterm-256color".to_owned()),
        ];
        for (name, value) in &self.variables {
            all.retain(|(known, _)| known != name);
            all.push((name.clone(), value.clone()));
        }
        all
    }

    /// Path of a file of the workspace.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.root().join(relative)
    }

    /// Writes a file of the workspace; its directories are made.
    pub fn write(&self, relative: &str, text: impl AsRef<[u8]>) {
        let path = self.path(relative);
        std::fs::create_dir_all(path.parent().expect("a file has a directory")).expect("make directories");
        std::fs::write(&path, text).unwrap_or_else(|error| panic!("write {}: {error}", path.display()));
    }

    /// Writes an executable file of the workspace.
    pub fn write_program(&self, relative: &str, text: &str) {
        self.write(relative, text);
        make_executable(&self.path(relative));
    }

    /// Writes an executable file beside the workspace.
    pub fn write_outside(&self, relative: &str, text: &str) -> PathBuf {
        let path = self.beside(relative);
        std::fs::create_dir_all(path.parent().expect("a file has a directory")).expect("make directories");
        std::fs::write(&path, text).expect("write a program");
        make_executable(&path);
        path
    }

    /// Text of a file of the workspace.
    pub fn read(&self, relative: &str) -> String {
        let path = self.path(relative);
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("read {}: {error}", path.display()))
    }

    /// Whether the workspace has this file.
    pub fn exists(&self, relative: &str) -> bool {
        self.path(relative).symlink_metadata().is_ok()
    }

    /// Removes a file of the workspace.
    pub fn remove(&self, relative: &str) {
        let path = self.path(relative);
        std::fs::remove_file(&path).unwrap_or_else(|error| panic!("remove {}: {error}", path.display()));
    }

    /// Copies a directory of this repository, as `examples/hello`, over the workspace.
    pub fn copy_from_repository(&self, directory: &str) {
        copy_tree(&repository().join(directory), &self.root());
    }

    /// Makes the workspace a git repository and commits all of it.
    pub fn commit_all(&self) {
        if !self.exists(".git") {
            self.git(&["init", "--quiet", "--initial-branch=main"]);
        }
        self.git(&["add", "--all"]);
        self.git(&[
            "-c",
            "user.name=t",
            "-c",
            "user.email=t@example.com",
            "commit",
            "--quiet",
            "--message=state",
        ]);
    }

    /// Runs git in the workspace, apart from any configuration of the machine.
    pub fn git(&self, arguments: &[&str]) {
        let status = std::process::Command::new("git")
            .args(arguments)
            .current_dir(self.root())
            .env_clear()
            .envs(self.variables())
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .status()
            .expect("git runs");
        assert!(status.success(), "git {arguments:?} failed");
    }

    /// A call of `heph` from the workspace root.
    pub fn heph<A: AsRef<str>>(&self, arguments: impl IntoIterator<Item = A>) -> Command<'_> {
        Command::new(
            self,
            arguments
                .into_iter()
                .map(|argument| argument.as_ref().to_owned())
                .collect(),
        )
    }

    /// `heph run --json SELECTOR`, which must build everything.
    pub fn build(&self, selector: &str) -> Build {
        let build = self.try_build(selector);
        build.run.success();
        build
    }

    /// `heph run --json SELECTOR`, whatever comes of it.
    pub fn try_build(&self, selector: &str) -> Build {
        self.heph(["run", "--json", selector]).build()
    }

    /// A call of `heph` on a terminal of its own.
    pub fn terminal<A: AsRef<str>>(&self, arguments: impl IntoIterator<Item = A>) -> Terminal {
        Terminal::start(self.heph(arguments))
    }

    /// Ends the daemons, as for what needs a home that nobody has open.
    pub fn stop_daemons(&self) {
        let start = Instant::now();
        let mut asked = 0;
        let mut left = Vec::new();
        loop {
            left.extend(self.daemons());
            left.sort_unstable_by_key(|pid: &Pid| pid.as_raw_nonzero());
            left.dedup();
            left.retain(|pid| !has_ended(*pid));
            if left.is_empty() {
                return;
            }
            let late = start.elapsed() > DAEMON_END;
            // The second time it cancels what it has.
            if late || asked == 0 || (asked == 1 && start.elapsed() > DAEMON_END / 10) {
                asked += 1;
                for pid in &left {
                    let signal = if late { Signal::KILL } else { Signal::TERM };
                    // It may have ended in between.
                    let _ = rustix::process::kill_process(*pid, signal);
                }
            }
            if late {
                assert!(std::thread::panicking(), "daemons did not end: {left:?}");
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Processes that are daemons of homes in this environment.
    pub fn daemons(&self) -> Vec<Pid> {
        let set = self.variables.iter().find(|(name, _)| name == "HEPH_HOME");
        let elsewhere = set.map(|(_, home)| PathBuf::from(home));
        let homes = [Some(self.directory.path().to_owned()), elsewhere];
        daemons_of(&homes.into_iter().flatten().collect::<Vec<_>>())
    }

    /// What is replaced in texts before they are compared.
    pub fn redactor(&self) -> Redactor {
        Redactor::new(self)
    }
}

impl Drop for Environment {
    /// Daemons end with their test, whatever came of it.
    fn drop(&mut self) {
        self.stop_daemons();
    }
}

/// The root of this repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the crate lies in the repository")
        .to_owned()
}

/// Every file below a directory that may be missing, in no order.
pub fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        // What runs meanwhile may have removed it.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(files_below(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found
}

fn make_executable(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("make executable");
}

fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("make a directory");
    for entry in std::fs::read_dir(from).unwrap_or_else(|error| panic!("list {}: {error}", from.display())) {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), &target).expect("copy a file");
        }
    }
}
