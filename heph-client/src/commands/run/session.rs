//! One call of `heph run`, round by round.

use std::collections::HashSet;
use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use heph_common::Exit;
use heph_common::config::FuseMode;
use heph_proto::{Notice, NoticeLevel};

use super::RunArgs;
use crate::connector::{Connection, Connector};
use crate::context::{Context, written};
use crate::error::{CommandError, Result, exit_of};
use crate::local::Local;
use crate::render::plain::Loudness;
use crate::render::{Json, Live, Observer, Plain};
use crate::run::approval::{Answer, Approver};
use crate::run::record::Recorder;
use crate::run::{self, Ended, Ending, Opening, outputs, profile, report};
use crate::selection::Selected;
use crate::signals::Signals;
use crate::terminal;
use crate::watch::Watcher;
use crate::workspace::Workspace;

/// How the rounds of a session ended.
#[derive(Debug)]
pub(super) enum End {
    /// With this code.
    Exit(Exit),
    /// The configuration is another one now: a new session goes on.
    Reconfigured,
}

/// One call of `heph run`, which may go round several times with `--watch`.
pub(super) struct Session<'a> {
    context: &'a Context,
    args: &'a RunArgs,
    workspace: Workspace,
    selected: Selected,
    local: Arc<Local>,
    connector: Connector,
    connection: Connection,
    recorder: Option<Recorder>,
    observers: Vec<Box<dyn Observer>>,
    /// Told in the first round.
    notices: Vec<Notice>,
}

impl<'a> Session<'a> {
    pub(super) fn new(
        context: &'a Context,
        args: &'a RunArgs,
        workspace: Workspace,
        selected: Selected,
        (connector, connection): (Connector, Connection),
    ) -> Self {
        let mut observers = vec![renderer(context)];
        let recorder = (args.report.is_some() || args.profile.is_some()).then(Recorder::default);
        if let Some(recorder) = &recorder {
            observers.push(Box::new(recorder.clone()));
        }
        let notices = notices(&workspace);
        let local = Arc::new(Local::new(
            context,
            &workspace,
            args.jobs,
            approver(context, args),
        ));
        Self {
            local,
            notices,
            context,
            args,
            workspace,
            selected,
            connector,
            connection,
            recorder,
            observers,
        }
    }

    /// Runs once, or with `--watch` until it is stopped or the configuration has changed.
    pub(super) async fn rounds(&mut self) -> Result<End> {
        let mut signals = Signals::listen()
            .map_err(|error| CommandError::fault(format!("failed to listen for signals: {error}")))?;
        // Watching begins before the first run: what changes during it must not be missed.
        let mut watcher = match self.args.watch {
            true => Some(Watcher::new(
                &self.workspace.root,
                self.workspace.skip()?,
                &self.workspace.home,
            )?),
            false => None,
        };
        loop {
            let (exit, written) = self.round(&mut signals).await?;
            let Some(watcher) = watcher.as_mut() else {
                return Ok(End::Exit(exit));
            };
            // A round that was over already when somebody asked did not notice.
            if exit == Exit::Cancelled || signals.were_asked() {
                return Ok(End::Exit(Exit::Cancelled));
            }
            watcher.forget(&written);
            let changed = tokio::select! {
                changed = watcher.changed() => changed?,
                () = signals.asked() => return Ok(End::Exit(Exit::Cancelled)),
            };
            self.context.note(&format!("\n{} changed\n", changed.display()));
            if self.workspace.files.contains(&self.workspace.root.join(&changed)) {
                return Ok(End::Reconfigured);
            }
        }
    }

    async fn round(&mut self, signals: &mut Signals) -> Result<(Exit, HashSet<PathBuf>)> {
        let mut start = self
            .args
            .start(self.context, &self.workspace, self.selected.clone());
        let mut notices = std::mem::take(&mut self.notices);
        let ended = loop {
            self.local.begin();
            let opening = Opening {
                start: start.clone(),
                notices: std::mem::take(&mut notices),
            };
            let service = (&mut self.connection.client, self.connection.daemon);
            let local = Arc::clone(&self.local);
            match run::run(service, opening, local, signals, &mut self.observers).await? {
                Ending::Ended(ended) => break ended,
                Ending::Lost(_) if signals.were_asked() => return Ok((Exit::Cancelled, HashSet::new())),
                Ending::Lost(lost) => {
                    tokio::select! {
                        biased;
                        () = signals.asked() => return Ok((Exit::Cancelled, HashSet::new())),
                        reconnected = self.reconnect() => reconnected?,
                    }
                    notices.extend(lost.had_begun.then(|| starts_over(&self.connection)));
                    start.interrupted.extend(lost.interrupted);
                }
            }
        };
        self.connector.note_success();
        self.write_records()?;
        if ended.finished.exit_code == 0 {
            self.outputs(&ended)?;
        }
        Ok((exit_of(ended.finished.exit_code), ended.written))
    }

