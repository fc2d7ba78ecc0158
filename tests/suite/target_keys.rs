//! Each key of a target: what it does, and whether a change to it is a miss.

use heph_tests::{Environment, needs, strict_available, wait_until};
use rustix::process::Signal;

fn output(env: &Environment, address: &str, path: &str) -> String {
    env.heph(["run", "--copy-out", "copied", address]).run().success();
    env.read(&format!("copied/{path}"))
}

/// Whether the target's command runs now; its next run must then be a hit.
#[track_caller]
fn executes(env: &Environment, address: &str) -> bool {
    let ran = env.build(address).executed().contains(&address.to_owned());
    assert!(
        !env.build(address).executed().contains(&address.to_owned()),
        "{address} is never a hit"
    );
    ran
}

#[test]
fn deps_are_in_the_sandbox_by_group_and_in_the_key() {
    let env = Environment::new();
    for name in ["a.txt", "b.txt", "c.txt"] {
        env.write(&format!("p/{name}"), format!("{name}\n"));
    }
    env.write(
        "p/BUILD",
        "target(name='t', driver='sh', deps={'': file('a.txt'), 'rest': [file('b.txt'), file('c.txt')]},\n\
         \x20   run=['echo $SRC / $SRC_REST > $OUT', 'cat $LIST_SRC >> $OUT', 'cat $LIST_SRC_REST $SRC_REST >> $OUT'], out='out')\n",
    );
    let expected = "a.txt / b.txt c.txt\na.txt\nb.txt\nc.txt\nb.txt\nc.txt\n";
    assert_eq!(output(&env, "//p:t", "p/out"), expected);
    env.write("p/c.txt", "changed\n");
    assert!(executes(&env, "//p:t"));
    assert!(output(&env, "//p:t", "p/out").ends_with("b.txt\nchanged\n"));
}

#[test]
fn a_single_text_a_list_and_a_dict_are_all_deps() {
    let env = Environment::new();
    env.write("a.txt", "a\n");
    for (name, deps) in [("text", "':x'"), ("list", "[':x']"), ("dict", "{'': [':x']}")] {
        env.write(
            "BUILD",
            format!(
                "target(name='x', driver='textfile', text='x', out='x.txt')\n\
                 target(name='{name}', driver='sh', deps={deps}, run='echo $SRC > $OUT', out='out')\n"
            ),
        );
        assert_eq!(output(&env, &format!("//:{name}"), "out"), "x.txt\n");
    }
}

#[test]
fn hash_deps_are_in_the_key_only() {
    let env = Environment::new();
    env.write("h.txt", "1");
    env.write("BUILD", "target(name='t', driver='sh', hash_deps=file('h.txt'), run='test ! -e h.txt; echo > $OUT', out='out')\n");
    assert!(executes(&env, "//:t"));
    env.write("h.txt", "2");
    assert!(executes(&env, "//:t"));
}

#[test]
fn runtime_deps_are_in_the_sandbox_only() {
    let env = Environment::new();
    env.write("r.txt", "1");
    env.write(
        "BUILD",
        "target(name='t', driver='sh', runtime_deps=file('r.txt'), run='cp r.txt $OUT', out='out')\n",
    );
    assert!(executes(&env, "//:t"));
    env.write("r.txt", "2");
    assert!(!executes(&env, "//:t"));
}

#[test]
fn tools_come_first_on_path_and_are_in_the_key() {
    let env = Environment::new();
    env.write(
        "BUILD",
        "target(name='cat', driver='textfile', text='#!/bin/sh\\necho mine\\n', out='cat', executable=True)\n\
         target(name='t', driver='sh', tools={'': [], 'own': ':cat'}, run=['cat > $OUT', '$TOOL_OWN >> $OUT'], out='out')\n",
    );
    assert_eq!(output(&env, "//:t", "out"), "mine\nmine\n");
    let build = env.read("BUILD").replace("mine", "new");
    env.write("BUILD", build);
    assert!(executes(&env, "//:t"));
    assert_eq!(output(&env, "//:t", "out"), "new\nnew\n");
}

