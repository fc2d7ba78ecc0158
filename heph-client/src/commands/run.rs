//! `heph run`

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;

use heph_common::{Address, Exit};
use heph_proto::{SandboxMode, Start};

use crate::connector::Connector;
use crate::context::Context;
use crate::error::{CommandError, Result};
use crate::render::plain::Loudness;
use crate::run::report;
use crate::selection::{Selected, Selection, Since};
use crate::service;
use crate::workspace::Workspace;

mod session;

use session::{End, Session};

/// Builds targets, and runs again only what changed.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  heph run //cmd/server:bin            one target
  heph run :bin ./sub:bin              targets of this package and below
  heph run //...                       everything
  heph run test //...                  everything with the label 'test'
  heph run -e '//... && !label(slow)'  the query language")]
pub struct RunArgs {
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    since: Since,
    /// Commands at once; as many as there are cores when not given.
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    jobs: Option<u32>,
    /// Ignores earlier results, and stores the new ones.
    #[arg(long)]
    force: bool,
    /// Stops at the first failure.
    #[arg(long)]
    fail_fast: bool,
    /// Says what would run and why, and runs nothing.
    #[arg(short = 'n', long, conflicts_with_all = ["watch", "shell", "cat_out", "list_out", "copy_out"])]
    dry_run: bool,
    /// Runs again whenever a file of the workspace changes.
    #[arg(short, long, conflicts_with = "shell")]
    watch: bool,
    /// Opens a shell in the sandbox of one target, in the place of its command.
    #[arg(long, conflicts_with_all = ["json", "report", "profile", "cat_out", "list_out", "copy_out"])]
    shell: bool,
    /// Writes nothing to the source tree; exit code 1 when generated or formatted files differ.
    #[arg(long)]
    frozen: bool,
    /// How much commands are separated from the machine.
    #[arg(long, value_name = "MODE")]
    sandbox: Option<SandboxChoice>,
    /// Runs targets that need approval without asking.
    #[arg(long)]
    auto_approve: bool,
    /// Lines of a failed command's log that are shown.
    #[arg(long, value_name = "N", default_value_t = 10)]
    log_lines: u32,
    /// Prints the content of the outputs of the selected targets.
    #[arg(long, group = "wanted", conflicts_with = "json")]
    cat_out: bool,
    /// Prints the paths of the outputs of the selected targets.
    #[arg(long, group = "wanted")]
    list_out: bool,
    /// Copies the outputs of the selected targets to a directory.
    #[arg(long, group = "wanted", value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    copy_out: Option<PathBuf>,
    /// Only this group of outputs.
    #[arg(long, value_name = "NAME", requires = "wanted")]
    output: Option<String>,
    /// Writes what happened to a file: .json, or .xml for JUnit.
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    report: Option<PathBuf>,
    /// Writes what ran when, with the critical path, for chrome://tracing or Perfetto.
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    profile: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum SandboxChoice {
    /// Own namespaces; nothing but what is declared can be seen. An error where the machine does not allow it.
    Strict,
    /// Own directories and environment.
    Standard,
    /// As standard, without saying that commands are not isolated.
    Off,
}

impl RunArgs {
    fn wants_outputs(&self) -> bool {
        self.cat_out || self.list_out || self.copy_out.is_some()
    }

    fn start(&self, context: &Context, workspace: &Workspace, selected: Selected) -> Start {
        // //pkg:name|group means that group alone.
        let meant = Address::parse(&selected.query).ok().and_then(|one| one.output);
        Start {
            workspace: Some(workspace.message.clone()),
            query: selected.query,
            selector: selected.selector,
            jobs: self.jobs.unwrap_or(0),
            force: self.force,
            fail_fast: self.fail_fast,
            dry_run: self.dry_run,
            since: self.since.commit.clone().unwrap_or_default(),
            log_lines: self.log_lines,
            sandbox: match self.sandbox {
                None => SandboxMode::Unspecified,
                Some(SandboxChoice::Strict) => SandboxMode::Strict,
                Some(SandboxChoice::Standard) => SandboxMode::Standard,
                Some(SandboxChoice::Off) => SandboxMode::Off,
            }
            .into(),
            want_outputs: self.wants_outputs(),
            output: self.output.clone().or(meant).unwrap_or_default(),
            frozen: self.frozen,
            shell: self.shell,
            verbose: context.global.json
                || self.report.is_some()
                || self.profile.is_some()
                || context.loudness() == Loudness::Verbose,
            client_pid: 0,
            interrupted: Vec::new(),
        }
    }
}

pub(super) fn run(context: &Context, args: RunArgs) -> Result<Exit> {
    if let Some(outer) = context.variable("HEPH_TARGET") {
        return Err(CommandError::usage(format!(
            "heph run was called by the target {outer}, inside its sandbox"
        ))
        .hint("a target names what it needs in deps or tools; heph builds that first"));
    }
    if let Some(path) = &args.report {
        report::form(path)?;
    }
    let mut workspace = Workspace::open(context)?;
    if args.selection.is_empty() && args.since.commit.is_none() {
        return list_package(context, &workspace);
    }
    let selected = args.selection.or_everything().resolve(&workspace.package)?;
    if args.shell && Address::parse(&selected.query).is_err() {
        return Err(
            CommandError::usage(format!("'{}' is not one target", selected.selector))
                .hint("heph run --shell //pkg:name opens a shell in the sandbox of one target"),
        );
    }
    if args.shell && !io::stdin().is_terminal() {
        return Err(CommandError::usage(
            "heph run --shell needs a terminal, and standard input is none",
        ));
    }
    let connector = Connector::new(context)?;
    loop {
        let runtime = service::runtime()?;
        let connecting = connector.connect_for_run(context, &mut workspace, args.jobs.unwrap_or(0));
        let connection = runtime.block_on(connecting)?;
        let mut session = Session::new(
            context,
            &args,
            workspace,
            selected.clone(),
            (connector, connection),
        );
        let end = runtime.block_on(session.rounds());
        // A question at the terminal may still wait for its answer; nobody waits for it.
        runtime.shutdown_background();
        match end? {
            End::Exit(exit) => return Ok(exit),
            End::Reconfigured => workspace = Workspace::open(context)?,
        }
    }
}

/// What a bare `heph run` does: it shows what there is to run here.
fn list_package(context: &Context, workspace: &Workspace) -> Result<Exit> {
    let package = format!("//{}", workspace.package);
    let what = heph_proto::InspectQuery {
        query: package.clone(),
        selector: package.clone(),
        since: String::new(),
    };
    let document = service::inspect(context, workspace, heph_proto::inspect_request::What::Query(what))?;
    let addresses = crate::views::list_of(&document["targets"]);
    if addresses.is_empty() && !context.global.json {
        context.note(&format!(
            "{package} has no targets; heph run //... builds everything\n"
        ));
    } else {
        context.note(&format!("targets of {package}:\n"));
    }
    context.show(&document, |_| {
        addresses
            .iter()
            .map(|address| format!("{}\n", crate::views::text_of(address)))
            .collect()
    })?;
    Ok(Exit::Success)
}
