//! A daemon from its lock to its end.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use heph_cache::StoreError;
use heph_common::clock::unix_ms;
use heph_common::config::Config;
use heph_common::{Build, Home};
use heph_engine::engine::{Engine, EngineOptions};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use tokio::sync::oneshot;

use crate::activity::{Activity, Wish};
use crate::endpoint::{Endpoint, EndpointError, Places};
use crate::lifecycle::{self, Chores, Patience, Reason};
use crate::lock::Lock;
use crate::memory::Ceiling;
use crate::service::{Identity, Service};
use crate::watch::Watchers;
use crate::{retire, server};

/// A daemon that goes has given up its lock within this time.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);

/// What is needed to be a daemon.
#[derive(Debug)]
pub struct Options {
    /// The home, absolute.
    pub home: PathBuf,
    /// Settings of the home are taken from it.
    pub config: Arc<Config>,
    /// This build of heph.
    pub build: Build,
    /// Commands at once, of all clients.
    pub jobs: u32,
    /// Where the socket may lie.
    pub places: Places,
    /// The socket, when it came with the process.
    pub listener: Option<UnixListener>,
    /// Who wants to be told that it is ready (`NOTIFY_SOCKET`).
    pub notify: Option<OsString>,
    /// Program and arguments that look after the history; see [`EngineOptions::keeper`].
    pub keeper: Vec<OsString>,
    /// Gives memory back that is free, once nobody has used the daemon for a while.
    pub trim: fn(),
}

/// A process could not be, or stay, the daemon.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// Another process is it.
    #[error("another process is the daemon of {} already", home.display())]
    Busy {
        /// The home.
        home: PathBuf,
    },
    /// Its place cannot be used.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// Something else listens on its socket.
    #[error("what listens on {} is not the daemon", socket.display())]
    Occupied {
        /// The socket.
        socket: PathBuf,
    },
    /// Its store cannot be opened.
    #[error("failed to open the store in {}: {source}", home.display())]
    Store {
        /// The home.
        home: PathBuf,
        /// Why.
        source: StoreError,
    },
    /// The system refuses.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// What it says.
        source: io::Error,
    },
    /// The service broke.
    #[error("the service ended: {0}")]
    Serve(tonic::transport::Error),
}

impl DaemonError {
    /// What the user can do about it; may be empty.
    pub fn hint(&self) -> String {
        match self {
            Self::Busy { .. } => "heph daemon status shows it".to_owned(),
            Self::Endpoint(error) => error.hint(),
            Self::Occupied { socket } => format!("end it, or remove {}", socket.display()),
            Self::Store { source, .. } => source.hint().unwrap_or_default(),
            Self::Io { .. } | Self::Serve(_) => String::new(),
        }
    }
}

/// A process that is the daemon, and that nobody knows of before [`Daemon::serve`].
#[derive(Debug)]
pub struct Daemon {
    endpoint: Endpoint,
    lock: Lock,
    listener: UnixListener,
    socket: PathBuf,
    /// Whether the socket is made and removed here, rather than by whoever started this process.
    owns_socket: bool,
    engine: Arc<Engine>,
    activity: Arc<Activity>,
    options: Ways,
}

/// What of the options is needed while it serves.
#[derive(Debug)]
struct Ways {
    build: Build,
    config: Arc<Config>,
    notify: Option<OsString>,
    trim: fn(),
}

impl Daemon {
    /// Becomes the daemon: takes its lock, opens its store and its socket.
    pub fn open(options: Options) -> Result<Self, DaemonError> {
        let endpoint = Endpoint::new(&options.home, &options.build.name);
        endpoint.create()?;
        let lock_file = endpoint.lock_file();
        let lock = Lock::take(&lock_file, LOCK_PATIENCE).map_err(failed("lock", &lock_file))?;
        let lock = lock.ok_or_else(|| DaemonError::Busy {
            home: options.home.clone(),
        })?;
        let engine = Engine::open(EngineOptions {
            home: options.home.clone(),
            config: Arc::clone(&options.config),
            jobs: options.jobs,
            build: options.build.name.clone(),
            watching: Some(Arc::new(Watchers::new(endpoint.directory().join("cookies")))),
            keeper: options.keeper,
        });
        let engine = engine.map_err(|source| DaemonError::Store {
            home: options.home.clone(),
            source,
        })?;
        let owns_socket = options.listener.is_none();
        let (listener, socket) = match options.listener {
            Some(listener) => {
                let address = listener
                    .local_addr()
                    .map_err(failed("use the socket of", &options.home))?;
                let path = address.as_pathname().map(Path::to_owned).unwrap_or_default();
                (listener, path)
            }
            None => {
                let socket = endpoint.socket(&options.places)?;
                (listen(&socket)?, socket)
            }
        };
        listener
            .set_nonblocking(true)
            .map_err(failed("listen on", &socket))?;
        Ok(Self {
            endpoint,
            lock,
            listener,
            socket,
            owns_socket,
            engine: Arc::new(engine),
            activity: Activity::new(true),
            options: Ways {
                build: options.build,
                config: options.config,
                notify: options.notify,
                trim: options.trim,
            },
        })
    }

    /// What goes on in it; through this it is asked to go.
    pub fn activity(&self) -> &Arc<Activity> {
        &self.activity
    }

