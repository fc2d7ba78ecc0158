//! The warm state on disk, so that a process that ends leaves it to the next one.
//!
//! A file holds a header (magic, format, BLAKE3 of the rest), the bytes of the packages as a little-endian `u64`, and then in
//! postcard the packages and all else, which are read side by side. It is only ever an economy: whatever cannot be read is
//! dropped, and everything in it is proved by `stat` before it is used.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use heph_common::Digest;
use serde::{Deserialize, Serialize};

use super::{Directory, Expanded, Package, Workspace};
use crate::definition::Definition;
use crate::file_table::FileRecord;
use crate::graph::{Graph, Id, Inherited, Link, Node};
use crate::platform::Platform;
use crate::run::Last;
use crate::tool::{BaseSet, Tool};

const MAGIC: &[u8; 8] = b"hephgrph";
/// Raised with every change of the state's types.
const FORMAT: u32 = 4;
/// Bytes before the body.
pub const HEADER: usize = MAGIC.len() + 4 + Digest::LENGTH;

type Packages = HashMap<String, Arc<Package>>;

#[derive(Serialize)]
struct Written<'a> {
    root: &'a Path,
    settings: Digest,
    generated: Arc<BTreeSet<String>>,
    discovered: &'a Option<Vec<String>>,
    directories: &'a HashMap<String, Directory>,
    nodes: Vec<WrittenNode<'a>>,
    globs: &'a HashMap<Id, Arc<Expanded>>,
    lasts: &'a HashMap<Id, Arc<Last>>,
    tools: &'a HashMap<String, Arc<Tool>>,
    base: &'a Option<Arc<BaseSet>>,
    platform: &'a Option<Arc<Platform>>,
    files: Vec<FileRecord>,
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(Serialize))]
struct Read {
    root: PathBuf,
    settings: Digest,
    generated: BTreeSet<String>,
    discovered: Option<Vec<String>>,
    directories: HashMap<String, Directory>,
    nodes: Vec<ReadNode>,
    globs: HashMap<Id, Arc<Expanded>>,
    lasts: HashMap<Id, Arc<Last>>,
    tools: HashMap<String, Arc<Tool>>,
    base: Option<Arc<BaseSet>>,
    platform: Option<Arc<Platform>>,
    files: Vec<FileRecord>,
}

/// A node; the definition of a target that people wrote is with its package.
#[derive(Serialize)]
struct WrittenNode<'a> {
    written: Option<(&'a str, &'a str)>,
    generated: Option<&'a Definition>,
    digest: Digest,
    links: &'a [Link],
    inherited: Option<&'a Inherited>,
    native: bool,
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(Serialize))]
struct ReadNode {
    written: Option<(String, String)>,
    generated: Option<Definition>,
    digest: Digest,
    links: Vec<Link>,
    inherited: Option<Box<Inherited>>,
    native: bool,
}

/// Where the state of a workspace with these settings is kept, below a directory of this build's state.
pub fn file(state: &Path, root: &Path, settings: Digest) -> PathBuf {
    let mut hasher = blake3::Hasher::new();
    hasher
        .update(root.as_os_str().as_encoded_bytes())
        .update(b"\0")
        .update(settings.as_bytes());
    let name: String = hasher.finalize().to_hex().chars().take(16).collect();
    state.join(format!("graph-{name}"))
}

impl Workspace {
    /// Takes over the state that an earlier process left. `false`: there is none that can be read.
    pub fn load(&mut self, file: &Path) -> bool {
        let Some((packages, read)) = read(file) else {
            return false;
        };
        if read.root != self.root || read.settings != self.settings {
            return false;
        }
        let Some(nodes) = read
            .nodes
            .into_iter()
            .map(|node| node.with_definition(&packages))
            .collect()
        else {
            return false;
        };
        let graph = Graph::of_nodes(nodes);
        let has = |id: &Id| id.index() < graph.len();
        if !graph.is_sound() || !read.globs.keys().chain(read.lasts.keys()).all(has) {
            tracing::debug!("{} is not sound", file.display());
            return false;
        }
        self.graph = Arc::new(graph);
        *self.generated.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(read.generated);
        self.declared = None;
        self.packages = packages;
        self.discovered = read.discovered;
        self.directories = read.directories;
        self.globs = read.globs;
        self.lasts = Arc::new(read.lasts);
        self.tools = read.tools;
        self.base = read.base;
        self.platform = read.platform;
        self.files.import(read.files);
        self.dirty = false;
        true
    }

