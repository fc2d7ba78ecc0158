//! Every command line in the pages is one that works.

use std::collections::BTreeSet;
use std::path::PathBuf;

use heph_tests::{Environment, repository};

fn pages() -> Vec<PathBuf> {
    let mut pages = vec![
        repository().join("README.md"),
        repository().join("CONTRIBUTING.md"),
    ];
    for entry in std::fs::read_dir(repository().join("docs")).unwrap().flatten() {
        pages.extend(Some(entry.path()).filter(|path| path.extension().is_some_and(|end| end == "md")));
    }
    pages.sort();
    pages
}

/// Lines of the blocks that are marked `sh`, with their pages; continued lines are joined, `$ ` is dropped.
fn command_lines() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap().replace("\\\n", " ");
        let name = page.file_name().unwrap().to_string_lossy().into_owned();
        let mut inside = false;
        for line in text.lines() {
            if line.starts_with("```") {
                inside = matches!(line.trim_end(), "```sh" | "```console" | "```bash") && !inside;
            } else if inside {
                let line = line
                    .trim_start_matches("$ ")
                    .split(" # ")
                    .next()
                    .unwrap_or_default()
                    .trim();
                if !line.is_empty() && !line.starts_with('#') {
                    found.push((name.clone(), line.to_owned()));
                }
            }
        }
    }
    found
}

/// Words of a simple command; a quoted word is one word.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    for c in line.chars() {
        match (c, quote) {
            ('\'' | '"', None) => quote = Some(c),
            (c, Some(q)) if c == q => quote = None,
            (' ', None) => words.push(String::new()),
            (c, _) => words.last_mut().unwrap().push(c),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// A workspace in which the examples of the pages make sense.
fn workspace() -> Environment {
    let env = Environment::new();
    for package in ["cmd/server", "cmd/client", "sub", "lib", "a", "b", "app"] {
        let names: String = ["bin", "lib", "x", "b", "t", "test", "server", "app"]
            .map(|name| {
                format!(
                    "target(name='{name}', driver='sh', labels='test', run='echo > $OUT', out='{name}.out')\n"
                )
            })
            .concat();
        env.write(&format!("{package}/BUILD"), names);
    }
    env.write("BUILD", "target(name='t', driver='sh', run='echo > $OUT', out='t.out')\ntarget(name='hello', driver='sh', run='echo > $OUT', out='hello')\n");
    env.commit_all();
    env
}

/// Those that need a terminal or a service manager, run until they are stopped, or are run by CI itself.
const ELSEWHERE: [&str; 7] = [
    "daemon install",
    "--watch",
    "--shell",
    "cargo ",
    "tests/setup",
    ".ci/run",
    "benches/run",
];

#[test]
fn every_heph_command_line_of_the_pages_is_accepted() {
    let env = workspace();
    let mut tried = BTreeSet::new();
    for (page, line) in command_lines() {
        if ELSEWHERE.iter().any(|part| line.contains(part)) || !tried.insert(line.clone()) {
            continue;
        }
        let parts = words(&line);
        let variables = parts
            .iter()
            .take_while(|word| word.contains('='))
            .filter_map(|word| word.split_once('='));
        let variables: Vec<_> = variables
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let Some((program, arguments)) = parts[variables.len()..].split_first() else {
            continue;
        };
        if program == "heph" {
            for name in variables
                .iter()
                .filter(|(name, _)| name == "HEPH_PROFILES")
                .flat_map(|(_, value)| value.split(','))
            {
                env.write(&format!("{name}.hephconfig"), "");
            }
            let mut call = env.heph(arguments.iter().map(String::as_str));
            for (name, value) in &variables {
                call = call.with(name, value);
            }
            let run = call.run();
            // 1 is for examples whose targets or differences are not here; 2 would be wrong usage.
            assert!(run.code == 0 || run.code == 1, "{page}: {line}\n{run}");
        } else {
            assert!(
                ["just", "git", "./examples/lua/fetch", "examples/lua/fetch", "cd"]
                    .contains(&program.as_str()),
                "{page}: who runs {line:?}?"
            );
        }
    }
}

#[test]
fn links_between_pages_lead_somewhere() {
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap();
        for link in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split_once(')'))
            .map(|(link, _)| link)
        {
            let file = link.split('#').next().unwrap();
            if !file.is_empty() && !link.contains("://") {
                assert!(
                    page.parent().unwrap().join(file).exists(),
                    "{} links to {link}",
                    page.display()
                );
            }
        }
    }
}