    /// Serves clients until there is a reason to go, finishes what was begun, and says the reason. `ready` is called once
    /// clients can find it.
    pub async fn serve(self, ready: impl FnOnce()) -> Result<Reason, DaemonError> {
        let Self {
            endpoint,
            lock,
            listener,
            socket,
            owns_socket,
            engine,
            activity,
            options,
        } = self;
        let versions = Home::at(endpoint.home()).versions_dir();
        let pinned = options.build.pinned(&versions).map(str::to_owned);
        let identity = Identity {
            build: options.build.clone(),
            pinned: pinned.clone(),
            started_unix_ms: unix_ms(),
            socket: socket.to_string_lossy().into_owned(),
            log: endpoint.log_file().to_string_lossy().into_owned(),
        };
        let ceiling = Ceiling {
            bytes: options.config.daemon.max_memory.bytes(),
            trim: options.trim,
        };
        let service = Service::of_daemon(Arc::clone(&engine), Arc::clone(&activity), identity, ceiling);
        let listener = tokio::net::UnixListener::from_std(listener).map_err(failed("listen on", &socket))?;
        let (end, ended) = oneshot::channel::<()>();
        let mut serving = tokio::spawn(server::run(listener, service, async {
            // Both mean the same: it is over.
            let _ = ended.await;
        }));
        endpoint.publish(&socket)?;
        tracing::info!(
            "ready: process {}, home {}",
            std::process::id(),
            endpoint.home().display()
        );
        options.tell("READY=1");
        ready();
        succeed(&endpoint, options.build.clone(), pinned);

        let chores = IdleWork {
            lock: &lock,
            activity: &activity,
            engine: &engine,
            trim: options.trim,
        };
        let patience = Patience {
            idle: options.config.daemon.idle_timeout,
            warm: options.config.daemon.warm_timeout,
        };
        let reason = tokio::select! {
            reason = lifecycle::until_going(&activity, patience, &chores) => reason,
            broken = &mut serving => return Err(match broken {
                Ok(Err(error)) => DaemonError::Serve(error),
                _ => failed("serve on", &socket)(io::Error::other("its task ended")),
            }),
        };
        activity.go();
        match &reason {
            Reason::Idle(after) => tracing::info!("going: not used for {after:?}"),
            Reason::Asked(why) => tracing::info!("going: {why}"),
        }
        options.tell("STOPPING=1");
        // The address goes before the lock: whoever holds the lock alone may say where the daemon is.
        if owns_socket && lock.is_current() {
            endpoint.withdraw();
            // A socket that stays is found stale.
            let _ = fs::remove_file(&socket);
        }
        drop(lock);
        lifecycle::drain(&activity).await;
        save(&engine).await;
        // The server waits for its connections; some stay until the process ends.
        let _ = end.send(());
        lifecycle::farewell(&activity).await;
        serving.abort();
        tracing::info!("gone");
        Ok(reason)
    }
}

/// What a daemon does while nobody uses it.
struct IdleWork<'a> {
    lock: &'a Lock,
    activity: &'a Activity,
    engine: &'a Arc<Engine>,
    trim: fn(),
}

impl Chores for IdleWork<'_> {
    async fn tidy(&self) {
        if !self.lock.is_current() {
            self.activity.ask(Wish::Finish("its home was removed".to_owned()));
        }
        save(self.engine).await;
        (self.trim)();
    }

    async fn is_needed(&self) -> bool {
        let engine = Arc::clone(self.engine);
        let waits = tokio::task::spawn_blocking(move || engine.has_uploads()).await;
        waits.unwrap_or(false) && self.lock.is_current()
    }

    async fn cool(&self) {
        let engine = Arc::clone(self.engine);
        let trim = self.trim;
        let cooled = tokio::task::spawn_blocking(move || {
            engine.history().take_in();
            let dropped = engine.cool();
            // The heap of the thread that freed most of it.
            trim();
            dropped
        });
        match cooled.await {
            Ok(dropped) => tracing::info!("nothing to do: dropped what was known of {dropped} workspaces"),
            Err(error) => tracing::warn!("what is warm could not be dropped: {error}"),
        }
        (self.trim)();
    }
}

/// Listens where a daemon that was killed may have left its socket. Who calls this is the daemon: if anybody listens there, it is
/// something else.
fn listen(socket: &Path) -> Result<UnixListener, DaemonError> {
    match try_connect(socket) {
        Ok(()) | Err(Errno::AGAIN) => {
            return Err(DaemonError::Occupied {
                socket: socket.to_owned(),
            });
        }
        Err(Errno::NOENT) => {}
        Err(_) => fs::remove_file(socket).map_err(failed("remove", socket))?,
    }
    UnixListener::bind(socket).map_err(failed("listen on", socket))
}

/// Does not wait: a full queue is an answer too.
fn try_connect(socket: &Path) -> rustix::io::Result<()> {
    let address = SocketAddrUnix::new(socket)?;
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let stream = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&stream, &address)
}

impl Ways {
    fn tell(&self, state: &str) {
        if let Some(socket) = &self.notify
            && let Err(error) = crate::systemd::notify(socket, state)
        {
            tracing::warn!("{state} could not be told to {}: {error}", socket.display());
        }
    }
}

/// Takes the place of those before, in the background.
fn succeed(endpoint: &Endpoint, build: Build, pinned: Option<String>) {
    let endpoint = endpoint.clone();
    tokio::spawn(async move {
        retire::older(&endpoint, &build, pinned.as_deref()).await;
        let _ = tokio::task::spawn_blocking(move || {
            retire::sweep(&endpoint);
            retire::sweep_states(&endpoint);
        })
        .await;
    });
}

async fn save(engine: &Arc<Engine>) {
    let engine = Arc::clone(engine);
    let saved = tokio::task::spawn_blocking(move || {
        engine.save_all();
        engine.history().take_in();
    });
    if let Err(error) = saved.await {
        tracing::warn!("what is known of the workspaces could not be saved: {error}");
    }
}

fn failed<'p>(action: &'static str, path: &'p Path) -> impl FnOnce(io::Error) -> DaemonError + use<'p> {
    move |source| DaemonError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}
