//! `memcached`: values of one or several memcached servers.
//!
//! Each key lives on the server for which the digest of both is largest, so that only the keys of a server that comes or goes move.
//! What is too large for one item is split: the item of the object then holds a table of its parts (flag 1), the parts are items of
//! their own. A part that the server has dropped makes the whole object absent.

mod parts;
mod protocol;

use std::collections::HashMap;
use std::fs::File;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, TryStreamExt, stream};
use heph_common::Digest;

use super::pool::Pool;
use super::upload::{self, Content};
use crate::remote::access::Access;
use crate::remote::backend::{
    Answer, Backend, Body, Chunks, Limits, Object, Put, PutMode, RemoteError, RemoteErrorKind,
};
use crate::remote::location::Host;
use parts::Table;
use protocol::{Item, Node, PARTS, PLAIN};

/// Connections to each server where the entry names no number.
const PARALLEL: usize = 16;
/// Keys that are asked for at once.
const BATCH: usize = 100;
/// Longest key.
const KEY: usize = 250;
/// Largest object. Servers have a gigabyte or so for everything.
const LARGEST: u64 = 64 << 20;
/// Bytes of parts that are in memory at a time.
const IN_FLIGHT: u64 = 8 << 20;

/// Servers of memcached.
#[derive(Debug)]
pub(super) struct Memcached {
    servers: Arc<Servers>,
    prefix: String,
    parallel: usize,
}

#[derive(Debug)]
struct Servers {
    nodes: Vec<Node>,
    /// `exptime` of what is written.
    expires: protocol::Expiry,
}

impl Memcached {
    /// The values of these servers whose keys begin with a prefix.
    pub(super) fn new(hosts: &[Host], prefix: &str, access: &Access) -> Self {
        let parallel = access.parallel(PARALLEL);
        let node = |host: &Host| Node::new(Pool::new(host.clone(), None, parallel));
        Self {
            servers: Arc::new(Servers {
                nodes: hosts.iter().map(node).collect(),
                expires: protocol::Expiry(access.ttl),
            }),
            prefix: prefix.to_owned(),
            parallel,
        }
    }

    /// The key of an object: its name, or a digest of it where the protocol does not take it.
    fn key(&self, object: &Object) -> String {
        let name = match self.prefix.as_str() {
            "" => object.path(),
            prefix => format!("{prefix}/{object}"),
        };
        match name.len() <= KEY && name.bytes().all(|byte| byte.is_ascii_graphic()) {
            true => name,
            false => format!("heph/{}", Digest::of(name.as_bytes())),
        }
    }
}

impl Servers {
    /// The server of a key (rendezvous hashing).
    fn node(&self, key: &str) -> Result<&Node, RemoteError> {
        let weight = |node: &&Node| Digest::of(format!("{} {key}", node.host()).as_bytes());
        self.nodes
            .iter()
            .max_by_key(weight)
            .ok_or_else(|| RemoteError::new(RemoteErrorKind::Config, "use memcached: there is no server"))
    }

    /// The item of a key.
    async fn item(&self, key: &str, limit: u64) -> Result<Option<Item>, RemoteError> {
        let mut found = self.node(key)?.get(&[key], limit).await?;
        found.remove(key).transpose()
    }

    async fn get(&self, key: String, limit: u64) -> Result<Option<Bytes>, RemoteError> {
        match self.item(&key, limit.max(parts::LONGEST)).await? {
            None => Ok(None),
            Some(item) => self.content(&key, item, limit).await,
        }
    }

    /// What an item stands for: its value, or all its parts; `None` when one of them is gone.
    async fn content(&self, key: &str, item: Item, limit: u64) -> Result<Option<Bytes>, RemoteError> {
        let size = u64::try_from(item.value.len()).unwrap_or(u64::MAX);
        if item.flags == PLAIN {
            return match size > limit {
                true => Err(RemoteError::too_large(key, size, limit)),
                false => Ok(Some(item.value)),
            };
        }
        let Some(table) = table(&item) else {
            let message = format!("read '{key}': it is no value of heph");
            return Err(RemoteError::new(RemoteErrorKind::Invalid, message));
        };
        if table.size > limit {
            return Err(RemoteError::too_large(key, table.size, limit));
        }
        let mut whole = BytesMut::new();
        let parts = (0..table.count()).map(|at| self.part(&table, at));
        let mut parts = stream::iter(parts.collect::<Vec<_>>()).buffered(table.in_flight(IN_FLIGHT));
        while let Some(part) = parts.next().await {
            match part? {
                Some(part) => whole.extend_from_slice(&part),
                None => return Ok(None),
            }
        }
        Ok(Some(whole.freeze()))
    }

