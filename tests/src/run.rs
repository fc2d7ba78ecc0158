//! What came of a call.

use std::fmt;
use std::time::Duration;

use crate::Redactor;

/// The result of a call of `heph`.
#[derive(Clone, Debug)]
pub struct Run {
    /// Its exit code; 128 + signal when it was killed.
    pub code: i32,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
    /// Time from start to end.
    pub wall: Duration,
    pub(crate) redactor: Redactor,
}

impl Run {
    /// Demands exit code 0.
    #[track_caller]
    pub fn success(&self) -> &Self {
        self.exits(0)
    }

    /// Demands an exit code.
    #[track_caller]
    pub fn exits(&self, code: i32) -> &Self {
        assert!(self.code == code, "expected exit code {code}\n{self}");
        self
    }

    /// Standard output as text.
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard error as text.
    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// Lines of standard output.
    pub fn lines(&self) -> Vec<String> {
        self.out().lines().map(str::to_owned).collect()
    }

    /// Standard output as one JSON document.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|error| panic!("not JSON: {error}\n{self}"))
    }

    /// Demands that standard output or standard error contains a text.
    #[track_caller]
    pub fn says(&self, text: &str) -> &Self {
        assert!(
            self.out().contains(text) || self.err().contains(text),
            "nowhere {text:?}\n{self}"
        );
        self
    }

    /// Demands that neither output contains a text.
    #[track_caller]
    pub fn never_says(&self, text: &str) -> &Self {
        assert!(
            !self.out().contains(text) && !self.err().contains(text),
            "somewhere {text:?}\n{self}"
        );
        self
    }

    /// Exit code and both outputs, with all that differs between machines and runs replaced: for snapshots.
    pub fn report(&self) -> String {
        let mut text = format!("exit {}\n", self.code);
        for (name, bytes) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            let part = self.redactor.redact(&String::from_utf8_lossy(bytes));
            if !part.trim().is_empty() {
                text += &format!("--- {name}\n{}\n", part.trim_end());
            }
        }
        text
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "exit code {} after {:?}", self.code, self.wall)?;
        writeln!(f, "--- stdout\n{}", self.out())?;
        write!(f, "--- stderr\n{}", self.err())
    }
}
