use super::*;

#[test]
fn rustup_selects_by_variable_override_file_and_default() {
    let machine = Machine::new();
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    machine.program("home/.cargo/bin/rustup", "rustup itself");
    machine.link("home/.cargo/bin/cargo-x", "rustup");
    let toolchain = |name: &str| {
        machine.program(
            &format!("home/.rustup/toolchains/{name}/bin/cargo-x"),
            format!("cargo-x of {name}"),
        )
    };
    let stable = toolchain(&format!("stable-{triple}"));
    let pinned = toolchain(&format!("1.80.0-{triple}"));
    let own = toolchain("own");
    machine.write(
        "home/.rustup/settings.toml",
        "default_toolchain = \"stable\"\n\n[overrides]\n",
    );

    let path = ["home/.cargo/bin"];
    let finder = machine.finder(&path);
    let first = settled(&finder, "cargo-x");
    assert_eq!(first.path, stable);
    assert_eq!(first.visible, [stable.parent().unwrap().parent().unwrap()]);

    // Above the workspace, then in it, then both forms of the file.
    machine.write(
        "home/rust-toolchain.toml",
        "[toolchain]\nchannel = \"1.80.0\" # pinned\n",
    );
    let second = finder.find("cargo-x", Some(&first)).unwrap();
    assert_eq!(second.path, pinned);
    assert_ne!(second.digest, first.digest);
    let second = settled(&finder, "cargo-x");
    machine.write("home/workspace/rust-toolchain", "own\n");
    assert_eq!(finder.find("cargo-x", Some(&second)).unwrap().path, own);

    let workspace = machine.path("home/workspace");
    let overrides = format!("[overrides]\n\"{}\" = \"stable-{triple}\"\n", workspace.display());
    machine.write("home/.rustup/settings.toml", overrides);
    assert_eq!(finder.find("cargo-x", None).unwrap().path, stable);

    let chosen = machine.finder_with(&path, &[("RUSTUP_TOOLCHAIN", "1.80.0")]);
    assert_eq!(chosen.find("cargo-x", Some(&first)).unwrap().path, pinned);

    let missing = machine.finder_with(&path, &[("RUSTUP_TOOLCHAIN", "1.2.3")]);
    insta::assert_snapshot!(message(missing.find("cargo-x", None).unwrap_err()), @"cannot tell which 'cargo-x' is meant: the toolchain 1.2.3 that rustup selects is not installed; rustup toolchain install 1.2.3");
    machine.link("home/.cargo/bin/cargo-y", "rustup");
    insta::assert_snapshot!(message(chosen.find("cargo-y", None).unwrap_err()), @"cannot tell which 'cargo-y' is meant: the toolchain 1.80.0 that rustup selects has no cargo-y; rustup component add cargo-y --toolchain 1.80.0");
    assert_eq!(
        finder.find("rustup", None).unwrap().path,
        machine.path("home/.cargo/bin/rustup")
    );
}

#[test]
fn hard_links_of_rustup_are_known() {
    let machine = Machine::new();
    let rustup = machine.program("cargo/bin/rustup", "rustup itself");
    fs::hard_link(&rustup, machine.path("cargo/bin/rustc-x")).unwrap();
    machine.program("cargo/bin/ripgrep", "another one");
    let real = machine.program("up/toolchains/nightly/bin/rustc-x", "real");
    machine.write("up/settings.toml", "default_toolchain = 'nightly'\n");
    let home = machine.path("up");
    let finder = machine.finder_with(&["cargo/bin"], &[("RUSTUP_HOME", home.to_str().unwrap())]);
    assert_eq!(finder.find("rustc-x", None).unwrap().path, real);
    assert_eq!(
        finder.find("ripgrep", None).unwrap().path,
        machine.path("cargo/bin/ripgrep")
    );
}

fn pyenv(machine: &Machine, name: &str) {
    let root = machine.path("pyenv");
    let shim = format!(
        "#!/usr/bin/env bash\nset -e\nprogram=\"${{0##*/}}\"\nexport PYENV_ROOT=\"{0}\"\n\
         exec \"{0}/libexec/pyenv\" exec \"$program\" \"$@\"\n",
        root.display()
    );
    machine.program(&format!("pyenv/shims/{name}"), shim);
}

