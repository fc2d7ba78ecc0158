//! What becomes of the outputs of selected targets: shown, listed, copied.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use heph_proto::input::Source;
use heph_proto::{EntryKind, Input, Outputs};

/// Writes the content of all files, one after the other, in the order of their targets and paths.
pub fn cat(outputs: &[Outputs], out: &mut impl Write) -> anyhow::Result<()> {
    for file in sorted(outputs) {
        match &file.source {
            Some(Source::Inline(bytes)) => out.write_all(bytes)?,
            Some(Source::BlobFile(path) | Source::SourceFile(path)) => {
                let mut blob = fs::File::open(path).with_context(|| format!("failed to read {path}"))?;
                io::copy(&mut blob, out)?;
            }
            Some(Source::LinkTarget(_)) | None => {}
        }
    }
    Ok(())
}

/// Writes the path of each file, relative to the workspace root.
pub fn list(outputs: &[Outputs], out: &mut impl Write) -> io::Result<()> {
    for file in sorted(outputs) {
        writeln!(out, "{}", file.path)?;
    }
    Ok(())
}

/// Copies every file to its path below `directory`; what is there is replaced. Returns how many there were.
pub fn copy(outputs: &[Outputs], directory: &Path) -> anyhow::Result<usize> {
    let files = sorted(outputs);
    for pair in files.windows(2) {
        if let [a, b] = pair
            && a.path == b.path
            && (a.digest != b.digest || a.kind != b.kind)
        {
            let producers: Vec<&str> = outputs
                .iter()
                .filter(|outputs| outputs.files.iter().any(|file| file.path == a.path))
                .map(|outputs| outputs.address.as_str())
                .collect();
            bail!(
                "failed to copy outputs: '{}' is made by {}",
                a.path,
                producers.join(" and ")
            );
        }
    }
    for file in &files {
        copy_one(file, directory).with_context(|| format!("failed to copy {}", file.path))?;
    }
    Ok(files.len())
}

fn sorted(outputs: &[Outputs]) -> Vec<&Input> {
    let mut files: Vec<&Input> = outputs.iter().flat_map(|outputs| &outputs.files).collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

fn copy_one(file: &Input, directory: &Path) -> anyhow::Result<()> {
    let path = below(directory, &file.path)?;
    if file.kind() == EntryKind::Directory {
        return Ok(fs::create_dir_all(&path)?);
    }
    let parent = path.parent().ok_or_else(|| anyhow!("it has no directory"))?;
    fs::create_dir_all(parent)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let fresh = parent.join(format!(".{name}.heph-{}", std::process::id()));
    // Left by a process of the same number that was killed; absent nearly always.
    let _ = fs::remove_file(&fresh);
    let written = write_one(file, &fresh).and_then(|()| Ok(fs::rename(&fresh, &path)?));
    if written.is_err() {
        let _ = fs::remove_file(&fresh);
    }
    written
}

fn write_one(file: &Input, path: &Path) -> anyhow::Result<()> {
    match &file.source {
        Some(Source::LinkTarget(target)) => return Ok(symlink(target, path)?),
        Some(Source::Inline(bytes)) => fs::write(path, bytes)?,
        Some(Source::BlobFile(blob) | Source::SourceFile(blob)) => {
            fs::copy(blob, path).with_context(|| format!("failed to read {blob}"))?;
        }
        None => bail!("its content is missing"),
    }
    let mode = if file.kind() == EntryKind::Executable {
        0o755
    } else {
        0o644
    };
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(mode))?)
}

fn below(directory: &Path, path: &str) -> anyhow::Result<PathBuf> {
    if path.is_empty()
        || !Path::new(path)
            .components()
            .all(|part| matches!(part, Component::Normal(_)))
    {
        bail!("it leaves the directory");
    }
    Ok(directory.join(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, kind: EntryKind, source: Source) -> Input {
        Input {
            path: path.into(),
            kind: kind.into(),
            source: Some(source),
            ..Default::default()
        }
    }

    #[test]
    fn outputs_are_shown_listed_and_copied() {
        let directory = tempfile::tempdir().unwrap();
        let blob = directory.path().join("blob");
        fs::write(&blob, "second\n").unwrap();
        fs::set_permissions(&blob, fs::Permissions::from_mode(0o444)).unwrap();
        let outputs = [Outputs {
            address: "//a:b".into(),
            files: vec![
                file(
                    "a/two",
                    EntryKind::Executable,
                    Source::BlobFile(blob.display().to_string()),
                ),
                file(
                    "a/one",
                    EntryKind::File,
                    Source::Inline(b"first\n".to_vec().into()),
                ),
                file("a/link", EntryKind::Symlink, Source::LinkTarget("one".into())),
            ],
            groups: vec![],
        }];
        let mut text = Vec::new();
        cat(&outputs, &mut text).unwrap();
        list(&outputs, &mut text).unwrap();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "first\nsecond\na/link\na/one\na/two\n"
        );

        let to = directory.path().join("to");
        // Twice: what is there is replaced, read-only or not.
        for _ in 0..2 {
            assert_eq!(copy(&outputs, &to).unwrap(), 3);
        }
        assert_eq!(fs::read_to_string(to.join("a/link")).unwrap(), "first\n");
        assert_eq!(
            fs::metadata(to.join("a/two")).unwrap().permissions().mode() & 0o777,
            0o755
        );
        assert_eq!(fs::read_dir(to.join("a")).unwrap().count(), 3);
    }

    #[test]
    fn nothing_is_written_outside_or_twice() {
        let directory = tempfile::tempdir().unwrap();
        let made = |address: &str, path: &str, digest: u8| Outputs {
            address: address.into(),
            files: vec![Input {
                digest: vec![digest].into(),
                ..file(path, EntryKind::File, Source::Inline(vec![digest].into()))
            }],
            groups: vec![],
        };
        assert!(copy(&[made("//a:b", "../x", 1)], directory.path()).is_err());
        let error = copy(&[made("//a:b", "x", 1), made("//a:c", "x", 2)], directory.path()).unwrap_err();
        assert_eq!(
            format!("{error:#}"),
            "failed to copy outputs: 'x' is made by //a:b and //a:c"
        );
    }
}
