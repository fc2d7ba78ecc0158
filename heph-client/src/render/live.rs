//! The live region of a terminal: what runs and for how long, how much is done.

use std::io::Write;
use std::time::Duration;

use heph_proto::{Finished, TargetOutcome};

use super::plain::{dry_line, ending, notice_text};
use super::screen::Screen;
use super::summary::Counts;
use super::{Event, Failures, Observer};
use crate::terminal::Style;
use crate::words;

/// A run shorter than this shows nothing but its last line.
const FIRST_DRAW: Duration = Duration::from_millis(120);

/// Rows for running commands, also on the highest terminal.
const MOST_ROWS: usize = 12;

/// Shows a run on a terminal.
pub struct Live<W> {
    out: W,
    style: Style,
    size: fn() -> (usize, usize),
    verbose: bool,
    screen: Screen,
    counts: Counts,
    running: Vec<(String, Duration)>,
    waiting: Vec<(String, u32)>,
    failures: Failures,
    cancelling: bool,
    suspended: bool,
    /// What is to be put above the region as soon as the terminal is ours again.
    held: String,
}

impl<W: Write> Live<W> {
    /// Writes to `out`, which understands cursor control; `size` gives its columns and rows.
    pub fn new(out: W, style: Style, size: fn() -> (usize, usize), verbose: bool) -> Self {
        Self {
            out,
            style,
            size,
            verbose,
            screen: Screen::default(),
            counts: Counts::default(),
            running: Vec::new(),
            waiting: Vec::new(),
            failures: Failures::default(),
            cancelling: false,
            suspended: false,
            held: String::new(),
        }
    }

    fn head(&self, at: Duration) -> String {
        let word = match (self.cancelling, self.counts.total) {
            (true, _) => self.style.warning("cancelling"),
            (false, 0) => self.style.bold("loading"),
            (false, _) => self.style.bold("building"),
        };
        let mut head = format!("{word} {}", words::duration(at));
        if self.counts.total > 0 {
            head.push_str(&format!("  {}/{}", self.counts.done, self.counts.total));
        }
        let Counts {
            executed,
            local,
            remote,
            failed,
            ..
        } = self.counts;
        for (count, name) in [(executed, "executed"), (local, "cached"), (remote, "remote")] {
            if count > 0 {
                head.push_str(&format!("  {count} {name}"));
            }
        }
        if failed > 0 {
            head.push_str(&format!("  {}", self.style.error(&format!("{failed} failed"))));
        }
        head
    }

    fn lines(&self, at: Duration, rows: usize) -> Vec<String> {
        let mut lines = vec![self.head(at)];
        let room = rows.saturating_sub(3).min(MOST_ROWS);
        let all = self.running.len() + self.waiting.len();
        let shown = if all > room { room.saturating_sub(1) } else { all };
        for (address, since) in self.running.iter().take(shown) {
            let took = words::duration(at.saturating_sub(*since));
            lines.push(format!("  {} {address}", self.style.dim(&format!("{took:>7}"))));
        }
        for (address, pid) in self.waiting.iter().take(shown.saturating_sub(self.running.len())) {
            let who = match pid {
                0 => "waits for another process".to_owned(),
                pid => format!("locked by process {pid}"),
            };
            lines.push(format!("  {:>7} {address} {}", "", self.style.dim(&who)));
        }
        if all > shown && room > 0 {
            let more = if self.style.unicode() { "…" } else { "..." };
            lines.push(format!(
                "  {:>7} {}",
                more,
                self.style.dim(&format!("and {} more", all - shown))
            ));
        }
        lines
    }

    /// Puts `text` above the region for good.
    fn keep(&mut self, at: Duration, text: &str) {
        if self.suspended {
            return self.held.push_str(text);
        }
        let lines = match at < FIRST_DRAW {
            true => Vec::new(),
            false => self.lines(at, (self.size)().1),
        };
        self.draw(text, &lines);
    }

    fn draw(&mut self, above: &str, lines: &[String]) {
        let text = self.screen.draw(above, lines, (self.size)().0);
        // A terminal that is gone must not end the build.
        let _ = self
            .out
            .write_all(text.as_bytes())
            .and_then(|()| self.out.flush());
    }

    fn finish(&mut self, at: Duration, finished: &Finished) {
        let mut text = std::mem::take(&mut self.held);
        text.push_str(&ending(
            &self.failures,
            &self.counts,
            finished,
            (at, self.style),
            true,
        ));
        self.draw(&text, &[]);
    }
}

