//! The law of it all: after any edits, an incremental build gives what a build from nothing gives.

use std::collections::BTreeMap;

use heph_tests::Environment;
use proptest::prelude::*;

/// A small graph: target `i` reads some sources and some earlier targets, in one of a few ways.
#[derive(Clone, Debug)]
struct Node {
    sources: Vec<usize>,
    needs: Vec<usize>,
    command: usize,
    package: usize,
}

#[derive(Clone, Debug)]
enum Edit {
    Source { file: usize, text: String },
    Command { node: usize, command: usize },
    Need { node: usize, need: usize },
    Drop { node: usize },
    AddToGlob { package: usize, name: usize },
    RemoveFromGlob { package: usize, name: usize },
}

const SOURCES: usize = 4;
const PACKAGES: usize = 2;

/// Some commands forget part of their input, so that changes stop half-way.
const COMMANDS: [&str; 4] = [
    "cat $LIST_SRC | xargs cat /dev/null > $OUT",
    "cat $LIST_SRC | xargs cat /dev/null | sort -u > $OUT",
    "cat $LIST_SRC | xargs cat /dev/null | wc -l > $OUT",
    "cat $LIST_SRC | xargs cat /dev/null | cut -c1 > $OUT",
];

fn nodes() -> impl Strategy<Value = Vec<Node>> {
    let node = (
        proptest::collection::vec(0..SOURCES, 0..3),
        proptest::collection::vec(0..8usize, 0..3),
        0..COMMANDS.len(),
        0..PACKAGES,
    );
    proptest::collection::vec(
        node.prop_map(|(sources, needs, command, package)| Node {
            sources,
            needs,
            command,
            package,
        }),
        1..7,
    )
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let edit = prop_oneof![
        (0..SOURCES, "[ab#]{0,3}\n").prop_map(|(file, text)| Edit::Source { file, text }),
        (0..8usize, 0..COMMANDS.len()).prop_map(|(node, command)| Edit::Command { node, command }),
        (0..8usize, 0..8usize).prop_map(|(node, need)| Edit::Need { node, need }),
        (0..8usize).prop_map(|node| Edit::Drop { node }),
        (0..PACKAGES, 0..3usize).prop_map(|(package, name)| Edit::AddToGlob { package, name }),
        (0..PACKAGES, 0..3usize).prop_map(|(package, name)| Edit::RemoveFromGlob { package, name }),
    ];
    proptest::collection::vec(edit, 1..5)
}

fn write_build_files(env: &Environment, nodes: &[Node]) {
    let mut files: BTreeMap<usize, String> = (0..PACKAGES).map(|package| (package, String::new())).collect();
    for (number, node) in nodes.iter().enumerate() {
        let sources = node
            .sources
            .iter()
            .map(|source| format!("'//@heph/fs:file@f=src/s{source}.txt', "));
        let needs = node
            .needs
            .iter()
            .filter(|need| **need < number)
            .map(|need| format!("'//p{}:t{need}', ", nodes[*need].package));
        let deps: std::collections::BTreeSet<String> = sources.chain(needs).collect();
        let deps: String = deps.into_iter().collect();
        let command = COMMANDS[node.command];
        let glob = if number % 3 == 0 { "glob('*.in'), " } else { "" };
        let text = format!(
            "target(name='t{number}', driver='bash', deps=[{glob}{deps}], run='{command}', out='t{number}.out')\n"
        );
        files.get_mut(&node.package).expect("a package").push_str(&text);
    }
    for (package, text) in files {
        env.write(&format!("p{package}/BUILD"), text);
    }
}

fn apply(env: &Environment, nodes: &mut [Node], edit: &Edit) {
    let count = nodes.len();
    match edit {
        Edit::Source { file, text } => env.write(&format!("src/s{file}.txt"), text),
        Edit::Command { node, command } => nodes[node % count].command = *command,
        Edit::Need { node, need } => nodes[node % count].needs.push(need % count),
        Edit::Drop { node } => nodes[node % count].needs.clear(),
        Edit::AddToGlob { package, name } => {
            env.write(&format!("p{package}/g{name}.in"), format!("in {name}\n"))
        }
        Edit::RemoveFromGlob { package, name } => {
            let _ = std::fs::remove_file(env.path(&format!("p{package}/g{name}.in")));
        }
    }
    write_build_files(env, nodes);
}

/// Everything that the workspace builds, by path.
fn outputs(env: &Environment) -> BTreeMap<String, String> {
    let place = env.beside("copied");
    let _ = std::fs::remove_dir_all(&place);
    env.heph(["run", "-q", "--copy-out", place.to_str().unwrap(), "//..."])
        .run()
        .success();
    let mut found = BTreeMap::new();
    for package in 0..PACKAGES {
        for entry in std::fs::read_dir(place.join(format!("p{package}")))
            .into_iter()
            .flatten()
            .flatten()
        {
            let name = format!("p{package}/{}", entry.file_name().to_string_lossy());
            found.insert(name, std::fs::read_to_string(entry.path()).unwrap());
        }
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_incremental_build_equals_a_clean_one(mut nodes in nodes(), rounds in proptest::collection::vec(edits(), 1..4)) {
        let env = Environment::new();
        for source in 0..SOURCES {
            env.write(&format!("src/s{source}.txt"), format!("s{source}\n"));
        }
        write_build_files(&env, &nodes);
        outputs(&env);
        for edits in &rounds {
            for edit in edits {
                apply(&env, &mut nodes, edit);
            }
            let incremental = outputs(&env);
            prop_assert!(env.build("//...").executed().is_empty());
            std::fs::rename(env.home(), env.beside("kept")).unwrap();
            let clean = outputs(&env);
            std::fs::remove_dir_all(env.home()).unwrap();
            std::fs::rename(env.beside("kept"), env.home()).unwrap();
            prop_assert_eq!(incremental, clean);
        }
    }
}
