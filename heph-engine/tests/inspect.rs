//! Documents of `heph query`, `heph inspect`, `heph why-miss` and `heph validate`, over real workspaces and stores.

#![expect(
    clippy::unwrap_used,
    reason = "a test stops where something is not as it should be"
)]

mod support;

use heph_engine::{inspect, maintain};
use heph_proto::inspect_request::What;
use heph_proto::{
    InspectComplete, InspectFunctions, InspectLabels, InspectMiss, InspectPackages, InspectPath,
    InspectQuery, InspectRequest, InspectTargets, MaintainRequest, RunError, StoreClean, StoreClear,
    StoreCollect, StoreInspect, StoreStatistics, maintain_request,
};
use support::Bench;

const PROJECT: &[(&str, &str)] = &[
    (
        "BUILD",
        "provider_state(\"go\", race = True)\ntarget(name = \"all\", driver = \"group\", deps = [\"//app:bin\"])\n",
    ),
    (
        "app/BUILD",
        r#"
provider_state("go", tags = ["x"])
target(
    name = "bin", driver = "sh", labels = ["app", "test"], description = "the program", timeout = "90s",
    deps = {"": ["//lib:lib"], "extra": [file("main.txt")]}, tools = ["//lib:tool"], env = {"MODE": "fast"}, pass_env = ["WHO"],
    run = "cat $SRC $SRC_EXTRA > $OUT", out = "bin.txt", cache = {"remote": False, "history": 3},
)
target(name = "once", driver = "sh", run = "date > $OUT", out = "date.txt", cache = False)
"#,
    ),
    ("app/main.txt", "main\n"),
    (
        "lib/BUILD",
        r#"
target(name = "lib", driver = "sh", labels = "test", deps = [file("lib.txt")], run = "grep -v '^#' $SRC > $OUT", out = "lib.out",
       transitive = {"env": {"LIB": "1"}})
target(name = "tool", driver = "textfile", text = "tool\n", out = "tool.sh", executable = True)
"#,
    ),
    ("lib/lib.txt", "# note\nlib\n"),
    (
        "lib/deep/BUILD",
        "target(name = \"note\", driver = \"textfile\", text = \"hi\", out = \"note.txt\", description = \"a note\")\n",
    ),
];

/// Asks in a process of its own, as far as the engine can tell.
fn try_ask(bench: &Bench, package: &str, what: What) -> Result<String, RunError> {
    let workspace = bench.start("").workspace.map(|workspace| heph_proto::Workspace {
        package: package.to_owned(),
        ..workspace
    });
    let answer = inspect::answer(
        &bench.engine(),
        &InspectRequest {
            workspace,
            what: Some(what),
        },
    )?;
    let text = String::from_utf8(answer).unwrap();
    assert!(text.starts_with("{\"version\":1,"), "{text}");
    assert!(!text.contains('\n'), "a document is one line: {text}");
    Ok(text)
}

fn ask(bench: &Bench, what: What) -> String {
    readable(&try_ask(bench, "", what).unwrap())
}

/// The document with line breaks between its items, and digests and times named by what they are.
fn readable(document: &str) -> String {
    let mut text = String::new();
    let mut rest = document;
    while let Some(quote) = rest.find('"') {
        let (before, after) = rest.split_at(quote + 1);
        text.push_str(before);
        let end = after.find('"').unwrap_or(after.len());
        let word = &after[..end];
        let is_digest = word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
        text.push_str(if is_digest { "<digest>" } else { word });
        text.push_str(&after[end..after.len().min(end + 1)]);
        rest = &after[after.len().min(end + 1)..];
    }
    text.push_str(rest);
    for name in ["created_unix_ms", "duration_ms"] {
        let mut from = 0;
        while let Some(at) = text[from..].find(&format!("\"{name}\":")) {
            let start = from + at + name.len() + 3;
            let length = text[start..].find(|c: char| !c.is_ascii_digit()).unwrap();
            text.replace_range(start..start + length, "<time>");
            from = start;
        }
    }
    text.replace("},{", "},\n{").replace("[{", "[\n{")
}

fn targets(bench: &Bench, view: &str, query: &str) -> String {
    ask(bench, view_of(view, query))
}

fn view_of(view: &str, query: &str) -> What {
    What::Targets(InspectTargets {
        query: query.into(),
        selector: query.into(),
        view: view.into(),
    })
}

fn query(query: &str) -> InspectQuery {
    InspectQuery {
        query: query.into(),
        selector: query.into(),
        since: String::new(),
    }
}

/// Without what the history says.
fn miss(bench: &Bench, address: &str) -> String {
    let answer = ask(
        bench,
        What::Miss(InspectMiss {
            address: address.into(),
        }),
    );
    let (said, _) = answer.split_once(",\"last_execution\":").unwrap();
    format!("{said}}}")
}

fn refused(error: RunError) -> String {
    let problems = error
        .problems
        .iter()
        .map(|problem| format!("{} | {} | {}", problem.message, problem.place, problem.hint));
    format!(
        "exit {}\n{}",
        error.exit_code,
        problems.collect::<Vec<_>>().join("\n")
    )
}