impl<W: Write> Observer for Live<W> {
    fn see(&mut self, at: Duration, event: &Event<'_>) {
        match event {
            Event::Begin(_) => {
                self.counts = Counts::default();
                self.failures = Failures::default();
                self.running.clear();
                self.waiting.clear();
                self.cancelling = false;
            }
            Event::Planned(planned) => self.counts.total = planned.total,
            Event::Started(address) => {
                self.waiting.retain(|(waiting, _)| waiting != address);
                self.running.push(((*address).to_owned(), at));
            }
            Event::Waiting(address, pid) => self.waiting.push(((*address).to_owned(), *pid)),
            Event::Target(target) => {
                self.running.retain(|(running, _)| *running != target.address);
                self.waiting.retain(|(waiting, _)| *waiting != target.address);
                self.counts.add(target);
                self.failures.keep(target);
                if target.outcome() == TargetOutcome::Failed && at < FIRST_DRAW {
                    // The end, which tells it in full, may be near.
                } else if target.outcome() == TargetOutcome::Failed {
                    let how = target
                        .failed
                        .as_ref()
                        .map(super::failure::in_short)
                        .unwrap_or_default();
                    let line = format!("{} {}: {how}\n", self.style.error("failed"), target.address);
                    self.keep(at, &line);
                } else if self.verbose && target.outcome() != TargetOutcome::UpToDate {
                    self.keep(at, &super::plain::target_line(target));
                }
            }
            Event::UpToDate(count) => self.counts.up_to_date(*count),
            Event::Notice(notice) => self.keep(at, &notice_text(notice, self.style)),
            Event::WouldRun(would) => {
                self.counts.would_run += 1;
                self.keep(at, &dry_line(would, self.style));
            }
            Event::Outputs(_) => {}
            Event::Wrote(address, files) => {
                let line = format!("{address} wrote {}\n", words::counted((*files).into(), "file"));
                self.keep(at, &line);
            }
            Event::Cancelling => {
                self.cancelling = true;
                self.keep(at, "stopping; press Ctrl-C again to leave at once\n");
            }
            Event::Suspended => {
                self.suspended = true;
                self.draw("", &[]);
            }
            Event::Resumed => {
                self.suspended = false;
                let held = std::mem::take(&mut self.held);
                self.keep(at, &held);
            }
            Event::Finished(finished) => self.finish(at, finished),
        }
    }

    fn tick(&mut self, at: Duration) {
        if at >= FIRST_DRAW && !self.suspended {
            let lines = self.lines(at, (self.size)().1);
            self.draw("", &lines);
        }
    }
}

impl<W> Drop for Live<W> {
    fn drop(&mut self) {
        // Nothing is left drawn when the run ended without its last event: the cursor must come back.
        if self.screen.is_drawn() {
            crate::signals::restore_cursor();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use heph_proto::{Failed, Planned, Summary, TargetDone};

    fn terminal(bytes: &[u8], rows: u16, columns: u16) -> String {
        let mut parser = vt100::Parser::new(rows.try_into().unwrap(), columns.try_into().unwrap(), 100);
        // A terminal's line discipline turns a line feed into a new line.
        parser.process(String::from_utf8_lossy(bytes).replace('\n', "\r\n").as_bytes());
        parser.screen().contents()
    }

    fn done(address: &str, outcome: TargetOutcome) -> TargetDone {
        TargetDone {
            address: address.into(),
            outcome: outcome.into(),
            ..Default::default()
        }
    }

    #[test]
    fn the_region_shows_what_runs_and_ends_as_one_line() {
        let mut bytes = Vec::new();
        let mut live = Live::new(&mut bytes, Style::new(true, true), || (40, 10), false);
        let second = Duration::from_secs(1);
        live.see(Duration::ZERO, &Event::Begin("//..."));
        live.see(
            Duration::ZERO,
            &Event::Planned(&Planned {
                selected: 3,
                total: 9,
            }),
        );
        live.see(Duration::ZERO, &Event::UpToDate(2));
        for number in 0..7 {
            live.see(
                Duration::ZERO,
                &Event::Started(&format!("//a/rather/long/package/name:{number}")),
            );
        }
        live.tick(second);
        live.see(
            second,
            &Event::Target(&done("//a/rather/long/package/name:0", TargetOutcome::Executed)),
        );
        let failed = TargetDone {
            failed: Some(Failed {
                exit_code: Some(1),
                message: "exit code 1".into(),
                ..Default::default()
            }),
            ..done("//a/rather/long/package/name:1", TargetOutcome::Failed)
        };
        live.see(second, &Event::Target(&failed));
        live.tick(second * 2);
        let during = live.out.clone();
        let summary = Summary {
            total: 9,
            executed: 6,
            failed: 1,
            up_to_date: 2,
            ..Default::default()
        };
        live.see(
            second * 3,
            &Event::Finished(&Finished {
                exit_code: 1,
                summary: Some(summary),
                error: None,
            }),
        );
        drop(live);
        insta::assert_snapshot!(terminal(&during, 10, 40), @"
        failed //a/rather/long/package/name:1: exit code 1
        building 2.0s  4/9  1 executed  2 cache
             2.0s //a/rather/long/package/name:
             2.0s //a/rather/long/package/name:
             2.0s //a/rather/long/package/name:
             2.0s //a/rather/long/package/name:
             2.0s //a/rather/long/package/name:
        ");
        insta::assert_snapshot!(terminal(&bytes, 10, 60), @"
        failed //a/rather/long/package/name:1: exit code 1

        error: //a/rather/long/package/name:1 failed: exit code 1

        ✗ 1 of 9 targets failed in 3.0s: 6 executed, 2 up to date
        ");
    }

    #[test]
    fn a_short_run_is_one_line() {
        let mut bytes = Vec::new();
        let mut live = Live::new(&mut bytes, Style::plain(), || (80, 24), false);
        let at = Duration::from_millis(28);
        live.see(Duration::ZERO, &Event::Begin("//..."));
        live.see(at, &Event::UpToDate(1000));
        live.tick(at);
        let summary = Summary {
            total: 1000,
            up_to_date: 1000,
            ..Default::default()
        };
        live.see(
            at,
            &Event::Finished(&Finished {
                exit_code: 0,
                summary: Some(summary),
                error: None,
            }),
        );
        drop(live);
        assert_eq!(
            String::from_utf8(bytes).unwrap(),
            "1000 targets up to date in 28ms\n"
        );
    }
}
