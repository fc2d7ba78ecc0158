//! Which build of heph a program is.
//!
//! What one build remembers, another does not read, and each has its own daemon. A program that was built anew is another
//! build, also where its version stayed the same.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A build of heph.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Build {
    /// Its name: the version and a stamp of the program's file. Fit for a directory's name.
    pub name: String,
    /// When the program's file was written, in milliseconds since 1970; 0 where unknown.
    pub built_unix_ms: u64,
    /// The program's file.
    pub program: PathBuf,
}

impl Build {
    /// That of this process, also when its file has been replaced since it was started.
    pub fn own() -> Self {
        let program = std::env::current_exe().unwrap_or_default();
        let stamped = match cfg!(target_os = "linux") {
            true => fs::metadata("/proc/self/exe"),
            false => fs::metadata(&program),
        };
        Self::stamped(program, stamped.ok())
    }

    /// That of a program of this version of heph.
    ///
    /// # Errors
    /// What the system says when there is no such file.
    pub fn of(program: &Path) -> io::Result<Self> {
        let metadata = fs::metadata(program)?;
        Ok(Self::stamped(program.to_owned(), Some(metadata)))
    }

    fn stamped(program: PathBuf, metadata: Option<fs::Metadata>) -> Self {
        let (stamp, built_unix_ms) = metadata.map_or((0, 0), |file| {
            let nanos = file
                .mtime()
                .wrapping_mul(1_000_000_000)
                .wrapping_add(file.mtime_nsec());
            let millis = u64::try_from(nanos / 1_000_000).unwrap_or_default();
            (nanos ^ (file.size() as i64) << 20, millis)
        });
        Self {
            name: format!("{}-{stamp:016x}", env!("CARGO_PKG_VERSION")),
            built_unix_ms,
            program,
        }
    }

    /// The pinned release that this is, as the name of its directory in `versions` (see [`crate::Home::versions_dir`]).
    pub fn pinned(&self, versions: &Path) -> Option<&str> {
        let below = self.program.strip_prefix(versions).ok()?;
        below.iter().next()?.to_str()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_was_written_anew_is_another_build() {
        let directory = tempfile::tempdir().unwrap();
        let (one, two) = (directory.path().join("one"), directory.path().join("two"));
        fs::write(&one, "x").unwrap();
        fs::copy(&one, &two).unwrap();
        let earlier = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(1_500);
        fs::File::options()
            .append(true)
            .open(&one)
            .unwrap()
            .set_modified(earlier)
            .unwrap();
        let (one, two) = (Build::of(&one).unwrap(), Build::of(&two).unwrap());
        assert_ne!(one.name, two.name);
        assert_eq!(one.built_unix_ms, 1_500);
        assert!(two.built_unix_ms > one.built_unix_ms);
    }

    #[test]
    fn a_pinned_release_is_known_by_its_place() {
        let build = |program: &str| Build {
            program: program.into(),
            ..Build::own()
        };
        let versions = Path::new("/h/versions");
        assert_eq!(build("/h/versions/v1.2.3/heph").pinned(versions), Some("v1.2.3"));
        assert_eq!(build("/usr/bin/heph").pinned(versions), None);
    }
}