#[test]
fn the_only_tool_is_tool() {
    let env = Environment::new();
    env.write_program("run.sh", "#!/bin/sh\necho ran\n");
    env.write("BUILD", "target(name='t', driver='sh', tools=file('run.sh'), run='$TOOL > $OUT; run.sh >> $OUT', out='out')\n");
    assert_eq!(output(&env, "//:t", "out"), "ran\nran\n");
}

#[test]
fn outputs_are_files_directories_and_globs_in_groups() {
    let env = Environment::new();
    env.write(
        "BUILD",
        "target(name='t', driver='sh', out={'': 'deep/er/file', 'dir': 'dist/', 'objects': '*.o'},\n\
         \x20   run=['echo $OUT > $OUT', 'mkdir -p $OUT_DIR/sub/empty', 'echo d > $OUT_DIR/sub/d', 'touch a.o b.o c.x'])\n\
         target(name='use', driver='sh', deps=':t', run='find . -type f -o -type d -empty | sort > $TMPDIR/list; cp $TMPDIR/list $OUT', out='found')\n",
    );
    let found = output(&env, "//:use", "found");
    for path in [
        "./a.o",
        "./b.o",
        "./deep/er/file",
        "./dist/sub/d",
        "./dist/sub/empty",
    ] {
        assert!(found.lines().any(|line| line == path), "{path} is not in {found}");
    }
    assert!(!found.contains("c.x"), "{found}");
}

#[test]
fn executable_bits_and_links_of_outputs_survive_the_cache() {
    let env = Environment::new();
    env.write(
        "BUILD",
        "target(name='t', driver='sh', run=['mkdir d', 'echo x > d/x', 'chmod +x d/x', 'ln -s x d/link', 'echo y > d/y'], out='d/')\n\
         target(name='use', driver='sh', deps=':t', run=['test -x d/x', 'test ! -x d/y', 'readlink d/link > $OUT'], out='out')\n",
    );
    env.build("//:t");
    assert_eq!(output(&env, "//:use", "out"), "x\n");
    assert_eq!(output(&env, "//:t", "d/link"), "x\n");
    assert!(env.path("copied/d/link").is_symlink());
}

#[test]
fn support_files_travel_with_the_target() {
    let env = Environment::new();
    env.write(
        "BUILD",
        "target(name='t', driver='sh', run='echo m > $OUT; echo s > data.txt', out='main', support_files=['data.txt'])\n\
         target(name='use', driver='sh', deps={'m': ':t'}, run='echo $SRC_M > $OUT; cat data.txt >> $OUT', out='out')\n",
    );
    let text = output(&env, "//:use", "out");
    assert!(text.ends_with("s\n"), "{text}");
}

#[test]
fn env_is_set_and_in_the_key() {
    let env = Environment::new();
    env.write(
        "BUILD",
        "target(name='t', driver='sh', env={'WHO': 'one'}, run='echo $WHO > $OUT', out='out')\n",
    );
    assert_eq!(output(&env, "//:t", "out"), "one\n");
    env.write("BUILD", env.read("BUILD").replace("one", "two"));
    assert!(executes(&env, "//:t"));
    assert_eq!(output(&env, "//:t", "out"), "two\n");
}

#[test]
fn pass_env_takes_a_variable_of_the_caller_into_sandbox_and_key() {
    let mut env = Environment::new();
    env.write(
        "BUILD",
        "target(name='t', driver='sh', pass_env=['WHO'], run='echo ${WHO:-nobody} > $OUT', out='out')\n",
    );
    assert_eq!(output(&env, "//:t", "out"), "nobody\n");
    env.set("WHO", "one");
    assert_eq!(output(&env, "//:t", "out"), "one\n");
    env.set("OTHER", "x");
    assert!(!executes(&env, "//:t"));
    env.set("WHO", "two");
    assert!(executes(&env, "//:t"));
}

