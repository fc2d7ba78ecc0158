//! What is remembered of runs, and that it never costs one.

use std::fs;
use std::path::PathBuf;

use heph_tests::{Environment, Mode, files_below, heph_program, needs, wait_until};
use serde_json::Value;

use crate::daemon::{daemon, kill, places};
use crate::file_systems::Mounted;

/// Two targets that take a while, of which one is never kept.
fn workspace() -> Environment {
    let env = Environment::new().with_mode(Mode::Fresh);
    env.write("in.txt", "1\n");
    env.write(
        "BUILD",
        "target(name='kept', driver='sh', deps=file('in.txt'), run='sleep 0.1; cat in.txt > $OUT', out='kept', labels=['all'])\n\
         target(name='never', driver='sh', run='echo > $OUT', out='never', cache=False)\n",
    );
    env
}

fn stats(env: &Environment, mode: &str) -> Value {
    let run = env.heph(["stats", "--json"]).with("HEPH_DAEMON", mode).run();
    let document = run.success().json();
    assert_eq!(document["version"], 1);
    document
}

fn run(env: &Environment, mode: &str, arguments: &[&str]) {
    let call = env.heph([&["run"], arguments].concat());
    call.with("HEPH_DAEMON", mode).run().success();
}

fn log(env: &Environment) -> String {
    let logs = places(env)
        .into_iter()
        .map(|place| fs::read_to_string(place.join("log")));
    logs.map(Result::unwrap).collect()
}

/// Directories of the state of builds.
fn states(env: &Environment) -> Vec<PathBuf> {
    let entries = fs::read_dir(env.home().join("state")).into_iter().flatten();
    entries.map(|entry| entry.unwrap().path()).collect()
}

fn state(env: &Environment) -> PathBuf {
    let [state] = states(env).try_into().unwrap();
    state
}

#[test]
fn runs_of_both_modes_are_counted() {
    let env = workspace();
    run(&env, "off", &["//..."]);
    run(&env, "require", &["//..."]);
    env.write("in.txt", "2\n");
    run(&env, "require", &["all", "//..."]);
    env.write("in.txt", "1\n");
    run(&env, "require", &["//:kept"]);
    run(&env, "off", &["//:kept"]);
    run(&env, "require", &["--dry-run", "//..."]);
    for mode in ["off", "require", "off"] {
        let document = stats(&env, mode);
        let runs = &document["runs"];
        assert_eq!(
            (&runs["count"], &runs["daemon"], &runs["failed"]),
            (&5.into(), &3.into(), &0.into()),
            "{document}"
        );
        let targets = &document["targets"];
        assert_eq!(
            (&targets["executed"], &targets["local"], &targets["uncached"]),
            (&4.into(), &1.into(), &2.into()),
            "{document}"
        );
        assert_eq!(document["hit_rate"], 0.2);
        assert!(document["saved_us"].as_u64().unwrap() > 90_000, "{document}");
        assert!(document["command_us"].as_u64().unwrap() > 190_000, "{document}");
        assert_eq!(document["slowest"][0]["address"], "//:kept");
        let last = document["last_runs"].as_array().unwrap();
        let modes: Vec<_> = last.iter().map(|run| run["mode"].as_str().unwrap()).collect();
        assert_eq!(modes, ["in-process", "daemon", "daemon", "daemon", "in-process"]);
        assert_eq!(last[2]["selector"], "all //...");
    }
    let elsewhere = Environment::new().with_mode(Mode::Fresh);
    let call = elsewhere.heph(["stats", "--json"]).with("HEPH_DAEMON", "off");
    let call = call.with("HEPH_HOME", env.home().to_str().unwrap());
    assert_eq!(
        call.run().success().json()["runs"]["count"],
        0,
        "not of this workspace"
    );
    let call = elsewhere
        .heph(["stats", "--json", "--all"])
        .with("HEPH_DAEMON", "off");
    let call = call.with("HEPH_HOME", env.home().to_str().unwrap());
    assert_eq!(call.run().success().json()["runs"]["count"], 5);
}

