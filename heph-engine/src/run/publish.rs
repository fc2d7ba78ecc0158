//! Results into the store.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use heph_cache::{
    BlobSource, Content as Stored, Entry as StoredEntry, Manifest, NewBlob, Origin, Output, Publication,
    Revision,
};
use heph_common::key::KeyPart;
use heph_common::{Digest, clock};
use heph_proto::{Completed, Content, EntryKind, Produced, Report, SandboxMode, TargetOutcome, content};

use super::fetch::is_shared;
use super::{Keyed, Last, Run};
use crate::definition::Action;
use crate::gather::{gather, owner_names};
use crate::graph::{Id, Node};
use crate::keying::action_key;
use crate::problem::Problem;
use crate::product::Product;

/// Outputs as the store takes them.
#[derive(Default)]
struct Collected {
    outputs: Vec<Output>,
    blobs: Vec<NewBlob>,
}

impl Run<'_> {
    /// A command succeeded: its outputs go into the store, and on to whoever waits.
    pub(super) fn completed(&mut self, id: Id, completed: Completed, report: &Report) {
        if report.sandbox() == SandboxMode::Standard {
            self.say_not_isolated();
        }
        self.witness.isolated(report.sandbox());
        let mut collected = Collected::default();
        for produced in completed.outputs {
            if let Err(problem) = collected.add(produced) {
                return self.fail_internal(id, problem.message);
            }
        }
        let log = report
            .log
            .clone()
            .and_then(|log| collected.add_content(log, false));
        let Some(keyed) = self.keys.remove(&id) else {
            return;
        };
        let node = self.prepared.graph.node(id);
        let mut manifest = self.manifest(node, keyed.key, collected.outputs, report.sandbox());
        manifest.log = log;
        manifest.duration = Duration::from_micros(report.wall_us);
        let wall = report.wall_us;
        self.publish(id, keyed, manifest, collected.blobs, wall);
    }

    /// A file with a given text needs no command.
    pub(super) fn write_text(&mut self, id: Id, node: &Node) {
        let (Action::TextFile(file), Some(keyed)) = (&node.definition.action, self.keys.remove(&id)) else {
            return;
        };
        let bytes = Bytes::copy_from_slice(file.text.as_bytes());
        let content = Stored {
            digest: Digest::of(&bytes),
            size: bytes.len() as u64,
        };
        let entry = StoredEntry::File {
            content,
            executable: file.executable,
        };
        let outputs = vec![Output {
            group: String::new(),
            path: file.out.clone(),
            entry,
        }];
        let manifest = self.manifest(node, keyed.key, outputs, SandboxMode::Unspecified);
        let blob = NewBlob {
            digest: content.digest,
            executable: file.executable,
            source: BlobSource::Bytes(bytes),
        };
        self.publish(id, keyed, manifest, vec![blob], 0);
    }

    fn manifest(&self, node: &Node, key: Digest, outputs: Vec<Output>, sandbox: SandboxMode) -> Manifest {
        let mut manifest = Manifest {
            kind: "target".to_owned(),
            key,
            outputs,
            log: None,
            exit_code: 0,
            platform: self.prepared.surroundings.platform.name.clone(),
            sandbox,
            address: node.definition.address.to_string(),
            producer: env!("CARGO_PKG_VERSION").to_owned(),
            created_unix_ms: clock::unix_ms(),
            duration: Duration::ZERO,
        };
        manifest.sort();
        manifest
    }

    fn publish(&mut self, id: Id, keyed: Keyed, mut manifest: Manifest, blobs: Vec<NewBlob>, wall_us: u64) {
        let node = self.prepared.graph.node(id);
        let policy = node.definition.cache;
        if !policy.enabled {
            // Kept under a key that nobody can ask for: dependants of this run need the bytes.
            manifest.key = uncached_key(keyed.key);
        }
        let again = Self::is_in_place(node)
            .then(|| self.rewritten_key(node, &manifest))
            .flatten();
        let uploads = match &self.remote {
            Some(remote) if is_shared(node) => remote.uploads(),
            Some(_) | None => Vec::new(),
        };
        let publication = |manifest: Manifest, blobs, parts| Publication {
            record: policy
                .enabled
                .then(|| self.revision(&manifest, parts, policy.history)),
            manifest,
            blobs,
            origin: Origin::Local,
            partial: false,
            always_files: false,
            lock: keyed.lock.clone(),
            uploads: uploads.clone(),
            replace: self.start.force,
        };
        let published = self
            .services
            .store
            .publish(publication(manifest.clone(), blobs, keyed.parts));
        let manifest = match published {
            Ok(manifest) => manifest,
            Err(error) => return self.fail_storing(id, &error),
        };
        if !uploads.is_empty() {
            self.services.remotes.send();
        }
        if let Some((key, parts)) = again.filter(|_| policy.enabled) {
            let rewritten = Manifest {
                key,
                ..(*manifest).clone()
            };
            if let Err(error) = self
                .services
                .store
                .publish(publication(rewritten, Vec::new(), parts))
            {
                tracing::warn!(
                    "the rewritten sources of {} are not remembered: {error}",
                    manifest.address
                );
            }
        }
        let last = Arc::new(Last {
            pre_key: keyed.pre_key,
            key: manifest.key,
            product: Product::of(&manifest),
            sandbox: manifest.sandbox as i32,
        });
        if policy.enabled {
            self.lasts.insert(id, Arc::clone(&last));
        }
        self.tasks.get_mut(id).forced = false;
        self.wall.insert(id, wall_us);
        self.deliver(id, Arc::clone(&last.product), TargetOutcome::Executed);
    }

    pub(super) fn revision(
        &self,
        manifest: &Manifest,
        parts: Vec<KeyPart>,
        history: Option<u32>,
    ) -> Revision {
        Revision {
            root: self.prepared.root.to_string_lossy().into_owned(),
            address: manifest.address.clone(),
            parts,
            history_limit: history,
        }
    }

    /// The key that a rewriter of sources (codegen in place) will have next time, when its outputs are its inputs.
    ///
    /// Storing its result under this key too makes the second run a hit. It supposes that rewriting twice is rewriting
    /// once, which is what makes a formatter a formatter.
    fn rewritten_key(&self, node: &Node, manifest: &Manifest) -> Option<(Digest, Vec<KeyPart>)> {
        let names = owner_names(&self.prepared.graph, node);
        let mut gathered = gather(&self.prepared.graph, node, &self.tasks, &names).ok()?;
        let product = Product::of(manifest);
        for given in &mut gathered.inputs {
            if let Some(entry) = product
                .entries
                .iter()
                .find(|entry| entry.path == given.entry.path)
            {
                given.entry = entry;
            }
        }
        Some(action_key(node, &gathered, &self.prepared.surroundings))
    }
}