#[test]
fn pass_env_of_everything_leaves_out_session_variables_and_credentials() {
    let mut env = Environment::new();
    env.write(
        "BUILD",
        "target(name='t', driver='sh', pass_env='*', run='env | sort > $OUT', out='out')\n",
    );
    for (name, value) in [
        ("WHO", "one"),
        ("SSH_AUTH_SOCK", "/s"),
        ("SHLVL", "3"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_SESSION_TOKEN", "secret"),
    ] {
        env.set(name, value);
    }
    let seen = output(&env, "//:t", "out");
    assert!(seen.contains("WHO=one\n"), "{seen}");
    assert!(
        !seen.contains("SSH_AUTH_SOCK") && !seen.contains("secret"),
        "{seen}"
    );
}

#[test]
fn runtime_env_and_runtime_pass_env_stay_out_of_the_key() {
    let mut env = Environment::new();
    let text = "target(name='t', driver='sh', runtime_env={'A': '1'}, runtime_pass_env=['B'], run='echo $A ${B:-} > $OUT', out='out')\n";
    env.write("BUILD", text);
    env.set("B", "b");
    assert_eq!(output(&env, "//:t", "out"), "1 b\n");
    env.set("B", "c");
    assert!(!executes(&env, "//:t"));
    env.write("BUILD", text.replace("'1'", "'2'"));
    assert!(!executes(&env, "//:t"));
    assert_eq!(output(&env, "//:t", "out"), "1 b\n");
}

#[test]
fn cache_false_runs_each_time() {
    let env = Environment::new();
    env.write(
        "BUILD",
        "target(name='t', driver='sh', cache=False, run='echo > $OUT', out='out')\n\
         target(name='u', driver='sh', cache={'enabled': False}, run='true')\n\
         target(name='use', driver='sh', deps=':t', run='true')\n",
    );
    env.build("//...");
    assert_eq!(env.build("//...").executed(), ["//:t", "//:u"]);
}

#[test]
fn history_keeps_that_many_revisions_of_a_target() {
    let env = Environment::new();
    let build = |cache: &str, word: &str| {
        env.write(
            "BUILD",
            format!("target(name='t', driver='sh', cache={cache}, run='echo {word} > $OUT', out='out')\n"),
        );
        !env.build("//:t").executed().is_empty()
    };
    let two = "{'history': 2}";
    assert!(build(two, "one") && build(two, "two") && build(two, "three"));
    assert!(!build(two, "two"));
    assert!(build(two, "one"));
    let any = "True";
    assert!(build(any, "four") && build(any, "five") && build(any, "six"));
    assert!(!build(any, "four"));
}

#[test]
fn codegen_and_network_are_in_the_key() {
    let env = Environment::new();
    let text = "target(name='t', driver='sh', run='echo > $OUT', out='out')\n";
    env.write("BUILD", text);
    assert!(executes(&env, "//:t"));
    env.write("BUILD", text.replace("out='out'", "out='out', network=True"));
    assert!(executes(&env, "//:t"));
    env.write("BUILD", text.replace("out='out'", "out='out', codegen='copy'"));
    assert!(executes(&env, "//:t"));
}

#[test]
fn sandbox_of_a_target_overrides_the_mode() {
    if !needs(
        "sandbox_of_a_target_overrides_the_mode",
        "namespaces",
        strict_available(),
    ) {
        return;
    }
    let env = Environment::new();
    env.write(
        "BUILD",
        "target(name='strict', driver='sh', sandbox='strict', run='true')\n\
         target(name='standard', driver='sh', sandbox='standard', run='true')\n\
         target(name='off', driver='sh', sandbox='off', run='true')\n\
         target(name='auto', driver='sh', run='true')\n",
    );
    let build = env.build("//...");
    assert_eq!(build.target("//:strict")["sandbox"], "strict");
    assert_eq!(build.target("//:standard")["sandbox"], "standard");
    assert_eq!(build.target("//:auto")["sandbox"], "strict");
    let only_off = Environment::new();
    only_off.write(
        "BUILD",
        "target(name='off', driver='sh', sandbox='off', run='true')\n",
    );
    assert!(only_off.build("//...").notices().is_empty());
}

#[test]
fn read_only_deps_are_linked_and_cannot_be_written() {
    let env = Environment::new();
    env.write("big.txt", "big\n");
    env.write(
        "BUILD",
        "target(name='b', driver='sh', deps=file('big.txt'), run='cp $SRC $OUT', out='b.txt')\n\
         target(name='t', driver='sh', deps={'b': ':b'}, read_only_deps=['b'], run='cat $SRC_B > $OUT', out='out')\n\
         target(name='bad', driver='sh', sandbox='strict', deps={'b': ':b'}, read_only_deps=['b'], run='echo x > $SRC_B')\n",
    );
    assert_eq!(output(&env, "//:t", "out"), "big\n");
    if needs(
        "read_only_deps_are_linked_and_cannot_be_written",
        "namespaces",
        strict_available(),
    ) {
        env.heph(["run", "//:bad"]).run().exits(1);
    }
    env.heph(["run", "--force", "//:t"]).run().success();
    assert_eq!(output(&env, "//:b", "b.txt"), "big\n");
}

#[test]
fn transitive_things_are_handed_to_whoever_depends_on_the_target() {
    let mut env = Environment::new();
    env.write("data.txt", "data\n");
    env.write_program("mytool", "#!/bin/sh\necho tool\n");
    env.write(
        "BUILD",
        "target(name='lib', driver='sh', run='echo lib > $OUT', out='lib.txt', transitive={\n\
         \x20   'deps': file('data.txt'), 'tools': file('mytool'), 'env': {'HANDED': 'on'},\n\
         \x20   'pass_env': ['CALLER'], 'runtime_pass_env': ['QUIET']})\n\
         target(name='use', driver='sh', deps=':lib', out='out',\n\
         \x20   run=['cat data.txt > $OUT', 'mytool >> $OUT', 'echo $HANDED ${CALLER:-} ${QUIET:-} >> $OUT'])\n",
    );
    env.set("CALLER", "c");
    env.set("QUIET", "q");
    assert_eq!(output(&env, "//:use", "out"), "data\ntool\non c q\n");
    env.set("QUIET", "other");
    assert!(!executes(&env, "//:use"));
    env.set("CALLER", "d");
    assert!(executes(&env, "//:use"));
    env.write("data.txt", "changed\n");
    assert!(executes(&env, "//:use"));
}

#[test]
fn timeout_ends_a_command_and_all_it_started() {
    let env = Environment::new();
    env.write(
        "BUILD",
        "target(name='t', driver='bash', timeout='300ms', run='sleep 1000 & sleep 1000')\n",
    );
    let build = env.try_build("//:t");
    build.run.exits(1);
    assert_eq!(build.target("//:t")["failure"]["kind"], "timeout");
}

#[test]
fn retries_try_a_failing_target_again() {
    let env = Environment::new();
    let counter = env.beside("tries");
    let path = counter.display();
    env.write(
        "BUILD",
        format!(
            "target(name='t', driver='bash', sandbox='standard', retries=2,\n\
             \x20   run=['echo >> {path}', 'test $(wc -l < {path}) -ge 3'])\n\
             target(name='never', driver='sh', retries=1, run='false')\n"
        ),
    );
    let build = env.build("//:t");
    assert_eq!(build.target("//:t")["retries"], 2);
    assert_eq!(std::fs::read_to_string(&counter).unwrap(), "\n\n\n");
    assert_eq!(env.try_build("//:never").target("//:never")["retries"], 1);
}

#[test]
fn exclusive_targets_run_alone_and_slots_are_counted() {
    let env = Environment::new();
    let place = env.beside("running");
    std::fs::create_dir(&place).unwrap();
    let at = place.display();
    // Each command notes how many run at once.
    let run = |name: &str| {
        format!(
            "['touch {at}/{name}', 'ls {at} | grep -v max | wc -l >> {at}/max', 'sleep 0.1', 'rm {at}/{name}']"
        )
    };
    let target = |name: &str, more: &str| {
        format!(
            "target(name='{name}', driver='bash', sandbox='standard', {more}run={})\n",
            run(name)
        )
    };
    env.write(
        "a/BUILD",
        ["a", "b", "c"]
            .map(|name| target(name, "exclusive=True, "))
            .concat(),
    );
    env.heph(["run", "-j4", "//a/..."]).run().success();
    assert_eq!(std::fs::read_to_string(place.join("max")).unwrap(), "1\n1\n1\n");
    std::fs::remove_file(place.join("max")).unwrap();
    env.write(
        "s/BUILD",
        ["a", "b", "c", "d"]
            .map(|name| target(name, "slots=2, "))
            .concat(),
    );
    env.heph(["run", "-j4", "//s/..."]).run().success();
    let most = std::fs::read_to_string(place.join("max")).unwrap();
    assert!(most.lines().all(|line| line.trim() <= "2"), "{most}");
}

#[test]
fn labels_and_description_are_not_in_the_key() {
    let env = Environment::new();
    env.write("BUILD", "target(name='t', driver='sh', run='true')\n");
    assert!(executes(&env, "//:t"));
    env.write(
        "BUILD",
        "target(name='t', driver='sh', run='true', labels=['x'], description='what it does')\n",
    );
    assert!(!executes(&env, "//:t"));
    env.heph(["query", "x", "//..."]).run().success().says("//:t");
}

#[test]
fn a_jobserver_is_offered_to_commands_that_ask() {
    let env = Environment::new();
    env.write(
        "BUILD",
        "target(name='t', driver='sh', jobserver=True, run='echo $MAKEFLAGS > $OUT', out='out')\n\
         target(name='u', driver='sh', run='echo ${MAKEFLAGS:-none} > $OUT', out='out2')\n",
    );
    assert!(output(&env, "//:t", "out").contains("jobserver"));
    assert_eq!(output(&env, "//:u", "out2"), "none\n");
}

#[test]
fn equal_work_of_two_runs_is_done_once() {
    let env = Environment::new();
    let log = env.beside("log");
    let at = log.display();
    env.write("BUILD", format!("target(name='t', driver='sh', sandbox='standard', run=['echo ran >> {at}', 'sleep 1', 'echo > $OUT'], out='out')\n"));
    let first = env.heph(["run", "//:t"]).start();
    wait_until("the command runs", || log.exists());
    let second = env.heph(["run", "//:t"]).start();
    first.wait().success();
    second.wait().success();
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "ran\n");
}

