//! Where the daemon of a home is found.
//!
//! Everything lies in `<home>/run/<build>/<mount namespace>/`, one place whatever the environment: the lock that makes a
//! process the daemon, the lock of whoever starts it, the address of its socket, its log. The socket itself is in a directory
//! that is open to its owner alone, and short enough for a socket's path.

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use heph_common::{Digest, Home};

/// Bytes that the path of a socket may have: `sun_path` of `unix(7)` without its final NUL.
const LONGEST: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// Bits of a mode that open a directory to others.
const OTHERS: u32 = 0o077;

/// A place for a daemon that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// Whoever owns the directory could put a socket of his own there.
    #[error("the socket directory {} belongs to user {owner}, and this is user {user}", path.display())]
    OtherOwner {
        /// The directory.
        path: PathBuf,
        /// Numeric id of its owner.
        owner: u32,
        /// Effective numeric id of this process.
        user: u32,
    },
    /// Others could connect, or put a socket of their own there.
    #[error("the socket directory {} is open to other users (mode {mode:03o})", path.display())]
    Open {
        /// The directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// There is something else.
    #[error("{} is not a directory", path.display())]
    NotADirectory {
        /// Where it was expected.
        path: PathBuf,
    },
    /// No directory is short enough for a socket.
    #[error("the path of a socket in {} would be longer than {LONGEST} bytes", path.display())]
    TooLong {
        /// The last directory that was tried.
        path: PathBuf,
    },
    /// The system refuses.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// `create`, `read` or the like.
        action: &'static str,
        /// What it was about.
        path: PathBuf,
        /// What it says.
        source: io::Error,
    },
}

impl EndpointError {
    /// What the user can do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::OtherOwner { path, .. } | Self::NotADirectory { path } => {
                format!("remove {}, it is made again", path.display())
            }
            Self::Open { path, .. } => format!("chmod 700 {}", path.display()),
            Self::TooLong { .. } => {
                "set XDG_RUNTIME_DIR or TMPDIR to a directory with a shorter path".to_owned()
            }
            Self::Io { .. } => "HEPH_DAEMON=off works without a daemon".to_owned(),
        }
    }
}

/// Directories in which a socket may lie beside the daemon's own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Places {
    /// `XDG_RUNTIME_DIR`.
    pub runtime: Option<PathBuf>,
    /// For temporary files.
    pub temporary: PathBuf,
}

/// The place of the daemon of one home, one build of heph and one mount namespace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Endpoint {
    home: PathBuf,
    build: String,
    namespace: String,
    directory: PathBuf,
}

impl Endpoint {
    /// The place for this build of heph, for the mount namespace of this process.
    pub fn new(home: &Path, build: &str) -> Self {
        Self::of(home, build, &mount_namespace())
    }

    fn of(home: &Path, build: &str, namespace: &str) -> Self {
        Self {
            directory: Home::at(home).daemon_dir(build, namespace),
            home: home.to_owned(),
            build: build.to_owned(),
            namespace: namespace.to_owned(),
        }
    }

    /// The places of other builds, with the same home and mount namespace, whether anybody is there or not.
    pub fn others(&self) -> Vec<Self> {
        let mut others = self.neighbours();
        others.retain(|place| place.namespace == self.namespace);
        others
    }

    /// All other places of the same home, sorted.
    pub fn neighbours(&self) -> Vec<Self> {
        let run = Home::at(&self.home).run_dir();
        let builds = names_in(&run).into_iter();
        let places = builds.flat_map(|build| {
            let namespaces = names_in(&run.join(&build)).into_iter();
            namespaces.map(move |namespace| (build.clone(), namespace))
        });
        places
            .map(|(build, namespace)| Self::of(&self.home, &build, &namespace))
            .filter(|place| place != self && place.directory.is_dir())
            .collect()
    }

    /// The home.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The build of heph.
    pub fn build(&self) -> &str {
        &self.build
    }

    /// The directory of all its files.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// `lock`: who holds it is the daemon.
    pub fn lock_file(&self) -> PathBuf {
        self.directory.join("lock")
    }

    /// `start`: locked while somebody starts the daemon, until it is ready or gone.
    pub fn start_file(&self) -> PathBuf {
        self.directory.join("start")
    }

    /// `log`: what the daemon says.
    pub fn log_file(&self) -> PathBuf {
        self.directory.join("log")
    }

