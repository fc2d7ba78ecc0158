//! `heph init`

use std::io::Write as _;
use std::path::{Path, PathBuf};

use heph_common::Exit;
use heph_common::config::{FILE_NAME, find_root};

use crate::context::Context;
use crate::error::{CommandError, Result};

/// Makes a directory a workspace, with a first BUILD file that runs.
#[derive(clap::Args, Debug)]
pub struct InitArgs {
    /// The directory; made where it is absent.
    #[arg(value_name = "DIR", default_value = ".", value_hint = clap::ValueHint::DirPath)]
    place: PathBuf,
}

const CONFIG: &str = "\
# This file makes the directory a heph workspace.
plugins:
  # Targets are read from the files named BUILD.
  - builtin: buildfile
  # Commands are written in bash.
  - builtin: bash
";

const BUILD: &str = r#"# A target that writes a file. Run it with: heph run :hello
target(
    name = "hello",
    driver = "bash",
    run = 'echo "Hello from heph" > $OUT',
    out = "hello.txt",
)

# A target that uses what another one made. It runs again only when hello.txt changes.
target(
    name = "shout",
    driver = "bash",
    deps = [":hello"],
    run = "tr a-z A-Z < $SRC > $OUT",
    out = "shout.txt",
)
"#;

pub(super) fn run(context: &Context, args: &InitArgs) -> Result<Exit> {
    let here = context.directory()?;
    let directory = here.join(&args.place);
    std::fs::create_dir_all(&directory).map_err(|error| fault(&directory, &error))?;
    let directory = directory
        .canonicalize()
        .map_err(|error| fault(&directory, &error))?;
    if let Some(root) = find_root(&directory) {
        return Err(match root == directory {
            true => CommandError::usage(format!(
                "failed to init: {} is a workspace already",
                root.display()
            ))
            .hint("heph run //... builds everything in it"),
            false => CommandError::usage(format!(
                "failed to init: {} is part of the workspace {}",
                directory.display(),
                root.display()
            ))
            .hint("a package needs nothing but a BUILD file"),
        });
    }
    let files = [(FILE_NAME, CONFIG), ("BUILD", BUILD)];
    for (name, _) in files {
        if directory.join(name).symlink_metadata().is_ok() {
            return Err(CommandError::usage(format!(
                "failed to init: {} exists already",
                directory.join(name).display()
            ))
            .hint("heph init overwrites nothing: move it away, or write a .hephconfig by hand"));
        }
    }
    for (name, text) in files {
        let path = directory.join(name);
        std::fs::File::create_new(&path)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(|error| fault(&path, &error))?;
    }
    let shown = args.place.display();
    context.note(&match args.place == Path::new(".") {
        true => "wrote .hephconfig and BUILD\n\n  heph run //...              build everything\n  heph run :shout --cat-out   show what a target made\n".to_owned(),
        false => format!("wrote .hephconfig and BUILD in {shown}\n\n  cd {shown}\n  heph run //...              build everything\n  heph run :shout --cat-out   show what a target made\n"),
    });
    Ok(Exit::Success)
}

fn fault(path: &Path, error: &std::io::Error) -> CommandError {
    CommandError::fault(format!("failed to write {}: {error}", path.display()))
}
