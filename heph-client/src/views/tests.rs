//! The examples of docs/json.md, as people see them.

use serde_json::Value;

use super::*;
use crate::terminal::Style;

/// The first example below each heading of the page.
fn examples() -> Vec<(String, Value)> {
    let page = include_str!("../../../docs/json.md");
    let mut found = Vec::new();
    for section in page.split("\n#").skip(1) {
        let title = section
            .lines()
            .next()
            .unwrap_or_default()
            .trim_matches(['#', ' ']);
        let Some((_, rest)) = section.split_once("```json\n") else {
            continue;
        };
        let block = rest.split("```").next().unwrap_or_default();
        let mut values = serde_json::Deserializer::from_str(block).into_iter::<Value>();
        let value = values
            .next()
            .unwrap()
            .unwrap_or_else(|error| panic!("{title}: {error}"));
        for other in values {
            other.unwrap_or_else(|error| panic!("{title}: {error}"));
        }
        found.push((title.to_owned(), value));
    }
    found
}

#[test]
fn every_documented_shape_is_shown() {
    let style = Style::plain();
    let mut shown = String::new();
    for (title, document) in examples() {
        let text = match title.as_str() {
            "packages" => packages(&document),
            "labels" => labels(&document),
            "spec" => spec(&document, style),
            "def" => definition(&document, style),
            "deps" => edges(&document, "dependencies", style),
            "revdeps" => edges(&document, "dependants", style),
            "path A B" => path(&document),
            "hashin" => hashin(&document, style),
            "hashout" => hashout(&document, style),
            "outputs" => outputs(&document, style),
            "states" => states(&document, style),
            "functions" => functions(&document, style),
            "graph" => dot(&document),
            "config" => config(&document, style),
            "heph cache" => statistics(&document, style),
            _ => continue,
        };
        shown.push_str(&format!("== {title}\n{text}"));
    }
    insta::assert_snapshot!(shown, @r#"
    == packages
    //cmd/server  3 targets
    == labels
    test  12 targets
    == spec
    # cmd/server/BUILD:3:1
    target(  # in //cmd/server
        name = "bin",
        driver = "bash",
        deps = ["//lib:lib"],
        out = "server",
        run = "go build -o $OUT",
        labels = ["go"],
        transitive = {
            "tools": ["//tools:gen"],
        },
    )
    == def
    //cmd/server:bin
      driver          bash
      place           cmd/server/BUILD:3:1
      labels          go
      dependencies    source   //lib:lib
      outputs         cmd/server/server
      command         bash --noprofile --norc -euo pipefail -c
      env             CGO_ENABLED=0
      pass env        GOFLAGS
      script          go build -o $OUT
    == deps
    //cmd/server:bin
      //lib:lib
      //tools:gen  (tool, gen)
    == revdeps
    //lib:lib
      //cmd/server:bin
    == path A B
    //cmd/server:bin
    //mid:mid
    //lib:lib
    == hashin
    //cmd/server:bin 4f0c…
      91ab… run
      07cd… input lib/lib.a
    == hashout
    //cmd/server:bin 77e1…
      c0de…        cmd/server/server
    == outputs
    //cmd/server:bin
      cmd/server/server  1.0 MiB
    == states
    //cmd/server:bin
      go  # cmd/BUILD:1:1
        race = True
    == functions
    glob(pattern, exclude=[])
        files that match, sorted
    == graph
    digraph heph {
      rankdir=LR;
      node [shape=box, fontname="sans-serif"];
      "//cmd/server:bin" [style=bold];
      "//cmd/server:bin" -> "//lib:lib";
    }
    == config
    # root: /home/me/project
    # home: /home/me/.heph
    # file: /home/me/project/.hephconfig
    # file: /home/me/project/ci.hephconfig
    cache.spillThresholdBytes: 65536  # default
    lock.backend: mem                 # .hephconfig:7
    == heph cache
    home       /home/me/.heph
    results    512
    blobs      2048, 70.0 MiB
    index      1.0 MiB
    in all     71.0 MiB of at most 10.0 GiB
    sandboxes  3, 40.0 KiB
    running    0 runs
    uploads    3 results, 1.0 MiB, for cache 'shared'
    "#);
}

#[test]
fn a_miss_is_explained() {
    let style = Style::plain();
    let about = |status: &str| {
        let document = serde_json::json!({
            "address": "//cmd:bin", "status": status, "key": "4f0c00112233445566",
            "nearest": null, "missing": if status == "unknown" { vec!["//lib:lib"] } else { vec![] },
            "differences": if status == "differs" {
                vec![
                    serde_json::json!({"label": "input cmd/main.go", "change": "changed",
                        "before": "aa0100112233445566", "now": "bb0200112233445566"}),
                    serde_json::json!({"label": "env CFLAGS", "change": "added", "before": null, "now": "cc"}),
                ]
            } else {
                vec![]
            },
        });
        why_miss(&document, style)
    };
    let shown: String = ["hit", "new", "uncached", "unknown"]
        .into_iter()
        .map(about)
        .collect();
    insta::assert_snapshot!(shown, @"
    //cmd:bin would not run: there is a result for its key 4f0c00112233
    //cmd:bin would run: it has no earlier result here
    //cmd:bin would run: its results are not kept (cache = False)
    //cmd:bin may run: its key is not known yet
      to be built first:
        //lib:lib
    ");
    let differs = about("differs");
    // The time since is left out: it grows.
    let lines: Vec<&str> = differs.lines().skip(1).collect();
    insta::assert_snapshot!(lines.join("\n"), @"
    changed  input cmd/main.go (aa0100112233 -> bb0200112233)
    added    env CFLAGS
    ");
}