#[test]
fn people_see_what_was_saved_and_what_is_slow() {
    let env = workspace();
    env.heph(["stats"]).run().success().says("no runs are remembered");
    run(&env, "require", &["//:kept"]);
    env.try_build("//:nothing").run.exits(1);
    let shown = env.heph(["stats"]).run().success().report();
    // Columns are as wide as the times in them.
    let lines = shown
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    insta::assert_snapshot!(lines.collect::<Vec<_>>().join("\n"), @r"
    exit 0
    --- stdout
    runs 2 since <time> ago, 2 with the daemon, 1 failed
    hit rate 0.0 % (0 hits, 1 executed)
    up to date 0
    failed 0
    uncached 0
    time saved <time>
    commands <time>
    waited <time>

    slowest targets
    <time> //:kept (once)

    executed most often
    <time> //:kept (once)

    last runs
    <digest> <time> ago <time> //:nothing: 0 targets, 0 executed, 0 from the store, exit code 1
    <digest> <time> ago <time> //:kept: 1 target, 1 executed, 0 from the store
    ");
}

#[test]
fn why_miss_says_when_a_target_was_executed_last_and_in_which_run() {
    let env = workspace();
    let last = || {
        let run = env.heph(["why-miss", "//:kept", "--json"]).run();
        run.success().json()["last_execution"].clone()
    };
    assert_eq!(last(), Value::Null);
    run(&env, "off", &["//:kept"]);
    assert_eq!(last()["reason"], "new");
    env.write("in.txt", "2\n");
    run(&env, "require", &["//..."]);
    // Executes nothing.
    run(&env, "require", &["//:kept"]);
    let changed = last();
    assert_eq!(
        (&changed["reason"], &changed["selector"]),
        (&"changed".into(), &"//...".into())
    );
    assert_eq!(changed["run"], stats(&env, "require")["last_runs"][1]["id"]);
    insta::assert_snapshot!(env.heph(["why-miss", "//:kept"]).run().success().report(), @r"
    exit 0
    --- stdout
    //:kept would not run: there is a result for its key <digest>
      last executed <time> ago in run <digest> of //..., since its key differed
    ");
    run(&env, "require", &["--force", "//:kept"]);
    assert_eq!(last()["reason"], "forced");
}

#[test]
fn a_damaged_history_is_set_aside_and_fails_no_run() {
    let spoilers: [fn(&PathBuf); 4] = [
        |db| {
            let mut bytes = fs::read(db.join("db")).unwrap();
            for byte in bytes.iter_mut().step_by(97) {
                *byte = !*byte;
            }
            fs::write(db.join("db"), bytes).unwrap();
        },
        |db| {
            let file = fs::File::options().write(true).open(db.join("db")).unwrap();
            file.set_len(700).unwrap();
        },
        |db| {
            fs::remove_file(db.join("db")).unwrap();
            fs::create_dir(db.join("db")).unwrap();
        },
        |db| fs::write(db.join("conf"), "version: 99.1\n").unwrap(),
    ];
    let env = workspace();
    for (number, spoil) in spoilers.into_iter().enumerate() {
        run(&env, "require", &["//:kept"]);
        assert!(stats(&env, "require")["runs"]["count"].as_u64() > Some(0));
        spoil(&state(&env).join("db"));
        run(&env, "require", &["//:kept"]);
        let document = stats(&env, "require");
        if state(&env).join("db.damaged").exists() {
            assert_eq!(document["runs"]["count"], 1, "spoiler {number}");
            let warnings = log(&env).matches("it begins anew").count();
            assert_eq!(warnings, 1, "spoiler {number}: {}", log(&env));
        } else {
            // What was cut off or flipped was not in use.
            assert!(number < 2, "spoiler {number}");
        }
        env.stop_daemons();
        fs::remove_dir_all(state(&env)).unwrap();
        fs::remove_dir_all(env.home().join("run")).unwrap();
    }
}

#[test]
fn a_history_that_cannot_be_written_costs_nothing_else() {
    let env = workspace();
    run(&env, "off", &["//:kept"]);
    let spool = state(&env).join("spool");
    fs::remove_dir_all(&spool).unwrap();
    fs::write(&spool, "no directory").unwrap();
    for mode in ["off", "require"] {
        let call = env.heph(["run", "//:kept"]).with("HEPH_DAEMON", mode).run();
        assert!(!call.success().err().contains("warning"), "{call}");
    }
    env.heph(["stats"]).run().exits(3).says("failed to use");
}

#[test]
fn a_full_disk_costs_the_history_alone() {
    let Some(mounted) = Mounted::tmpfs("size=24m") else {
        needs("a_full_disk_costs_the_history_alone", "mounting", false);
        return;
    };
    let mut env = workspace();
    env.set("HEPH_HOME", mounted.at().join("home").to_str().unwrap());
    run(&env, "require", &["//:kept"]);
    let fill = mounted.at().join("all");
    let mut file = fs::File::create(&fill).unwrap();
    while std::io::Write::write_all(&mut file, &[0; 4096]).is_ok() {}
    run(&env, "require", &["//:kept"]);
    let full = env.heph(["stats"]).run();
    assert!([0, 3].contains(&full.code), "{full}");
    drop(file);
    fs::remove_file(fill).unwrap();
    run(&env, "require", &["//:kept"]);
    let document = env.heph(["stats", "--json"]).run().success().json();
    assert!(document["runs"]["count"].as_u64() > Some(0), "{document}");
    env.stop_daemons();
}

#[test]
fn what_a_killed_daemon_had_answered_is_remembered() {
    let env = workspace();
    for _ in 0..3 {
        let before = stats(&env, "require")["runs"]["count"].as_u64().unwrap();
        run(&env, "require", &["//:kept"]);
        let spool = state(&env).join("spool");
        wait_until("it is written down", || {
            files_below(&spool).iter().any(|file| file.extension().is_some())
        });
        kill(&env);
        fs::write(spool.join("000000000000001-half.run"), "hrr1 and then").unwrap();
        assert_eq!(stats(&env, "require")["runs"]["count"], before + 1);
        assert!(files_below(&spool).is_empty(), "what is half written is dropped");
    }
}

#[test]
fn each_build_has_a_history_of_its_own() {
    let env = workspace();
    run(&env, "require", &["//:kept"]);
    daemon(&env);
    let newer = env.beside("newer/heph");
    fs::create_dir_all(newer.parent().unwrap()).unwrap();
    fs::copy(heph_program(), &newer).unwrap();
    env.heph(["run", "//:kept"]).by(newer.clone()).run().success();
    env.heph(["run", "//:kept"]).by(newer.clone()).run().success();
    let count = |call: heph_tests::Command<'_>| call.run().success().json()["runs"]["count"].clone();
    assert_eq!(count(env.heph(["stats", "--json"]).by(newer)), 2);
    assert_eq!(count(env.heph(["stats", "--json"])), 1);
    assert_eq!(states(&env).len(), 2);
}
