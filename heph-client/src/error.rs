//! Errors as a person reads them: what failed, where, why, and what to do.

use std::fmt::Write as _;

use heph_common::Exit;
use heph_proto::RunError;

use crate::terminal::Style;

/// The result of a command.
pub type Result<T, E = CommandError> = std::result::Result<T, E>;

/// Why a command ends without having done what it was asked.
#[derive(Debug)]
pub struct CommandError {
    /// What the process exits with.
    pub exit: Exit,
    /// What is said, in order; empty when everything has been said already.
    pub problems: Vec<Said>,
}

/// One problem in words.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// What is wrong; may have several lines.
    pub message: String,
    /// Where, as `pkg/BUILD:3:5`.
    pub place: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
}

impl CommandError {
    /// Wrong usage or configuration.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// What was asked for cannot be had: nothing matched, a difference was found.
    pub fn failure(message: impl Into<String>) -> Self {
        Self::new(Exit::Failure, message)
    }

    /// heph itself failed.
    pub fn fault(message: impl Into<String>) -> Self {
        Self::new(Exit::Fault, message)
    }

    /// Everything has been said; only the code is left.
    pub fn silent(exit: Exit) -> Self {
        Self {
            exit,
            problems: Vec::new(),
        }
    }

    fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            problems: vec![Said {
                message: message.into(),
                ..Said::default()
            }],
        }
    }

    /// The same error with advice on its last problem.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        if let Some(last) = self.problems.last_mut() {
            last.hint = Some(hint.into());
        }
        self
    }

    /// The words for the terminal, each problem on its own lines.
    pub fn text(&self, style: Style) -> String {
        let mut text = String::new();
        for (index, said) in self.problems.iter().enumerate() {
            if index > 0 {
                text.push('\n');
            }
            said.write(&mut text, style);
        }
        text
    }
}

impl Said {
    fn write(&self, text: &mut String, style: Style) {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{} {}", style.error("error:"), self.message.trim_end());
        if let Some(place) = &self.place {
            let _ = writeln!(text, "  {} {place}", style.dim("-->"));
        }
        if let Some(hint) = &self.hint {
            let _ = writeln!(text, "{} {hint}", style.hint("hint:"));
        }
    }
}

impl From<heph_proto::Problem> for Said {
    fn from(problem: heph_proto::Problem) -> Self {
        Self {
            message: problem.message,
            place: Some(problem.place).filter(|place| !place.is_empty()),
            hint: Some(problem.hint).filter(|hint| !hint.is_empty()),
        }
    }
}

impl From<RunError> for CommandError {
    fn from(error: RunError) -> Self {
        Self {
            exit: exit_of(error.exit_code),
            problems: error.problems.into_iter().map(Said::from).collect(),
        }
    }
}

impl From<anyhow::Error> for CommandError {
    fn from(error: anyhow::Error) -> Self {
        Self::fault(format!("{error:#}"))
    }
}

impl From<tonic::Status> for CommandError {
    fn from(status: tonic::Status) -> Self {
        let message = match status.message() {
            "" => status.code().description(),
            message => message,
        };
        Self::fault(format!("heph itself failed: {message}"))
            .hint("finished results are kept: run again, with HEPH_DAEMON=off HEPH_LOG=debug to see more")
    }
}

/// The documented exit code with this number; a number that is none of them is a fault.
pub fn exit_of(code: i32) -> Exit {
    Exit::ALL
        .into_iter()
        .find(|exit| i32::from(exit.code()) == code)
        .unwrap_or(Exit::Fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_says_what_where_and_what_to_do() {
        let error = CommandError::from(RunError {
            exit_code: 2,
            problems: vec![
                heph_proto::Problem {
                    message: "unknown key 'dep'".into(),
                    place: "cmd/BUILD:4:5".into(),
                    hint: "did you mean 'deps'?".into(),
                },
                heph_proto::Problem {
                    message: "cycle:\n  //a:a\n  //a:a\n".into(),
                    ..Default::default()
                },
            ],
        });
        assert_eq!(error.exit, Exit::Usage);
        insta::assert_snapshot!(error.text(Style::plain()), @"
        error: unknown key 'dep'
          --> cmd/BUILD:4:5
        hint: did you mean 'deps'?

        error: cycle:
          //a:a
          //a:a
        ");
    }
}