    fn address_file(&self) -> PathBuf {
        self.directory.join("address")
    }

    /// Makes the directory where it is missing. Fails when others could put anything there.
    pub fn create(&self) -> Result<(), EndpointError> {
        if let Some(parent) = self.directory.parent() {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(parent);
            made.map_err(failed("create", parent))?;
        }
        make_private(&self.directory)
    }

    /// Where the socket is, as the daemon said when it began; `None` when there is none.
    ///
    /// Fails when others could have put a socket there.
    pub fn address(&self) -> Result<Option<PathBuf>, EndpointError> {
        let file = self.address_file();
        let text = match fs::read(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("read", &file)(error)),
        };
        let path = text.strip_suffix(b"\n").unwrap_or(&text);
        let socket = PathBuf::from(OsString::from_vec(path.to_owned()));
        match socket.parent() {
            Some(directory) if directory.is_absolute() => match check_private(directory) {
                // A directory that a reboot has taken with it.
                Err(EndpointError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
                checked => checked.map(|()| Some(socket)),
            },
            _ => Ok(None),
        }
    }

    /// Says where the socket is. Only the daemon does so.
    pub fn publish(&self, socket: &Path) -> Result<(), EndpointError> {
        let (file, unfinished) = (self.address_file(), self.directory.join(".address"));
        let line = [socket.as_os_str().as_bytes(), b"\n"].concat();
        fs::write(&unfinished, line)
            .and_then(|()| fs::rename(&unfinished, &file))
            .map_err(failed("write", &file))
    }

    /// Says that there is no socket any more. Only the daemon does so.
    pub fn withdraw(&self) {
        // An address that stays leads nowhere, which clients see when they try it.
        let _ = fs::remove_file(self.address_file());
    }

    /// The path for the socket, in a directory that is made and that is open to its owner alone.
    pub fn socket(&self, places: &Places) -> Result<PathBuf, EndpointError> {
        let name = OsString::from(format!("{}.sock", self.short_name()));
        let user = rustix::process::geteuid().as_raw();
        // One of another user is not ours to use: sudo may have kept the variable.
        let runtime = places.runtime.as_deref().filter(|directory| {
            directory.is_absolute() && fs::metadata(directory).is_ok_and(|of| of.is_dir() && of.uid() == user)
        });
        if let Some(path) = runtime.and_then(|directory| fitting(&directory.join("heph"), &name)) {
            return in_private(path);
        }
        if let Some(path) = fitting(&self.directory, OsStr::new("socket")) {
            return in_private(path);
        }
        let short = |directory: &Path| directory.join(format!("heph-{user}-{}", self.short_name()));
        let temporary = [places.temporary.as_path(), Path::new("/tmp")];
        match temporary
            .iter()
            .find_map(|directory| fitting(&short(directory), OsStr::new("socket")))
        {
            Some(path) => in_private(path),
            None => Err(EndpointError::TooLong {
                path: short(&places.temporary),
            }),
        }
    }

    /// Twelve digits that no other place has.
    fn short_name(&self) -> String {
        let digest = Digest::of(self.directory.as_os_str().as_bytes()).to_hex();
        digest.chars().take(12).collect()
    }
}

/// Names the mount namespace of this process; `0` where there are none. Paths of another one mean other files.
pub fn mount_namespace() -> String {
    match cfg!(target_os = "linux") {
        true => fs::metadata("/proc/self/ns/mnt").map_or(0, |metadata| metadata.ino()),
        false => 0,
    }
    .to_string()
}

/// Sorted; none where there is no such directory.
fn names_in(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

fn fitting(directory: &Path, name: &OsStr) -> Option<PathBuf> {
    let path = directory.join(name);
    (path.as_os_str().len() <= LONGEST).then_some(path)
}

fn in_private(socket: PathBuf) -> Result<PathBuf, EndpointError> {
    if let Some(directory) = socket.parent() {
        make_private(directory)?;
    }
    Ok(socket)
}

fn make_private(directory: &Path) -> Result<(), EndpointError> {
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(failed("create", directory)(error)),
        _ => check_private(directory),
    }
}

