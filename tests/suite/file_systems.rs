//! Homes and workspaces on other file systems, full ones and read-only ones. These mount things, so they need root.

use std::path::{Path, PathBuf};
use std::process::Command;

use heph_tests::{Environment, Mode, files_below, needs, program};

/// A file system of its own, unmounted at the end.
pub(crate) struct Mounted {
    directory: tempfile::TempDir,
}

impl Mounted {
    pub(crate) fn at(&self) -> PathBuf {
        self.directory.path().join("at")
    }

    fn new(mount: impl FnOnce(&Path, &Path) -> bool) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path().join("at");
        std::fs::create_dir(&at).unwrap();
        let mounted = mount(&directory.path().join("image"), &at);
        mounted.then_some(Self { directory })
    }

    pub(crate) fn tmpfs(options: &str) -> Option<Self> {
        Self::new(|_, at| run("mount", &["-t", "tmpfs", "-o", options, "tmpfs", text(at)]))
    }

    fn image(size: &str, make: &[&str]) -> Option<Self> {
        Self::new(|image, at| {
            run("truncate", &["-s", size, text(image)])
                && run(make[0], &[&make[1..], &[text(image)]].concat())
                && run("mount", &["-o", "loop", text(image), text(at)])
        })
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        run("umount", &[text(&self.at())]);
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn run(name: &str, arguments: &[&str]) -> bool {
    let Some(path) = program(name) else { return false };
    Command::new(path)
        .args(arguments)
        .output()
        .is_ok_and(|output| output.status.success())
}

fn build_with_big_outputs(env: &Environment) {
    env.write("in.txt", "x".repeat(200_000));
    env.write(
        "BUILD",
        "target(name='big', driver='sh', deps=file('in.txt'), run='cat in.txt in.txt > $OUT', out='big')\n\
         target(name='use', driver='sh', deps=':big', run='wc -c < big > $OUT', out='count')\n",
    );
    env.build("//...");
    assert!(env.build("//...").executed().is_empty());
    env.heph(["run", "--copy-out", "copied", "//..."]).run().success();
    assert_eq!(env.read("copied/count").trim(), "400000");
    env.write("copied/big", "spoiled");
    env.heph(["run", "--force", "//:use"]).run().success();
    env.heph(["run", "--copy-out", "again", "//:big"]).run().success();
    assert_eq!(env.read("again/big").len(), 400_000);
}

#[test]
fn reflinks_on_btrfs_and_xfs() {
    for (name, make) in [
        ("btrfs", &["mkfs.btrfs", "-q"][..]),
        ("xfs", &["mkfs.xfs", "-q", "-m", "reflink=1"]),
    ] {
        let mounted = Mounted::image("512M", make);
        if let Some(mounted) = &mounted {
            build_with_big_outputs(&Environment::within(&mounted.at()).with_config());
        }
        needs("reflinks_on_btrfs_and_xfs", name, mounted.is_some());
    }
}

#[test]
fn workspace_and_home_on_different_file_systems() {
    let Some(mounted) = Mounted::tmpfs("size=64m") else {
        needs("workspace_and_home_on_different_file_systems", "mounting", false);
        return;
    };
    let mut env = Environment::new();
    env.set("HEPH_HOME", text(&mounted.at().join("home")));
    build_with_big_outputs(&env);
}

#[test]
fn a_full_disk_fails_with_the_cause_and_harms_nothing() {
    let Some(mounted) = Mounted::tmpfs("size=3m") else {
        needs(
            "a_full_disk_fails_with_the_cause_and_harms_nothing",
            "mounting",
            false,
        );
        return;
    };
    let mut env = Environment::new();
    env.write(
        "s/BUILD",
        "target(name='small', driver='sh', run='echo s > $OUT', out='small')\n",
    );
    env.write(
        "BUILD",
        "target(name='big', driver='sh', run='head -c 8000000 /dev/zero > $OUT', out='big')\n",
    );
    env.set("HEPH_HOME", text(&mounted.at().join("home")));
    env.build("//s:small");
    let run = env.heph(["run", "//:big"]).run();
    assert_ne!(run.code, 0, "{run}");
    run.says("o space left");
    assert!(env.build("//s:small").executed().is_empty());
}

#[test]
fn a_full_disk_from_the_start_costs_one_warning() {
    let Some(mounted) = Mounted::tmpfs("size=3m") else {
        needs("a_full_disk_from_the_start_costs_one_warning", "mounting", false);
        return;
    };
    let mut env = Environment::new();
    env.write(
        "BUILD",
        "target(name='t', driver='sh', run='echo > $OUT', out='t')\n",
    );
    env.set("HEPH_HOME", text(&mounted.at().join("home")));
    env.set(
        "HEPH_DAEMON",
        if env.mode() == Mode::InProcess {
            "off"
        } else {
            "auto"
        },
    );
    env.heph(["version"]).run().success();
    // Whatever room there is, in one file.
    let mut file = std::fs::File::create(mounted.at().join("all")).unwrap();
    while std::io::Write::write_all(&mut file, &[0; 4096]).is_ok() {}
    for _ in 0..2 {
        let run = env.heph(["run", "//:t"]).run();
        run.success().says("results are not kept");
        assert_eq!(run.err().matches("warning:").count(), 1, "{run}");
    }
}

#[test]
fn no_inodes_left_and_read_only_homes_go_on_or_name_the_cause() {
    let Some(mounted) = Mounted::image("16M", &["mkfs.ext4", "-q", "-N", "512"]) else {
        needs(
            "no_inodes_left_and_read_only_homes_go_on_or_name_the_cause",
            "mounting",
            false,
        );
        return;
    };
    let mut env = Environment::new();
    env.write("BUILD", "target(name='many', driver='bash', run='mkdir d; for i in {1..600}; do echo > d/$i; done', out='d/')\ntarget(name='one', driver='sh', run='echo > $OUT', out='one')\n");
    env.set("HEPH_HOME", text(&mounted.at().join("home")));
    let run = env.heph(["run", "//:many"]).run();
    assert_ne!(run.code, 0, "{run}");
    run.says("o space left");
    env.heph(["tool", "clean"]).run();
    env.stop_daemons();
    assert!(run_remount(&mounted, "ro"));
    if env.mode() != Mode::InProcess {
        // There can be no daemon here.
        env.set("HEPH_DAEMON", "auto");
    }
    let read_only = env.try_build("//:one");
    assert_eq!(
        read_only.executed(),
        ["//:one"],
        "a home that cannot be written costs a warning\n{}",
        read_only.run
    );
    read_only.run.says("results are not kept");
    assert!(run_remount(&mounted, "rw"));
    env.build("//:one");
}

fn run_remount(mounted: &Mounted, mode: &str) -> bool {
    run("mount", &["-o", &format!("remount,{mode}"), text(&mounted.at())])
}

#[test]
fn hard_links_run_out_and_staging_goes_on() {
    let Some(mounted) = Mounted::image("64M", &["mkfs.ext4", "-q", "-N", "4096"]) else {
        needs("hard_links_run_out_and_staging_goes_on", "mounting", false);
        return;
    };
    let mut env = Environment::new();
    env.set("HEPH_HOME", text(&mounted.at().join("home")));
    env.write("in.txt", "x".repeat(200_000));
    env.write(
        "BUILD",
        "target(name='big', driver='sh', deps=file('in.txt'), run='cp in.txt $OUT', out='big')\n\
         target(name='use', driver='sh', deps={'b': ':big'}, read_only_deps=['b'], run='wc -c < big > $OUT', out='count')\n",
    );
    env.build("//:big");
    // ext4 ends at 65,000 links of one file.
    let blobs = files_below(&mounted.at().join("home/cache/blobs"));
    let blob = blobs
        .iter()
        .find(|blob| blob.metadata().unwrap().len() == 200_000)
        .expect("the blob of the output");
    let place = mounted.at().join("links");
    std::fs::create_dir(&place).unwrap();
    let mut made = 0;
    while std::fs::hard_link(blob, place.join(made.to_string())).is_ok() {
        made += 1;
        assert!(made < 70_000);
    }
    assert!(made > 60_000, "{made}");
    env.build("//:use");
}
