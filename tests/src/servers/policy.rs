//! Bucket policies, which the clients of heph never write: requests signed by hand (AWS Signature Version 4).

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sha2::{Digest, Sha256};

/// Puts the policy of a bucket; the status of the answer.
pub fn put(port: u16, (key, secret): (&str, &str), bucket: &str, policy: &str) -> std::io::Result<u16> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let (day, second) = (now.as_secs() / 86_400, now.as_secs() % 86_400);
    let (year, month, day) = date(day);
    let day = format!("{year:04}{month:02}{day:02}");
    let time = format!(
        "{day}T{:02}{:02}{:02}Z",
        second / 3600,
        second / 60 % 60,
        second % 60
    );
    let (host, digest) = (format!("127.0.0.1:{port}"), hex(&Sha256::digest(policy)));
    let request = format!(
        "PUT\n/{bucket}\npolicy=\nhost:{host}\nx-amz-content-sha256:{digest}\nx-amz-date:{time}\n\nhost;x-amz-content-sha256;x-amz-date\n{digest}"
    );
    let range = format!("{day}/us-east-1/s3/aws4_request");
    let text = format!(
        "AWS4-HMAC-SHA256\n{time}\n{range}\n{}",
        hex(&Sha256::digest(request))
    );
    let mut signature = format!("AWS4{secret}").into_bytes();
    for part in range.split('/').chain([text.as_str()]) {
        signature = hmac(&signature, part.as_bytes());
    }
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(
        stream,
        "PUT /{bucket}?policy HTTP/1.1\r\nHost: {host}\r\nx-amz-content-sha256: {digest}\r\nx-amz-date: {time}\r\n\
         Authorization: AWS4-HMAC-SHA256 Credential={key}/{range}, SignedHeaders=host;x-amz-content-sha256;x-amz-date, Signature={}\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{policy}",
        hex(&signature),
        policy.len()
    )?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer)?;
    let status = std::str::from_utf8(&answer[9..])
        .ok()
        .and_then(|status| status.parse().ok());
    status.ok_or_else(|| std::io::Error::other("no status"))
}

/// Year, month and day of a day since 1970.
fn date(mut day: u64) -> (u64, u64, u64) {
    let is_leap =
        |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    while day >= 365 + u64::from(is_leap(year)) {
        day -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let mut month = 1;
    for days in [
        31,
        28 + u64::from(is_leap(year)),
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
    ] {
        if day < days {
            break;
        }
        day -= days;
        month += 1;
    }
    (year, month, day + 1)
}

/// RFC 2104, for keys of at most a block.
fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut block = [0; 64];
    block[..key.len()].copy_from_slice(key);
    let inner = Sha256::new_with_prefix(block.map(|byte| byte ^ 0x36)).chain_update(text);
    let outer = Sha256::new_with_prefix(block.map(|byte| byte ^ 0x5c)).chain_update(inner.finalize());
    outer.finalize().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
