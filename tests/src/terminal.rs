//! A call on a pseudo-terminal.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

use crate::{Command, wait_until};

/// A call of `heph` whose standard streams are one terminal of 24 lines and 80 columns.
#[derive(Debug)]
pub struct Terminal {
    child: Child,
    keyboard: File,
    shown: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
    limit: Duration,
}

impl Terminal {
    pub(crate) fn start(command: Command<'_>) -> Self {
        command.warm_up();
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY;
        #[cfg(target_os = "linux")]
        let flags = flags | OpenptFlags::CLOEXEC;
        let master = rustix::pty::openpt(flags).expect("a terminal");
        rustix::pty::grantpt(&master).expect("grant the terminal");
        rustix::pty::unlockpt(&master).expect("unlock the terminal");
        let size = Winsize {
            ws_row: 24,
            ws_col: 80,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        rustix::termios::tcsetwinsize(&master, size).expect("size of the terminal");
        let name = rustix::pty::ptsname(&master, Vec::new()).expect("name of the terminal");
        let slave = OpenOptions::new()
            .read(true)
            .write(true)
            .open(name.to_str().expect("a name in UTF-8"));
        let slave = OwnedFd::from(slave.expect("open the terminal"));

        let mut below = command.below_reaper(&["--tty"]);
        let stream = || Stdio::from(slave.try_clone().expect("a stream"));
        let child = below
            .stdin(stream())
            .stdout(stream())
            .stderr(stream())
            .spawn()
            .expect("start the reaper");
        let limit = command.time_limit();

        let shown = Arc::new(Mutex::new(Vec::new()));
        let mut screen = File::from(master.try_clone().expect("a stream"));
        let sink = Arc::clone(&shown);
        let reader = std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // Reading fails with EIO once nobody holds the other end.
            while let Ok(count @ 1..) = screen.read(&mut bytes) {
                sink.lock().unwrap().extend_from_slice(&bytes[..count]);
            }
        });
        Self {
            child,
            keyboard: File::from(master),
            shown,
            reader,
            limit,
        }
    }

    /// Types text; `\x03` is Ctrl-C.
    pub fn type_in(&mut self, text: &str) {
        self.keyboard.write_all(text.as_bytes()).expect("type");
    }

    /// All that was written to the terminal until now, control sequences included.
    pub fn shown(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().unwrap()).into_owned()
    }

    /// Waits until a text was shown.
    #[track_caller]
    pub fn wait_for(&self, text: &str) {
        let shows = || self.shown().contains(text);
        wait_until(
            &format!("the terminal shows {text:?}; it shows {:?}", self.shown()),
            shows,
        );
    }

    /// Waits for the end; gives the exit code and everything that was shown.
    pub fn wait(mut self) -> (i32, String) {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("wait for the reaper") {
                // What was written last may not have been read yet.
                wait_until("nobody has the terminal open any more", || {
                    self.reader.is_finished()
                });
                return (status.code().unwrap_or(-1), self.shown());
            }
            assert!(
                start.elapsed() < self.limit,
                "heph did not end; it shows {}",
                self.shown()
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}
