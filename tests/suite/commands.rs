//! The commands that look: each says what its line in the documentation says, for people and as JSON.

use heph_tests::{Environment, Mode};
use serde_json::json;

fn workspace() -> Environment {
    let env = Environment::new();
    env.write("lib/lib.txt", "l\n");
    env.write(
        "lib/BUILD",
        "provider_state('go', race=True)\n\
         target(name='lib', driver='sh', labels=['core'], description='the library', deps=file('lib.txt'), run='cp $SRC $OUT', out='lib.out')\n",
    );
    env.write(
        "app/BUILD",
        "target(name='app', driver='bash', labels=['core', 'bin'], deps={'lib': '//lib:lib'}, tools='//@heph/bin:git', env={'A': 'b'},\n\
         \x20   run='cat $SRC_LIB > $OUT', out='app.out')\n\
         target(name='test', driver='sh', labels='test', deps=':app', run='true')\n",
    );
    env
}

fn json_of(env: &Environment, arguments: &[&str]) -> serde_json::Value {
    let document = env.heph([arguments, &["--json"]].concat()).run().success().json();
    assert_eq!(document["version"], 1, "{document}");
    document
}

fn text_of(env: &Environment, arguments: &[&str]) -> String {
    env.heph(arguments).run().success().report()
}

#[test]
fn query_prints_addresses() {
    let env = workspace();
    assert_eq!(
        json_of(&env, &["query", "//..."])["targets"],
        json!(["//app:app", "//app:test", "//lib:lib"])
    );
    assert_eq!(
        env.heph(["q", "//app:app"]).run().success().lines(),
        ["//app:app"]
    );
    env.heph(["query", "//nowhere/..."]).run().success();
}