impl Collected {
    fn add(&mut self, produced: Produced) -> Result<(), Problem> {
        let Some(entry) = produced.entry else {
            return Ok(());
        };
        let stored = match entry.kind() {
            EntryKind::Directory => StoredEntry::Directory,
            EntryKind::Symlink => StoredEntry::Symlink {
                target: entry.link_target,
            },
            EntryKind::File | EntryKind::Executable => {
                let executable = entry.kind == EntryKind::Executable as i32;
                let content = produced
                    .content
                    .and_then(|content| self.add_content(content, executable));
                let content = content
                    .ok_or_else(|| Problem::new(format!("the report has no content for {}", entry.path)))?;
                StoredEntry::File { content, executable }
            }
            EntryKind::Unspecified => {
                return Err(Problem::new(format!(
                    "the report does not say what {} is",
                    entry.path
                )));
            }
        };
        self.outputs.push(Output {
            group: entry.group,
            path: entry.path,
            entry: stored,
        });
        Ok(())
    }

    fn add_content(&mut self, content: Content, executable: bool) -> Option<Stored> {
        let digest = Digest::from_slice(&content.digest)?;
        let source = match content.content? {
            content::Content::Inline(bytes) => BlobSource::Bytes(bytes),
            content::Content::File(path) => BlobSource::File(path.into()),
        };
        self.blobs.push(NewBlob {
            digest,
            executable,
            source,
        });
        Some(Stored {
            digest,
            size: content.size,
        })
    }
}

/// A key of its own for a result that must not be found again.
fn uncached_key(key: Digest) -> Digest {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_nanos();
    let mut hasher = blake3::Hasher::new();
    hasher
        .update(b"uncached")
        .update(key.as_bytes())
        .update(&now.to_le_bytes())
        .update(&std::process::id().to_le_bytes());
    hasher.finalize().into()
}
