//! Completion scripts, and what they ask.

use std::process::Command;

use crate::surroundings::Surroundings;

#[test]
fn commands_options_and_values_are_completed() {
    let here = Surroundings::new();
    let complete = |index: &str, words: &[&str]| {
        let mut arguments = vec!["__complete", index, "--"];
        arguments.extend(words);
        here.heph(&arguments)
    };
    insta::assert_snapshot!(complete("1", &["heph", "wh"]), @"
    exit 0
    --- out
    why-miss	Says why a target would run
    ");
    insta::assert_snapshot!(complete("3", &["heph", "tool", "completions", ""]), @"
    exit 0
    --- out
    bash
    zsh
    fish
    ");
    insta::assert_snapshot!(complete("2", &["heph", "run", "--fai"]), @"
    exit 0
    --- out
    --fail-fast	Stops at the first failure
    ");
    // Without a workspace there are no addresses, and no error either.
    insta::assert_snapshot!(complete("2", &["heph", "run", "//"]), @"exit 0");
}

#[test]
fn bash_gets_what_follows_its_word_breaks() {
    let here = Surroundings::new();
    let script = here
        .command(&["tool", "completions", "bash"])
        .output()
        .unwrap()
        .stdout;
    // A program that has one address for whatever is asked.
    let fake = "fake() { printf '//a/b:name\\tsome target\\n//a/b/\\n'; }\n";
    let asked = "COMP_LINE='fake run //a/b:na'; COMP_POINT=${#COMP_LINE}; compopt() { :; }; _heph; printf '%s\\n' \"${COMPREPLY[@]}\"";
    let text = format!("{fake}{}\n{asked}\n", String::from_utf8(script).unwrap());
    let output = Command::new("bash")
        .args(["--noprofile", "--norc", "-c", &text])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    insta::assert_snapshot!(String::from_utf8(output.stdout).unwrap(), @"
    name
    //a/b/
    ");
}

#[test]
fn the_scripts_are_what_their_shells_can_read() {
    let here = Surroundings::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = here
            .command(&["tool", "completions", shell])
            .output()
            .unwrap()
            .stdout;
        let path = here.top().join(shell);
        std::fs::write(&path, script).unwrap();
        // Shells that are not here cannot be asked.
        if let Ok(output) = Command::new(shell).arg("-n").arg(&path).output() {
            assert!(
                output.status.success(),
                "{}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
    }
}
