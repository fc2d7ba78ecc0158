//! The home of heph: one directory per user that holds the store, and where everything lies in it.
//!
//! ```text
//! cache/CURRENT       names the generation of the index in use
//! cache/db/           generations of the index
//! cache/blobs/        blobs as plain files, by the first two digits of their digests
//! state/<build>/      what one build of heph remembers for itself
//! run/live/           one locked file per live run
//! run/<build>/<ns>/   one daemon: its lock, address and log
//! sandbox/ stage/     work areas
//! versions/<tag>/     pinned releases
//! plugins/<platform>/ downloaded plugins
//! ```

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::config::Version;

mod filesystem;

pub use filesystem::network_filesystem;

/// The directory under the user's home directory that is the home unless another one is named.
pub const DEFAULT_NAME: &str = ".heph";

/// A home that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// Nothing says where it is.
    #[error("there is no home: HOME is not set")]
    Unknown,
    /// The path depends on the current directory.
    #[error("the home {} is not an absolute path", path.display())]
    Relative {
        /// As it was given.
        path: PathBuf,
    },
    /// Locks and memory maps cannot be relied on there.
    #[error("the home {} is on a network file system ({filesystem})", path.display())]
    Network {
        /// The home.
        path: PathBuf,
        /// What the system calls it.
        filesystem: String,
    },
    /// Files would be left that the owner cannot remove.
    #[error("the home {} belongs to user {owner}, and this is user {user}", path.display())]
    OtherOwner {
        /// The home.
        path: PathBuf,
        /// Numeric id of its owner.
        owner: u32,
        /// Effective numeric id of this process.
        user: u32,
    },
    /// There is something else.
    #[error("the home {} is not a directory", path.display())]
    NotADirectory {
        /// The home.
        path: PathBuf,
    },
    /// The system refuses.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// `create` or `look at`.
        action: &'static str,
        /// The home or a directory in it.
        path: PathBuf,
        /// What it says.
        source: io::Error,
    },
}

impl HomeError {
    /// What the user can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Unknown => "set HEPH_HOME to a directory of your own",
            Self::Relative { .. } => "set HEPH_HOME to an absolute path",
            Self::Network { .. } => {
                "set HEPH_HOME, or homeDir in .hephconfig, to a directory on a local disk"
            }
            Self::OtherOwner { .. } => {
                "run heph as that user, or set HEPH_HOME to a directory of your own (sudo keeps HOME: try sudo -H)"
            }
            Self::NotADirectory { .. } | Self::Io { .. } => {
                "set HEPH_HOME to a directory that you can write to"
            }
        }
    }
}

/// A home, as a path; that there is anything is not said.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Home {
    path: PathBuf,
}