/// One run is stopped (SIGSTOP) when its command has written `word`; another one that wants the same must not wait for
/// it for ever.
fn a_stopped_run_is_passed_by(word: &str) {
    let env = Environment::new();
    let log = env.beside("log");
    let at = log.display();
    let run = format!("['echo began >> {at}', 'sleep 1', 'echo went on >> {at}', 'sleep 1', 'echo > $OUT']");
    env.write(
        "BUILD",
        format!("target(name='t', driver='sh', sandbox='standard', run={run}, out='out')\n"),
    );
    // Both processes are their own coordinators.
    let run = || env.heph(["run", "//:t"]).with("HEPH_DAEMON", "off").start();
    let said = |word: &str| std::fs::read_to_string(&log).is_ok_and(|text| text.contains(word));
    let stopped = run();
    wait_until("the command runs", || said(word));
    stopped.signal(Signal::STOP);
    run().wait().success().says("1 executed");
    stopped.signal(Signal::CONT);
    stopped.wait().success();
    run().wait().success().says("1 target up to date");
}

#[test]
fn a_run_that_was_stopped_is_not_waited_for() {
    a_stopped_run_is_passed_by("went on");
}

#[test]
fn a_run_that_was_stopped_before_it_said_what_it_works_on_is_not_waited_for() {
    a_stopped_run_is_passed_by("began");
}
