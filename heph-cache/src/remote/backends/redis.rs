//! `redis` and `rediss`: values of a Redis server, one for each object.

mod resp;

use std::fs::File;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};

use super::pool::{Lease, Pool};
use super::scrub::Scrubber;
use super::{tls, upload};
use crate::remote::access::Access;
use crate::remote::backend::{Answer, Backend, Body, Chunks, Limits, Object, Put, PutMode, RemoteError};
use crate::remote::location::{Host, Login};
use resp::{bulk_length, command, error_of, integer};

/// Connections where the entry names no number.
const PARALLEL: usize = 16;
/// Values that are asked for at once.
const BATCH: usize = 64;
/// Largest value: what Redis itself allows by default.
const LARGEST: u64 = 512 << 20;
/// How much of a file that is uploaded is read at once.
const PIECE: usize = 1 << 20;
/// A value that is too large is read and forgotten up to this size; for a larger one, the connection is closed.
const DISCARDED: u64 = 1 << 20;

/// A database of a Redis server.
#[derive(Debug)]
pub(super) struct Redis {
    server: Arc<Server>,
    prefix: String,
    /// Seconds that values are kept.
    ttl: Option<u64>,
    parallel: usize,
}

#[derive(Debug)]
struct Server {
    pool: Arc<Pool>,
    login: Option<Login>,
    database: u32,
    scrubber: Scrubber,
}

/// Which server and which of its databases.
pub(super) struct Place<'a> {
    pub host: &'a Host,
    pub tls: bool,
    pub insecure: bool,
    pub database: u32,
    pub login: Option<&'a Login>,
    pub prefix: &'a str,
}

impl Redis {
    /// The values of a database whose keys begin with a prefix.
    pub(super) fn new(place: &Place<'_>, access: &Access) -> Result<Self, RemoteError> {
        let config = match (place.tls, place.insecure) {
            (false, _) => None,
            (true, false) => Some(tls::config(access)?),
            (true, true) => Some(tls::insecure()?),
        };
        let password = access
            .secret("REDIS_PASSWORD")
            .or_else(|| access.secret("REDISCLI_AUTH"));
        let login = match (place.login, password) {
            (Some(login), _) if !login.password.is_empty() => Some(login.clone()),
            (login, Some(password)) => {
                let named = login
                    .map(|login| login.user.as_str())
                    .filter(|user| !user.is_empty());
                Some(Login {
                    user: named
                        .or_else(|| access.secret("REDIS_USERNAME"))
                        .unwrap_or_default()
                        .to_owned(),
                    password: password.to_owned(),
                })
            }
            (_, None) => None,
        };
        let parallel = access.parallel(PARALLEL);
        Ok(Self {
            server: Arc::new(Server {
                pool: Pool::new(place.host.clone(), config, parallel),
                scrubber: Scrubber::new(access, login.iter().map(|login| login.password.clone())),
                login,
                database: place.database,
            }),
            prefix: place.prefix.to_owned(),
            ttl: access.ttl.map(|ttl| ttl.as_secs().max(1)),
            parallel,
        })
    }

    fn key(&self, object: &Object) -> String {
        match self.prefix.as_str() {
            "" => object.path(),
            prefix => format!("{prefix}/{object}"),
        }
    }

    async fn get(&self, key: String, limit: u64) -> Result<Option<Bytes>, RemoteError> {
        let mut lease = self.server.asked(&command(&[b"GET", key.as_bytes()])).await?;
        let value = self.server.value(&mut lease, &key, limit).await?;
        match value {
            Value::Absent => {
                lease.done();
                Ok(None)
            }
            Value::Whole(bytes) => {
                lease.done();
                Ok(Some(bytes))
            }
            Value::TooLarge { error, read } => {
                if read {
                    lease.done();
                }
                Err(error)
            }
        }
    }

    /// The values of at most [`BATCH`] keys, in one round trip unless some are much too large.
    async fn get_batch(
        &self,
        keys: Vec<String>,
        limit: u64,
    ) -> Result<Vec<Result<Option<Bytes>, RemoteError>>, RemoteError> {
        let mut words: Vec<&[u8]> = vec![b"MGET"];
        words.extend(keys.iter().map(|key| key.as_bytes()));
        let mut lease = self.server.asked(&command(&words)).await?;
        let line = lease.line().await?;
        if line.strip_prefix('*').and_then(|count| count.parse().ok()) != Some(keys.len()) {
            return Err(self.server.unexpected(&line));
        }
        let mut answers = Vec::with_capacity(keys.len());
        for key in &keys {
            match self.server.value(&mut lease, key, limit).await? {
                Value::Absent => answers.push(Ok(None)),
                Value::Whole(bytes) => answers.push(Ok(Some(bytes))),
                Value::TooLarge { error, read: true } => answers.push(Err(error)),
                Value::TooLarge { error, read: false } => {
                    answers.push(Err(error));
                    drop(lease);
                    // Closed in the middle: what comes behind it is asked for one by one.
                    for key in keys.iter().skip(answers.len()) {
                        answers.push(self.get(key.clone(), limit).await);
                    }
                    return Ok(answers);
                }
            }
        }
        lease.done();
        Ok(answers)
    }