/// Whether a directory is one in which nobody but this user can do anything.
fn check_private(path: &Path) -> Result<(), EndpointError> {
    let metadata = fs::symlink_metadata(path).map_err(failed("look at", path))?;
    let (path, user) = (path.to_owned(), rustix::process::geteuid().as_raw());
    if !metadata.is_dir() {
        return Err(EndpointError::NotADirectory { path });
    }
    if metadata.uid() != user {
        let owner = metadata.uid();
        return Err(EndpointError::OtherOwner { path, owner, user });
    }
    match metadata.mode() & 0o777 {
        mode if mode & OTHERS != 0 => Err(EndpointError::Open { path, mode }),
        _ => Ok(()),
    }
}

fn failed<'p>(action: &'static str, path: &'p Path) -> impl FnOnce(io::Error) -> EndpointError + use<'p> {
    move |source| EndpointError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn places(temporary: &Path) -> Places {
        Places {
            runtime: None,
            temporary: temporary.to_owned(),
        }
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn an_address_is_found_until_it_is_withdrawn() {
        let home = tempfile::tempdir().unwrap();
        let place = Endpoint::new(home.path(), "b");
        assert_eq!(place.address().unwrap(), None);
        place.create().unwrap();
        let socket = place.socket(&places(home.path())).unwrap();
        place.publish(&socket).unwrap();
        assert_eq!(place.address().unwrap(), Some(socket));
        place.withdraw();
        assert_eq!(place.address().unwrap(), None);
    }

    #[test]
    fn the_runtime_directory_is_used_when_it_is_ours() {
        let home = tempfile::tempdir().unwrap();
        let runtime = home.path().join("runtime");
        fs::create_dir(&runtime).unwrap();
        let place = Endpoint::new(home.path(), "b");
        place.create().unwrap();
        let with = |runtime: &Path| Places {
            runtime: Some(runtime.to_owned()),
            temporary: home.path().to_owned(),
        };
        let socket = place.socket(&with(&runtime)).unwrap();
        assert_eq!(socket.parent().unwrap(), runtime.join("heph"));
        let elsewhere = place.socket(&with(Path::new("/nowhere"))).unwrap();
        assert_eq!(elsewhere, place.directory().join("socket"));
    }

    #[test]
    fn a_long_home_has_its_socket_in_a_private_directory_for_temporary_files() {
        let home = tempfile::tempdir().unwrap();
        let place = Endpoint::new(&home.path().join("x".repeat(120)), "b");
        let socket = place.socket(&places(home.path())).unwrap();
        assert!(socket.starts_with(home.path()), "{}", socket.display());
        let mode = fs::metadata(socket.parent().unwrap()).unwrap().mode();
        assert_eq!(mode & 0o777, 0o700);
        let too_long = home.path().join("y".repeat(120));
        let socket = place.socket(&places(&too_long)).unwrap();
        assert!(socket.starts_with("/tmp"), "{}", socket.display());
        fs::remove_dir(socket.parent().unwrap()).unwrap();
    }

    #[test]
    fn directories_that_others_can_enter_are_refused_with_the_cure() {
        let home = tempfile::tempdir().unwrap();
        let place = Endpoint::new(home.path(), "b");
        place.create().unwrap();
        let socket = place.socket(&places(home.path())).unwrap();
        place.publish(&socket).unwrap();
        set_mode(place.directory(), 0o755);
        let path = place.directory().display().to_string();
        for refused in [place.create().unwrap_err(), place.address().unwrap_err()] {
            assert_eq!(
                refused.to_string(),
                format!("the socket directory {path} is open to other users (mode 755)")
            );
            assert_eq!(refused.hint(), format!("chmod 700 {path}"));
        }
        set_mode(place.directory(), 0o700);
        place.create().unwrap();
    }

    #[test]
    fn other_builds_of_the_same_mount_namespace_are_found() {
        let home = tempfile::tempdir().unwrap();
        let place = Endpoint::new(home.path(), "b");
        for other in [
            Endpoint::new(home.path(), "a"),
            Endpoint::new(home.path(), "c"),
            place.clone(),
        ] {
            other.create().unwrap();
        }
        Endpoint::of(home.path(), "d", "another").create().unwrap();
        fs::create_dir(home.path().join("run/live")).unwrap();
        let builds =
            |places: Vec<Endpoint>| -> Vec<String> { places.into_iter().map(|place| place.build).collect() };
        assert_eq!(builds(place.others()), ["a", "c"]);
        assert_eq!(builds(place.neighbours()), ["a", "c", "d"]);
    }
}
