//! One graph of targets, written down for heph, for turbo, and as bare commands.
//!
//! Target `i` stands in layer `i / width`. It has one input file of 64 bytes and depends on two targets of the layer below:
//! the one in its column and the one in the next. Its command is `cat <inputs> | cksum > out.txt`.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

/// The shape of a graph.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Targets in all.
    pub targets: usize,
    /// Targets in one layer.
    pub width: usize,
}

impl Shape {
    /// 20 layers.
    pub fn of(targets: usize) -> Self {
        Self {
            targets,
            width: (targets / 20).max(2),
        }
    }

    fn below(self, target: usize) -> Vec<usize> {
        let (layer, column) = (target / self.width, target % self.width);
        if layer == 0 {
            return Vec::new();
        }
        let first = (layer - 1) * self.width;
        let mut below = vec![first + column, first + (column + 1) % self.width];
        below.sort_unstable();
        below
    }
}

pub fn name(target: usize) -> String {
    format!("p{target:05}")
}

fn put(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().expect("a file has a directory")).expect("make a directory");
    fs::write(path, text).expect("write a file");
}

fn put_inputs(root: &Path, shape: Shape) {
    for target in 0..shape.targets {
        put(
            root,
            &format!("pkgs/{}/in.txt", name(target)),
            &format!("{:x<64}", format!("input of {}\n", name(target))),
        );
    }
}

/// Writes the graph for heph; `isolation` is the value of `sandbox.mode`.
pub fn write_heph(root: &Path, shape: Shape, isolation: &str) {
    put_inputs(root, shape);
    let config =
        format!("plugins:\n  - builtin: buildfile\n  - builtin: sh\nsandbox:\n  mode: {isolation}\n");
    put(root, ".hephconfig", &config);
    for target in 0..shape.targets {
        let below: String = shape
            .below(target)
            .into_iter()
            .map(|of| format!(", \"//pkgs/{}:b\"", name(of)))
            .collect();
        let text = format!(
            "target(name=\"b\", driver=\"sh\", deps=[file(\"in.txt\"){below}], run=\"cat $SRC | cksum > $OUT\", out=\"out.txt\")\n"
        );
        put(root, &format!("pkgs/{}/BUILD", name(target)), &text);
    }
}

/// Writes the graph for turbo, as npm workspaces, and commits it (turbo asks git for the state of inputs).
pub fn write_turbo(root: &Path, shape: Shape) {
    put_inputs(root, shape);
    let mut packages = Map::new();
    packages.insert(String::new(), json!({"name": "root", "workspaces": ["pkgs/*"]}));
    for target in 0..shape.targets {
        let own = name(target);
        let dependencies: Map<String, Value> = shape
            .below(target)
            .into_iter()
            .map(|of| (name(of), json!("*")))
            .collect();
        let package = json!({
            "name": own, "version": "1.0.0", "private": true,
            "scripts": {"build": command(shape, target)}, "dependencies": dependencies,
        });
        put(root, &format!("pkgs/{own}/package.json"), &package.to_string());
        packages.insert(
            format!("pkgs/{own}"),
            json!({"name": own, "version": "1.0.0", "dependencies": dependencies}),
        );
        packages.insert(
            format!("node_modules/{own}"),
            json!({"resolved": format!("pkgs/{own}"), "link": true}),
        );
    }
    let root_package =
        json!({"name": "root", "private": true, "packageManager": "npm@11.19.1", "workspaces": ["pkgs/*"]});
    put(root, "package.json", &root_package.to_string());
    let lock = json!({"name": "root", "lockfileVersion": 3, "requires": true, "packages": packages});
    put(root, "package-lock.json", &lock.to_string());
    let tasks =
        json!({"tasks": {"build": {"dependsOn": ["^build"], "inputs": ["in.txt"], "outputs": ["out.txt"]}}});
    put(root, "turbo.json", &tasks.to_string());
    put(root, ".gitignore", "node_modules\n.turbo\nout.txt\n");
    let commit =
        "git init -q -b main . && git add -A && git -c user.name=a -c user.email=a@example.com commit -qm x";
    let done = std::process::Command::new("sh")
        .args(["-c", commit])
        .current_dir(root)
        .status();
    assert!(
        done.is_ok_and(|status| status.success()),
        "git could not commit the workspace"
    );
}

/// Writes only the inputs; gives the directory and the command of each target, in an order that can be run.
pub fn write_bare(root: &Path, shape: Shape) -> Vec<(String, String)> {
    put_inputs(root, shape);
    (0..shape.targets)
        .map(|target| (format!("pkgs/{}", name(target)), command(shape, target)))
        .collect()
}

fn command(shape: Shape, target: usize) -> String {
    let below: String = shape
        .below(target)
        .into_iter()
        .map(|of| format!(" ../{}/out.txt", name(of)))
        .collect();
    format!("cat in.txt{below} | cksum > out.txt")
}