impl Home {
    /// The home in a directory, which is an absolute path.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where the home is: `variable` (the value of `HEPH_HOME`), else `configured` (`homeDir`, resolved), else
    /// `.heph` in `home_directory`, that of the user. An empty variable counts as none.
    pub fn locate(
        variable: Option<&Path>,
        configured: Option<&Path>,
        home_directory: Option<&Path>,
    ) -> Result<Self, HomeError> {
        let named = |path: Option<&Path>| {
            path.filter(|path| !path.as_os_str().is_empty())
                .map(Path::to_owned)
        };
        let path = named(variable)
            .or_else(|| named(configured))
            .or_else(|| named(home_directory).map(|directory| directory.join(DEFAULT_NAME)))
            .ok_or(HomeError::Unknown)?;
        if path.is_absolute() {
            Ok(Self { path })
        } else {
            Err(HomeError::Relative { path })
        }
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the home is one that can be used, or would be once it is created: on a local file system, a directory
    /// where there is anything, and owned by the effective user.
    pub fn check(&self) -> Result<(), HomeError> {
        let (existing, metadata) = self.nearest_existing()?;
        if existing == self.path {
            let user = rustix::process::geteuid().as_raw();
            if !metadata.is_dir() {
                let path = self.path.clone();
                return Err(HomeError::NotADirectory { path });
            }
            if metadata.uid() != user {
                return Err(HomeError::OtherOwner {
                    path: self.path.clone(),
                    owner: metadata.uid(),
                    user,
                });
            }
        }
        match network_filesystem(existing) {
            Ok(None) => Ok(()),
            Ok(Some(filesystem)) => Err(HomeError::Network {
                path: self.path.clone(),
                filesystem,
            }),
            Err(error) => Err(io_error("look at", existing)(error)),
        }
    }

    fn nearest_existing(&self) -> Result<(&Path, fs::Metadata), HomeError> {
        for path in self.path.ancestors() {
            match fs::metadata(path) {
                Ok(metadata) => return Ok((path, metadata)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) if error.kind() == io::ErrorKind::NotADirectory => {}
                Err(error) => return Err(io_error("look at", path)(error)),
            }
        }
        Err(HomeError::Unknown)
    }

    /// Makes the home and its directories where they are missing, open to their owner alone, and checks it.
    pub fn create(&self) -> Result<(), HomeError> {
        self.check()?;
        if let Some(parent) = self.path.parent() {
            fs::create_dir_all(parent).map_err(io_error("create", &self.path))?;
        }
        let directories = [
            self.path.clone(),
            self.cache_dir(),
            self.db_dir(),
            self.blob_dir(),
            self.state_dir(),
            self.run_dir(),
            self.live_dir(),
            self.sandbox_dir(),
            self.stage_dir(),
            self.versions_dir(),
            self.plugins_dir(),
        ];
        for directory in directories {
            make_private(&directory).map_err(io_error("create", &directory))?;
        }
        Ok(())
    }

    /// `cache`: the store.
    pub fn cache_dir(&self) -> PathBuf {
        self.path.join("cache")
    }

    /// `cache/CURRENT`: names the generation of the index in use.
    pub fn current_file(&self) -> PathBuf {
        self.path.join("cache/CURRENT")
    }

    /// `cache/db`: generations of the index.
    pub fn db_dir(&self) -> PathBuf {
        self.path.join("cache/db")
    }

    /// `cache/blobs`: blobs as plain files.
    pub fn blob_dir(&self) -> PathBuf {
        self.path.join("cache/blobs")
    }

    /// `state`: what builds of heph remember for themselves, a directory each.
    pub fn state_dir(&self) -> PathBuf {
        self.path.join("state")
    }

    /// `run`: what is there while something runs.
    pub fn run_dir(&self) -> PathBuf {
        self.path.join("run")
    }

    /// `run/live`: one locked file per live run.
    pub fn live_dir(&self) -> PathBuf {
        self.path.join("run/live")
    }

    /// `run/<build>/<mount namespace>`: the daemon of a build of heph in a mount namespace.
    pub fn daemon_dir(&self, build: &str, mount_namespace: &str) -> PathBuf {
        self.run_dir().join(build).join(mount_namespace)
    }

    /// `sandbox`: where targets are executed.
    pub fn sandbox_dir(&self) -> PathBuf {
        self.path.join("sandbox")
    }

    /// `stage`: files on their way into the store, on its file system.
    pub fn stage_dir(&self) -> PathBuf {
        self.path.join("stage")
    }

    /// `versions`: pinned releases.
    pub fn versions_dir(&self) -> PathBuf {
        self.path.join("versions")
    }

    /// `versions/<tag>/heph`: the program of a release.
    pub fn version_binary(&self, version: &Version) -> PathBuf {
        self.versions_dir().join(version.tag()).join("heph")
    }

    /// `plugins`: downloaded plugins.
    pub fn plugins_dir(&self) -> PathBuf {
        self.path.join("plugins")
    }
}

fn io_error<'p>(action: &'static str, path: &'p Path) -> impl FnOnce(io::Error) -> HomeError + use<'p> {
    move |source| HomeError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

fn make_private(directory: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            if fs::metadata(directory)?.is_dir() {
                Ok(())
            } else {
                Err(error)
            }
        }
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn shown(error: HomeError) -> String {
        format!("{error}\nhint: {}", error.hint())
    }

    #[test]
    fn the_variable_wins_over_the_configuration_and_the_default() {
        let path = |text| Some(Path::new(text));
        let locate =
            |variable, configured, home| Home::locate(variable, configured, home).map(|home| home.path);
        assert_eq!(
            locate(path("/a"), path("/b"), path("/c")).unwrap(),
            Path::new("/a")
        );
        assert_eq!(locate(path(""), path("/b"), path("/c")).unwrap(), Path::new("/b"));
        assert_eq!(locate(None, None, path("/c")).unwrap(), Path::new("/c/.heph"));
        insta::assert_snapshot!(shown(locate(None, None, None).unwrap_err()), @"
        there is no home: HOME is not set
        hint: set HEPH_HOME to a directory of your own
        ");
        insta::assert_snapshot!(shown(locate(path("a/b"), None, None).unwrap_err()), @"
        the home a/b is not an absolute path
        hint: set HEPH_HOME to an absolute path
        ");
    }

    #[test]
    fn a_created_home_is_private_and_complete() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::at(directory.path().join("x/.heph"));
        home.check().unwrap();
        home.create().unwrap();
        home.create().unwrap();
        for path in [
            home.path().to_owned(),
            home.blob_dir(),
            home.live_dir(),
            home.stage_dir(),
        ] {
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o7777, 0o700, "{}", path.display());
        }
    }

    #[test]
    fn a_file_in_the_way_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(matches!(
            Home::at(&file).create(),
            Err(HomeError::NotADirectory { .. })
        ));
        assert!(matches!(
            Home::at(file.join("below")).create(),
            Err(HomeError::Io { .. })
        ));
    }

    #[test]
    fn a_home_of_another_user_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let other = if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(directory.path(), Some(12345), None).unwrap();
            directory.path()
        } else {
            Path::new("/")
        };
        let error = Home::at(other).check().unwrap_err();
        assert!(matches!(error, HomeError::OtherOwner { .. }));
        let error = HomeError::OtherOwner {
            path: "/home/ada/.heph".into(),
            owner: 1000,
            user: 0,
        };
        insta::assert_snapshot!(shown(error), @"
        the home /home/ada/.heph belongs to user 1000, and this is user 0
        hint: run heph as that user, or set HEPH_HOME to a directory of your own (sudo keeps HOME: try sudo -H)
        ");
    }
}