    /// To a new daemon, or without one.
    async fn reconnect(&mut self) -> Result<()> {
        self.connector.note_loss(self.context)?;
        self.connection = self.connector.connect(self.context, &self.workspace).await?;
        Ok(())
    }

    fn write_records(&self) -> Result<()> {
        let Some(record) = self.recorder.as_ref().map(Recorder::take) else {
            return Ok(());
        };
        let here = self.context.directory()?;
        if let Some(path) = &self.args.report {
            report::write(&record, &here.join(path))?;
        }
        if let Some(path) = &self.args.profile {
            profile::write(&record, &here.join(path))?;
        }
        Ok(())
    }

    fn outputs(&self, ended: &Ended) -> Result<()> {
        let none = ended.outputs.iter().all(|outputs| outputs.files.is_empty());
        if let Some(group) = self.args.output.as_ref().filter(|_| none) {
            return Err(CommandError::failure(format!(
                "no target of {} has outputs in the group '{group}'",
                self.selected.selector
            ))
            .hint(format!(
                "heph inspect outputs {} lists them",
                self.selected.selector
            )));
        }
        if let Some(directory) = &self.args.copy_out {
            let directory = self.context.directory()?.join(directory);
            let files = outputs::copy(&ended.outputs, &directory)?;
            self.context.note(&copied(files, self.args.copy_out.as_deref()));
        }
        let mut out = io::BufWriter::new(io::stdout().lock());
        if self.args.cat_out {
            outputs::cat(&ended.outputs, &mut out).or_else(|error| match error.downcast::<io::Error>() {
                Ok(error) => written(Err(error)),
                Err(error) => Err(error.into()),
            })?;
        }
        if self.args.list_out && !self.context.global.json {
            written(outputs::list(&ended.outputs, &mut out))?;
        }
        written(io::Write::flush(&mut out))
    }
}

fn starts_over(connection: &Connection) -> Notice {
    let with = match connection.is_daemon() {
        true => "with a new one",
        false => "without one",
    };
    Notice {
        level: NoticeLevel::Warning.into(),
        code: "daemon-lost".to_owned(),
        message: format!("the daemon went away in the middle of the run, which starts over {with}"),
        hint: "what was finished is kept; heph daemon log shows what the daemon did".to_owned(),
    }
}

fn copied(files: usize, directory: Option<&Path>) -> String {
    let directory = directory.unwrap_or(Path::new("")).display();
    format!(
        "copied {} to {directory}\n",
        crate::words::counted(files as u64, "file")
    )
}

fn approver(context: &Context, args: &RunArgs) -> Approver {
    let answer = match args.auto_approve {
        true => Answer::Yes,
        false if io::stdin().is_terminal() && io::stderr().is_terminal() => Answer::Ask,
        false => Answer::No,
    };
    Approver::new(answer, context.terminal.err)
}

fn renderer(context: &Context) -> Box<dyn Observer> {
    let (style, loudness) = (context.terminal.err, context.loudness());
    if context.global.json {
        return Box::new(Json::new(io::stdout()));
    }
    if context.terminal.cursor && !context.global.no_tui && loudness > Loudness::Quiet {
        return Box::new(Live::new(
            io::stderr(),
            style,
            terminal::size,
            loudness == Loudness::Verbose,
        ));
    }
    Box::new(Plain::new(io::stderr(), style, loudness))
}

/// What the configuration asks for and this release does not do.
fn notices(workspace: &Workspace) -> Vec<Notice> {
    let mut notices = Vec::new();
    let mut add = |code: &str, message: String| {
        let level = NoticeLevel::Info.into();
        notices.push(Notice {
            level,
            code: code.to_owned(),
            message,
            hint: String::new(),
        });
    };
    if workspace.config.fuse.enabled != FuseMode::Off {
        add(
            "fuse-unused",
            "fuse.enabled has no effect in this release: inputs are staged as files".to_owned(),
        );
    }
    notices
}
