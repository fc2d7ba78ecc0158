//! The daemon's log: a file that begins anew when it has grown, and a few of its predecessors.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Bytes of a log file.
const LONGEST: u64 = 4 << 20;

/// Files beside the current one: `log.1`, the youngest, and on.
const GENERATIONS: u32 = 3;

/// Writes to a log file.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    file: File,
    length: u64,
    longest: u64,
    /// Whether standard error goes there too: what a fault prints, and libraries.
    takes_stderr: bool,
}

impl Log {
    /// Goes on with a log, or begins it.
    ///
    /// # Errors
    /// What the system says when the file cannot be written.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::with_length(path, LONGEST)
    }

    fn with_length(path: &Path, longest: u64) -> io::Result<Self> {
        let (file, length) = append(path)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            length,
            longest,
            takes_stderr: false,
        })
    }

    /// From now on, what this process writes to standard error goes to the log.
    ///
    /// # Errors
    /// What the system says.
    pub fn take_stderr(&mut self) -> io::Result<()> {
        rustix::stdio::dup2_stderr(&self.file)?;
        self.takes_stderr = true;
        Ok(())
    }

    fn begin_anew(&mut self) -> io::Result<()> {
        for generation in (1..GENERATIONS).rev() {
            // One that is not there yet.
            let _ = fs::rename(older(&self.path, generation), older(&self.path, generation + 1));
        }
        fs::rename(&self.path, older(&self.path, 1))?;
        (self.file, self.length) = append(&self.path)?;
        if self.takes_stderr {
            rustix::stdio::dup2_stderr(&self.file)?;
        }
        Ok(())
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.length > 0 && self.length + bytes.len() as u64 > self.longest {
            self.begin_anew()?;
        }
        let written = self.file.write(bytes)?;
        self.length += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn append(path: &Path) -> io::Result<(File, u64)> {
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)?;
    let length = file.metadata()?.len();
    Ok((file, length))
}

fn older(path: &Path, generation: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{generation}"));
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_has_grown_begins_anew_and_keeps_three_predecessors() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut log = Log::with_length(&path, 20).unwrap();
        for number in 0..12 {
            writeln!(log, "line {number:2}").unwrap();
        }
        drop(log);
        let mut log = Log::with_length(&path, 20).unwrap();
        writeln!(log, "line 12").unwrap();
        let read = |path: &Path| fs::read_to_string(path).unwrap();
        assert_eq!(read(&path), "line 12\n");
        assert_eq!(read(&older(&path, 1)), "line 10\nline 11\n");
        assert_eq!(read(&older(&path, 3)), "line  6\nline  7\n");
        assert!(!older(&path, 4).exists());
    }
}
