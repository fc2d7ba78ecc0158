//! BUILD files: every text ends with targets or with problems that have a place in it, the same each time.
#![no_main]
#![allow(dead_code, unused_imports, reason = "what the fuzzer does not reach of the modules below")]

use std::fs;
use std::sync::{Arc, LazyLock};

use heph_common::Address;
use heph_common::config::{self, Base};
use libfuzzer_sys::fuzz_target;

// Its modules alone: the whole crate would take minutes to build.
#[path = "../../../../heph-engine/src"]
mod engine {
    pub mod build_file;
    pub mod definition;
    pub mod driver;
    pub mod problem;
    pub mod spec;
    pub mod stat;
    pub mod tree;
}
use engine::{build_file, definition, driver, problem, spec, stat, tree};

use driver::Loader;
use problem::Problem;

const CONFIG: &str = "plugins: [{builtin: buildfile, options: {defaultDriver: bash}}, {builtin: bash}, {builtin: exec}, \
                      {builtin: textfile}, {builtin: http_fetch}]";
const MACROS: &str = "def m(name, **kw):\n    return target(name = name, run = 'x', **kw)\n\nX = {'a': [1, 'b']}\n";

static WORKSPACE: LazyLock<(tempfile::TempDir, Loader)> = LazyLock::new(|| {
    // In memory where there is such a directory: every input is written.
    let dir = match tempfile::tempdir_in("/dev/shm") {
        Ok(dir) => dir,
        Err(_) => tempfile::tempdir().unwrap(),
    };
    fs::create_dir_all(dir.path().join("p/src")).unwrap();
    fs::write(dir.path().join("p/src/a.c"), "").unwrap();
    fs::write(dir.path().join("m.star"), MACROS).unwrap();
    fs::write(dir.path().join("p/BUILD"), "").unwrap();
    let config = config::parse(".hephconfig", CONFIG, Base::default()).unwrap().config;
    let loader = Loader::new(dir.path(), &config, None, Arc::new(|_| false)).unwrap();
    (dir, loader)
});

fn check(problem: &Problem, text: &str) {
    assert!(!problem.message.trim().is_empty());
    let Some(place) = &problem.place else { panic!("no place: {problem:?}") };
    let lines = match place.file.as_str() {
        "m.star" => MACROS.split('\n').count(),
        _ => text.split('\n').count(),
    };
    assert!(place.line >= 1 && place.line as usize <= lines, "{problem:?}");
}

fuzz_target!(|text: &str| {
    let (dir, loader) = &*WORKSPACE;
    fs::write(dir.path().join("p/BUILD"), text).unwrap();
    let evaluated = loader.evaluate("p");
    if text.len() % 16 == 0 {
        let again = loader.evaluate("p").map(|again| (again.specs, again.observed, again.printed));
        let first = evaluated.clone().map(|first| (first.specs, first.observed, first.printed));
        assert_eq!(first, again);
    }
    let evaluated = match evaluated {
        Ok(evaluated) => evaluated,
        Err(problems) => {
            assert!(!problems.is_empty());
            return problems.iter().for_each(|problem| check(problem, text));
        }
    };
    for spec in &evaluated.specs {
        assert_eq!(Address::parse(&spec.address.to_string()).as_ref(), Ok(&spec.address));
        let definition = match loader.define(spec) {
            Ok(definition) => definition,
            Err(problems) => {
                problems.iter().for_each(|problem| check(problem, text));
                continue;
            }
        };
        for dependency in definition.dependencies.iter().filter(|dependency| dependency.address.is_provided()) {
            // What does not come from glob(), file() or query() may be wrong, but is answered.
            let _ = loader.generated(&dependency.address).unwrap().map_err(|problem| problem.message.len());
        }
    }
});
