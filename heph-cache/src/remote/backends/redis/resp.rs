//! The serialization protocol of Redis, version 2.
//!
//! <https://redis.io/docs/latest/develop/reference/protocol-spec/>

use crate::remote::backend::{RemoteError, RemoteErrorKind};

/// A command of these words.
pub(super) fn command(all: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", all.len()).into_bytes();
    bytes.extend(words(all));
    bytes
}

/// A command up to where a word of `size` bytes begins, which `more` words follow.
pub(super) fn head(before: &[&[u8]], size: u64, more: usize) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", before.len() + 1 + more).into_bytes();
    bytes.extend(words(before));
    bytes.extend(format!("${size}\r\n").into_bytes());
    bytes
}

/// Words as they stand in a command.
pub(super) fn words(all: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in all {
        bytes.extend(format!("${}\r\n", word.len()).into_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// The number that an answer is; a negative one is none.
pub(super) fn integer(line: &str) -> Option<u64> {
    line.strip_prefix(':')?.parse().ok()
}

/// The length of the value that follows, or that there is no value.
pub(super) fn bulk_length(line: &str) -> Option<Option<u64>> {
    match line {
        "$-1" | "_" => Some(None),
        _ => Some(Some(line.strip_prefix('$')?.parse().ok()?)),
    }
}

/// The error that an answer is, or that it is something else than was asked for.
pub(super) fn error_of(line: &str, host: &str) -> RemoteError {
    let Some(text) = line.strip_prefix('-') else {
        let message = format!("ask {host}: it does not speak the protocol of Redis");
        return RemoteError::new(RemoteErrorKind::Invalid, message);
    };
    let code = text.split(' ').next().unwrap_or_default();
    let kind = match code {
        "NOAUTH" | "WRONGPASS" | "NOPERM" | "READONLY" | "DENIED" => RemoteErrorKind::Denied,
        "OOM" => RemoteErrorKind::Full,
        "LOADING" | "BUSY" | "TRYAGAIN" | "CLUSTERDOWN" | "MASTERDOWN" | "MISCONF" | "NOREPLICAS" => {
            RemoteErrorKind::Unavailable
        }
        "MOVED" | "ASK" | "CROSSSLOT" => RemoteErrorKind::Unsupported,
        _ if text.contains("invalid password") || text.contains("without any password") => {
            RemoteErrorKind::Denied
        }
        _ if text.contains("DB index") => RemoteErrorKind::Missing,
        _ if text.contains("max number of clients") => RemoteErrorKind::Throttled,
        _ if text.contains("invalid bulk length") => RemoteErrorKind::TooLarge,
        _ if text.contains("unknown command") => RemoteErrorKind::Unsupported,
        _ => RemoteErrorKind::Invalid,
    };
    RemoteError::new(kind, format!("ask {host}: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_and_answers_are_those_of_the_protocol() {
        assert_eq!(command(&[b"GET", b"a b"]), b"*2\r\n$3\r\nGET\r\n$3\r\na b\r\n");
        assert_eq!(
            head(&[b"SET", b"k"], 5, 1),
            b"*4\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\n"
        );
        assert_eq!(
            (integer(":7"), integer(":-1"), integer("+OK")),
            (Some(7), None, None)
        );
        assert_eq!(bulk_length("$-1"), Some(None));
        assert_eq!(bulk_length("$12"), Some(Some(12)));
        for line in ["$", "$-2", "$x", ":1", "", "HTTP/1.1 400 Bad Request"] {
            assert_eq!(bulk_length(line), None, "{line}");
        }
        let kind = |line: &str| error_of(line, "h:1").kind;
        assert_eq!(
            kind("-WRONGPASS invalid username-password pair"),
            RemoteErrorKind::Denied
        );
        assert_eq!(kind("-OOM command not allowed"), RemoteErrorKind::Full);
        assert_eq!(kind("-ERR DB index is out of range"), RemoteErrorKind::Missing);
        assert_eq!(kind("HTTP/1.1 400 Bad Request"), RemoteErrorKind::Invalid);
    }
}