#[test]
fn pyenv_selects_by_variable_file_and_global_version() {
    let machine = Machine::new();
    pyenv(&machine, "snake");
    let version = |name: &str| {
        machine.program(
            &format!("pyenv/versions/{name}/bin/snake"),
            format!("snake of {name}"),
        )
    };
    let (old, older, new) = (version("3.9.18"), version("3.9.2"), version("3.12.1"));
    let system = machine.program("system/snake", "the system's");
    let path = ["pyenv/shims", "system"];
    let finder = machine.finder(&path);
    let first = settled(&finder, "snake");
    assert_eq!(first.path, system);

    machine.write("pyenv/version", "3.12.1\n");
    let second = finder.find("snake", Some(&first)).unwrap();
    assert_eq!(second.path, new);
    let second = settled(&finder, "snake");
    machine.write("home/workspace/.python-version", "# ours\n3.9\n");
    assert_eq!(finder.find("snake", Some(&second)).unwrap().path, old);

    let chosen = |version: &str| machine.finder_with(&path, &[("PYENV_VERSION", version)]);
    assert_eq!(chosen("3.9.2").find("snake", None).unwrap().path, older);
    assert_eq!(chosen("python-3.9.2").find("snake", None).unwrap().path, older);
    assert_eq!(chosen("system").find("snake", None).unwrap().path, system);
    insta::assert_snapshot!(message(chosen("2.7").find("snake", None).unwrap_err()), @"cannot tell which 'snake' is meant: the version 2.7 that pyenv selects is not installed; pyenv install 2.7");
    pyenv(&machine, "pip");
    insta::assert_snapshot!(message(chosen("3.9.2").find("pip", None).unwrap_err()), @"cannot tell which 'pip' is meant: pyenv selects 3.9.2, which has no pip; select another version with PYENV_VERSION or .python-version");
}

#[test]
fn links_in_front_of_compilers_are_passed_over() {
    let machine = Machine::new();
    let real = machine.program("real/tool", "version 1");
    for stand_in in ["ccache", "hephc"] {
        machine.program(&format!("{stand_in}/{stand_in}"), "a stand-in");
        machine.link(&format!("{stand_in}/tool"), stand_in);
    }
    let finder = machine.finder(&["hephc", "ccache", "real"]);
    let first = settled(&finder, "tool");
    assert_eq!(first.path, real);
    assert_eq!(
        first.digest,
        machine.finder(&["real"]).find("tool", None).unwrap().digest
    );
    assert_eq!(
        finder.find("ccache", None).unwrap().path,
        machine.path("ccache/ccache")
    );

    // Someone puts a compiler of their own in the place of the link.
    fs::remove_file(machine.path("ccache/tool")).unwrap();
    let own = machine.program("ccache/tool", "own");
    assert_eq!(finder.find("tool", Some(&first)).unwrap().path, own);
}

#[test]
fn stand_ins_whose_choice_is_not_known_are_refused() {
    let machine = Machine::new();
    machine.program("mise/bin/mise", "mise");
    machine.link("mise/shims/tool", "../bin/mise");
    machine.program(
        "jenv/shims/tool",
        "#!/bin/sh\nexec \"/opt/jenv/libexec/jenv\" exec \"$program\" \"$@\"\n",
    );
    let error = |path: &str| {
        let error = message(machine.finder(&[path]).find("tool", None).unwrap_err());
        error.replace(machine.directory.path().to_str().unwrap(), "")
    };
    insta::assert_snapshot!(error("mise/shims"), @"cannot tell which 'tool' is meant: /mise/shims/tool is a stand-in of mise, and what it would start is not known; put the directory of the real tool in front of PATH");
    insta::assert_snapshot!(error("jenv/shims"), @"cannot tell which 'tool' is meant: /jenv/shims/tool is a stand-in of jenv, and what it would start is not known; put the directory of the real tool in front of PATH");
}

#[test]
fn a_proxy_that_leads_to_itself_is_an_error() {
    let machine = Machine::new();
    machine.program("bin/rustup", "rustup itself");
    machine.link("bin/tool", "rustup");
    machine.link("home/.rustup/toolchains/own/bin/tool", machine.path("bin/tool"));
    let finder = machine.finder_with(&["bin"], &[("RUSTUP_TOOLCHAIN", "own")]);
    assert!(matches!(finder.find("tool", None), Err(ToolError::Loop { .. })));
}
