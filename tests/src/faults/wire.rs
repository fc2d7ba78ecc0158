//! Where requests and answers begin and end.

use std::io::{BufRead, Read, Result};
use std::ops::Range;

/// How a server is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1 without TLS.
    Http,
    /// RESP2.
    Redis,
    /// memcached's text protocol.
    Memcached,
}

/// A whole request or answer.
pub(super) struct Message {
    /// Method or command; empty for answers.
    pub verb: String,
    pub bytes: Vec<u8>,
    /// Where contents are in it.
    contents: Vec<Range<usize>>,
}

impl Message {
    fn new() -> Self {
        Self {
            verb: String::new(),
            bytes: Vec::new(),
            contents: Vec::new(),
        }
    }

    /// With a bit in the middle of each content turned.
    pub fn with_one_bit_changed(&self) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        for content in &self.contents {
            if let Some(byte) = bytes.get_mut(content.start + content.len() / 2) {
                *byte ^= 1;
            }
        }
        bytes
    }

    /// The verb of a request, and which objects of heph it is about, if any.
    pub fn kind(&self) -> String {
        let begin = self.bytes.get(..self.bytes.len().min(1024)).unwrap_or_default();
        let begin = String::from_utf8_lossy(begin);
        let kinds = ["actions", "blobs", "tombstones"];
        match kinds.iter().find(|kind| begin.contains(&format!("/{kind}/"))) {
            Some(kind) => format!("{} {kind}", self.verb),
            None => self.verb.clone(),
        }
    }

    /// Whether it is a request that would write something.
    pub fn writes(&self) -> bool {
        ["PUT", "POST", "SET", "set", "add"].contains(&self.verb.as_str())
    }

    fn line(&mut self, from: &mut impl BufRead) -> Result<String> {
        let begin = self.bytes.len();
        from.read_until(b'\n', &mut self.bytes)?;
        let line = self.bytes.get(begin..).unwrap_or_default();
        if !line.ends_with(b"\n") {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        Ok(String::from_utf8_lossy(line).trim_end().to_owned())
    }

    fn content(&mut self, from: &mut impl Read, length: usize) -> Result<()> {
        let begin = self.bytes.len();
        self.bytes.resize(begin + length, 0);
        from.read_exact(self.bytes.get_mut(begin..).unwrap_or_default())?;
        if length > 0 {
            self.contents.push(begin..begin + length);
        }
        Ok(())
    }

    /// A content with the end of a line behind it, which is none of it.
    fn value(&mut self, from: &mut impl BufRead, length: usize) -> Result<()> {
        self.content(from, length)?;
        self.line(from).map(drop)
    }
}

impl Protocol {
    /// The next request; `None` when the client is done.
    pub(super) fn request(self, from: &mut impl BufRead) -> Result<Option<Message>> {
        if from.fill_buf()?.is_empty() {
            return Ok(None);
        }
        let mut message = Message::new();
        match self {
            Self::Http => {
                let first = http_head(&mut message, from, None)?;
                message.verb = word(&first, 0);
            }
            Self::Redis => {
                let count = number(message.line(from)?.trim_start_matches('*'));
                for at in 0..count {
                    let length = number(message.line(from)?.trim_start_matches('$'));
                    let begin = message.bytes.len();
                    message.value(from, length)?;
                    if at == 0 {
                        let verb = message.bytes.get(begin..begin + length).unwrap_or_default();
                        message.verb = String::from_utf8_lossy(verb).into_owned();
                    }
                }
                // Of the words only the value is a content.
                let is_set = message.verb == "SET";
                message.contents = message
                    .contents
                    .drain(..)
                    .skip(2)
                    .take(usize::from(is_set))
                    .collect();
            }
            Self::Memcached => {
                let line = message.line(from)?;
                message.verb = word(&line, 0);
                if message.writes() {
                    message.value(from, number(&word(&line, 4)))?;
                }
            }
        }
        Ok(Some(message))
    }

