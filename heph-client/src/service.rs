//! The service, hosted in this process, and the requests that are answered by one document.

use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;

use heph_daemon::in_process;
use heph_engine::engine::{Engine, EngineOptions};
use heph_proto::heph_client::HephClient;
use heph_proto::inspect_request::What as Look;
use heph_proto::maintain_request::What as Work;
use heph_proto::{InspectRequest, MaintainRequest, RunError};
use serde_json::Value;
use tokio::runtime::Runtime;
use tonic::transport::Channel;

use crate::context::Context;
use crate::error::{CommandError, Result};
use crate::workspace::Workspace;

/// A connection to the service, and the runtime on which it is spoken to.
pub struct Service {
    /// Everything asynchronous of this process runs here.
    pub runtime: Runtime,
    /// The service.
    pub client: HephClient<Channel>,
}

impl Service {
    /// Hosts the service of the workspace's home in this process.
    pub fn connect(workspace: &Workspace) -> Result<Self> {
        Self::connect_with(workspace, 0)
    }

    /// As [`Service::connect`], for a run with so many commands at once; 0 for as many as there are cores.
    ///
    /// A home whose store cannot be opened, as on a full disk, is replaced by a temporary one, with a warning.
    pub fn connect_for_run(context: &Context, workspace: &mut Workspace, jobs: u32) -> Result<Self> {
        Self::connect_with(workspace, jobs).or_else(|error| {
            let cause = error.problems.first().map_or("", |said| said.message.as_str());
            workspace.replace_home(context, cause)?;
            Self::connect_with(workspace, jobs)
        })
    }

    fn connect_with(workspace: &Workspace, jobs: u32) -> Result<Self> {
        // The engine works on threads of its own; what is left is waiting.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| CommandError::fault(format!("failed to start: {error}")))?;
        let cores = || {
            std::thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(1))
        };
        let options = EngineOptions {
            home: workspace.home.clone(),
            config: Arc::clone(&workspace.config),
            jobs: if jobs == 0 { cores() } else { jobs },
            build: build(),
            watching: None,
        };
        let engine = Engine::open(options).map_err(|error| {
            CommandError::fault(format!(
                "failed to open the store in {}: {error}",
                workspace.home.display()
            ))
        })?;
        let client = runtime.block_on(async { in_process(Arc::new(engine)).client() });
        Ok(Self { runtime, client })
    }

    /// Looks into the graph.
    pub fn inspect(mut self, workspace: &Workspace, what: Look) -> Result<Value> {
        let request = InspectRequest {
            workspace: Some(workspace.message.clone()),
            what: Some(what),
        };
        let reply = self.runtime.block_on(self.client.inspect(request))?.into_inner();
        document(&reply.json, reply.error)
    }

    /// Works on the store.
    pub fn maintain(mut self, workspace: &Workspace, what: Work) -> Result<Value> {
        let request = MaintainRequest {
            home: workspace.message.home.clone(),
            config: workspace.message.config.clone(),
            what: Some(what),
        };
        let reply = self.runtime.block_on(self.client.maintain(request))?.into_inner();
        document(&reply.json, reply.error)
    }
}

/// Names this build of heph: what one build remembers, another does not read. A program that was built anew is
/// another build, also where its version stayed the same.
fn build() -> String {
    let program = std::env::current_exe().and_then(std::fs::metadata);
    let stamp = program.map_or(0, |program| {
        program
            .mtime()
            .wrapping_mul(1_000_000_000)
            .wrapping_add(program.mtime_nsec())
            ^ (program.size() as i64) << 20
    });
    format!("{}-{stamp:016x}", env!("CARGO_PKG_VERSION"))
}

fn document(json: &[u8], error: Option<RunError>) -> Result<Value> {
    match error {
        Some(error) => Err(error.into()),
        None => serde_json::from_slice(json)
            .map_err(|error| CommandError::fault(format!("failed to read the service's answer: {error}"))),
    }
}
