//! A GNU make jobserver: tokens in a pipe, one for each command that may run at once.
//!
//! See "Job Slots" in the manual of GNU make. Commands that are killed may keep tokens for ever, so the pipe is filled
//! up whenever nobody uses it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use rustix::io::Result;

/// Descriptors of the two ends in a command.
const READ_END: i32 = 3;
const WRITE_END: i32 = 4;

/// The tokens that all commands of an executor share.
#[derive(Debug)]
pub(super) struct Jobserver {
    tokens: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    pipe: Option<(OwnedFd, OwnedFd)>,
    users: usize,
}

impl Jobserver {
    pub(super) fn new(jobs: usize) -> Self {
        Self {
            tokens: jobs.max(1),
            state: Mutex::default(),
        }
    }

    /// Takes part, until the value is dropped.
    pub(super) fn join(&self) -> Result<Member<'_>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.pipe.is_none() {
            let pipe = super::control::pipe().map_err(|error| super::stop::errno(&error))?;
            state.pipe = Some(pipe);
        }
        let Some((reader, writer)) = &state.pipe else {
            return Err(rustix::io::Errno::BADF);
        };
        if state.users == 0 {
            let left = usize::try_from(rustix::io::ioctl_fionread(reader)?).unwrap_or(usize::MAX);
            let missing = self.tokens.saturating_sub(left);
            rustix::io::write(writer, &vec![b'+'; missing])?;
        }
        let ends = (reader.try_clone(), writer.try_clone());
        let (Ok(reader), Ok(writer)) = ends else {
            return Err(rustix::io::Errno::MFILE);
        };
        state.users += 1;
        drop(state);
        Ok(Member {
            server: self,
            reader,
            writer,
        })
    }

    /// The value of MAKEFLAGS for a member.
    pub(super) fn flags(&self) -> String {
        format!(" -j{} --jobserver-auth={READ_END},{WRITE_END}", self.tokens)
    }
}

/// A command that may take tokens.
#[derive(Debug)]
pub(super) struct Member<'a> {
    server: &'a Jobserver,
    reader: OwnedFd,
    writer: OwnedFd,
}

impl Member<'_> {
    /// What the command gets as its descriptors 3 and 4.
    pub(super) fn descriptors(&self) -> [BorrowedFd<'_>; 2] {
        [self.reader.as_fd(), self.writer.as_fd()]
    }
}

impl Drop for Member<'_> {
    fn drop(&mut self) {
        let mut state = self.server.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.users -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_tokens_come_back_when_nobody_uses_any() {
        let server = Jobserver::new(3);
        let member = server.join().unwrap();
        let count = |member: &Member<'_>| rustix::io::ioctl_fionread(&member.reader).unwrap();
        assert_eq!(count(&member), 3);
        rustix::io::read(&member.reader, &mut [0; 2]).unwrap();
        assert_eq!(count(&server.join().unwrap()), 1);
        drop(member);
        assert_eq!(count(&server.join().unwrap()), 3);
    }
}