#[test]
fn lists_are_sorted_and_counted() {
    let bench = Bench::new(PROJECT);
    insta::assert_snapshot!(ask(&bench, What::Query(query("//..."))), @r#"{"version":1,"targets":["//:all","//app:bin","//app:once","//lib:lib","//lib:tool","//lib/deep:note"]}"#);
    insta::assert_snapshot!(ask(&bench, What::Query(query("label(none)"))), @r#"{"version":1,"targets":[]}"#);
    insta::assert_snapshot!(ask(&bench, What::Packages(InspectPackages {})), @r#"
    {"version":1,"packages":[
    {"package":"","files":["BUILD"],"targets":1},
    {"package":"app","files":["app/BUILD"],"targets":2},
    {"package":"lib","files":["lib/BUILD"],"targets":2},
    {"package":"lib/deep","files":["lib/deep/BUILD"],"targets":1}]}
    "#);
    insta::assert_snapshot!(ask(&bench, What::Labels(InspectLabels {})), @r#"
    {"version":1,"labels":[
    {"label":"app","targets":1},
    {"label":"test","targets":2}]}
    "#);
    let functions = ask(&bench, What::Functions(InspectFunctions {}));
    assert!(
        functions.contains(r#"{"name":"glob","signature":"glob(pattern, exclude=[])","description":""#),
        "{functions}"
    );
}

#[test]
fn targets_are_shown_as_written_and_as_defined() {
    let bench = Bench::new(PROJECT);
    insta::assert_snapshot!(targets(&bench, "spec", "//app:bin || //lib"), @r#"
    {"version":1,"targets":[
    {"address":"//app:bin","driver":"sh","place":"app/BUILD:3:1","labels":["app","test"],"description":"the program","timeout_ms":90000,"approval":null,"transitive":{},"config":{"deps":{"":["//lib:lib"],"extra":["//@heph/fs:file@f=app/main.txt"]},"tools":["//lib:tool"],"env":{"MODE":"fast"},"pass_env":["WHO"],"run":"cat $SRC $SRC_EXTRA > $OUT","out":"bin.txt","cache":{"remote":false,"history":3}}},
    {"address":"//lib:lib","driver":"sh","place":"lib/BUILD:2:1","labels":["test"],"description":null,"timeout_ms":null,"approval":null,"transitive":{"env":{"LIB":"1"}},"config":{"deps":["//@heph/fs:file@f=lib/lib.txt"],"run":"grep -v '^#' $SRC > $OUT","out":"lib.out"}},
    {"address":"//lib:tool","driver":"textfile","place":"lib/BUILD:4:1","labels":[],"description":null,"timeout_ms":null,"approval":null,"transitive":{},"config":{"text":"tool\n","out":"tool.sh","executable":true}}]}
    "#);
    insta::assert_snapshot!(targets(&bench, "def", "//app:bin"), @r#"
    {"version":1,"targets":[
    {"address":"//app:bin","driver":"sh","place":"app/BUILD:3:1","labels":["app","test"],"description":"the program","dependencies":[
    {"role":"source","group":"","address":"//lib:lib"},
    {"role":"source","group":"extra","address":"//@heph/fs:file@f=app/main.txt"},
    {"role":"tool","group":"","address":"//lib:tool"}],"outputs":[
    {"group":"","path":"app/bin.txt","kind":"file","support":false}],"transitive":{"dependencies":[],"env":{},"pass_env":[],"runtime_pass_env":[]},"cache":{"enabled":true,"remote":false,"history":3},"timeout_ms":90000,"retries":0,"exclusive":false,"slots":1,"approval":null,"action":"command","command":{"argv":["sh","-eu","-c","cat $SRC $SRC_EXTRA > $OUT"],"script":null,"env":{"MODE":"fast"},"pass_env":["WHO"],"runtime_env":{},"runtime_pass_env":[],"network":false,"sandbox":null,"codegen":null,"read_only":[],"extra_path":[],"jobserver":false}}]}
    "#);
    insta::assert_snapshot!(targets(&bench, "def", "//:all || //lib:tool"), @r#"
    {"version":1,"targets":[
    {"address":"//:all","driver":"group","place":"BUILD:2:1","labels":[],"description":null,"dependencies":[
    {"role":"source","group":"","address":"//app:bin"}],"outputs":[],"transitive":{"dependencies":[],"env":{},"pass_env":[],"runtime_pass_env":[]},"cache":{"enabled":true,"remote":true,"history":null},"timeout_ms":null,"retries":0,"exclusive":false,"slots":1,"approval":null,"action":"group","group":{"include":[],"exclude":[],"strip_prefix":null,"prefix":null,"rename":{}}},
    {"address":"//lib:tool","driver":"textfile","place":"lib/BUILD:4:1","labels":[],"description":null,"dependencies":[],"outputs":[
    {"group":"","path":"lib/tool.sh","kind":"file","support":false}],"transitive":{"dependencies":[],"env":{},"pass_env":[],"runtime_pass_env":[]},"cache":{"enabled":true,"remote":true,"history":null},"timeout_ms":null,"retries":0,"exclusive":false,"slots":1,"approval":null,"action":"textfile","textfile":{"text":"tool\n","out":"lib/tool.sh","executable":true}}]}
    "#);
    insta::assert_snapshot!(targets(&bench, "def", "//@heph/fs:file@f=app/main.txt || //@heph/bin:git || //@heph/introspect:outputs"), @r#"
    {"version":1,"targets":[
    {"address":"//@heph/bin:git","driver":"hostbin","place":null,"labels":[],"description":null,"dependencies":[],"outputs":[],"transitive":{"dependencies":[],"env":{},"pass_env":[],"runtime_pass_env":[]},"cache":{"enabled":true,"remote":true,"history":null},"timeout_ms":null,"retries":0,"exclusive":false,"slots":1,"approval":null,"action":"program","program":{"name":"git"}},
    {"address":"//@heph/fs:file@f=app/main.txt","driver":"fs","place":null,"labels":[],"description":null,"dependencies":[],"outputs":[],"transitive":{"dependencies":[],"env":{},"pass_env":[],"runtime_pass_env":[]},"cache":{"enabled":true,"remote":true,"history":null},"timeout_ms":null,"retries":0,"exclusive":false,"slots":1,"approval":null,"action":"file","file":{"path":"app/main.txt"}},
    {"address":"//@heph/introspect:outputs","driver":"introspect","place":null,"labels":[],"description":null,"dependencies":[],"outputs":[],"transitive":{"dependencies":[],"env":{},"pass_env":[],"runtime_pass_env":[]},"cache":{"enabled":true,"remote":true,"history":null},"timeout_ms":null,"retries":0,"exclusive":false,"slots":1,"approval":null,"action":"own-outputs","own-outputs":{}}]}
    "#);
    insta::assert_snapshot!(targets(&bench, "states", "//app:once || //lib/deep:note"), @r#"
    {"version":1,"targets":[
    {"address":"//app:once","states":[
    {"provider":"go","package":"","place":"BUILD:1:1","values":{"race":true}},
    {"provider":"go","package":"app","place":"app/BUILD:2:1","values":{"tags":["x"]}}]},
    {"address":"//lib/deep:note","states":[
    {"provider":"go","package":"","place":"BUILD:1:1","values":{"race":true}}]}]}
    "#);
}

#[test]
fn edges_go_both_ways() {
    let bench = Bench::new(PROJECT);
    insta::assert_snapshot!(targets(&bench, "deps", "//app:bin"), @r#"
    {"version":1,"targets":[
    {"address":"//app:bin","dependencies":[
    {"role":"source","group":"","address":"//lib:lib"},
    {"role":"source","group":"extra","address":"//@heph/fs:file@f=app/main.txt"},
    {"role":"tool","group":"","address":"//lib:tool"}]}]}
    "#);
    insta::assert_snapshot!(targets(&bench, "revdeps", "//lib:lib || //@heph/fs:file@f=lib/lib.txt || //:all"), @r#"
    {"version":1,"targets":[
    {"address":"//:all","dependants":[]},
    {"address":"//@heph/fs:file@f=lib/lib.txt","dependants":[
    {"role":"source","group":"","address":"//lib:lib"}]},
    {"address":"//lib:lib","dependants":[
    {"role":"source","group":"","address":"//app:bin"}]}]}
    "#);
    insta::assert_snapshot!(ask(&bench, What::Graph(query("//:all"))), @r#"
    {"version":1,"nodes":[
    {"address":"//:all","driver":"group","labels":[],"selected":true},
    {"address":"//app:bin","driver":"sh","labels":["app","test"],"selected":false},
    {"address":"//lib:lib","driver":"sh","labels":["test"],"selected":false},
    {"address":"//lib:tool","driver":"textfile","labels":[],"selected":false}],"edges":[
    {"from":"//:all","to":"//app:bin","role":"source"},
    {"from":"//app:bin","to":"//lib:lib","role":"source"},
    {"from":"//app:bin","to":"//lib:tool","role":"tool"}]}
    "#);
    let path = |from: &str, to: &str| {
        What::Path(InspectPath {
            from: from.into(),
            to: to.into(),
        })
    };
    insta::assert_snapshot!(ask(&bench, path("//:all", "//lib:lib")), @r#"{"version":1,"from":"//:all","to":"//lib:lib","path":["//:all","//app:bin","//lib:lib"]}"#);
    insta::assert_snapshot!(ask(&bench, path("//lib:lib", "//:all")), @r#"{"version":1,"from":"//lib:lib","to":"//:all","path":[]}"#);
    insta::assert_snapshot!(ask(&bench, path("//lib:lib", "//lib:lib")), @r#"{"version":1,"from":"//lib:lib","to":"//lib:lib","path":["//lib:lib"]}"#);
    insta::assert_snapshot!(refused(try_ask(&bench, "", path("//:all", "//lib:lip")).unwrap_err()), @"
    exit 1
    no targets matched //lib:lip |  | did you mean //lib:lib?
    ");
}

#[test]
fn queries_and_what_is_handed_on_are_looked_through() {
    let bench = Bench::new(&[
        (
            "BUILD",
            r#"
target(name = "user", driver = "sh", deps = [":lib"], run = "true")
target(name = "lib", driver = "sh", run = "true", transitive = {"tools": ["//tool:gen"], "deps": ["//@heph/fs:file@f=lib.h"]})
target(name = "tests", driver = "group", deps = [query("label(test)")])
target(name = "a", driver = "sh", labels = "test", run = "true")
target(name = "b", driver = "sh", labels = ["test", "slow"], hash_deps = [":a"], runtime_deps = [":lib"], run = "true")
target(name = "format", driver = "sh", codegen = "in_place", deps = ["//@heph/introspect:outputs"], run = "true", out = "lib.h")
"#,
        ),
        (
            "tool/BUILD",
            "target(name = \"gen\", driver = \"textfile\", text = \"\", out = \"gen\", executable = True)\n",
        ),
        ("lib.h", ""),
    ]);
    let path = |from: &str, to: &str| {
        What::Path(InspectPath {
            from: from.into(),
            to: to.into(),
        })
    };
    insta::assert_snapshot!(ask(&bench, path("//:user", "//tool:gen")), @r#"{"version":1,"from":"//:user","to":"//tool:gen","path":["//:user","//:lib","//tool:gen"]}"#);
    insta::assert_snapshot!(ask(&bench, path("//:tests", "//:a")), @r#"{"version":1,"from":"//:tests","to":"//:a","path":["//:tests","//@heph/query:query@expr=\"label(test)\"","//:a"]}"#);
    insta::assert_snapshot!(ask(&bench, path("//:format", "//@heph/fs:file@f=lib.h")), @r#"{"version":1,"from":"//:format","to":"//@heph/fs:file@f=lib.h","path":["//:format","//@heph/fs:file@f=lib.h"]}"#);
    insta::assert_snapshot!(ask(&bench, What::Graph(query("//:tests || //:user"))), @r#"
    {"version":1,"nodes":[
    {"address":"//:a","driver":"sh","labels":["test"],"selected":false},
    {"address":"//:b","driver":"sh","labels":["slow","test"],"selected":false},
    {"address":"//:lib","driver":"sh","labels":[],"selected":false},
    {"address":"//:tests","driver":"group","labels":[],"selected":true},
    {"address":"//:user","driver":"sh","labels":[],"selected":true},
    {"address":"//tool:gen","driver":"textfile","labels":[],"selected":false}],"edges":[
    {"from":"//:b","to":"//:a","role":"hash"},
    {"from":"//:b","to":"//:lib","role":"runtime"},
    {"from":"//:b","to":"//tool:gen","role":"tool"},
    {"from":"//:tests","to":"//:a","role":"source"},
    {"from":"//:tests","to":"//:b","role":"source"},
    {"from":"//:user","to":"//:lib","role":"source"},
    {"from":"//:user","to":"//tool:gen","role":"tool"}]}
    "#);
    insta::assert_snapshot!(targets(&bench, "revdeps", "//:a || //tool:gen || //@heph/fs:file@f=lib.h"), @r#"
    {"version":1,"targets":[
    {"address":"//:a","dependants":[
    {"role":"hash","group":"","address":"//:b"},
    {"role":"source","group":"","address":"//@heph/query:query@expr=\"label(test)\""}]},
    {"address":"//@heph/fs:file@f=lib.h","dependants":[
    {"role":"runtime","group":"","address":"//:b"},
    {"role":"source","group":"","address":"//:format"},
    {"role":"source","group":"","address":"//:user"}]},
    {"address":"//tool:gen","dependants":[
    {"role":"tool","group":"","address":"//:b"},
    {"role":"tool","group":"","address":"//:user"}]}]}
    "#);
}

#[test]
fn what_is_named_has_to_exist() {
    let bench = Bench::new(PROJECT);
    insta::assert_snapshot!(refused(try_ask(&bench, "", view_of("def", "//lib:lip")).unwrap_err()), @"
    exit 1
    no targets matched //lib:lip |  | did you mean //lib:lib?
    ");
    insta::assert_snapshot!(refused(try_ask(&bench, "", view_of("hashin", "//nowhere")).unwrap_err()), @"
    exit 1
    no targets matched //nowhere |  | heph query //... lists all targets
    ");
    insta::assert_snapshot!(refused(try_ask(&bench, "", view_of("colour", "//...")).unwrap_err()), @"
    exit 2
    there is no view 'colour' of targets |  |
    ");
    insta::assert_snapshot!(refused(try_ask(&bench, "", What::Query(query("//a:"))).unwrap_err()), @"
    exit 2
    '//a:' is not a query, at column 5: expected a target name, found the end |  |
    ");
    assert!(targets(&bench, "def", "//nowhere/...").contains("\"targets\":[]"));
}

#[test]
fn keys_and_results_are_known_as_far_as_things_are_built() {
    let bench = Bench::new(PROJECT);
    insta::assert_snapshot!(targets(&bench, "hashin", "//app:bin"), @r#"
    {"version":1,"targets":[
    {"address":"//app:bin","key":null,"parts":[
    {"label":"format","digest":"<digest>"},
    {"label":"kind","digest":"<digest>"},
    {"label":"address","digest":"<digest>"},
    {"label":"os","digest":"<digest>"},
    {"label":"arch","digest":"<digest>"},
    {"label":"system","digest":"<digest>"},
    {"label":"base programs","digest":"<digest>"},
    {"label":"run","digest":"<digest>"},
    {"label":"network","digest":"<digest>"},
    {"label":"out","digest":"<digest>"},
    {"label":"support_files","digest":"<digest>"},
    {"label":"path","digest":"<digest>"},
    {"label":"env LIB","digest":"<digest>"},
    {"label":"env MODE","digest":"<digest>"},
    {"label":"env WHO","digest":"<digest>"},
    {"label":"input extra app/main.txt","digest":"<digest>"},
    {"label":"tool file lib/tool.sh","digest":"<digest>"}],"missing":["//lib:lib"]}]}
    "#);
    insta::assert_snapshot!(targets(&bench, "hashout", "//app:bin"), @r#"
    {"version":1,"targets":[
    {"address":"//app:bin","digest":null,"outputs":[]}]}
    "#);
    insta::assert_snapshot!(targets(&bench, "outputs", "//app:bin || //:all"), @r#"
    {"version":1,"targets":[
    {"address":"//:all","built":false,"outputs":[]},
    {"address":"//app:bin","built":false,"outputs":[
    {"group":"","path":"app/bin.txt","kind":"file","support":false,"size":null,"digest":null}]}]}
    "#);
    assert_eq!(bench.run("//:all").finished.exit_code, 0);
    insta::assert_snapshot!(targets(&bench, "hashin", "//app:bin || //:all"), @r#"
    {"version":1,"targets":[
    {"address":"//:all","key":null,"parts":[],"missing":[]},
    {"address":"//app:bin","key":"<digest>","parts":[
    {"label":"format","digest":"<digest>"},
    {"label":"kind","digest":"<digest>"},
    {"label":"address","digest":"<digest>"},
    {"label":"os","digest":"<digest>"},
    {"label":"arch","digest":"<digest>"},
    {"label":"system","digest":"<digest>"},
    {"label":"base programs","digest":"<digest>"},
    {"label":"run","digest":"<digest>"},
    {"label":"network","digest":"<digest>"},
    {"label":"out","digest":"<digest>"},
    {"label":"support_files","digest":"<digest>"},
    {"label":"path","digest":"<digest>"},
    {"label":"env LIB","digest":"<digest>"},
    {"label":"env MODE","digest":"<digest>"},
    {"label":"env WHO","digest":"<digest>"},
    {"label":"input lib/lib.out","digest":"<digest>"},
    {"label":"input extra app/main.txt","digest":"<digest>"},
    {"label":"tool file lib/tool.sh","digest":"<digest>"},
    {"label":"groups","digest":"<digest>"}],"missing":[]}]}
    "#);
    insta::assert_snapshot!(targets(&bench, "hashout", "//lib:lib"), @r#"
    {"version":1,"targets":[
    {"address":"//lib:lib","digest":"<digest>","outputs":[
    {"group":"","path":"lib/lib.out","kind":"file","support":false,"size":4,"digest":"<digest>"}]}]}
    "#);
    insta::assert_snapshot!(targets(&bench, "outputs", "//:all"), @r#"
    {"version":1,"targets":[
    {"address":"//:all","built":true,"outputs":[
    {"group":"","path":"app/bin.txt","kind":"file","support":false,"size":9,"digest":"<digest>"}]}]}
    "#);
}

#[test]
fn the_key_that_is_shown_is_the_key_of_the_run() {
    let bench = Bench::new(PROJECT);
    assert_eq!(bench.run("//:all").finished.exit_code, 0);
    let before = targets_raw(&bench, "hashin", "//app:bin");
    // Nothing of the warm state may matter to what is shown.
    std::fs::remove_dir_all(bench.home().join("state")).unwrap();
    assert_eq!(targets_raw(&bench, "hashin", "//app:bin"), before);
    let key = before
        .split("\"key\":\"")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap()
        .to_owned();
    let stored = maintain(
        &bench,
        maintain_request::What::Inspect(StoreInspect {
            key,
            ..StoreInspect::default()
        }),
    )
    .unwrap();
    assert!(stored.contains("\"address\":\"//app:bin\""), "{stored}");
}

fn targets_raw(bench: &Bench, view: &str, query: &str) -> String {
    try_ask(bench, "", view_of(view, query)).unwrap()
}

#[test]
fn a_miss_names_what_differs() {
    let mut bench = Bench::new(PROJECT);
    insta::assert_snapshot!(miss(&bench, "//app:bin"), @r#"{"version":1,"address":"//app:bin","status":"unknown","key":null,"nearest":null,"differences":[],"missing":["//lib:lib"]}"#);
    insta::assert_snapshot!(miss(&bench, "//lib:lib"), @r#"{"version":1,"address":"//lib:lib","status":"new","key":"<digest>","nearest":null,"differences":[],"missing":[]}"#);
    assert_eq!(bench.run("//:all").finished.exit_code, 0);
    insta::assert_snapshot!(miss(&bench, "//app:bin"), @r#"{"version":1,"address":"//app:bin","status":"hit","key":"<digest>","nearest":null,"differences":[],"missing":[]}"#);
    insta::assert_snapshot!(miss(&bench, "//app:once"), @r#"{"version":1,"address":"//app:once","status":"uncached","key":"<digest>","nearest":null,"differences":[],"missing":[]}"#);

    bench.write("app/main.txt", "another\n");
    bench.environment.insert("WHO".into(), "me".into());
    insta::assert_snapshot!(miss(&bench, "//app:bin"), @r#"
    {"version":1,"address":"//app:bin","status":"differs","key":"<digest>","nearest":{"key":"<digest>","created_unix_ms":<time>},"differences":[
    {"label":"env WHO","change":"changed","before":"<digest>","now":"<digest>"},
    {"label":"input extra app/main.txt","change":"changed","before":"<digest>","now":"<digest>"}],"missing":[]}
    "#);

    bench.write("lib/lib.txt", "changed\n");
    insta::assert_snapshot!(miss(&bench, "//app:bin"), @r#"
    {"version":1,"address":"//app:bin","status":"unknown","key":null,"nearest":{"key":"<digest>","created_unix_ms":<time>},"differences":[
    {"label":"env WHO","change":"changed","before":"<digest>","now":"<digest>"},
    {"label":"input extra app/main.txt","change":"changed","before":"<digest>","now":"<digest>"}],"missing":["//lib:lib"]}
    "#);
    insta::assert_snapshot!(miss(&bench, "//lib:lib"), @r#"
    {"version":1,"address":"//lib:lib","status":"differs","key":"<digest>","nearest":{"key":"<digest>","created_unix_ms":<time>},"differences":[
    {"label":"input lib/lib.txt","change":"changed","before":"<digest>","now":"<digest>"}],"missing":[]}
    "#);

    let other = PROJECT[1]
        .1
        .replace(
            "\"extra\": [file(\"main.txt\")]",
            "\"other\": [file(\"main.txt\")]",
        )
        .replace(", pass_env = [\"WHO\"]", "");
    bench.write("app/BUILD", &other.replace("$SRC_EXTRA", "$SRC_OTHER"));
    bench.write("lib/lib.txt", "lib\n# another note\n");
    assert_eq!(bench.run("//lib:lib").executed, ["//lib:lib"]);
    insta::assert_snapshot!(miss(&bench, "//app:bin"), @r#"
    {"version":1,"address":"//app:bin","status":"differs","key":"<digest>","nearest":{"key":"<digest>","created_unix_ms":<time>},"differences":[
    {"label":"run","change":"changed","before":"<digest>","now":"<digest>"},
    {"label":"input other app/main.txt","change":"added","before":null,"now":"<digest>"},
    {"label":"groups","change":"changed","before":"<digest>","now":"<digest>"},
    {"label":"env WHO","change":"removed","before":"<digest>","now":null},
    {"label":"input extra app/main.txt","change":"removed","before":"<digest>","now":null}],"missing":[]}
    "#);
}

#[test]
fn a_result_that_was_removed_is_told_from_one_that_differs() {
    let bench = Bench::new(PROJECT);
    assert_eq!(bench.run("//:all").finished.exit_code, 0);
    let key = targets_raw(&bench, "hashin", "//lib:lib")
        .split("\"key\":\"")
        .nth(1)
        .unwrap()[..64]
        .to_owned();
    let engine = bench.engine();
    engine.store().forget(&key.parse().unwrap()).unwrap();
    engine.store().flush().unwrap();
    drop(engine);
    insta::assert_snapshot!(miss(&bench, "//lib:lib"), @r#"{"version":1,"address":"//lib:lib","status":"gone","key":"<digest>","nearest":{"key":"<digest>","created_unix_ms":<time>},"differences":[],"missing":[]}"#);
}

#[test]
fn a_source_that_is_missing_is_an_error_where_its_key_is_asked_for() {
    let bench = Bench::new(PROJECT);
    std::fs::remove_file(bench.root().join("lib/lib.txt")).unwrap();
    insta::assert_snapshot!(refused(try_ask(&bench, "", What::Miss(InspectMiss { address: "//lib:lib".into() })).unwrap_err()), @"
    exit 2
    no such file: lib/lib.txt | lib/BUILD:2:1 |
    ");
    assert!(targets(&bench, "outputs", "//lib:lib").contains("\"built\":false"));
    insta::assert_snapshot!(miss(&bench, "//app:bin"), @r#"{"version":1,"address":"//app:bin","status":"unknown","key":null,"nearest":null,"differences":[],"missing":["//lib:lib"]}"#);
}

#[test]
fn validation_tells_everything_at_once() {
    let bench = Bench::new(PROJECT);
    insta::assert_snapshot!(ask(&bench, What::Validate(query("//..."))), @r#"{"version":1,"targets":6,"packages":4,"problems":[],"notes":[]}"#);
    bench.write(".hephconfig", "plugins:\n- builtin: buildfile\n- builtin: sh\n  options:\n    path: [/opt/tools/bin]\n- builtin: textfile\n- builtin: http_fetch\n");
    bench.write(
        "bad/BUILD",
        "target(name = \"x\", driver = \"sh\", run = undefined)\n",
    );
    bench.write(
        "worse/BUILD",
        r#"
target(name = "key", driver = "sh", rum = "true")
target(name = "driver", driver = "nothing")
target(name = "dangling", driver = "sh", deps = [":kei", "//nowhere:x"], run = "true")
target(name = "source", driver = "sh", deps = [file("absent.txt")], run = "true")
target(name = "program", driver = "sh", tools = ["//@heph/bin:no-such-program"], run = "true")
target(name = "one", driver = "sh", run = "true", out = "same.txt")
target(name = "two", driver = "sh", run = "true", out = "same.txt")
target(name = "tail", driver = "sh", deps = [":head"], run = "true")
target(name = "head", driver = "sh", deps = [":tail"], run = "true")
target(name = "self", driver = "sh", deps = [":self"], run = "true")
target(name = "text", driver = "textfile", text = "t", out = "text.txt")
target(name = "not-a-program", driver = "sh", tools = [":text"], run = "true")
target(name = "over", driver = "sh", deps = [file("own.txt")], run = "true", out = "own.txt")
target(name = "empty", driver = "group", deps = [":text"], include = ["*.c"])
target(name = "page", driver = "http_fetch", url = "http://localhost/x", out = "x")
"#,
    );
    bench.write("worse/own.txt", "");
    insta::assert_snapshot!(ask(&bench, What::Validate(query("//..."))), @r#"
    {"version":1,"targets":21,"packages":5,"problems":[
    {"message":"variable 'undefined' not found\n 1 | target(name = \"x\", driver = \"sh\", run = undefined)\n   |                                         ^^^^^^^^^","place":"bad/BUILD:1:41","hint":null},
    {"message":"//worse:key needs 'run': driver 'sh' cannot do without\n 2 | target(name = \"key\", driver = \"sh\", rum = \"true\")\n   | ^^^^^^","place":"worse/BUILD:2:1","hint":"add run = \"command\""},
    {"message":"driver 'sh' has no key 'rum'\n 2 | target(name = \"key\", driver = \"sh\", rum = \"true\")\n   |                                     ^^^","place":"worse/BUILD:2:37","hint":"did you mean 'run'?"},
    {"message":"there is no driver 'nothing'\n 3 | target(name = \"driver\", driver = \"nothing\")\n   |                         ^^^^^^","place":"worse/BUILD:3:25","hint":"registered are group, http_fetch, sh, textfile"},
    {"message":"//worse:dangling depends on //nowhere:x, but //nowhere has no BUILD file","place":"worse/BUILD:4:1","hint":null},
    {"message":"//worse:dangling depends on //worse:kei, which does not exist","place":"worse/BUILD:4:1","hint":"did you mean //worse:key?"},
    {"message":"//worse:source has an input that cannot be used: no such file: worse/absent.txt","place":"worse/BUILD:5:1","hint":null},
    {"message":"//worse:program has a program that cannot be used: no program 'no-such-program' on PATH","place":"worse/BUILD:6:1","hint":"install it, or add its directory to PATH"},
    {"message":"worse/same.txt is produced by both //worse:two and //worse:one (worse/BUILD:7:1)","place":"worse/BUILD:8:1","hint":"give one of the outputs another name"},
    {"message":"dependency cycle:\n  //worse:head (worse/BUILD:10:1) needs\n  //worse:tail (worse/BUILD:9:1) needs\n  //worse:head","place":"worse/BUILD:10:1","hint":"remove one of these dependencies; move what both need into a target of its own"},
    {"message":"dependency cycle:\n  //worse:self (worse/BUILD:11:1) needs\n  //worse:self","place":"worse/BUILD:11:1","hint":"remove one of these dependencies; move what both need into a target of its own"},
    {"message":"//worse:not-a-program: //worse:text is listed under tools but has no executable output","place":"worse/BUILD:13:1","hint":"make its output executable (chmod +x \"$OUT\"), or list it under deps"},
    {"message":"//worse:over declares the output worse/own.txt, which is also its input from //@heph/fs:file@f=worse/own.txt","place":"worse/BUILD:14:1","hint":"give the output another name; a target that rewrites its inputs needs codegen = \"in_place\""},
    {"message":"//worse:empty: nothing matches *.c of the 1 outputs of its dependencies","place":"worse/BUILD:15:1","hint":"paths are relative to the workspace root: worse/text.txt"}],"notes":[
    {"message":"//worse:page has no sha256: a run stops there and tells the digest","place":"worse/BUILD:16:1","hint":null},
    {"message":"/opt/tools/bin is on the PATH of 9 targets as a whole: a program that changes there changes no key","place":null,"hint":"list the programs that are used under tools, as //@heph/bin:NAME, and take the directory out of the plugin's option 'path'"}]}
    "#);
    let fine = ask(&bench, What::Validate(query("//lib/...")));
    assert!(fine.contains("\"problems\":[]"), "{fine}");
    insta::assert_snapshot!(refused(try_ask(&bench, "", What::Validate(query("//lib:lip"))).unwrap_err()), @"
    exit 1
    no targets matched //lib:lip |  | did you mean //lib:lib?
    ");
}

#[test]
fn completion_goes_on_from_what_was_typed() {
    let bench = Bench::new(PROJECT);
    let complete = |package: &str, text: &str| {
        let found = try_ask(
            &bench,
            package,
            What::Complete(InspectComplete { prefix: text.into() }),
        )
        .unwrap();
        let values: Vec<&str> = found
            .split("\"value\":\"")
            .skip(1)
            .map(|rest| rest.split('"').next().unwrap())
            .collect();
        format!("{text} -> {}", values.join(" "))
    };
    let typed = [
        "",
        "/",
        "//",
        "//a",
        "//app",
        "//app:",
        "//app:b",
        "//lib",
        "//lib/",
        "//lib/deep",
        "//x",
        "//:",
        ":",
        "./",
        "../",
        "te",
        "//app:bin|",
    ];
    let all: Vec<String> = typed.iter().map(|text| complete("lib", text)).collect();
    insta::assert_snapshot!(all.join("\n"), @"
     -> //: //app: //lib/ //lib: :lib :tool
    / -> //: //app: //lib/ //lib:
    // -> //: //app: //lib/ //lib:
    //a -> //app: //app:bin //app:once
    //app -> //app: //app:bin //app:once
    //app: -> //app:bin //app:once
    //app:b -> //app:bin
    //lib -> //lib/ //lib:
    //lib/ -> //lib/deep: //lib/deep:note
    //lib/deep -> //lib/deep: //lib/deep:note
    //x -> 
    //: -> //:all
    : -> :lib :tool
    ./ -> ./deep: ./deep:note
    ../ -> ../app: ../lib/ ../lib:
    te -> 
    //app:bin| ->
    ");
    let described = ask(
        &bench,
        What::Complete(InspectComplete {
            prefix: "//lib/deep:".into(),
        }),
    );
    insta::assert_snapshot!(described, @r#"
    {"version":1,"candidates":[
    {"value":"//lib/deep:note","description":"a note"}]}
    "#);
    bench.write("lib/BUILD", "broken(");
    assert_eq!(complete("", "//lib:"), "//lib: -> ");
    assert_eq!(complete("", "//l"), "//l -> //lib/ //lib:");
}

fn maintain(bench: &Bench, what: maintain_request::What) -> Result<String, RunError> {
    let answer = maintain::answer(
        &bench.engine(),
        &MaintainRequest {
            what: Some(what),
            config: bench.start("//...").workspace.unwrap().config,
            ..MaintainRequest::default()
        },
    )?;
    Ok(String::from_utf8(answer).unwrap())
}

#[test]
fn the_store_is_counted_trimmed_and_cleared() {
    let bench = Bench::new(PROJECT);
    assert_eq!(bench.run("//:all").finished.exit_code, 0);
    let home = bench.home().to_string_lossy().into_owned();
    let statistics = || {
        let text = maintain(&bench, maintain_request::What::Statistics(StoreStatistics {}))
            .unwrap()
            .replace(&home, "<home>");
        let hidden = |text: String, name: &str| {
            let at = text.find(&format!("\"{name}\":")).unwrap() + name.len() + 3;
            let end = at + text[at..].find(',').unwrap();
            assert_ne!(&text[at..end], "0", "{name} of {text}");
            format!("{}<bytes>{}", &text[..at], &text[end..])
        };
        hidden(hidden(text, "index_bytes"), "max_bytes")
    };
    insta::assert_snapshot!(statistics(), @r#"{"version":1,"home":"<home>","results":3,"blobs":0,"blob_bytes":0,"small_blobs":3,"index_bytes":<bytes>,"max_bytes":<bytes>,"live_runs":0,"generation":1,"uploads":0,"waiting":[],"sandboxes":0,"sandbox_bytes":0}"#);
    let collected = maintain(&bench, maintain_request::What::Collect(StoreCollect {})).unwrap();
    assert!(
        collected.starts_with("{\"version\":1,\"removed_results\":0,\"removed_blobs\":0,\"freed_bytes\":0,"),
        "{collected}"
    );

    std::fs::create_dir_all(bench.home().join("sandbox/abc/ws")).unwrap();
    std::fs::write(bench.home().join("sandbox/abc/ws/file"), "12345").unwrap();
    assert!(statistics().contains("\"sandboxes\":1,\"sandbox_bytes\":5"));
    let cleaned = maintain(&bench, maintain_request::What::Clean(StoreClean {})).unwrap();
    assert_eq!(
        cleaned,
        "{\"version\":1,\"removed_sandboxes\":1,\"freed_bytes\":5}"
    );

    let engine = bench.engine();
    let live = engine.store().begin_run().unwrap();
    let refused_clear = refused(maintain(&bench, maintain_request::What::Clear(StoreClear {})).unwrap_err())
        .replace(&home, "<home>");
    insta::assert_snapshot!(refused_clear, @"
    exit 1
    failed to clear '<home>/cache': 1 live run(s) use it |  | wait until they have ended
    ");
    drop((live, engine));
    let cleared = maintain(&bench, maintain_request::What::Clear(StoreClear {})).unwrap();
    assert!(
        cleared.starts_with("{\"version\":1,\"removed_results\":3,"),
        "{cleared}"
    );
    insta::assert_snapshot!(statistics(), @r#"{"version":1,"home":"<home>","results":0,"blobs":0,"blob_bytes":0,"small_blobs":0,"index_bytes":<bytes>,"max_bytes":<bytes>,"live_runs":0,"generation":2,"uploads":0,"waiting":[],"sandboxes":0,"sandbox_bytes":0}"#);
    assert_eq!(
        bench.run("//:all").executed.len(),
        2,
        "nothing of what was cleared is used"
    );
}

#[test]
fn one_result_tells_where_it_came_from() {
    let bench = Bench::new(PROJECT);
    assert_eq!(bench.run("//:all").finished.exit_code, 0);
    let key = targets_raw(&bench, "hashin", "//lib:lib")
        .split("\"key\":\"")
        .nth(1)
        .unwrap()[..64]
        .to_owned();
    let inspect = |key: &str| {
        maintain(
            &bench,
            maintain_request::What::Inspect(StoreInspect {
                key: key.to_owned(),
                ..StoreInspect::default()
            }),
        )
    };
    let platform = format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH);
    insta::assert_snapshot!(readable(&inspect(&key).unwrap()).replace(&platform, "<platform>"), @r#"
    {"version":1,"key":"<digest>","kind":"target","address":"//lib:lib","platform":"<platform>","sandbox":"standard","producer":"0.1.0","created_unix_ms":<time>,"duration_ms":<time>,"exit_code":0,"log":null,"outputs":[
    {"group":"","path":"lib/lib.out","kind":"file","support":false,"size":4,"digest":"<digest>"}],"parts":[
    {"label":"format","digest":"<digest>"},
    {"label":"kind","digest":"<digest>"},
    {"label":"address","digest":"<digest>"},
    {"label":"os","digest":"<digest>"},
    {"label":"arch","digest":"<digest>"},
    {"label":"system","digest":"<digest>"},
    {"label":"base programs","digest":"<digest>"},
    {"label":"run","digest":"<digest>"},
    {"label":"network","digest":"<digest>"},
    {"label":"out","digest":"<digest>"},
    {"label":"support_files","digest":"<digest>"},
    {"label":"path","digest":"<digest>"},
    {"label":"input lib/lib.txt","digest":"<digest>"}],"stored":[
    {"origin":"local","cache":null,"uri":null,"scope":null,"signer":null,"created_unix_ms":<time>,"producer":"0.1.0","outputs_digest":"<digest>"}],"caches":[],"purged_until_unix_ms":null}
    "#);
    insta::assert_snapshot!(refused(inspect("abc").unwrap_err()), @"
    exit 2
    'abc' is not a key |  | a key is 64 hex digits, as heph inspect hashin prints it
    ");
    insta::assert_snapshot!(refused(inspect(&"0".repeat(64)).unwrap_err()), @"
    exit 1
    neither the store nor a remote cache has a result with the key 0000000000000000000000000000000000000000000000000000000000000000 |  |
    ");
}
