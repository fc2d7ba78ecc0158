//! docs/cli.md, written from the definitions of the command line.

use std::fmt::Write as _;

use clap::builder::StyledStr;
use heph_common::Exit;

const HEAD: &str = "\
# Command line

<!-- Written by `cargo run -p heph-client --example reference > docs/cli.md`; a test keeps it current. -->

What `--json` prints is described in [json.md](json.md).
";

const TAIL: &str = "
## Environment

| variable | meaning |
|---|---|
| `HEPH_HOME` | where heph keeps its home, instead of `homeDir` or `~/.heph` |
| `HEPH_PROFILES` | names of profiles, separated by commas, that are merged over `.hephconfig` |
| `HEPH_DAEMON` | `auto`: with the daemon, started where there is none, else without and a warning; `require`: not without; `off`: not with. Unset: `auto`, but `off` where `CI` is set and not `false`, and in the sandbox of a target |
| `HEPH_LOG` | log level (`debug`) or filters (`heph_engine=debug,warn`) |
| `HEPH_NO_SELF_UPDATE` | set: goes on with this release where `version:` asks for another one |
| `XDG_CONFIG_HOME` | the user's own layer is `heph/hephconfig` in it; `~/.config` when unset |
| `NO_COLOR` | set: no colours, unless `--color always` asks for them |
| `HEPH_TARGET` | set by heph in the sandbox of a target: its address; `heph run` refuses to run there |

No usage data is sent by this release, whatever `telemetry` says.

## While it runs

On a terminal, a region at the bottom shows what runs and for how long; it ends as one line. Elsewhere, and with
`--no-tui`, there are plain lines. Progress goes to standard error; standard output has only what was asked for. Ctrl-C stops
the commands and ends with code 130; a second one leaves at once.
";

/// The whole page, in Markdown.
pub fn page() -> String {
    let mut command = crate::cli::command();
    command.build();
    let mut page = String::from(HEAD);
    // Writing to a String cannot fail.
    let _ = writeln!(page, "\n## Exit codes\n\n| code | meaning |\n|---|---|");
    for exit in Exit::ALL.iter().filter(|exit| **exit != Exit::ExecFault) {
        let _ = writeln!(page, "| {} | {} |", exit.code(), exit.meaning());
    }
    let _ = writeln!(page, "\n## Options of every command\n");
    for argument in command
        .get_arguments()
        .filter(|argument| argument.get_id() != "help")
    {
        option(&mut page, argument);
    }
    for subcommand in command.get_subcommands() {
        section(&mut page, subcommand, "heph");
    }
    page.push_str(TAIL);
    page
}

fn section(page: &mut String, command: &clap::Command, parent: &str) {
    if command.is_hide_set() {
        return;
    }
    let name = format!("{parent} {}", command.get_name());
    let _ = writeln!(page, "\n## {name}\n");
    let about = command
        .get_long_about()
        .or(command.get_about())
        .map(StyledStr::to_string)
        .unwrap_or_default();
    if !about.is_empty() {
        let _ = writeln!(page, "{}\n", about.trim());
    }
    let aliases: Vec<String> = command
        .get_visible_aliases()
        .map(|alias| format!("`{parent} {alias}`"))
        .collect();
    if !aliases.is_empty() {
        let _ = writeln!(page, "Short: {}\n", aliases.join(", "));
    }
    let visible: Vec<&clap::Command> = command
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
        .collect();
    if visible.is_empty() {
        let usage = command.clone().bin_name(&name).render_usage().to_string();
        let usage = usage.trim_start_matches("Usage:").trim();
        let _ = writeln!(page, "```\n{usage}\n```\n");
        let own = command
            .get_arguments()
            .filter(|argument| !argument.is_global_set() && !argument.is_hide_set());
        for argument in own.filter(|argument| argument.get_id() != "help") {
            option(page, argument);
        }
        if let Some(after) = command.get_after_help() {
            let _ = writeln!(page, "\n```\n{}\n```", after.to_string().trim_end());
        }
    }
    for subcommand in visible {
        section(page, subcommand, &name);
    }
}

fn option(page: &mut String, argument: &clap::Arg) {
    let values: Vec<&str> = argument
        .get_value_names()
        .into_iter()
        .flatten()
        .map(|name| name.as_str())
        .collect();
    let value = match argument.get_action().takes_values() {
        true => values.first().copied().unwrap_or("VALUE"),
        false => "",
    };
    let mut names = Vec::new();
    if let Some(short) = argument.get_short() {
        names.push(format!("-{short}"));
    }
    if let Some(long) = argument.get_long() {
        names.push(format!("--{long}"));
    }
    let shown = match (names.is_empty(), value) {
        (true, value) => format!("`{value}`"),
        (false, "") => format!("`{}`", names.join("`, `")),
        (false, value) => format!("`{} {value}`", names.join("`, `")),
    };
    let help = argument.get_help().map(StyledStr::to_string).unwrap_or_default();
    let mut line = format!("- {shown}: {}", help.trim_end());
    let choices: Vec<String> = argument
        .get_possible_values()
        .iter()
        .filter(|choice| !choice.is_hide_set())
        .map(|choice| format!("`{}`", choice.get_name()))
        .collect();
    if !choices.is_empty() && argument.get_action().takes_values() {
        let _ = write!(line, " ({})", choices.join(", "));
    }
    let default: Vec<String> = argument
        .get_default_values()
        .iter()
        .map(|d| d.to_string_lossy().into_owned())
        .collect();
    if !default.is_empty() && argument.get_action().takes_values() {
        let _ = write!(line, "; default `{}`", default.join(" "));
    }
    let _ = writeln!(page, "{line}");
}
