//! Plain lines, for files, pipes and CI: no cursor control, nothing drawn twice.

use std::io::Write;
use std::time::Duration;

use heph_proto::{Finished, Notice, NoticeLevel, TargetDone, TargetOutcome, WouldRun};

use super::summary::{self, Counts};
use super::{Event, Failures, Observer};
use crate::error::CommandError;
use crate::terminal::Style;
use crate::words;

/// Silence longer than this is broken by a line that says what still runs.
const SILENCE: Duration = Duration::from_secs(60);

/// How much is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Loudness {
    /// Only what failed.
    Quiet,
    /// What ran.
    Normal,
    /// Every target.
    Verbose,
}

/// Shows a run as lines.
pub struct Plain<W> {
    out: W,
    style: Style,
    loudness: Loudness,
    counts: Counts,
    running: Vec<(String, Duration)>,
    failures: Failures,
    last_line: Duration,
}

impl<W: Write> Plain<W> {
    /// Writes to `out`.
    pub fn new(out: W, style: Style, loudness: Loudness) -> Self {
        Self {
            out,
            style,
            loudness,
            counts: Counts::default(),
            running: Vec::new(),
            failures: Failures::default(),
            last_line: Duration::ZERO,
        }
    }

    fn say(&mut self, at: Duration, text: &str) {
        self.last_line = at;
        // A reader that is gone must not end the build.
        let _ = self
            .out
            .write_all(text.as_bytes())
            .and_then(|()| self.out.flush());
    }

    fn normally(&mut self, at: Duration, text: &str) {
        if self.loudness >= Loudness::Normal {
            self.say(at, text);
        }
    }

    fn target(&mut self, at: Duration, target: &TargetDone) {
        self.running.retain(|(running, _)| *running != target.address);
        self.counts.add(target);
        self.failures.keep(target);
        let heard = match target.outcome() {
            TargetOutcome::Executed | TargetOutcome::Failed | TargetOutcome::Remote => Loudness::Normal,
            _ => Loudness::Verbose,
        };
        if self.loudness >= heard {
            let total = self.counts.total.to_string();
            let line = format!(
                "[{:>w$}/{total}] {}",
                self.counts.done,
                target_line(target),
                w = total.len()
            );
            self.say(at, &line);
        }
    }

    fn finish(&mut self, at: Duration, finished: &Finished) {
        let is_counted = self.loudness >= Loudness::Normal;
        let text = ending(
            &self.failures,
            &self.counts,
            finished,
            (at, self.style),
            is_counted,
        );
        if !text.is_empty() {
            // The empty line before a failure parts it from what was said before.
            let text = if self.loudness == Loudness::Quiet {
                text.trim_start_matches('\n')
            } else {
                &text
            };
            self.say(at, text);
        }
    }
}

impl<W: Write> Observer for Plain<W> {
    fn see(&mut self, at: Duration, event: &Event<'_>) {
        match event {
            Event::Begin(_) => {
                self.counts = Counts::default();
                self.failures = Failures::default();
                self.running.clear();
                self.last_line = Duration::ZERO;
            }
            Event::Planned(planned) => self.counts.total = planned.total,
            Event::Started(address) => self.running.push(((*address).to_owned(), at)),
            Event::Waiting(address, pid) => {
                let who = match pid {
                    0 => "another process".to_owned(),
                    pid => format!("process {pid}"),
                };
                self.normally(at, &format!("{address} waits for {who}, which builds it too\n"));
            }
            Event::Target(target) => self.target(at, target),
            Event::UpToDate(count) => self.counts.up_to_date(*count),
            Event::Notice(notice) => {
                let text = notice_text(notice, self.style);
                self.normally(at, &text);
            }
            Event::WouldRun(would) => {
                self.counts.would_run += 1;
                let line = dry_line(would, self.style);
                self.say(at, &line);
            }
            Event::Wrote(address, files) => {
                let files = words::counted((*files).into(), "file");
                self.normally(at, &format!("{address} wrote {files}\n"));
            }
            Event::Cancelling => self.normally(at, "stopping\n"),
            Event::Outputs(_) | Event::Suspended | Event::Resumed => {}
            Event::Finished(finished) => self.finish(at, finished),
        }
    }

    fn tick(&mut self, at: Duration) {
        if at.saturating_sub(self.last_line) < SILENCE || self.running.is_empty() {
            return;
        }
        let mut line = String::from("still running:");
        for (number, (address, since)) in self.running.iter().enumerate() {
            let comma = if number == 0 { "" } else { "," };
            line.push_str(&format!(
                "{comma} {address} ({})",
                words::duration(at.saturating_sub(*since))
            ));
        }
        line.push('\n');
        self.normally(at, &line);
        self.last_line = at;
    }
}