    /// Leaves the state to the next process, when there is anything new. A failure costs that process time, nothing else.
    pub fn save(&mut self, file: &Path) -> io::Result<()> {
        if !self.dirty {
            return Ok(());
        }
        self.note_directories();
        let written = Written {
            root: &self.root,
            settings: self.settings,
            generated: Arc::clone(&self.generated.read().unwrap_or_else(PoisonError::into_inner)),
            discovered: &self.discovered,
            directories: &self.directories,
            nodes: self.graph.iter().map(|(_, node)| WrittenNode::of(node)).collect(),
            globs: &self.globs,
            lasts: &self.lasts,
            tools: &self.tools,
            base: &self.base,
            platform: &self.platform,
            files: self.files.export(),
        };
        write(
            file,
            &body_of(&self.packages, &written).map_err(io::Error::other)?,
        )?;
        self.dirty = false;
        Ok(())
    }
}

impl<'a> WrittenNode<'a> {
    fn of(node: &'a Node) -> Self {
        let definition = &*node.definition;
        let provided = definition.address.is_provided();
        Self {
            written: (!provided).then_some((
                definition.address.package.as_str(),
                definition.address.name.as_str(),
            )),
            generated: provided.then_some(definition),
            digest: node.digest,
            links: &node.links,
            inherited: node.inherited.as_deref(),
            native: node.native,
        }
    }
}

impl ReadNode {
    fn with_definition(self, packages: &Packages) -> Option<Node> {
        let definition = match (self.written, self.generated) {
            (Some((package, name)), _) => {
                Arc::clone(packages.get(&package)?.targets.get(&name)?.as_ref().ok()?)
            }
            (None, generated) => Arc::new(generated?),
        };
        Some(Node {
            definition,
            digest: self.digest,
            links: self.links,
            inherited: self.inherited,
            native: self.native,
        })
    }
}

/// Reads and checks a file; `None` for anything that is not a whole one of this format.
fn read(file: &Path) -> Option<(Packages, Read)> {
    let bytes = fs::read(file).ok()?;
    let (header, body) = bytes.split_at_checked(HEADER)?;
    if header != header_of(body) {
        tracing::debug!("{} is not a whole snapshot of format {FORMAT}", file.display());
        return None;
    }
    let (length, body) = body.split_first_chunk::<8>()?;
    let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
    let (packages, rest) = body.split_at_checked(length)?;
    std::thread::scope(|scope| {
        let packages = scope.spawn(|| postcard::from_bytes(packages).ok());
        let rest = postcard::from_bytes(rest).ok()?;
        Some((packages.join().ok()??, rest))
    })
}

fn body_of(packages: &Packages, rest: &impl Serialize) -> postcard::Result<Vec<u8>> {
    let packages = postcard::to_stdvec(packages)?;
    let mut body = (packages.len() as u64).to_le_bytes().to_vec();
    body.extend(packages);
    postcard::to_extend(rest, body)
}

/// What precedes a body.
pub fn header_of(body: &[u8]) -> Vec<u8> {
    let mut header = MAGIC.to_vec();
    header.extend(FORMAT.to_le_bytes());
    header.extend(Digest::of(body).as_bytes());
    header
}

fn write(file: &Path, body: &[u8]) -> io::Result<()> {
    let directory = file.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(directory)?;
    let temporary = file.with_extension(format!("{}.tmp", std::process::id()));
    let mut out = fs::File::create(&temporary)?;
    let written = out
        .write_all(&header_of(body))
        .and_then(|()| out.write_all(body))
        .and_then(|()| fs::rename(&temporary, file));
    if written.is_err() {
        // What is left of it helps nobody.
        drop(fs::remove_file(&temporary));
    }
    written
}

#[cfg(test)]
mod tests;