    async fn open(&self, key: String, offset: u64) -> Result<Option<Body>, RemoteError> {
        let from = offset.to_string();
        let request = match offset {
            0 => command(&[b"GET", key.as_bytes()]),
            _ => [
                command(&[b"EXISTS", key.as_bytes()]),
                command(&[b"STRLEN", key.as_bytes()]),
                command(&[b"GETRANGE", key.as_bytes(), from.as_bytes(), b"-1"]),
            ]
            .concat(),
        };
        let mut lease = self.server.asked(&request).await?;
        let known = match offset {
            0 => None,
            _ => {
                let exists = self.server.integer(&mut lease).await?;
                let length = self.server.integer(&mut lease).await?;
                Some((exists > 0, length))
            }
        };
        let length = self.server.bulk(&mut lease).await?;
        let length = match (known, length) {
            (Some((false, _)), Some(0)) | (_, None) => {
                if length.is_some() {
                    lease.end_of_value().await?;
                }
                lease.done();
                return Ok(None);
            }
            (_, Some(length)) => length,
        };
        Ok(Some(Body {
            size: known.map_or(length, |(_, size)| size),
            offset,
            version: None,
            chunks: chunks(lease, length),
        }))
    }

    /// `SET` of a value of `size` bytes, up to where the value begins.
    fn set(&self, key: &str, size: u64, mode: PutMode) -> (Vec<u8>, Vec<u8>) {
        let ttl = self.ttl.map(|ttl| ttl.to_string());
        let mut tail: Vec<&[u8]> = Vec::new();
        if mode == PutMode::IfAbsent {
            tail.push(b"NX");
        }
        if let Some(ttl) = &ttl {
            tail.extend([b"EX".as_slice(), ttl.as_bytes()]);
        }
        let head = resp::head(&[b"SET", key.as_bytes()], size, tail.len());
        (head, [b"\r\n".to_vec(), resp::words(&tail)].concat())
    }

    fn check(&self, key: &str, size: u64) -> Result<(), RemoteError> {
        match size > LARGEST {
            true => Err(RemoteError::too_large(key, size, LARGEST)),
            false => Ok(()),
        }
    }

    async fn put(&self, key: String, bytes: Bytes, mode: PutMode) -> Result<Put, RemoteError> {
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.check(&key, size)?;
        let (head, tail) = self.set(&key, size, mode);
        let mut lease = self.server.lease().await?;
        lease.send(&head).await?;
        lease.send(&bytes).await?;
        lease.send(&tail).await?;
        self.server.stored(lease).await
    }

    async fn put_file(&self, key: String, file: Arc<File>, size: u64) -> Result<Put, RemoteError> {
        self.check(&key, size)?;
        upload::check(&file, size)?;
        let (head, tail) = self.set(&key, size, PutMode::Replace);
        let mut pieces = Box::pin(upload::pieces(file, size, PIECE));
        let mut lease = self.server.lease().await?;
        lease.send(&head).await?;
        while let Some(piece) = pieces.next().await {
            // An unfinished command is forgotten with its connection.
            lease.send(&piece?).await?;
        }
        lease.send(&tail).await?;
        self.server.stored(lease).await
    }

    async fn exist(&self, keys: Vec<String>) -> Result<Vec<bool>, RemoteError> {
        let request: Vec<u8> = keys
            .iter()
            .flat_map(|key| command(&[b"EXISTS", key.as_bytes()]))
            .collect();
        let mut lease = self.server.asked(&request).await?;
        let mut found = Vec::with_capacity(keys.len());
        for _ in &keys {
            found.push(self.server.integer(&mut lease).await? > 0);
        }
        lease.done();
        Ok(found)
    }

    async fn ask_number(&self, words: &[&[u8]]) -> Result<(), RemoteError> {
        let mut lease = self.server.asked(&command(words)).await?;
        self.server.integer(&mut lease).await?;
        lease.done();
        Ok(())
    }

    /// The error with no secret in it.
    fn clean<T>(&self, result: Result<T, RemoteError>) -> Result<T, RemoteError> {
        result.map_err(|error| self.server.scrubber.error(error))
    }
}

/// What came for a key.
enum Value {
    Absent,
    Whole(Bytes),
    /// Larger than was asked for; whether it was read, and the connection can still be used.
    TooLarge {
        error: RemoteError,
        read: bool,
    },
}

impl Server {
    /// A connection that is logged in.
    async fn lease(&self) -> Result<Lease, RemoteError> {
        let (mut lease, new) = self.pool.lease().await?;
        if !new {
            return Ok(lease);
        }
        let mut request = Vec::new();
        let mut steps = 0;
        if let Some(login) = &self.login {
            let (user, password) = (login.user.as_bytes(), login.password.as_bytes());
            request.extend(match user {
                b"" => command(&[b"AUTH", password]),
                _ => command(&[b"AUTH", user, password]),
            });
            steps += 1;
        }
        if self.database != 0 {
            request.extend(command(&[b"SELECT", self.database.to_string().as_bytes()]));
            steps += 1;
        }
        lease.send(&request).await?;
        for _ in 0..steps {
            let line = lease.line().await?;
            if line != "+OK" {
                return Err(self.unexpected(&line));
            }
        }
        Ok(lease)
    }

