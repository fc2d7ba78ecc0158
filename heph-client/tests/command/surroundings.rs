//! A directory, a home and an environment for one test.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// Everything that a call of `heph` may see or write.
pub struct Surroundings {
    directory: TempDir,
}

impl Surroundings {
    /// An empty workspace directory and a home directory.
    pub fn new() -> Self {
        let directory = TempDir::with_prefix("heph-client-").unwrap();
        std::fs::create_dir_all(directory.path().join("work")).unwrap();
        std::fs::create_dir_all(directory.path().join("user")).unwrap();
        Self { directory }
    }

    /// As [`Surroundings::new`], with this `.hephconfig`.
    pub fn with_config(config: &str) -> Self {
        let surroundings = Self::new();
        surroundings.write(".hephconfig", config);
        surroundings
    }

    pub fn top(&self) -> PathBuf {
        self.directory.path().canonicalize().unwrap()
    }

    pub fn work(&self) -> PathBuf {
        self.top().join("work")
    }

    pub fn write(&self, path: &str, text: &str) {
        let path = self.work().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.work().join(path)).unwrap()
    }

    /// `heph` with nothing of the caller's environment but what it is given here.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_heph"));
        command
            .args(arguments)
            .current_dir(self.work())
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.top().join("user"))
            .env("TMPDIR", self.top())
            .env("HEPH_DAEMON", "off")
            .stdin(Stdio::null());
        command
    }

    /// What a call says: exit code, standard output, standard error.
    pub fn heph(&self, arguments: &[&str]) -> String {
        self.say(&mut self.command(arguments))
    }

    pub fn say(&self, command: &mut Command) -> String {
        let output = command.output().unwrap();
        let code = output
            .status
            .code()
            .map_or("a signal".to_owned(), |code| code.to_string());
        let text = |bytes: &[u8]| self.masked(&String::from_utf8_lossy(bytes));
        let mut said = format!("exit {code}\n");
        for (name, bytes) in [("out", &output.stdout), ("err", &output.stderr)] {
            if !bytes.is_empty() {
                said.push_str(&format!("--- {name}\n{}", text(bytes)));
            }
        }
        said
    }

    fn masked(&self, text: &str) -> String {
        text.replace(&self.top().display().to_string(), "[TOP]")
            .replace(env!("CARGO_PKG_VERSION"), "[VERSION]")
    }
}

/// The names in a directory, sorted.
pub fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
