//! The interactive shell of a sandbox, on a real terminal.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::sync::mpsc;

use heph_engine::executor::{Cancel, Control, Terminal};
use heph_proto::report::Outcome;

use crate::support::{Bench, eventually, inline, modes};

/// The two ends of a terminal: what a person sees, and what a program gets.
fn terminal() -> (File, Terminal) {
    let flags = rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY;
    let person = rustix::pty::openpt(flags).unwrap();
    rustix::pty::grantpt(&person).unwrap();
    rustix::pty::unlockpt(&person).unwrap();
    let name = rustix::pty::ptsname(&person, Vec::new()).unwrap();
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY;
    let input = rustix::fs::open(&*name, flags, rustix::fs::Mode::empty()).unwrap();
    let size = rustix::termios::Winsize {
        ws_row: 33,
        ws_col: 99,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    rustix::termios::tcsetwinsize(&person, size).unwrap();
    let output: OwnedFd = input.try_clone().unwrap();
    (File::from(person), Terminal { input, output })
}

/// Collects what is printed on a terminal.
fn screen(person: &File) -> mpsc::Receiver<String> {
    let mut person = person.try_clone().unwrap();
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 1024];
        while let Ok(count @ 1..) = person.read(&mut buffer) {
            if sender
                .send(String::from_utf8_lossy(&buffer[..count]).into_owned())
                .is_err()
            {
                return;
            }
        }
    });
    receiver
}

#[test]
fn a_person_can_look_around_and_run_the_command() {
    let bench = Bench::new();
    for mode in modes(&bench, "a_person_can_look_around_and_run_the_command") {
        let mut plan = bench.plan(mode, "echo the command reads $(cat in)");
        plan.inputs = vec![inline("pkg/in", "its input")];
        let (mut person, terminal) = terminal();
        let printed = screen(&person);
        let writer = std::thread::spawn(move || {
            let mut text = String::new();
            let wait_for = |what: &str, text: &mut String| {
                eventually(what, || {
                    text.extend(printed.try_iter());
                    text.contains(what)
                });
            };
            wait_for("`run` runs its command", &mut text);
            person.write_all(b"run\n").unwrap();
            wait_for("the command reads its input", &mut text);
            person.write_all(b"pwd; echo job-$((40+2)); exit 3\n").unwrap();
            wait_for("job-42", &mut text);
            text
        });
        let report = bench.block_on(bench.executor.shell(plan, terminal, Control::default()));
        let text = writer.join().unwrap();
        assert!(
            matches!(report.outcome, Some(Outcome::Completed(_))),
            "{report:?}"
        );
        assert!(text.contains("/ws/pkg"), "{text}");
        assert!(
            bench.home.join("sandbox/0123456789abcdef/ws/pkg/in").exists(),
            "it is kept"
        );
    }
}

#[test]
fn a_shell_can_be_cancelled() {
    let bench = Bench::new();
    for mode in modes(&bench, "a_shell_can_be_cancelled") {
        let (person, terminal) = terminal();
        let printed = screen(&person);
        let cancel = Cancel::new();
        let asked = cancel.clone();
        let canceller = std::thread::spawn(move || {
            printed.recv().unwrap();
            asked.cancel();
        });
        let control = Control {
            cancel,
            spawned: None,
        };
        let report = bench.block_on(bench.executor.shell(bench.plan(mode, "true"), terminal, control));
        assert!(
            matches!(report.outcome, Some(Outcome::Cancelled(_))),
            "{report:?}"
        );
        canceller.join().unwrap();
        drop(person);
    }
}
