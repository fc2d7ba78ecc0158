//! A worker: takes one plan at a time from its inputs to its outputs.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use heph_proto::plan::Action;
use heph_proto::report::Outcome;
use heph_proto::{Command, Completed, FailureKind, Plan, Report, SandboxMode};
use rustix::fs::Mode;
use tokio::sync::oneshot;

use super::command::{self, Run, Usage};
use super::control::{Bell, Control};
use super::environment::Inside;
use super::log::Log;
use super::place::Place;
use super::protocol::{Isolation, SupervisorError};
use super::run::Shared;
use super::stop::{Attempt, Stop};
use super::supervisor::Channel;
use super::{bytes_of, collect, content, stage};

/// Lines of a failed command's log, where the plan does not say.
const LOG_LINES: usize = 10;

/// One thread with its lines to the spawners.
pub(super) struct Worker<'a> {
    pub(super) shared: &'a Shared,
    pub(super) bell: Option<Arc<Bell>>,
    standard: Option<Channel>,
    strict: Option<Channel>,
}

/// How a plan is going to be run.
pub(super) struct Room {
    pub(super) place: Place,
    pub(super) inside: Inside,
    pub(super) mode: SandboxMode,
    /// Set in strict mode.
    pub(super) isolation: Option<Isolation>,
}