#[test]
fn inspect_packages_and_labels() {
    let env = workspace();
    let packages = json_of(&env, &["inspect", "packages"]);
    assert_eq!(
        packages["packages"][0],
        json!({"package": "app", "files": ["app/BUILD"], "targets": 2})
    );
    assert_eq!(
        json_of(&env, &["i", "labels"])["labels"],
        json!([{"label": "bin", "targets": 1}, {"label": "core", "targets": 2}, {"label": "test", "targets": 1}])
    );
    insta::assert_snapshot!(text_of(&env, &["inspect", "packages"]), @r#"
        exit 0
        --- stdout
        //app  2 targets
        //lib  1 target
    "#);
    insta::assert_snapshot!(text_of(&env, &["inspect", "labels"]), @r#"
        exit 0
        --- stdout
        bin   1 target
        core  2 targets
        test  1 target
    "#);
}

#[test]
fn inspect_spec_and_def() {
    let env = workspace();
    let spec = &json_of(&env, &["inspect", "spec", "//lib:lib"])["targets"][0];
    assert_eq!(spec["driver"], "sh");
    assert_eq!(spec["place"], "lib/BUILD:2:1");
    assert_eq!(spec["description"], "the library");
    assert_eq!(spec["config"]["out"], "lib.out");
    let def = &json_of(&env, &["inspect", "def", "//app:app"])["targets"][0];
    assert_eq!(def["action"], "command");
    assert_eq!(def["command"]["env"], json!({"A": "b"}));
    assert_eq!(
        def["outputs"],
        json!([{"group": "", "path": "app/app.out", "kind": "file", "support": false}])
    );
    insta::assert_snapshot!(text_of(&env, &["inspect", "spec", "//lib:lib"]), @r#"
        exit 0
        --- stdout
        # lib/BUILD:2:1
        target(  # in //lib
            name = "lib",
            driver = "sh",
            deps = "//@heph/fs:file@f=lib/lib.txt",
            out = "lib.out",
            run = "cp $SRC $OUT",
            labels = ["core"],
            description = "the library",
        )
    "#);
    insta::assert_snapshot!(text_of(&env, &["inspect", "def", "//app:app"]), @r#"
        exit 0
        --- stdout
        //app:app
          driver          bash
          place           app/BUILD:1:1
          labels          bin, core
          dependencies    source   //lib:lib (lib)
                          tool     //@heph/bin:git
          outputs         app/app.out
          command         bash --noprofile --norc -euo pipefail -c 'cat $SRC_LIB > $OUT'
          env             A=b
    "#);
}

#[test]
fn inspect_deps_revdeps_path_and_graph() {
    let env = workspace();
    let deps = &json_of(&env, &["inspect", "deps", "//app:app"])["targets"][0]["dependencies"];
    assert_eq!(
        deps[0],
        json!({"role": "source", "group": "lib", "address": "//lib:lib"})
    );
    let revdeps = &json_of(&env, &["inspect", "revdeps", "//lib:lib"])["targets"][0]["dependants"];
    assert_eq!(revdeps[0]["address"], "//app:app");
    let path = json_of(&env, &["inspect", "path", "//app:test", "//lib:lib"]);
    assert_eq!(path["path"], json!(["//app:test", "//app:app", "//lib:lib"]));
    env.heph(["inspect", "path", "//lib:lib", "//app:test"])
        .run()
        .exits(1);
    let graph = json_of(&env, &["inspect", "graph", "//app:test"]);
    assert!(
        graph["edges"]
            .as_array()
            .unwrap()
            .iter()
            .any(|edge| edge["from"] == "//app:app" && edge["to"] == "//lib:lib")
    );
    env.heph(["inspect", "graph", "//app:test"])
        .run()
        .success()
        .says("digraph")
        .says("\"//app:test\" -> \"//app:app\"");
    insta::assert_snapshot!(text_of(&env, &["inspect", "deps", "//app:app"]), @r#"
        exit 0
        --- stdout
        //app:app
          //lib:lib  (lib)
          //@heph/bin:git  (tool)
    "#);
    insta::assert_snapshot!(text_of(&env, &["inspect", "revdeps", "//lib:lib"]), @r#"
        exit 0
        --- stdout
        //lib:lib
          //app:app  (lib)
    "#);
    insta::assert_snapshot!(text_of(&env, &["inspect", "path", "//app:test", "//lib:lib"]), @r#"
        exit 0
        --- stdout
        //app:test
        //app:app
        //lib:lib
    "#);
}

#[test]
fn inspect_hashes_and_outputs() {
    let env = workspace();
    let before = &json_of(&env, &["inspect", "hashin", "//app:app"])["targets"][0];
    assert!(before["key"].is_null(), "{before}");
    assert_eq!(before["missing"], json!(["//lib:lib"]));
    assert!(json_of(&env, &["inspect", "hashout", "//app:app"])["targets"][0]["digest"].is_null());
    let declared = &json_of(&env, &["inspect", "outputs", "//app:app"])["targets"][0];
    assert_eq!(declared["built"], false);
    let build = env.build("//app:app");
    let after = &json_of(&env, &["inspect", "hashin", "//app:app"])["targets"][0];
    assert_eq!(after["key"], build.target("//app:app")["key"]);
    assert!(
        after["parts"]
            .as_array()
            .unwrap()
            .iter()
            .any(|part| part["label"].as_str().unwrap().contains("lib/lib.out")),
        "{after}"
    );
    let outputs = &json_of(&env, &["inspect", "outputs", "//app:app"])["targets"][0];
    assert_eq!(outputs["outputs"][0]["path"], "app/app.out");
    assert_eq!(outputs["outputs"][0]["size"], 2);
    assert_eq!(
        json_of(&env, &["inspect", "hashout", "//app:app"])["targets"][0]["digest"]
            .as_str()
            .unwrap()
            .len(),
        64
    );
}

#[test]
fn inspect_states_functions_and_config() {
    let env = workspace();
    let states = &json_of(&env, &["inspect", "states", "//lib:lib"])["targets"][0]["states"];
    assert_eq!(
        states[0],
        json!({"provider": "go", "package": "lib", "place": "lib/BUILD:1:1", "values": {"race": true}})
    );
    let functions = json_of(&env, &["inspect", "functions"]);
    let names: Vec<_> = functions["functions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|of| of["name"].as_str().unwrap().to_owned())
        .collect();
    for name in [
        "target",
        "glob",
        "file",
        "query",
        "provider_state",
        "get_pkg",
        "heph.fs.glob",
        "heph.core.pkg",
    ] {
        assert!(
            names.iter().any(|known| known == name),
            "{name} is not in {names:?}"
        );
    }
    let config = json_of(&env, &["inspect", "config"]);
    assert_eq!(config["root"], env.root().to_str().unwrap());
    env.heph(["inspect", "config"]).run().success().says("buildfile");
}

#[test]
fn why_miss_names_the_file_the_variable_and_the_command() {
    let env = workspace();
    let status = || json_of(&env, &["why-miss", "//lib:lib"]);
    assert_eq!(status()["status"], "new");
    insta::assert_snapshot!(text_of(&env, &["why-miss", "//lib:lib"]), @r#"
        exit 0
        --- stdout
        //lib:lib would run: it has no earlier result here
    "#);
    env.build("//...");
    assert_eq!(status()["status"], "hit");
    insta::assert_snapshot!(text_of(&env, &["why-miss", "//lib:lib"]), @r#"
        exit 0
        --- stdout
        //lib:lib would not run: there is a result for its key <digest>
          last executed <time> ago in run <digest> of //..., since there was no earlier result
    "#);
    env.write("lib/lib.txt", "changed\n");
    let differs = status();
    assert_eq!(differs["status"], "differs");
    let label = differs["differences"][0]["label"].as_str().unwrap();
    assert!(label.contains("lib/lib.txt"), "{differs}");
    insta::assert_snapshot!(text_of(&env, &["why-miss", "//lib:lib"]), @r#"
        exit 0
        --- stdout
        //lib:lib would run: its key differs from the one made <time> ago
          changed  input lib/lib.txt (<digest> -> <digest>)
          last executed <time> ago in run <digest> of //..., since there was no earlier result
    "#);
    env.write("lib/lib.txt", "l\n");
    env.write(
        "app/BUILD",
        env.read("app/BUILD")
            .replace("'A': 'b'", "'A': 'c'")
            .replace("cat $SRC_LIB", "cat  $SRC_LIB"),
    );
    let differs = json_of(&env, &["why-miss", "//app:app"]);
    let labels = differs["differences"].to_string();
    assert!(labels.contains("env A") && labels.contains("run"), "{labels}");
}

#[test]
fn validate_finds_all_problems_with_their_places() {
    let env = workspace();
    env.heph(["validate"]).run().success();
    env.write("bad/BUILD", "target(name='a', driver='sh', dep=':b', run='true')\ntarget(name='b', driver='sh', deps='//nowhere:x', run='true')\n");
    let run = env.heph(["validate"]).run();
    run.exits(2).says("bad/BUILD:1").says("deps").says("//nowhere:x");
    insta::assert_snapshot!(run.report(), @r#"
        exit 2
        --- stdout
        error: driver 'sh' has no key 'dep'
         1 | target(name='a', driver='sh', dep=':b', run='true')
           |                               ^^^
          --> bad/BUILD:1:31
        hint: did you mean 'deps'?

        error: //bad:b depends on //nowhere:x, but //nowhere has no BUILD file
          --> bad/BUILD:2:1

        2 problems in 5 targets of 3 packages
    "#);
    env.heph(["validate", "//app/..."]).run().success();
}

#[test]
fn init_writes_a_first_workspace_that_runs() {
    let env = Environment::bare();
    env.heph(["init"]).run().success();
    assert!(env.exists(".hephconfig") && env.exists("BUILD"));
    env.build("//...");
    assert_ne!(env.heph(["init"]).run().code, 0);
}

#[test]
fn version_prints_version_and_build() {
    let env = Environment::bare();
    env.heph(["version"])
        .run()
        .success()
        .says(env!("CARGO_PKG_VERSION"));
    env.heph(["--version"])
        .run()
        .success()
        .says(env!("CARGO_PKG_VERSION"));
    let document = json_of(&env, &["version"]);
    assert_eq!(document["heph"], env!("CARGO_PKG_VERSION"));
    assert_eq!(document["os"], std::env::consts::OS);
}

#[test]
fn status_and_cache_commands_tell_about_the_store() {
    let env = workspace();
    env.build("//...");
    let status = json_of(&env, &["status"]);
    assert_eq!(status["root"], env.root().to_str().unwrap());
    assert_eq!(status["daemon"].is_null(), env.mode() == Mode::InProcess);
    let stats = json_of(&env, &["cache", "stats"]);
    assert!(stats["results"].as_u64().unwrap() >= 3, "{stats}");
    env.heph(["cache", "stats"]).run().success();
    env.heph(["cache", "gc"]).run().success();
    assert!(env.build("//...").executed().is_empty());
    let key = env.build("//lib:lib").target("//lib:lib")["key"]
        .as_str()
        .unwrap()
        .to_owned();
    let provenance = json_of(&env, &["tool", "cache", "inspect", &key]);
    assert_eq!(provenance["address"], "//lib:lib");
    env.heph(["cache", "clear", "--yes"]).run().success();
    assert_eq!(env.build("//...").executed().len(), 3);
}

#[test]
fn clean_removes_sandboxes() {
    let env = workspace();
    env.write("bad/BUILD", "target(name='bad', driver='sh', run='false')\n");
    env.try_build("//bad:bad");
    let sandboxes = || {
        std::fs::read_dir(env.home().join("sandbox"))
            .into_iter()
            .flatten()
            .flatten()
            .count()
    };
    assert!(sandboxes() > 0);
    env.heph(["tool", "clean"]).run().success();
    assert_eq!(sandboxes(), 0);
}

#[test]
fn gc_is_a_tool_too() {
    let env = workspace();
    let words = |command: [&str; 2]| env.heph(command).run().success().stdout.clone();
    assert_eq!(words(["tool", "gc"]), words(["cache", "gc"]));
}

#[test]
fn build_fmt_formats_build_files_and_changes_no_meaning() {
    let env = Environment::new();
    env.write("BUILD", "target( name='a',driver = 'sh',  run='true' ) # why\n");
    env.heph(["tool", "build-fmt"]).run().success();
    let once = env.read("BUILD");
    assert!(once.contains("# why"), "{once}");
    env.heph(["tool", "build-fmt"]).run().success();
    assert_eq!(env.read("BUILD"), once);
    env.build("//:a");
}

#[test]
fn completions_know_commands_options_and_addresses() {
    let env = workspace();
    let complete = |line: &[&str]| -> Vec<String> {
        let index = (line.len() - 1).to_string();
        let start = ["__complete", index.as_str(), "--"];
        let words = start.iter().chain(line);
        let run = env.heph(words.map(|word| (*word).to_owned())).run();
        let candidates = run.success().lines();
        let value = |line: &String| line.split('\t').next().unwrap().to_owned();
        candidates.iter().map(value).collect()
    };
    assert_eq!(complete(&["heph", "que"]), ["query"]);
    assert_eq!(complete(&["heph", "run", "--dry"]), ["--dry-run"]);
    assert_eq!(
        complete(&["heph", "run", "--sandbox", "st"]),
        ["strict", "standard"]
    );
    assert_eq!(
        complete(&["heph", "run", "//a"]),
        ["//app:", "//app:app", "//app:test"]
    );
    assert_eq!(complete(&["heph", "run", "//app:"]), ["//app:app", "//app:test"]);
}

#[test]
fn completion_scripts_complete_in_bash_and_are_there_for_others() {
    let mut env = workspace();
    let script =
        |env: &Environment, shell: &str| env.heph(["tool", "completions", shell]).run().success().out();
    assert!(script(&env, "zsh").contains("compdef _heph heph"));
    assert!(script(&env, "fish").contains("complete -c heph"));
    let bin = env.beside("bin");
    std::fs::create_dir_all(&bin).unwrap();
    std::os::unix::fs::symlink(heph_tests::heph_program(), bin.join("heph")).unwrap();
    env.prepend_path(bin);
    let text = script(&env, "bash");
    let complete = |line: &str| {
        let ask = format!(
            "{text}COMP_LINE='{line}'; COMP_POINT=${{#COMP_LINE}}; _heph; echo \"${{COMPREPLY[@]}}\""
        );
        let mut shell = std::process::Command::new("bash");
        shell.args(["--norc", "-c", &ask]).current_dir(env.root());
        let output = shell.env_clear().envs(env.variables()).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    assert_eq!(complete("heph run --dry"), "--dry-run");
    // What bash takes for a word of its own begins after the colon.
    assert_eq!(complete("heph run //app:"), "app test");
    assert_eq!(complete("heph run //app:t"), "test");
}

#[test]
fn help_names_every_command() {
    let env = Environment::bare();
    let help = env.heph(["--help"]).run();
    help.success();
    for command in [
        "run", "query", "inspect", "why-miss", "validate", "init", "version", "status", "cache", "tool",
    ] {
        help.says(command);
    }
}
