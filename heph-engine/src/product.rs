//! What a target gives to whoever depends on it.

use std::collections::HashMap;
use std::sync::Arc;

use heph_cache::{Entry as Stored, Manifest};
use heph_common::Digest;
use heph_proto::EntryKind;
use serde::{Deserialize, Serialize};

use crate::problem::Problem;
use crate::tool::Tool;

/// Output group of files that travel with every other output of their target.
pub const SUPPORT_GROUP: &str = "@support";

/// Outputs and programs of one target.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Product {
    /// Files, links and directories, in the order in which they are handed on.
    pub entries: Vec<Entry>,
    /// Programs of the host.
    pub programs: Vec<Arc<Tool>>,
    /// Digest of all of it: equal digests mean that dependants need not look again.
    pub digest: Option<Digest>,
}

/// One path of a product.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Output group; empty for the default group.
    pub group: Arc<str>,
    /// Where it lies, relative to the workspace root.
    pub path: Arc<str>,
    /// What it is.
    pub kind: Kind,
    /// Where its bytes are.
    pub source: Source,
}

/// What lies at a path, with its content.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// A file.
    File {
        /// Of its content.
        digest: Digest,
        /// In bytes.
        size: u64,
        /// Whether it may be run.
        executable: bool,
    },
    /// A link, with what it says.
    Symlink(Arc<str>),
    /// A directory by itself.
    Directory,
}

/// Where the bytes of a file are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// In the workspace, at this path relative to its root.
    Tree(Arc<str>),
    /// In the store, under the digest.
    Store,
    /// It has none: links and directories.
    None,
}

impl Product {
    /// A product of these parts.
    pub fn new(entries: Vec<Entry>, programs: Vec<Arc<Tool>>) -> Arc<Self> {
        let mut hasher = blake3::Hasher::new();
        for entry in &entries {
            entry.add_to(&mut hasher);
        }
        for program in &programs {
            hasher
                .update(b"p")
                .update(&(program.name.len() as u64).to_le_bytes());
            hasher
                .update(program.name.as_bytes())
                .update(program.digest.as_bytes());
        }
        let digest = Some(hasher.finalize().into());
        Arc::new(Self {
            entries,
            programs,
            digest,
        })
    }

    /// The product that a manifest describes.
    pub fn of(manifest: &Manifest) -> Arc<Self> {
        let entries = manifest.outputs.iter().map(|output| {
            let (kind, source) = match &output.entry {
                Stored::File { content, executable } => (
                    Kind::File {
                        digest: content.digest,
                        size: content.size,
                        executable: *executable,
                    },
                    Source::Store,
                ),
                Stored::Symlink { target } => (Kind::Symlink(target.as_str().into()), Source::None),
                Stored::Directory => (Kind::Directory, Source::None),
            };
            Entry {
                group: output.group.as_str().into(),
                path: output.path.as_str().into(),
                kind,
                source,
            }
        });
        Self::new(entries.collect(), Vec::new())
    }

    /// The digest of all of it.
    pub fn digest(&self) -> Digest {
        self.digest.unwrap_or(Digest::from_bytes([0; 32]))
    }

    /// The entries of one output group and the support files; all entries where no group is meant.
    pub fn select<'a>(&'a self, output: Option<&'a str>) -> impl Iterator<Item = &'a Entry> {
        self.entries.iter().filter(move |entry| match output {
            None => true,
            Some(group) => &*entry.group == group || &*entry.group == SUPPORT_GROUP,
        })
    }
}

impl Entry {
    fn add_to(&self, hasher: &mut blake3::Hasher) {
        let mut text = |text: &str| {
            hasher
                .update(&(text.len() as u64).to_le_bytes())
                .update(text.as_bytes());
        };
        text(&self.group);
        text(&self.path);
        match &self.kind {
            Kind::File {
                digest, executable, ..
            } => {
                hasher
                    .update(if *executable { b"x" } else { b"f" })
                    .update(digest.as_bytes());
            }
            Kind::Symlink(target) => {
                text("l");
                text(target);
            }
            Kind::Directory => text("d"),
        }
    }