impl Worker<'_> {
    /// Works until there will be no more work.
    pub(super) fn serve(shared: &Shared) {
        let mut worker = Worker {
            shared,
            bell: None,
            standard: None,
            strict: None,
        };
        while let Some(job) = shared.next_job() {
            job(&mut worker);
        }
    }

    /// Carries a plan out.
    pub(super) fn execute(&mut self, plan: Plan, control: Control, reply: oneshot::Sender<Report>) {
        match &plan.action {
            Some(Action::Command(command)) => {
                let (report, place) = self.command(&plan, command, control);
                match place {
                    // Nobody has to wait for the broom.
                    Some(place) => self.shared.places.give_back(place, &plan.sandbox_id, || {
                        let _ = reply.send(report);
                    }),
                    None => {
                        let _ = reply.send(report);
                    }
                }
            }
            Some(Action::Fetch(fetch)) => {
                let _ = reply.send(super::fetch::fetch(self.shared, fetch, &control));
            }
            None => {
                let stop = Stop::internal("the plan has no action");
                let report = Report {
                    outcome: Some(stop.into_outcome()),
                    ..Report::default()
                };
                let _ = reply.send(report);
            }
        }
    }

    /// Runs a command plan; gives its report, and its place where that is to be removed.
    fn command(&mut self, plan: &Plan, command: &Command, control: Control) -> (Report, Option<Place>) {
        let mut report = Report {
            sandbox: plan.sandbox,
            ..Report::default()
        };
        let stopped = |mut report: Report, stop: Stop| {
            report.outcome = Some(stop.into_outcome());
            report
        };
        if control.cancel.is_cancelled() {
            return (stopped(report, Stop::Cancelled), None);
        }
        let mut room = match self.room(plan) {
            Ok(room) => room,
            Err(stop) => return (stopped(report, stop), None),
        };
        report.sandbox = room.mode.into();
        let mut log = Log::new(room.place.path().join("log"));
        let result = self.build(plan, command, control, &mut room, &mut log, &mut report);
        match result {
            Ok(completed) => {
                report.log = log.content();
                let large = report.log.as_mut().map(|log| self.keep_log(log));
                if let Some(Err(stop)) = large {
                    return (stopped(report, stop), None);
                }
                report.outcome = Some(Outcome::Completed(completed));
                (report, (!plan.keep).then_some(room.place))
            }
            Err(Stop::Failed(mut failed)) => {
                failed.command = command::shown(command);
                failed.sandbox = room.place.path().to_string_lossy().into_owned();
                let lines = usize::try_from(plan.log_lines).unwrap_or(LOG_LINES);
                failed.log_tail = log.tail(if lines == 0 { LOG_LINES } else { lines });
                if !log.is_empty() {
                    log.write();
                    failed.log_file = log.path().to_string_lossy().into_owned();
                }
                report.outcome = Some(Outcome::Failed(*failed));
                (report, None)
            }
            Err(stop) => (stopped(report, stop), (!plan.keep).then_some(room.place)),
        }
    }

    fn build(
        &mut self,
        plan: &Plan,
        command: &Command,
        control: Control,
        room: &mut Room,
        log: &mut Log,
        report: &mut Report,
    ) -> Attempt<Completed> {
        self.furnish(plan, command, room)?;
        let mut usage = Usage::default();
        let ran = self.run(plan, command, control, room, log, &mut usage);
        report.wall_us = usage.wall_us;
        report.cpu_us = usage.cpu_us;
        report.memory_bytes = usage.memory_bytes;
        ran?;
        self.make_stage()?;
        let outputs = collect::collect(room.place.ws(), plan, &self.shared.stage)?;
        Ok(Completed { outputs })
    }

    /// Decides on the mode and claims the sandbox.
    pub(super) fn room(&mut self, plan: &Plan) -> Attempt<Room> {
        let places = &self.shared.places;
        let base = self.shared.bases.find(places.parent(), plan)?;
        let isolation = self.isolation(plan, base.as_ref().map(|base| base.path.as_path()))?;
        let place = places
            .claim(&plan.sandbox_id)
            .map_err(|errno| Stop::staging("claim", &places.parent().join(&plan.sandbox_id), errno))?;
        let (inside, mode) = match (&isolation, plan.sandbox()) {
            (Some(_), _) => (Inside::strict(base.as_ref()), SandboxMode::Strict),
            (None, SandboxMode::Off) => (Inside::standard(place.path(), base.as_ref()), SandboxMode::Off),
            (None, _) => (
                Inside::standard(place.path(), base.as_ref()),
                SandboxMode::Standard,
            ),
        };
        let isolation = isolation.map(|isolation| Isolation {
            top: bytes_of(place.path()),
            ..isolation
        });
        Ok(Room {
            place,
            inside,
            mode,
            isolation,
        })
    }

    /// What strict mode needs to know; `None` for a command that is not isolated.
    fn isolation(&mut self, plan: &Plan, base: Option<&Path>) -> Attempt<Option<Isolation>> {
        if matches!(plan.sandbox(), SandboxMode::Standard | SandboxMode::Off) {
            return Ok(None);
        }
        let options = &self.shared.options;
        let masked: Vec<Vec<u8>> = options
            .hidden
            .iter()
            .chain([&options.home])
            .map(|path| bytes_of(path))
            .collect();
        let mut view = command::view(plan, base, &masked);
        // What lies in /tmp would be covered by the command's own: it is shown inside that.
        let (covered, visible) = view
            .visible
            .into_iter()
            .partition(|path| path.starts_with(b"/tmp/") || path.starts_with(b"/var/tmp/"));
        view.visible = visible;
        let covered: Vec<Vec<u8>> = covered;
        let isolation = Isolation {
            top: Vec::new(),
            read_only: covered.into_iter().map(|path| (path.clone(), path)).collect(),
            network: plan.network,
            view,
        };
        let obstacle = match self.strict_channel(&isolation) {
            Ok(_) => return Ok(Some(isolation)),
            Err(SupervisorError::NotStrict(obstacle)) => obstacle,
            Err(error) => return Err(command::lost(&error)),
        };
        if plan.sandbox() == SandboxMode::Strict {
            let message = format!("strict mode is demanded but does not work here: {obstacle}");
            return Err(Stop::failed(FailureKind::Staging, message)
                .hint("set sandbox = \"standard\", or run where user namespaces are allowed"));
        }
        Ok(None)
    }

    pub(super) fn strict_channel(&mut self, isolation: &Isolation) -> Result<&Channel, SupervisorError> {
        if self.strict.as_ref().is_some_and(|channel| !channel.is_alive()) {
            self.strict = None;
        }
        if self.strict.is_none() {
            let trial = self.trial(isolation)?;
            let channel = self.shared.supervisor.strict(&trial);
            if let Err(SupervisorError::NotStrict(obstacle)) = &channel {
                let mut known = self
                    .shared
                    .obstacle
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                *known = Some(obstacle.clone());
            }
            self.strict = Some(channel?);
        }
        self.strict.as_ref().ok_or(SupervisorError::Gone)
    }

    /// A sandbox without inputs that the set-up is tried with.
    fn trial(&self, isolation: &Isolation) -> Result<Isolation, SupervisorError> {
        let top = self.shared.places.parent().join("trial");
        std::fs::create_dir_all(top.join("tmp")).map_err(|error| {
            SupervisorError::NotStrict(format!("failed to make {}: {error}", top.display()))
        })?;
        Ok(Isolation {
            top: bytes_of(&top),
            // There is nothing in it that they could be mounted on.
            read_only: Vec::new(),
            ..isolation.clone()
        })
    }

    fn standard_channel(&mut self) -> Result<&Channel, SupervisorError> {
        if self.standard.as_ref().is_none_or(|channel| !channel.is_alive()) {
            self.standard = Some(self.shared.supervisor.standard()?);
        }
        self.standard.as_ref().ok_or(SupervisorError::Gone)
    }

    /// Puts everything into the sandbox.
    pub(super) fn furnish(&self, plan: &Plan, command: &Command, room: &mut Room) -> Attempt<()> {
        let trash = self.shared.places.trash();
        let trash = trash.as_deref();
        let staged = stage::stage(&mut room.place, plan, room.isolation.is_some(), trash)?;
        if let Some(isolation) = &mut room.isolation {
            for (source, target) in &isolation.read_only {
                stage::mount_point(&room.place, source, target)?;
            }
            for (source, below) in staged.read_only {
                let target = room.inside.path(&below).into_bytes();
                isolation.read_only.push((bytes_of(&source), target));
            }
        }
        if let Some(script) = &command.script {
            let mode = Mode::from_raw_mode(0o755);
            content::create_or_reuse(trash, room.place.top(), "script", mode, script.len() as u64)
                .and_then(|file| content::write_all(&file, script.as_bytes()))
                .map_err(|errno| Stop::staging("write", &room.place.path().join("script"), errno))?;
        }
        Ok(())
    }

    fn run(
        &mut self,
        plan: &Plan,
        command: &Command,
        control: Control,
        room: &Room,
        log: &mut Log,
        usage: &mut Usage,
    ) -> Attempt<()> {
        let shared = self.shared;
        let bell = self.bell()?;
        let member = match plan.jobserver {
            true => Some(
                shared
                    .jobserver
                    .join()
                    .map_err(|errno| Stop::staging("make a jobserver for", room.place.path(), errno))?,
            ),
            false => None,
        };
        let channel = self.channel(room)?;
        let run = Run {
            plan,
            command,
            inside: &room.inside,
            channel,
            bell: &bell,
            cancel: &control.cancel,
            isolation: room.isolation.clone(),
            jobserver: member
                .as_ref()
                .map(|member| (shared.jobserver.flags(), member.descriptors())),
        };
        let spawned = control.spawned;
        command::run(run, log, usage, move || {
            if let Some(spawned) = spawned {
                spawned();
            }
        })
    }

    pub(super) fn channel(&mut self, room: &Room) -> Attempt<&Channel> {
        match &room.isolation {
            Some(isolation) => self.strict_channel(isolation),
            None => self.standard_channel(),
        }
        .map_err(|error| command::lost(&error))
    }

    pub(super) fn bell(&mut self) -> Attempt<Arc<Bell>> {
        if let Some(bell) = &self.bell {
            return Ok(Arc::clone(bell));
        }
        let bell = Bell::new().map_err(|error| Stop::internal(error.to_string()))?;
        Ok(Arc::clone(self.bell.insert(Arc::new(bell))))
    }

    fn make_stage(&self) -> Attempt<()> {
        let stage = &self.shared.stage;
        if self.shared.has_stage.load(Ordering::Relaxed) {
            return Ok(());
        }
        std::fs::create_dir_all(stage)
            .map_err(|error| Stop::staging("make", stage, super::stop::errno(&error)))?;
        self.shared.has_stage.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Moves a log that is not inline out of the sandbox, which is about to be removed.
    fn keep_log(&self, log: &mut heph_proto::Content) -> Attempt<()> {
        let Some(heph_proto::content::Content::File(path)) = &mut log.content else {
            return Ok(());
        };
        let target = self.shared.stage.join(super::unique::name());
        rustix::fs::rename(&**path, &target)
            .map_err(|errno| Stop::staging("keep the log in", &target, errno))?;
        *path = target.to_string_lossy().into_owned();
        Ok(())
    }
}