/// One line on the end of a target.
pub fn target_line(target: &TargetDone) -> String {
    let address = &target.address;
    match target.outcome() {
        // Nothing was run: heph made it itself.
        TargetOutcome::Executed if target.wall_us == 0 => format!("{address}\n"),
        TargetOutcome::Executed => {
            let took = words::duration(Duration::from_micros(target.wall_us));
            match target.retries {
                0 => format!("{address} {took}\n"),
                1 => format!("{address} {took}, after a failed try\n"),
                tries => format!("{address} {took}, after {tries} failed tries\n"),
            }
        }
        TargetOutcome::Failed => {
            let how = target
                .failed
                .as_ref()
                .map(super::failure::in_short)
                .unwrap_or_default();
            format!("{address} FAILED: {how}\n")
        }
        outcome => format!("{address} {}\n", summary::outcome_name(outcome).replace('-', " ")),
    }
}

/// A notice in words.
pub fn notice_text(notice: &Notice, style: Style) -> String {
    let word = match notice.level() {
        NoticeLevel::Warning => style.warning("warning:"),
        NoticeLevel::Info | NoticeLevel::Unspecified => style.bold("note:"),
    };
    let mut text = format!("{word} {}\n", notice.message.trim_end());
    if !notice.hint.is_empty() {
        text.push_str(&format!("{} {}\n", style.hint("hint:"), notice.hint));
    }
    text
}

/// What a dry run says of a target.
pub fn dry_line(would: &WouldRun, style: Style) -> String {
    let mut reason = would.reason.lines();
    let first = reason.next().unwrap_or_default();
    let mut text = format!("{}  {}", style.bold(&would.address), style.dim(first));
    for line in reason {
        text.push_str(&format!("\n    {}", style.dim(line)));
    }
    text.push('\n');
    text
}

/// What ends a run: all that failed, or the error of the run as a whole, and where it `is_counted`, the last line.
pub fn ending(
    failures: &Failures,
    counts: &Counts,
    finished: &Finished,
    (took, style): (Duration, Style),
    is_counted: bool,
) -> String {
    let mut text = failures.text(style);
    if let Some(error) = &finished.error {
        text.push_str(&CommandError::from(error.clone()).text(style));
        return text;
    }
    let Some(summary) = finished.summary.filter(|_| is_counted) else {
        return text;
    };
    if !text.is_empty() {
        text.push('\n');
    }
    text.push_str(&match counts.would_run {
        0 => summary::line(&summary, finished.exit_code, took, style),
        count => summary::dry_line(count, summary.total),
    });
    text + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use heph_proto::{Failed, Planned, Summary};

    fn play(loudness: Loudness) -> String {
        let mut bytes = Vec::new();
        let mut plain = Plain::new(&mut bytes, Style::plain(), loudness);
        let at = Duration::from_secs;
        let done = |address: &str, outcome: TargetOutcome| TargetDone {
            address: address.into(),
            outcome: outcome.into(),
            wall_us: 1_500_000,
            ..Default::default()
        };
        plain.see(at(0), &Event::Begin("//..."));
        plain.see(
            at(0),
            &Event::Planned(&Planned {
                selected: 5,
                total: 10,
            }),
        );
        let notice = Notice {
            level: NoticeLevel::Warning.into(),
            code: "not-isolated".into(),
            message: "commands are not isolated here".into(),
            hint: "see docs/targets.md".into(),
        };
        plain.see(at(0), &Event::Notice(&notice));
        plain.see(at(0), &Event::UpToDate(6));
        plain.see(at(0), &Event::Started("//a:slow"));
        plain.see(at(1), &Event::Target(&done("//a:local", TargetOutcome::Local)));
        plain.tick(at(30));
        plain.tick(at(61));
        plain.tick(at(62));
        plain.see(at(70), &Event::Target(&done("//a:slow", TargetOutcome::Executed)));
        let failed = Failed {
            exit_code: Some(1),
            command: "false".into(),
            ..Default::default()
        };
        let target = TargetDone {
            failed: Some(failed),
            ..done("//a:bad", TargetOutcome::Failed)
        };
        plain.see(at(70), &Event::Target(&target));
        plain.see(at(70), &Event::Target(&done("//a:after", TargetOutcome::Skipped)));
        let summary = Summary {
            total: 10,
            up_to_date: 6,
            local: 1,
            executed: 1,
            failed: 1,
            skipped: 1,
            ..Default::default()
        };
        plain.see(
            at(71),
            &Event::Finished(&Finished {
                exit_code: 1,
                summary: Some(summary),
                error: None,
            }),
        );
        drop(plain);
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn lines_tell_what_ran_and_what_failed() {
        insta::assert_snapshot!(play(Loudness::Normal), @"
        warning: commands are not isolated here
        hint: see docs/targets.md
        still running: //a:slow (1m 01s)
        [ 8/10] //a:slow 1.5s
        [ 9/10] //a:bad FAILED: exit code 1

        error: //a:bad failed: exit code 1
          command: false

        1 of 10 targets failed in 1m 11s: 1 executed, 1 from the local cache, 6 up to date, 1 skipped
        ");
    }

    #[test]
    fn quiet_is_only_what_failed() {
        insta::assert_snapshot!(play(Loudness::Quiet), @"

        error: //a:bad failed: exit code 1
          command: false
        ");
    }

    #[test]
    fn verbose_is_every_target() {
        let lines = play(Loudness::Verbose);
        assert!(lines.contains("[ 7/10] //a:local local\n"), "{lines}");
        assert!(lines.contains("[10/10] //a:after skipped\n"), "{lines}");
    }
}