    /// Digest of type, executable bit and content; with the path this is how the entry enters a key.
    pub fn content_digest(&self) -> Digest {
        let mut hasher = blake3::Hasher::new();
        match &self.kind {
            Kind::File {
                digest, executable, ..
            } => {
                hasher
                    .update(if *executable { b"x" } else { b"f" })
                    .update(digest.as_bytes());
            }
            Kind::Symlink(target) => {
                hasher.update(b"l").update(target.as_bytes());
            }
            Kind::Directory => {
                hasher.update(b"d");
            }
        }
        hasher.finalize().into()
    }

    /// As the wire names it.
    pub fn wire_kind(&self) -> EntryKind {
        match &self.kind {
            Kind::File {
                executable: false, ..
            } => EntryKind::File,
            Kind::File { executable: true, .. } => EntryKind::Executable,
            Kind::Symlink(_) => EntryKind::Symlink,
            Kind::Directory => EntryKind::Directory,
        }
    }
}

/// Finds two different things that claim one path, or a path below a file.
#[derive(Debug, Default)]
pub struct Claims<'a> {
    taken: HashMap<&'a str, (&'a Kind, &'a str)>,
}

impl<'a> Claims<'a> {
    /// Notes that `owner` puts `entry` at its path. `Ok(false)` when the same content is there already.
    pub fn claim(&mut self, entry: &'a Entry, owner: &'a str) -> Result<bool, Problem> {
        match self.taken.get(&*entry.path) {
            None => {
                self.taken.insert(&entry.path, (&entry.kind, owner));
                Ok(true)
            }
            Some((kind, _)) if *kind == &entry.kind => Ok(false),
            Some((_, other)) => Err(Problem::new(format!(
                "{} is produced by both {other} and {owner}",
                entry.path
            ))
            .hint("give one of them another name, or depend on only one of them")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(group: &str, path: &str, content: &str, executable: bool) -> Entry {
        let kind = Kind::File {
            digest: Digest::of(content.as_bytes()),
            size: content.len() as u64,
            executable,
        };
        Entry {
            group: group.into(),
            path: path.into(),
            kind,
            source: Source::Store,
        }
    }

    #[test]
    fn the_digest_tells_group_path_mode_and_content_apart() {
        let base = Product::new(vec![file("", "a", "x", false)], vec![]).digest();
        for other in [
            file("g", "a", "x", false),
            file("", "b", "x", false),
            file("", "a", "y", false),
            file("", "a", "x", true),
        ] {
            assert_ne!(base, Product::new(vec![other], vec![]).digest());
        }
        assert_eq!(
            base,
            Product::new(vec![file("", "a", "x", false)], vec![]).digest()
        );
    }

    #[test]
    fn a_selected_group_brings_its_support_files() {
        let product = Product::new(
            vec![
                file("lib", "l", "", false),
                file("", "m", "", false),
                file(SUPPORT_GROUP, "s", "", false),
            ],
            vec![],
        );
        let paths: Vec<&str> = product.select(Some("lib")).map(|entry| &*entry.path).collect();
        assert_eq!(paths, ["l", "s"]);
        assert_eq!(product.select(None).count(), 3);
    }

    #[test]
    fn one_path_takes_one_content() {
        let (a, same, other) = (
            file("", "a", "x", false),
            file("g", "a", "x", false),
            file("", "a", "y", false),
        );
        let mut claims = Claims::default();
        assert_eq!(claims.claim(&a, "//p:one"), Ok(true));
        assert_eq!(claims.claim(&same, "//p:two"), Ok(false));
        let problem = claims.claim(&other, "//p:three").unwrap_err();
        assert_eq!(problem.message, "a is produced by both //p:one and //p:three");
    }
}
