//! The way to the service: the daemon where there is one or one may be started, else this process.

use std::sync::Arc;
use std::sync::OnceLock;

use heph_common::Build;
use heph_daemon::connect::ConnectError;
use heph_daemon::{Endpoint, Link, ReachError, Starter, in_process};
use heph_engine::engine::{Engine, EngineOptions};
use heph_proto::heph_client::HephClient;
use tonic::transport::Channel;

use crate::context::Context;
use crate::error::{CommandError, Result};
use crate::local::{keeper, program};
use crate::workspace::Workspace;

/// Why there is no daemon where the home cannot be written.
const NO_HOME: &str = "there is none for a home that cannot be written";

/// How often a connection may be lost before a command goes on without the daemon.
const MOST_LOST: usize = 5;

/// A way to the service.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Connector {
    /// Whether there may be a daemon at all.
    may_use: bool,
    /// Whether one is started where there is none.
    can_start: bool,
    /// Whether it is an error to go on without.
    must_use: bool,
    /// Connections that were lost one after the other.
    lost: usize,
}

/// The service, wherever it is.
pub struct Connection {
    /// Speaks to it.
    pub client: HephClient<Channel>,
    /// Where it is another process, which may go away: its number.
    pub daemon: Option<u32>,
}

impl Connection {
    /// Whether it is another process.
    pub fn is_daemon(&self) -> bool {
        self.daemon.is_some()
    }
}

/// Why there is no daemon to work with.
struct Unreachable {
    cause: String,
    hint: String,
    /// Nobody expected one: nothing is said of it.
    is_expected: bool,
}

/// This build of heph.
pub fn build() -> &'static Build {
    static BUILD: OnceLock<Build> = OnceLock::new();
    BUILD.get_or_init(Build::own)
}

impl Connector {
    /// As the caller's environment says: `HEPH_DAEMON`, else without a daemon in CI and inside the command of a target.
    pub fn new(context: &Context) -> Result<Self> {
        let auto = Self {
            may_use: true,
            can_start: true,
            must_use: false,
            lost: 0,
        };
        let off = Self {
            may_use: false,
            ..auto
        };
        match context.variable("HEPH_DAEMON") {
            Some("auto") => Ok(auto),
            Some("off") => Ok(off),
            Some("require") => Ok(Self::required()),
            Some(other) => Err(
                CommandError::usage(format!("HEPH_DAEMON is '{}'", other.escape_debug()))
                    .hint("set it to auto, require or off"),
            ),
            None if context.variable("HEPH_TARGET").is_some() => Ok(off),
            None => match context.variable("CI") {
                None | Some("false") => Ok(auto),
                Some(_) => Ok(off),
            },
        }
    }

    /// With a daemon or not at all, whatever the environment says.
    pub fn required() -> Self {
        Self {
            may_use: true,
            can_start: true,
            must_use: true,
            lost: 0,
        }
    }

    /// The same, but a daemon that is not there stays away.
    #[must_use]
    pub fn without_starting(self) -> Self {
        Self {
            can_start: false,
            ..self
        }
    }

    /// The same, but never an error where there is no daemon.
    #[must_use]
    pub fn or_alone(self) -> Self {
        Self {
            must_use: false,
            ..self
        }
    }

    /// The service for a workspace's home.
    pub async fn connect(self, context: &Context, workspace: &Workspace) -> Result<Connection> {
        match self.daemon(context, workspace).await? {
            Ok(connection) => Ok(connection),
            Err(unreachable) => {
                let connection = host(workspace, 0)?;
                unreachable.warn(context);
                Ok(connection)
            }
        }
    }

    /// As [`Connector::connect`], for a run with so many commands at once; 0 for as many as there are cores.
    ///
    /// A home whose store cannot be opened, as on a full disk, is replaced by a temporary one, with a warning.
    pub async fn connect_for_run(
        self,
        context: &Context,
        workspace: &mut Workspace,
        jobs: u32,
    ) -> Result<Connection> {
        let unreachable = match self.daemon(context, workspace).await? {
            Ok(connection) => return Ok(connection),
            Err(unreachable) => unreachable,
        };
        match host(workspace, jobs) {
            Ok(connection) => {
                unreachable.warn(context);
                Ok(connection)
            }
            // One warning is enough: a daemon cannot do without a store either.
            Err(error) => {
                let cause = error.problems.first().map_or("", |said| said.message.as_str());
                workspace.replace_home(context, cause)?;
                host(workspace, jobs)
            }
        }
    }

    /// The daemon itself, started where there is none.
    pub async fn reach(self, context: &Context, workspace: &Workspace) -> Result<Link> {
        if workspace.has_temporary_home() {
            return Err(Unreachable::expected(NO_HOME).error());
        }
        self.link(context, workspace)
            .await
            .map_err(|unreachable| unreachable.error())
    }

    /// A connection has done what it was for: those that were lost before do not count any more.
    pub fn note_success(&mut self) {
        self.lost = 0;
    }

