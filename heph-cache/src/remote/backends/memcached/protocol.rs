//! The text protocol of memcached.
//!
//! <https://github.com/memcached/memcached/blob/master/doc/protocol.txt>

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::sync::OnceCell;

use super::super::pool::{Lease, Pool};
use crate::remote::backend::{Put, PutMode, RemoteError, RemoteErrorKind};
use crate::remote::location::Host;

/// Flags of an item that is a value.
pub(super) const PLAIN: u32 = 0;
/// Flags of an item that is a table of parts.
pub(super) const PARTS: u32 = 1;
/// What the server and the key take of an item.
const OVERHEAD: u64 = 1024;
/// Item size of a server that does not tell.
const USUAL: u64 = 1 << 20;
/// Longer times than this are moments, for memcached.
const RELATIVE: Duration = Duration::from_secs(30 * 24 * 3600);

/// How long items are kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expiry(pub Option<Duration>);

impl Expiry {
    /// `exptime` of an item that is written now.
    fn time(self) -> u64 {
        match self.0 {
            None => 0,
            Some(ttl) if ttl <= RELATIVE => ttl.as_secs().max(1),
            Some(ttl) => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                (now + ttl).as_secs()
            }
        }
    }
}

/// A value and its flags.
#[derive(Debug)]
pub(super) struct Item {
    pub flags: u32,
    pub value: Bytes,
}

/// One server.
#[derive(Debug)]
pub(super) struct Node {
    pool: Arc<Pool>,
    largest: OnceCell<u64>,
}

impl Node {
    /// The server that these connections lead to.
    pub(super) fn new(pool: Arc<Pool>) -> Self {
        Self {
            pool,
            largest: OnceCell::new(),
        }
    }

    /// Where it is.
    pub(super) fn host(&self) -> &Host {
        self.pool.host()
    }

    async fn asked(&self, request: &[u8]) -> Result<Lease, RemoteError> {
        let (mut lease, _) = self.pool.lease().await?;
        lease.send(request).await?;
        Ok(lease)
    }

    /// The largest value that it takes.
    pub(super) async fn largest_item(&self) -> Result<u64, RemoteError> {
        let size = self.largest.get_or_try_init(|| async {
            let mut lease = self.asked(b"stats settings\r\n").await?;
            let mut size = None;
            loop {
                let line = lease.line().await?;
                if let Some(rest) = line.strip_prefix("STAT item_size_max ") {
                    size = rest.parse().ok();
                }
                if line == "END" {
                    lease.done();
                    break;
                }
                // Proxies know no settings.
                if !line.starts_with("STAT ") {
                    break;
                }
            }
            Ok::<u64, RemoteError>(size.unwrap_or(USUAL))
        });
        Ok(size.await?.saturating_sub(OVERHEAD).max(1))
    }

    /// The items of those keys that it has; an error for one of more than `limit` bytes.
    pub(super) async fn get(
        &self,
        keys: &[&str],
        limit: u64,
    ) -> Result<HashMap<String, Result<Item, RemoteError>>, RemoteError> {
        let mut items = HashMap::new();
        if keys.is_empty() {
            return Ok(items);
        }
        let mut lease = self
            .asked(format!("get {}\r\n", keys.join(" ")).as_bytes())
            .await?;
        loop {
            let line = lease.line().await?;
            if line == "END" {
                lease.done();
                return Ok(items);
            }
            let words: Vec<&str> = line.split(' ').collect();
            let (["VALUE", key, flags, size] | ["VALUE", key, flags, size, _]) = words.as_slice() else {
                return Err(self.error(&line));
            };
            let (Ok(flags), Ok(size)) = (flags.parse(), size.parse::<u64>()) else {
                return Err(self.error(&line));
            };
            let item = if size > limit {
                lease.discard(size).await?;
                Err(RemoteError::too_large(key, size, limit))
            } else {
                let value = lease.exactly(size).await?;
                Ok(Item { flags, value })
            };
            lease.end_of_value().await?;
            items.insert((*key).to_owned(), item);
        }
    }

    /// Which keys it has.
    pub(super) async fn exist(&self, keys: &[&str]) -> Result<Vec<bool>, RemoteError> {
        let request: String = keys.iter().map(|key| format!("mg {key}\r\n")).collect();
        let mut lease = self.asked(request.as_bytes()).await?;
        let mut found = Vec::with_capacity(keys.len());
        for _ in keys {
            let line = lease.line().await?;
            match line.as_str() {
                "HD" => found.push(true),
                "EN" => found.push(false),
                // A server older than these commands (1.6), or a proxy.
                _ if line.starts_with("ERROR") || line.starts_with("CLIENT_ERROR") => {
                    drop(lease);
                    let items = self.get(keys, 0).await?;
                    return Ok(keys.iter().map(|key| items.contains_key(*key)).collect());
                }
                _ if line.starts_with("HD ") => found.push(true),
                _ => return Err(self.error(&line)),
            }
        }
        lease.done();
        Ok(found)
    }

    /// Writes an item.
    pub(super) async fn set(
        &self,
        key: &str,
        flags: u32,
        value: &[u8],
        mode: PutMode,
        expires: Expiry,
    ) -> Result<Put, RemoteError> {
        let command = match mode {
            PutMode::Replace => "set",
            PutMode::IfAbsent => "add",
        };
        let head = format!("{command} {key} {flags} {} {}\r\n", expires.time(), value.len());
        let mut lease = self.asked(head.as_bytes()).await?;
        lease.send(value).await?;
        lease.send(b"\r\n").await?;
        let line = lease.line().await?;
        let put = match line.as_str() {
            "STORED" => Put::Written,
            "NOT_STORED" if mode == PutMode::IfAbsent => Put::Existed,
            _ => return Err(self.error(&line)),
        };
        lease.done();
        Ok(put)
    }

    /// Removes an item that may be there.
    pub(super) async fn delete(&self, key: &str) -> Result<(), RemoteError> {
        let mut lease = self.asked(format!("delete {key}\r\n").as_bytes()).await?;
        let line = lease.line().await?;
        match line.as_str() {
            "DELETED" | "NOT_FOUND" => {
                lease.done();
                Ok(())
            }
            _ => Err(self.error(&line)),
        }
    }

    fn error(&self, line: &str) -> RemoteError {
        let kind = if line.contains("too large") {
            RemoteErrorKind::TooLarge
        } else if line.contains("out of memory") {
            RemoteErrorKind::Full
        } else if line.contains("unauthenticated") || line.contains("authentication") {
            RemoteErrorKind::Denied
        } else if line.starts_with("SERVER_ERROR") {
            RemoteErrorKind::Unavailable
        } else if line == "ERROR" {
            RemoteErrorKind::Unsupported
        } else {
            RemoteErrorKind::Invalid
        };
        let host = self.host();
        let known = ["SERVER_ERROR", "CLIENT_ERROR", "ERROR"];
        let text = match known.iter().any(|word| line.starts_with(word)) {
            true => line,
            false => "it does not speak the protocol of memcached",
        };
        let text: String = text.chars().filter(|c| !c.is_control()).take(200).collect();
        RemoteError::new(kind, format!("ask {host}: {text}"))
    }
}