    /// One part; `None` when it is gone.
    async fn part(&self, table: &Table, at: u64) -> Result<Option<Bytes>, RemoteError> {
        let length = table.length(at);
        let item = self.item(&table.key(at), length).await?;
        let whole = |item: &Item| u64::try_from(item.value.len()) == Ok(length);
        Ok(item.filter(whole).map(|item| item.value))
    }

    /// The largest value that all servers take as one item.
    async fn largest_item(&self) -> Result<u64, RemoteError> {
        let mut least = u64::MAX;
        for node in &self.nodes {
            least = least.min(node.largest_item().await?);
        }
        Ok(least)
    }

    async fn put(&self, key: String, content: Content, mode: PutMode) -> Result<Put, RemoteError> {
        let size = content.size();
        if size > LARGEST {
            return Err(RemoteError::too_large(&key, size, LARGEST));
        }
        let part = self.largest_item().await?;
        if size <= part {
            let bytes = content.piece(0, size).await?;
            return self
                .node(&key)?
                .set(&key, PLAIN, &bytes, mode, self.expires)
                .await;
        }
        if mode == PutMode::IfAbsent && self.node(&key)?.exist(&[&key]).await?.first() == Some(&true) {
            return Ok(Put::Existed);
        }
        let table = Table::new(&key, size, part);
        let content = &content;
        let sent = (0..table.count()).map(|at| {
            let table = table.clone();
            async move {
                let bytes = content.piece(at * table.part, table.length(at)).await?;
                let key = table.key(at);
                self.node(&key)?
                    .set(&key, PLAIN, &bytes, PutMode::Replace, self.expires)
                    .await
            }
        });
        let mut sent = stream::iter(sent.collect::<Vec<_>>()).buffer_unordered(table.in_flight(IN_FLIGHT));
        while let Some(part) = sent.next().await {
            part?;
        }
        drop(sent);
        self.node(&key)?
            .set(&key, PARTS, &table.encode(), mode, self.expires)
            .await
    }

    /// Items of many keys: of those of one server, [`BATCH`] in one request.
    async fn items(
        &self,
        keys: &[String],
        limit: u64,
        parallel: usize,
    ) -> Result<Vec<Result<Option<Item>, RemoteError>>, RemoteError> {
        let mut answers: Vec<Option<Result<Option<Item>, RemoteError>>> = keys.iter().map(|_| None).collect();
        let batches: Vec<_> = self
            .shares(keys)?
            .into_iter()
            .map(|(node, share)| async move {
                let names = named(keys, &share);
                let found = node.get(&names, limit).await;
                (share, found)
            })
            .collect();
        let mut batches = stream::iter(batches).buffer_unordered(parallel.max(1));
        while let Some((share, found)) = batches.next().await {
            let mut found = found.map_err(|error| (error, ()));
            for at in share {
                let (Some(key), Some(answer)) = (keys.get(at), answers.get_mut(at)) else {
                    continue;
                };
                *answer = Some(match &mut found {
                    Ok(items) => items.remove(key.as_str()).transpose(),
                    Err((error, ())) => Err(error.clone()),
                });
            }
        }
        Ok(answers
            .into_iter()
            .map(|answer| answer.unwrap_or(Ok(None)))
            .collect())
    }

    /// Which keys, by their place in `keys`, are asked for at which server, at most [`BATCH`] at a time.
    fn shares(&self, keys: &[String]) -> Result<Vec<(&Node, Vec<usize>)>, RemoteError> {
        let mut shares: HashMap<&Host, (&Node, Vec<usize>)> = HashMap::new();
        for (at, key) in keys.iter().enumerate() {
            let node = self.node(key)?;
            shares.entry(node.host()).or_insert((node, Vec::new())).1.push(at);
        }
        let mut batches = Vec::new();
        for (node, share) in shares.into_values() {
            batches.extend(share.chunks(BATCH).map(|batch| (node, batch.to_vec())));
        }
        Ok(batches)
    }

    async fn exist(&self, keys: Vec<String>, parallel: usize) -> Result<Vec<bool>, RemoteError> {
        let mut found = vec![false; keys.len()];
        let keys = &keys;
        let batches: Vec<_> = self
            .shares(keys)?
            .into_iter()
            .map(|(node, share)| async move {
                let names = named(keys, &share);
                Ok::<_, RemoteError>((node.exist(&names).await?, share))
            })
            .collect();
        let mut batches = stream::iter(batches).buffer_unordered(parallel.max(1));
        while let Some((there, share)) = batches.try_next().await? {
            for (there, at) in there.into_iter().zip(share) {
                if let Some(found) = found.get_mut(at) {
                    *found = there;
                }
            }
        }
        Ok(found)
    }
}