    /// The answer to a request.
    pub(super) fn answer(self, from: &mut impl BufRead, request: &Message) -> Result<Message> {
        let mut message = Message::new();
        match self {
            Self::Http => drop(http_head(&mut message, from, Some(&request.verb))?),
            Self::Redis => redis_answer(&mut message, from)?,
            Self::Memcached => loop {
                let line = message.line(from)?;
                match word(&line, 0).as_str() {
                    "VALUE" => message.value(from, number(&word(&line, 3)))?,
                    "STAT" => {}
                    _ => break,
                }
            },
        }
        Ok(message)
    }

    /// What a server with this status, or something like it, says.
    pub(super) fn refusal(self, status: u16, request: &Message) -> String {
        match (self, status) {
            (Self::Http, _) if request.verb == "HEAD" => {
                format!("HTTP/1.1 {status} Fault\r\nContent-Length: 7\r\n\r\n")
            }
            (Self::Http, _) => {
                format!(
                    "HTTP/1.1 {status} Fault\r\nContent-Type: text/plain\r\nContent-Length: 7\r\n\r\na fault"
                )
            }
            (Self::Redis, 403) => "-NOPERM this user has no permissions\r\n".to_owned(),
            (Self::Redis, 404) => format!("-ERR unknown command '{}'\r\n", request.verb),
            (Self::Redis, 429) => "-ERR max number of clients reached\r\n".to_owned(),
            (Self::Redis, 503) => "-LOADING Redis is loading the dataset in memory\r\n".to_owned(),
            (Self::Redis, 507) => "-OOM command not allowed when used memory > 'maxmemory'.\r\n".to_owned(),
            (Self::Redis, _) => "-ERR internal error\r\n".to_owned(),
            (Self::Memcached, 403) => "CLIENT_ERROR unauthenticated\r\n".to_owned(),
            (Self::Memcached, 404) => "ERROR\r\n".to_owned(),
            (Self::Memcached, 429) => "ERROR Too many open connections\r\n".to_owned(),
            (Self::Memcached, 503) => "SERVER_ERROR temporary failure\r\n".to_owned(),
            (Self::Memcached, 507) => "SERVER_ERROR out of memory storing object\r\n".to_owned(),
            (Self::Memcached, _) => "SERVER_ERROR internal error\r\n".to_owned(),
        }
    }
}

/// Reads a head and its body; the first line. `method`: that of the request, for answers.
fn http_head(message: &mut Message, from: &mut impl BufRead, method: Option<&str>) -> Result<String> {
    let first = message.line(from)?;
    let (mut length, mut is_chunked) = (None, false);
    loop {
        let line = message.line(from)?.to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = Some(number(value));
        }
        is_chunked |= line.starts_with("transfer-encoding:") && line.contains("chunked");
    }
    let status = word(&first, 1);
    let has_none = method == Some("HEAD") || (method.is_some() && ["204", "304"].contains(&status.as_str()));
    if has_none {
        return Ok(first);
    }
    if is_chunked {
        loop {
            let size = message.line(from)?;
            let size = usize::from_str_radix(size.split(';').next().unwrap_or_default(), 16).unwrap_or(0);
            if size == 0 {
                while !message.line(from)?.is_empty() {}
                return Ok(first);
            }
            message.value(from, size)?;
        }
    }
    match length {
        Some(length) => message.content(from, length)?,
        // An answer that ends with its connection.
        None if method.is_some() => {
            let begin = message.bytes.len();
            from.read_to_end(&mut message.bytes)?;
            message.contents.push(begin..message.bytes.len());
        }
        None => {}
    }
    Ok(first)
}

fn redis_answer(message: &mut Message, from: &mut impl BufRead) -> Result<()> {
    let line = message.line(from)?;
    match line.split_at_checked(1) {
        Some(("$", length)) if length != "-1" => message.value(from, number(length)),
        Some(("*", count)) => (0..number(count)).try_for_each(|_| redis_answer(message, from)),
        _ => Ok(()),
    }
}

fn word(line: &str, at: usize) -> String {
    line.split(' ').nth(at).unwrap_or_default().to_owned()
}

fn number(text: &str) -> usize {
    text.trim().parse().unwrap_or(0)
}
