//! What a command prints: kept in memory while it is little, in a file when it is more or when people may want to look.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use heph_proto::Content;
use heph_proto::content::Content as Held;
use rustix::io::Errno;

use super::stop::errno;

/// Bytes that are reported inline, and that are kept of the end of a longer log.
pub(super) const INLINE: usize = 64 * 1024;

/// Bytes that are read at first; most commands print less.
const PIECE: usize = 4096;

/// Output of one command.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    /// All of it up to [`INLINE`] bytes, then at least that much of its end.
    recent: Vec<u8>,
    file: Option<File>,
    /// Bytes of `recent`, counted from its end, that are not in the file yet.
    unwritten: usize,
    hasher: blake3::Hasher,
    size: u64,
    failed: Option<Errno>,
}

impl Log {
    /// A log that will be at `path` when there is reason for a file.
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            recent: Vec::new(),
            file: None,
            unwritten: 0,
            hasher: blake3::Hasher::new(),
            size: 0,
            failed: None,
        }
    }

    /// Takes what is there to read, at most as much as a pipe holds. Whether there was anything.
    pub(super) fn take(&mut self, output: impl AsFd) -> bool {
        let start = self.recent.len();
        self.recent
            .reserve(if self.size < PIECE as u64 { PIECE } else { INLINE });
        let space = rustix::buffer::spare_capacity(&mut self.recent);
        let count = rustix::io::read(output, space).unwrap_or(0);
        self.hasher.update(self.recent.get(start..).unwrap_or_default());
        self.size += count as u64;
        self.unwritten += count;
        if self.size > INLINE as u64 {
            self.write();
            let surplus = self.recent.len().saturating_sub(INLINE);
            if surplus > INLINE && self.failed.is_none() {
                self.recent.drain(..surplus);
            }
        }
        count > 0
    }

    /// Whether something is not in the file yet.
    pub(super) fn has_unwritten(&self) -> bool {
        self.unwritten > 0 && self.failed.is_none()
    }

    /// Brings the file up to date.
    pub(super) fn write(&mut self) {
        let start = self.recent.len() - self.unwritten.min(self.recent.len());
        let bytes = self.recent.get(start..).unwrap_or_default();
        if bytes.is_empty() || self.failed.is_some() {
            return;
        }
        let result = match &mut self.file {
            Some(file) => file.write_all(bytes),
            None => File::create(&self.path).and_then(|file| self.file.insert(file).write_all(bytes)),
        };
        match result {
            Ok(()) => self.unwritten = 0,
            Err(error) => self.failed = Some(errno(&error)),
        }
    }

    /// Why the file could not be written.
    pub(super) fn failure(&self) -> Option<Errno> {
        self.failed
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn is_empty(&self) -> bool {
        self.size == 0
    }

    /// The last lines.
    pub(super) fn tail(&self, lines: usize) -> Vec<String> {
        let text = String::from_utf8_lossy(&self.recent);
        let mut tail: Vec<String> = text
            .lines()
            .rev()
            .take(lines)
            .map(|line| line.trim_end_matches('\r').to_owned())
            .collect();
        tail.reverse();
        tail
    }

    /// The whole log when it is small, else the name and digest of its file; `None` when nothing was printed.
    pub(super) fn content(&mut self) -> Option<Content> {
        if self.is_empty() {
            return None;
        }
        let digest = super::digest_bytes(self.hasher.finalize().into());
        let content = if self.size <= INLINE as u64 {
            Held::Inline(self.recent.clone().into())
        } else {
            self.write();
            Held::File(self.path.to_string_lossy().into_owned())
        };
        Some(Content {
            content: Some(content),
            digest,
            size: self.size,
        })
    }
}

#[cfg(test)]
mod tests {
    use heph_common::digest::Digest;

    use super::*;

    fn log_of(pieces: &[&[u8]]) -> (tempfile::TempDir, Log) {
        let directory = tempfile::tempdir().unwrap();
        let mut log = Log::new(directory.path().join("log"));
        for piece in pieces {
            let mut file = tempfile::tempfile_in(&directory).unwrap();
            file.write_all(piece).unwrap();
            std::io::Seek::rewind(&mut file).unwrap();
            while log.take(&file) {}
        }
        (directory, log)
    }

    #[test]
    fn little_output_stays_in_memory() {
        let (_directory, mut log) = log_of(&[b"one\n", b"two\r\nthree"]);
        assert!(!log.path().exists());
        assert_eq!(log.tail(2), ["two", "three"]);
        let content = log.content().unwrap();
        let text = b"one\ntwo\r\nthree";
        assert_eq!(content.content, Some(Held::Inline(text.to_vec().into())));
        assert_eq!(content.digest[..], Digest::of(text).as_bytes()[..]);
        log.write();
        assert_eq!(std::fs::read(log.path()).unwrap(), b"one\ntwo\r\nthree");
    }

    #[test]
    fn much_output_is_in_the_file_and_its_end_in_memory() {
        let line = b"0123456789abcde\n".repeat(20_000);
        let (_directory, mut log) = log_of(&[&line, b"the end\n"]);
        let whole = [line.as_slice(), b"the end\n"].concat();
        let content = log.content().unwrap();
        assert_eq!(content.size, whole.len() as u64);
        assert_eq!(content.digest[..], Digest::of(&whole).as_bytes()[..]);
        assert_eq!(std::fs::read(log.path()).unwrap(), whole);
        assert_eq!(log.tail(2), ["0123456789abcde", "the end"]);
    }
}