    /// A connection was lost. After too many, there are no more to the daemon.
    pub fn note_loss(&mut self, context: &Context) -> Result<()> {
        self.lost += 1;
        if self.lost < MOST_LOST {
            return Ok(());
        }
        let unreachable = Unreachable {
            cause: format!("it was lost {MOST_LOST} times"),
            hint: "heph daemon log shows what it did".to_owned(),
            is_expected: false,
        };
        if self.must_use {
            return Err(unreachable.error());
        }
        unreachable.warn(context);
        self.may_use = false;
        Ok(())
    }

    /// The daemon does not answer any more: from now on without it. `false` where there has to be one.
    pub fn give_up_on(&mut self, context: &Context, pid: u32) -> bool {
        if self.must_use {
            return false;
        }
        let unreachable = Unreachable {
            cause: format!("process {pid} does not answer"),
            hint: "it is stopped or hangs; it may be killed: results are kept".to_owned(),
            is_expected: false,
        };
        unreachable.warn(context);
        self.may_use = false;
        true
    }

    /// The daemon, if that is what is wanted; an error where it is wanted above all.
    async fn daemon(
        self,
        context: &Context,
        workspace: &Workspace,
    ) -> Result<Result<Connection, Unreachable>> {
        if !self.may_use {
            return Ok(Err(Unreachable::expected("HEPH_DAEMON is off")));
        }
        if workspace.has_temporary_home() {
            let none = Unreachable::expected(NO_HOME);
            return if self.must_use {
                Err(none.error())
            } else {
                Ok(Err(none))
            };
        }
        match self.link(context, workspace).await {
            Ok(link) => Ok(Ok(Connection {
                daemon: Some(link.hello.pid),
                client: link.client,
            })),
            Err(unreachable) if self.must_use => Err(unreachable.error()),
            Err(unreachable) => Ok(Err(unreachable)),
        }
    }

    async fn link(self, context: &Context, workspace: &Workspace) -> Result<Link, Unreachable> {
        let endpoint = Endpoint::new(&workspace.home, &build().name);
        let link = match self.can_start {
            true => {
                let starter = Starter {
                    program: program(),
                    endpoint,
                    config: Arc::clone(&workspace.config),
                    variables: context.environment.clone(),
                };
                starter.reach().await?
            }
            false => heph_daemon::connect(&endpoint).await?,
        };
        tracing::debug!("the daemon is process {}", link.hello.pid);
        Ok(link)
    }
}

/// The service in this process, for so many commands at once; 0 for as many as there are cores.
fn host(workspace: &Workspace, jobs: u32) -> Result<Connection> {
    let options = EngineOptions {
        home: workspace.home.clone(),
        config: Arc::clone(&workspace.config),
        jobs: if jobs == 0 { cores() } else { jobs },
        build: build().name.clone(),
        watching: None,
        keeper: keeper(),
    };
    let engine = Engine::open(options).map_err(|error| {
        CommandError::fault(format!(
            "failed to open the store in {}: {error}",
            workspace.home.display()
        ))
    })?;
    Ok(Connection {
        client: in_process(Arc::new(engine)).client(),
        daemon: None,
    })
}

/// Commands at once where nobody says how many.
pub fn cores() -> u32 {
    std::thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(1))
}

impl Unreachable {
    fn expected(cause: &str) -> Self {
        Self {
            cause: cause.to_owned(),
            hint: String::new(),
            is_expected: true,
        }
    }

    fn warn(&self, context: &Context) {
        if !self.is_expected {
            context.warn(&format!("working without the daemon: {}", self.cause), &self.hint);
        }
    }

    fn error(&self) -> CommandError {
        let error = CommandError::fault(format!("failed to reach the daemon: {}", self.cause));
        match self.hint.as_str() {
            "" => error,
            hint => error.hint(hint),
        }
    }
}

/// What the user can do where a daemon cannot be reached; may be empty.
pub fn hint(error: &ConnectError) -> String {
    match error {
        ConnectError::Endpoint(error) => error.hint(),
        ConnectError::Foreign { socket, .. } => format!("end it, or remove {}", socket.display()),
        ConnectError::Silent { .. } => {
            "it hangs, or the machine is overloaded; its process may be killed: results are kept".to_owned()
        }
        ConnectError::Absent | ConnectError::GoingAway => "heph daemon start starts one".to_owned(),
        ConnectError::Io { .. } => String::new(),
    }
}

impl From<ConnectError> for Unreachable {
    fn from(error: ConnectError) -> Self {
        let hint = hint(&error);
        Self {
            is_expected: matches!(error, ConnectError::Absent | ConnectError::GoingAway),
            cause: error.to_string(),
            hint,
        }
    }
}

impl From<ReachError> for Unreachable {
    fn from(error: ReachError) -> Self {
        let hint = match &error {
            ReachError::Connect(error) => hint(error),
            ReachError::Start(error) => error.hint(),
            ReachError::Unstable { log } => format!("see {}", log.display()),
        };
        Self {
            cause: error.to_string(),
            hint,
            is_expected: false,
        }
    }
}
