//! Another branch under a daemon that has seen the first one.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use heph_tests::{Environment, Mode};

use crate::daemon::daemon;

const PACKAGES: usize = 100;
const FILES: usize = 200;

/// Every file of some packages says which branch it is of; the key of each package's target has all of its files.
fn write_branch(env: &Environment, branch: &str, packages: std::ops::Range<usize>) {
    for package in packages {
        for file in 0..FILES {
            env.write(
                &format!("p{package}/{file}.txt"),
                format!("{branch} {package} {file}\n"),
            );
        }
        env.write(
            &format!("p{package}/BUILD"),
            "target(name='t', driver='sh', deps=file('0.txt'), hash_deps=glob('*.txt'), run='cat $SRC > $OUT', out='out')\n",
        );
    }
}

/// What the targets gave, by name of the file.
fn outputs(env: &Environment, mode: &str) -> BTreeMap<String, String> {
    let out = env.beside("copied");
    drop(fs::remove_dir_all(&out));
    let run = env.heph(["run", "-q", "--copy-out", out.to_str().unwrap(), "//..."]);
    run.with("HEPH_DAEMON", mode).run().success();
    let files = heph_tests::files_below(&out);
    files
        .into_iter()
        .map(|file| (file.display().to_string(), fs::read_to_string(&file).unwrap()))
        .collect()
}

#[test]
fn a_checkout_of_more_files_than_the_watcher_remembers_is_seen_whole() {
    let remembered = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap_or_default();
    assert!(
        remembered
            .trim()
            .parse::<usize>()
            .is_ok_and(|most| most < PACKAGES * FILES)
    );
    // So many files take minutes on a busy disk.
    let memory = Path::new("/dev/shm");
    let place = if memory.is_dir() {
        memory
    } else {
        &std::env::temp_dir()
    };
    let env = Environment::within(place).with_config().with_mode(Mode::Fresh);
    write_branch(&env, "main", 0..PACKAGES);
    env.commit_all();
    env.git(&["checkout", "--quiet", "-b", "other"]);
    // All files are others, a package is gone, another one is new.
    fs::remove_dir_all(env.path("p0")).unwrap();
    write_branch(&env, "other", 1..PACKAGES + 1);
    env.commit_all();
    env.git(&["checkout", "--quiet", "main"]);
    let packages = |range: std::ops::Range<usize>| {
        let mut packages: Vec<_> = range.map(|package| format!("//p{package}:t")).collect();
        packages.sort();
        packages
    };
    assert_eq!(env.build("//...").executed(), packages(0..PACKAGES));
    let pid = daemon(&env);
    assert!(env.build("//...").executed().is_empty(), "it is warm");
    env.git(&["checkout", "--quiet", "other"]);
    assert_eq!(env.build("//...").executed(), packages(1..PACKAGES + 1));
    let warm = outputs(&env, "require");
    assert_eq!(warm.len(), PACKAGES);
    assert!(warm.values().all(|text| text.starts_with("other ")), "{warm:?}");
    // Who looks at everything by itself finds the results under the same keys.
    let alone = env
        .heph(["run", "--json", "//..."])
        .with("HEPH_DAEMON", "off")
        .build();
    alone.run.success();
    assert!(alone.executed().is_empty(), "{:?}", alone.executed());
    assert_eq!(outputs(&env, "off"), warm);
    env.git(&["checkout", "--quiet", "main"]);
    assert!(
        env.build("//...").executed().is_empty(),
        "all of it was built before"
    );
    assert!(
        outputs(&env, "require")
            .values()
            .all(|text| text.starts_with("main "))
    );
    // One file among all of them.
    env.write("p7/150.txt", "edited\n");
    assert_eq!(env.build("//...").executed(), ["//p7:t"]);
    assert_eq!(daemon(&env), pid);
}