    /// A connection on which a request was sent.
    async fn asked(&self, request: &[u8]) -> Result<Lease, RemoteError> {
        let mut lease = self.lease().await?;
        lease.send(request).await?;
        Ok(lease)
    }

    async fn integer(&self, lease: &mut Lease) -> Result<u64, RemoteError> {
        let line = lease.line().await?;
        integer(&line).ok_or_else(|| self.unexpected(&line))
    }

    async fn bulk(&self, lease: &mut Lease) -> Result<Option<u64>, RemoteError> {
        let line = lease.line().await?;
        bulk_length(&line).ok_or_else(|| self.unexpected(&line))
    }

    async fn value(&self, lease: &mut Lease, key: &str, limit: u64) -> Result<Value, RemoteError> {
        let Some(length) = self.bulk(lease).await? else {
            return Ok(Value::Absent);
        };
        if length > limit {
            let error = RemoteError::too_large(key, length, limit);
            let read = length <= DISCARDED;
            if read {
                lease.discard(length + 2).await?;
            }
            return Ok(Value::TooLarge { error, read });
        }
        let bytes = lease.exactly(length).await?;
        lease.end_of_value().await?;
        Ok(Value::Whole(bytes))
    }

    async fn stored(&self, mut lease: Lease) -> Result<Put, RemoteError> {
        let line = lease.line().await?;
        let put = match line.as_str() {
            "+OK" => Put::Written,
            "$-1" | "_" => Put::Existed,
            _ => return Err(self.unexpected(&line)),
        };
        lease.done();
        Ok(put)
    }

    fn unexpected(&self, line: &str) -> RemoteError {
        error_of(line, &self.pool.host().to_string())
    }
}

/// The bytes of a value of `length` bytes; the connection is handed back behind its end.
fn chunks(lease: Lease, length: u64) -> Chunks {
    Box::pin(stream::try_unfold(Some((lease, length)), |state| async {
        let Some((mut lease, left)) = state else {
            return Ok(None);
        };
        if left == 0 {
            lease.end_of_value().await?;
            lease.done();
            return Ok(None);
        }
        let chunk = lease.chunk(left).await?;
        let left = left - u64::try_from(chunk.len()).unwrap_or(left);
        Ok(Some((chunk, Some((lease, left)))))
    }))
}

impl Backend for Redis {
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
        Box::pin(async move { self.clean(self.get(key, limit).await) })
    }

    fn get_many(
        &self,
        objects: &[Object],
        limit: u64,
    ) -> Answer<'_, Vec<Result<Option<Bytes>, RemoteError>>> {
        let keys: Vec<String> = objects.iter().map(|object| self.key(object)).collect();
        Box::pin(async move {
            let batches: Vec<_> = keys
                .chunks(BATCH)
                .map(|keys| self.get_batch(keys.to_vec(), limit))
                .collect();
            let answers: Result<Vec<_>, RemoteError> = stream::iter(batches)
                .buffered(self.parallel.max(1))
                .try_collect()
                .await;
            Ok(self
                .clean(answers)?
                .into_iter()
                .flatten()
                .map(|answer| self.clean(answer))
                .collect())
        })
    }

    fn open(&self, object: &Object, offset: u64) -> Answer<'_, Option<Body>> {
        let key = self.key(object);
        Box::pin(async move { self.clean(self.open(key, offset).await) })
    }

    fn exist(&self, objects: &[Object]) -> Answer<'_, Vec<bool>> {
        let keys: Vec<String> = objects.iter().map(|object| self.key(object)).collect();
        Box::pin(async move {
            if keys.is_empty() {
                return Ok(Vec::new());
            }
            self.clean(self.exist(keys).await)
        })
    }

    fn put(&self, object: &Object, bytes: Bytes, mode: PutMode) -> Answer<'_, Put> {
        let key = self.key(object);
        Box::pin(async move { self.clean(self.put(key, bytes, mode).await) })
    }

    fn put_file(&self, object: &Object, file: File, size: u64) -> Answer<'_, Put> {
        let key = self.key(object);
        Box::pin(async move { self.clean(self.put_file(key, Arc::new(file), size).await) })
    }

    fn delete(&self, object: &Object) -> Answer<'_, ()> {
        let key = self.key(object);
        Box::pin(async move { self.clean(self.ask_number(&[b"DEL", key.as_bytes()]).await) })
    }

    fn probe(&self) -> Answer<'_, ()> {
        let key = self.key(&Object::Probe);
        Box::pin(async move { self.clean(self.ask_number(&[b"EXISTS", key.as_bytes()]).await) })
    }
}
