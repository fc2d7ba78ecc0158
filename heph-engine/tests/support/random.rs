//! Random workspaces and random edits of them.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    dead_code,
    reason = "support of tests; each test binary uses a part of it"
)]

use super::Bench;

/// Numbers that are the same for the same seed.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        ((self.0 >> 33) as usize) % limit
    }

    pub fn of<'a, T: ?Sized>(&mut self, all: &[&'a T]) -> &'a T {
        all[self.below(all.len())]
    }
}

pub const DIRS: &[&str] = &["", "p", "p/q", "p/q/r", "s", "s/t"];
const NAMES: &[&str] = &["a.txt", "b.txt", "c.txt", "d.star", "e.BUILD"];

pub fn join(dir: &str, name: &str) -> String {
    if dir.is_empty() {
        name.to_owned()
    } else {
        format!("{dir}/{name}")
    }
}

fn target(random: &mut Random, n: usize, dir: &str) -> String {
    let name = format!("t{n}");
    let deps = match if n == 0 { random.below(4) } else { random.below(9) } {
        0 => "[glob(\"**/*.txt\")]".to_owned(),
        1 => "[glob(\"*.txt\", exclude = [\"a.txt\"])]".to_owned(),
        2 => "[glob(\"{a,b}.txt\")]".to_owned(),
        3 => "{\"x\": [glob(\"q/*.txt\")], \"y\": [\"//@heph/fs:glob@p=s/**\"]}".to_owned(),
        4 => "[query(\"//s:t0\")]".to_owned(),
        5 => "[query(\"//p/q:t0 || //s/t:t0\"), glob(\"*.txt\")]".to_owned(),
        6 => "[query(\"label(lab)\")]".to_owned(),
        7 => "[\":g\"]".to_owned(),
        _ => "[]".to_owned(),
    };
    let labels = if random.below(4) == 0 && !deps.contains("query") {
        "labels = [\"lab\"], "
    } else {
        ""
    };
    let more = match random.below(4) {
        0 => format!("transitive = {{\"env\": {{\"V\": \"{}\"}}}}, ", random.below(3)),
        1 => "transitive = {\"deps\": [\"//@heph/fs:glob@p=p/*.txt\"]}, ".to_owned(),
        _ => String::new(),
    };
    let extra = match random.below(3) {
        0 => "\" + str(len(heph.fs.glob(\"**/*.txt\"))) + \"".to_owned(),
        1 => "\" + str(len(heph.core.packages(\"//...\"))) + \"".to_owned(),
        _ => random.below(3).to_string(),
    };
    let out = format!("{}-{name}.out", dir.replace('/', "_"));
    format!(
        "target(name = \"{name}\", driver = \"sh\", {labels}{more}deps = {deps}, run = \"(echo {extra} ${{V-}} ${{SRC-}} ${{SRC_X-}} ${{SRC_Y-}}; cat ${{SRC-}} ${{SRC_X-}} </dev/null || true) > $OUT 2>/dev/null\", out = \"{out}\")\n"
    )
}

pub fn build(random: &mut Random, dir: &str) -> String {
    let mut text = String::new();
    if random.below(4) == 0 {
        text += "load(\"//s:d.star\", \"V\")\ntarget(name = \"v\", driver = \"textfile\", text = V, out = \"v.out\")\n";
    }
    for n in 0..=random.below(3) {
        text += &target(random, n, dir);
    }
    text +=
        "target(name = \"g\", driver = \"group\", deps = [glob(\"*.txt\"), \"//@heph/fs:glob@p=p/a.txt\"])\n";
    text
}

pub fn edit(random: &mut Random, bench: &Bench) -> String {
    let root = bench.root();
    let dir = random.of(DIRS);
    match random.below(12) {
        0..=2 => {
            let path = join(dir, random.of(&NAMES[..3]));
            let text = random.of(&["1\n", "2\n", "3\n"]);
            if root.join(&path).is_dir() || dir_is_not(&root, dir) {
                return String::new();
            }
            if root.join(&path).is_symlink() {
                std::fs::remove_file(root.join(&path)).unwrap();
            }
            bench.write(&path, text);
            format!("write {path}")
        }
        3 => {
            let path = join(dir, random.of(&NAMES[..3]));
            let _ = std::fs::remove_file(root.join(&path));
            format!("remove {path}")
        }
        4 => {
            if dir.is_empty() {
                return String::new();
            }
            let _ = std::fs::remove_dir_all(root.join(dir));
            format!("remove {dir}/")
        }
        5 | 6 => {
            if dir_is_not(&root, dir) {
                return String::new();
            }
            let text = build(random, dir);
            bench.write(&join(dir, "BUILD"), &text);
            format!("build {dir}:\n{text}")
        }
        7 => {
            let to = random.of(DIRS);
            if dir.is_empty() || to.is_empty() {
                return String::new();
            }
            let _ = std::fs::rename(root.join(dir), root.join(to));
            format!("rename {dir} {to}")
        }
        8 => {
            if dir_is_not(&root, dir) {
                return String::new();
            }
            let path = join(dir, random.of(&NAMES[..3]));
            let _ = std::fs::remove_file(root.join(&path));
            let _ = std::os::unix::fs::symlink(random.of(&["a.txt", "b.txt", "q"]), root.join(&path));
            format!("link {path}")
        }
        9 => {
            if dir_is_not(&root, "s") {
                return String::new();
            }
            bench.write("s/d.star", random.of(&["V = \"one\"\n", "V = \"two\"\n"]));
            "star".to_owned()
        }
        10 => {
            use std::os::unix::fs::PermissionsExt;
            let path = join(dir, random.of(&NAMES[..3]));
            if root.join(&path).is_file() {
                let _ = std::fs::set_permissions(
                    root.join(&path),
                    std::fs::Permissions::from_mode(random.of::<u32>(&[&0o644, &0o755]).to_owned()),
                );
            }
            format!("chmod {path}")
        }
        _ => {
            if dir.is_empty() || dir_is_not(&root, dir) {
                return String::new();
            }
            let mark = root.join(dir).join(".hephconfig");
            if mark.exists() {
                std::fs::remove_file(mark).unwrap()
            } else {
                let _ = std::fs::write(mark, "");
            }
            format!("mark {dir}")
        }
    }
}

fn dir_is_not(root: &std::path::Path, dir: &str) -> bool {
    let mut at = root.to_owned();
    for part in dir.split('/').filter(|p| !p.is_empty()) {
        at.push(part);
        match at.symlink_metadata() {
            Ok(found) if !found.is_dir() => return true,
            _ => {}
        }
    }
    false
}

/// A workspace with something in every directory.
pub fn workspace(random: &mut Random) -> Bench {
    let bench = Bench::new(&[]);
    for dir in DIRS {
        bench.write(&join(dir, "a.txt"), "0\n");
        let text = build(random, dir);
        bench.write(&join(dir, "BUILD"), &text);
    }
    bench.write("s/d.star", "V = \"zero\"\n");
    bench
}