/// The keys in these places.
fn named<'a>(keys: &'a [String], places: &[usize]) -> Vec<&'a str> {
    let keys = places.iter().filter_map(|&at| keys.get(at));
    keys.map(String::as_str).collect()
}

/// The table that an item is.
fn table(item: &Item) -> Option<Table> {
    (item.flags == PARTS)
        .then(|| Table::decode(&item.value))
        .flatten()
}

/// The bytes of a split object from `offset` on.
fn chunks(servers: Arc<Servers>, table: Table, key: String, offset: u64) -> Chunks {
    let state = (servers, table, key, offset);
    Box::pin(stream::try_unfold(
        state,
        |(servers, table, key, offset)| async move {
            if offset >= table.size {
                return Ok(None);
            }
            let at = offset / table.part;
            let Some(part) = servers.part(&table, at).await? else {
                let message = format!("read '{key}': the server has dropped a part of it");
                return Err(RemoteError::new(RemoteErrorKind::Invalid, message));
            };
            let skip = usize::try_from(offset - at * table.part).unwrap_or_default();
            let chunk = part.slice(skip.min(part.len())..);
            let next = offset + u64::try_from(chunk.len()).unwrap_or_default();
            Ok(Some((chunk, (servers, table, key, next))))
        },
    ))
}

impl Backend for Memcached {
    fn limits(&self) -> Limits {
        Limits {
            largest: Some(LARGEST),
            parallel: self.parallel,
            conditional: true,
            batch: BATCH,
        }
    }

    fn get(&self, object: &Object, limit: u64) -> Answer<'_, Option<Bytes>> {
        let key = self.key(object);
        Box::pin(async move { self.servers.get(key, limit).await })
    }

    fn get_many(
        &self,
        objects: &[Object],
        limit: u64,
    ) -> Answer<'_, Vec<Result<Option<Bytes>, RemoteError>>> {
        let keys: Vec<String> = objects.iter().map(|object| self.key(object)).collect();
        Box::pin(async move {
            let items = self
                .servers
                .items(&keys, limit.max(parts::LONGEST), self.parallel)
                .await?;
            let mut answers = Vec::with_capacity(keys.len());
            for (key, item) in keys.iter().zip(items) {
                answers.push(match item {
                    Ok(Some(item)) => self.servers.content(key, item, limit).await,
                    Ok(None) => Ok(None),
                    Err(error) => Err(error),
                });
            }
            Ok(answers)
        })
    }

    fn open(&self, object: &Object, offset: u64) -> Answer<'_, Option<Body>> {
        let key = self.key(object);
        Box::pin(async move {
            let Some(item) = self.servers.item(&key, LARGEST).await? else {
                return Ok(None);
            };
            let (size, version, chunks): (_, _, Chunks) = match table(&item) {
                Some(table) => {
                    let version = table.id.clone();
                    (
                        table.size,
                        Some(version),
                        chunks(Arc::clone(&self.servers), table, key, offset),
                    )
                }
                None => {
                    let skip =
                        usize::try_from(offset).map_or(item.value.len(), |skip| skip.min(item.value.len()));
                    let size = u64::try_from(item.value.len()).unwrap_or(u64::MAX);
                    let rest = item.value.slice(skip..);
                    (
                        size,
                        None,
                        Box::pin(stream::iter((!rest.is_empty()).then_some(Ok(rest)))),
                    )
                }
            };
            Ok(Some(Body {
                size,
                offset,
                version,
                chunks,
            }))
        })
    }

    fn exist(&self, objects: &[Object]) -> Answer<'_, Vec<bool>> {
        let keys = objects.iter().map(|object| self.key(object)).collect();
        Box::pin(async move { self.servers.exist(keys, self.parallel).await })
    }

    fn put(&self, object: &Object, bytes: Bytes, mode: PutMode) -> Answer<'_, Put> {
        let key = self.key(object);
        Box::pin(async move { self.servers.put(key, Content::Bytes(bytes), mode).await })
    }

    fn put_file(&self, object: &Object, file: File, size: u64) -> Answer<'_, Put> {
        let key = self.key(object);
        Box::pin(async move {
            upload::check(&file, size)?;
            self.servers
                .put(key, Content::File(Arc::new(file), size), PutMode::Replace)
                .await
        })
    }

    fn delete(&self, object: &Object) -> Answer<'_, ()> {
        let key = self.key(object);
        Box::pin(async move { self.servers.node(&key)?.delete(&key).await })
    }

    fn probe(&self) -> Answer<'_, ()> {
        let key = self.key(&Object::Probe);
        Box::pin(async move { self.servers.item(&key, 1 << 20).await.map(drop) })
    }
}
