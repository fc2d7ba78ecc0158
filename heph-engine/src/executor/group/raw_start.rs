//! What a child of this process does before it executes its program.

use std::ffi::{OsStr, OsString};
use std::io::Result;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

use super::super::protocol::Spawn;

/// Starts a command in a session of its own: empty standard input, the first descriptor as output and the others as 3
/// and following; or the first as its terminal.
pub(super) fn start(spawn: Spawn, descriptors: &[BorrowedFd<'_>]) -> Result<Child> {
    let mut arguments = spawn.argv.into_iter().map(OsString::from_vec);
    let mut command = Command::new(OsString::from_vec(spawn.program));
    command.arg0(arguments.next().unwrap_or_default()).args(arguments);
    command
        .env_clear()
        .current_dir(OsString::from_vec(spawn.directory));
    for variable in &spawn.environment {
        let mut parts = variable.splitn(2, |byte| *byte == b'=');
        let mut next = || OsStr::from_bytes(parts.next().unwrap_or_default());
        let name = next();
        command.env(name, next());
    }
    let Some((output, kept)) = descriptors.split_first() else {
        return Err(std::io::ErrorKind::InvalidInput.into());
    };
    let output = || output.try_clone_to_owned().map(Stdio::from);
    command.stdin(if spawn.terminal { output()? } else { Stdio::null() });
    command.stdout(output()?).stderr(output()?);
    let kept: Vec<RawFd> = kept.iter().map(AsRawFd::as_raw_fd).collect();
    let terminal = spawn.terminal;
    // SAFETY: between fork and exec only system calls are made, on values that were made before.
    unsafe {
        command.pre_exec(move || {
            libc::setsid();
            libc::umask(0o022);
            if terminal && libc::ioctl(0, libc::TIOCSCTTY.into(), 0) < 0 {
                return Err(std::io::Error::last_os_error());
            }
            for (target, source) in (3..).zip(&kept) {
                // Descriptors of the parent that are kept have higher numbers than those of a program that has just
                // begun, so none is overwritten before it is copied.
                if libc::dup2(*source, target) < 0 {
                    return Err(std::io::Error::last_os_error());
                }
            }
            Ok(())
        });
    }
    command.spawn()
}
