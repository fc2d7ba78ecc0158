//! `heph daemon install` and `uninstall`: the service manager of the user starts the daemon.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use heph_common::Exit;
use heph_daemon::Endpoint;
use serde_json::json;

use crate::connector::build;
use crate::context::Context;
use crate::error::{CommandError, Result};
use crate::render::json::VERSION;
use crate::workspace::Workspace;

/// systemd's units, in the order in which they are written.
const UNITS: [(&str, &str); 2] = [
    ("heph.service", include_str!("../../../../service/heph.service")),
    ("heph.socket", include_str!("../../../../service/heph.socket")),
];

/// The agent of launchd.
const AGENT: (&str, &str) = (
    "dev.heph.daemon.plist",
    include_str!("../../../../service/dev.heph.daemon.plist"),
);

/// Writes, enables and starts what has the daemon started when it is needed. Again, it brings that up to date.
pub(super) fn install(context: &Context, workspace: &Workspace) -> Result<Exit> {
    if workspace.has_temporary_home() {
        return Err(CommandError::fault(
            "failed to install a daemon for a home that cannot be written",
        ));
    }
    let program = std::env::current_exe()
        .map_err(|error| CommandError::fault(format!("failed to find this program: {error}")))?;
    let (program, home) = (text(&program)?, text(&workspace.home)?);
    let directory = directory(context)?;
    // One that is there would keep the place, and take its address away when it ends.
    super::stop::end(context, workspace)?;
    if cfg!(target_os = "macos") {
        let (name, template) = AGENT;
        let filled = template
            .replace("@program@", &xml(program))
            .replace("@home@", &xml(home));
        write(&directory.join(name), &filled)?;
        let path = directory.join(name);
        // It is not there the first time.
        let _ = call("launchctl", &["unload", text(&path)?]);
        call("launchctl", &["load", "-w", text(&path)?])?;
    } else {
        let endpoint = Endpoint::new(&workspace.home, &build().name);
        let socket = socket(context, &endpoint)?;
        for (name, template) in UNITS {
            let filled = template
                .replace("@program@", &quoted(program).replace('$', "$$"))
                .replace("@environment@", &quoted(&format!("HEPH_HOME={home}")))
                .replace("@socket@", &text(&socket)?.replace('%', "%%"));
            write(&directory.join(name), &filled)?;
        }
        call("systemctl", &["--user", "daemon-reload"])?;
        call("systemctl", &["--user", "enable", "heph.socket"])?;
        call("systemctl", &["--user", "restart", "heph.socket"])?;
        endpoint.publish(&socket).map_err(|error| {
            CommandError::fault(format!("failed to say where the daemon is: {error}")).hint(error.hint())
        })?;
    }
    show(context, workspace, &directory, true)
}

/// Takes back what `install` did; nothing when that was not done.
pub(super) fn uninstall(context: &Context, workspace: &Workspace) -> Result<Exit> {
    let directory = directory(context)?;
    let names: Vec<&str> = match cfg!(target_os = "macos") {
        true => vec![AGENT.0],
        false => UNITS.iter().map(|(name, _)| *name).collect(),
    };
    let is_installed = names.iter().any(|name| directory.join(name).exists());
    if is_installed {
        match cfg!(target_os = "macos") {
            true => call("launchctl", &["unload", "-w", text(&directory.join(AGENT.0))?])?,
            false => call(
                "systemctl",
                &["--user", "disable", "--now", "heph.socket", "heph.service"],
            )?,
        }
        for name in names {
            let path = directory.join(name);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(failed("remove", &path, &error));
                }
                _ => {}
            }
        }
        if !cfg!(target_os = "macos") {
            call("systemctl", &["--user", "daemon-reload"])?;
        }
        Endpoint::new(&workspace.home, &build().name).withdraw();
    }
    show(context, workspace, &directory, false)
}

fn show(context: &Context, workspace: &Workspace, directory: &Path, is_installed: bool) -> Result<Exit> {
    let document = json!({
        "version": VERSION, "home": workspace.home, "directory": directory, "installed": is_installed,
    });
    context.show(&document, |_| match is_installed {
        true => format!(
            "the daemon of {} is started when it is needed; its units are in {}\n",
            workspace.home.display(),
            directory.display()
        ),
        false => "the daemon is not installed as a service (any more)\n".to_owned(),
    })?;
    Ok(Exit::Success)
}

/// Where the service manager looks for what belongs to the user.
fn directory(context: &Context) -> Result<PathBuf> {
    let home = || {
        context.variable("HOME").map(PathBuf::from).ok_or_else(|| {
            CommandError::usage("failed to find the directory for services: HOME is not set")
                .hint("set HOME to your home directory")
        })
    };
    if cfg!(target_os = "macos") {
        return Ok(home()?.join("Library/LaunchAgents"));
    }
    let configuration = match context.variable("XDG_CONFIG_HOME").map(PathBuf::from) {
        Some(path) if path.is_absolute() => path,
        _ => home()?.join(".config"),
    };
    Ok(configuration.join("systemd/user"))
}

fn socket(context: &Context, endpoint: &Endpoint) -> Result<PathBuf> {
    endpoint
        .create()
        .and_then(|()| endpoint.socket(&super::places(context)))
        .map_err(|error| {
            CommandError::fault(format!("failed to find a place for the socket: {error}")).hint(error.hint())
        })
}

fn write(path: &Path, text: &str) -> Result<()> {
    let directory = path.parent().unwrap_or(path);
    fs::create_dir_all(directory)
        .and_then(|()| fs::write(path, text))
        .map_err(|error| failed("write", path, &error))
}

/// Has the service manager do something; what it says goes to the user when it fails.
fn call(program: &str, arguments: &[&str]) -> Result<()> {
    let said = format!("{program} {}", arguments.join(" "));
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| {
            CommandError::fault(format!("failed to run {said}: {error}"))
                .hint("without a service manager heph starts its daemon by itself when it is needed")
        })?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(CommandError::fault(format!("{said} failed: {words}"))
        .hint("without a service manager heph starts its daemon by itself when it is needed"))
}

fn failed(action: &str, path: &Path, error: &std::io::Error) -> CommandError {
    CommandError::fault(format!("failed to {action} {}: {error}", path.display()))
}

fn text(path: &Path) -> Result<&str> {
    path.to_str()
        .ok_or_else(|| CommandError::usage(format!("{} is not UTF-8, which a service needs", path.display())))
}

/// A word of a unit file, as systemd.syntax(7) has it.
fn quoted(word: &str) -> String {
    let mut quoted = String::from("\"");
    for letter in word.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            '%' => quoted.push_str("%%"),
            '\n' => quoted.push_str("\\n"),
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

fn xml(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_units_are_quoted() {
        assert_eq!(quoted("/home/me/bin/heph"), "\"/home/me/bin/heph\"");
        assert_eq!(quoted("100% \"$HOME\"\\"), "\"100%% \\\"$HOME\\\"\\\\\"");
        assert_eq!(xml("a<b&c"), "a&lt;b&amp;c");
    }
}
