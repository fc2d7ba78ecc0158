//! Failures, kept until the end, and how each is told.

use std::borrow::Cow;

use heph_proto::{Failed, FailureKind, TargetDone};

use crate::terminal::Style;
use crate::words;

/// What failed, in the order in which it did.
#[derive(Debug, Default)]
pub struct Failures {
    failed: Vec<(String, Failed)>,
}

impl Failures {
    /// Keeps the failure of a target; what ended otherwise is ignored.
    pub fn keep(&mut self, target: &TargetDone) {
        if let Some(failed) = &target.failed {
            self.failed.push((target.address.clone(), failed.clone()));
        }
    }

    /// Everything that failed, for the end of the run.
    pub fn text(&self, style: Style) -> String {
        let mut text = String::new();
        for (address, failed) in &self.failed {
            text.push_str(&told(address, failed, style));
        }
        text
    }
}

/// How it ended, in a few words: `exit code 2`, `SIGSEGV`, or the message.
pub fn in_short(failed: &Failed) -> String {
    match (failed.exit_code, failed.signal) {
        _ if failed.kind() != FailureKind::Command && !failed.message.is_empty() => {
            first_line(&failed.message).to_owned()
        }
        (_, Some(signal)) => format!("ended by {}", words::signal(signal)),
        (Some(code), None) if code != 0 => format!("exit code {code}"),
        _ => first_line(&failed.message).to_owned(),
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// The script of a command that hands one to a shell; any other command as it is.
fn script(command: &str) -> Cow<'_, str> {
    let handed = ["bash --noprofile --norc -euo pipefail -c ", "sh -eu -c "]
        .into_iter()
        .find_map(|shell| command.strip_prefix(shell));
    let Some(word) = handed else {
        return Cow::Borrowed(command);
    };
    match word.strip_prefix('\'').and_then(|word| word.strip_suffix('\'')) {
        Some(quoted) => Cow::Owned(quoted.replace("'\\''", "'")),
        None => Cow::Borrowed(word),
    }
}

/// A failure in full: what failed and how, the command, the end of its log, where to look, what to do.
fn told(address: &str, failed: &Failed, style: Style) -> String {
    let short = in_short(failed);
    let mut text = format!(
        "\n{} {} failed: {short}\n",
        style.error("error:"),
        style.bold(address)
    );
    // What `short` says, the first line of the message says too.
    for line in failed.message.lines().skip(1) {
        text.push_str(&format!("  {}\n", words::printable(line)));
    }
    let command = script(&failed.command);
    let mut lines = command.lines();
    if let Some(first) = lines.next() {
        text.push_str(&format!(
            "  {} {}\n",
            style.dim("command:"),
            words::printable(first)
        ));
        for line in lines {
            text.push_str(&format!("           {}\n", words::printable(line)));
        }
    }
    if !failed.log_tail.is_empty() {
        let bar = if style.unicode() { "│" } else { "|" };
        for line in &failed.log_tail {
            text.push_str(&format!("  {} {}\n", style.dim(bar), words::printable(line)));
        }
    }
    for (label, path) in [("log:", &failed.log_file), ("sandbox:", &failed.sandbox)] {
        if !path.is_empty() {
            text.push_str(&format!("  {} {path}\n", style.dim(label)));
        }
    }
    for line in failed.hint.lines() {
        text.push_str(&format!("{} {line}\n", style.hint("hint:")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    #[test]
    fn a_failure_tells_command_code_log_and_cure() {
        let mut failures = Failures::default();
        failures.keep(&TargetDone {
            address: "//cmd:bin".into(),
            failed: Some(Failed {
                kind: FailureKind::Command.into(),
                message: "exited with code 2".into(),
                exit_code: Some(2),
                command: r"bash --noprofile --norc -euo pipefail -c 'gcc -c a.c
gcc -o '\''a'\'' a.o'"
                    .into(),
                log_tail: vec![
                    "a.c:1:10: fatal error: b.h: No such file".into(),
                    "\x1b[1m1 error\x1b[0m".into(),
                ],
                hint: "cmd/b.h is in the workspace but not in the sandbox: add it to deps".into(),
                log_file: "/home/me/.heph/sandbox/ab/log".into(),
                ..Default::default()
            }),
            ..Default::default()
        });
        failures.keep(&TargetDone {
            address: "//cmd:gen".into(),
            failed: Some(Failed {
                kind: FailureKind::Output.into(),
                message: "output 'gen.c' is missing\nthe command wrote: gen.h".into(),
                exit_code: Some(0),
                ..Default::default()
            }),
            ..Default::default()
        });
        failures.keep(&TargetDone {
            address: "//cmd:crash".into(),
            failed: Some(Failed {
                kind: FailureKind::Command.into(),
                message: "was ended by signal 11 (SIGSEGV)".into(),
                signal: Some(11),
                ..Default::default()
            }),
            ..Default::default()
        });
        insta::assert_snapshot!(failures.text(Style::plain()), @"
        error: //cmd:bin failed: exit code 2
          command: gcc -c a.c
                   gcc -o 'a' a.o
          | a.c:1:10: fatal error: b.h: No such file
          | 1 error
          log: /home/me/.heph/sandbox/ab/log
        hint: cmd/b.h is in the workspace but not in the sandbox: add it to deps

        error: //cmd:gen failed: output 'gen.c' is missing
          the command wrote: gen.h

        error: //cmd:crash failed: ended by SIGSEGV
        ");
    }
}
