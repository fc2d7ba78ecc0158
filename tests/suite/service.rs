//! `heph daemon install`: the units are right, and a socket that systemd holds starts the daemon.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use heph_tests::{Environment, wait_until};
use serde_json::Value;

/// An environment with a runtime directory, and with a `systemctl` that writes down how it is called: there is no user manager
/// where tests run.
fn environment() -> Environment {
    let mut environment = Environment::new();
    let runtime = environment.beside("runtime");
    std::fs::create_dir(&runtime).unwrap();
    let calls = environment.beside("calls");
    let program = environment.write_outside(
        "manager/systemctl",
        &format!("#!/bin/sh\necho \"$@\" >> {}\n", calls.display()),
    );
    environment.prepend_path(program.parent().unwrap().to_owned());
    environment.set("XDG_RUNTIME_DIR", runtime.to_str().unwrap());
    environment
}

fn units(environment: &Environment) -> [PathBuf; 2] {
    ["heph.service", "heph.socket"]
        .map(|name| environment.user_home().join(".config/systemd/user").join(name))
}

fn calls(environment: &Environment) -> String {
    let calls = std::fs::read_to_string(environment.beside("calls")).unwrap_or_default();
    let _ = std::fs::remove_file(environment.beside("calls"));
    calls
}

/// The value of a key of a unit.
fn value(unit: &std::path::Path, key: &str) -> String {
    let text = std::fs::read_to_string(unit).unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(&format!("{key}=")));
    line.unwrap().to_owned()
}

#[test]
fn units_are_written_enabled_and_removed_any_number_of_times() {
    if cfg!(target_os = "macos") {
        return;
    }
    let environment = environment();
    for _ in 0..2 {
        environment.heph(["daemon", "install"]).run().success();
        assert_eq!(
            calls(&environment),
            "--user daemon-reload\n--user enable heph.socket\n--user restart heph.socket\n"
        );
        assert!(units(&environment).iter().all(|unit| unit.exists()));
    }
    let [service, socket] = units(&environment);
    assert!(value(&service, "ExecStart").ends_with(" daemon run"));
    assert_eq!(
        value(&service, "Environment"),
        format!("\"HEPH_HOME={}\"", environment.home().display())
    );
    let runtime = environment.beside("runtime/heph");
    assert!(value(&socket, "ListenStream").starts_with(runtime.to_str().unwrap()));

    environment.heph(["daemon", "uninstall"]).run().success();
    assert_eq!(
        calls(&environment),
        "--user disable --now heph.socket heph.service\n--user daemon-reload\n"
    );
    assert!(!units(&environment).iter().any(|unit| unit.exists()));
    environment.heph(["daemon", "uninstall"]).run().success();
    assert_eq!(calls(&environment), "");
}

#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    let test = "systemd_finds_nothing_wrong_with_the_units";
    let Ok(version) = Command::new("systemd-analyze").arg("--version").output() else {
        eprintln!("SKIPPED: {test}: systemd-analyze");
        return;
    };
    assert!(version.status.success());
    let environment = environment();
    environment.heph(["daemon", "install"]).run().success();
    let output = Command::new("systemd-analyze")
        .args(["verify", "--user", "--man=no"])
        .args(units(&environment))
        .env("XDG_RUNTIME_DIR", environment.beside("runtime"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
}

#[test]
fn a_socket_that_was_handed_over_starts_the_daemon() {
    let test = "a_socket_that_was_handed_over_starts_the_daemon";
    if Command::new("systemd-socket-activate")
        .arg("--version")
        .output()
        .is_err()
    {
        eprintln!("SKIPPED: {test}: systemd-socket-activate");
        return;
    }
    let environment = environment();
    environment.write(
        "BUILD",
        "target(name = \"t\", driver = \"textfile\", text = \"t\", out = \"t\")",
    );
    environment.heph(["daemon", "install"]).run().success();
    let [_, socket] = units(&environment);
    let socket = value(&socket, "ListenStream");
    let program = heph_tests::heph_program();
    let mut manager = Command::new("systemd-socket-activate");
    manager.args(["-l", &socket]);
    for (name, value) in environment.variables() {
        manager.args(["-E", &format!("{name}={value}")]);
    }
    let mut manager = manager
        .arg(program)
        .args(["daemon", "run"])
        .current_dir(environment.root())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_until("the socket is there", || std::path::Path::new(&socket).exists());
    let call = |arguments: &[&str]| {
        let run = environment.heph(arguments).with("HEPH_DAEMON", "require").run();
        run.success();
        run
    };
    call(&["run", "//..."]);
    let status: Value = serde_json::from_slice(&call(&["daemon", "status", "--json"]).stdout).unwrap();
    let daemon = &status["daemons"][0];
    assert_eq!(daemon["socket"], socket);
    // systemd-socket-activate becomes the daemon.
    assert_eq!(daemon["pid"], manager.id());
    call(&["daemon", "stop"]);
    manager.wait().unwrap();
    assert!(
        std::path::Path::new(&socket).exists(),
        "the socket is the manager's"
    );
}
