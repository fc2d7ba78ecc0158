//! What an answer with a bad status means.

use std::time::Duration;

use chrono::{DateTime, Utc};
use http::StatusCode;
use http::header::{DATE, HeaderMap, LOCATION, RETRY_AFTER};

use crate::remote::backend::{RemoteError, RemoteErrorKind};

/// Clouds accept requests whose time is off by at most this: five (Azure, Google) to fifteen (Amazon) minutes.
const SKEW: i64 = 5 * 60;
/// A server that wants to be left alone for longer is not believed.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// The error that an answer stands for; the beginning of its body says why. Secrets may be in it.
pub(super) fn error(what: &str, status: StatusCode, headers: &HeaderMap, body: &str) -> RemoteError {
    let code = code(headers, body);
    let retry_after = retry_after(headers);
    let mut kind = by_code(&code, body).unwrap_or_else(|| by_status(status, retry_after));
    let mut message = format!("{what}: {status}");
    if !code.is_empty() {
        message.push_str(&format!(": {code}"));
    }
    let text = element(body, "Message").or_else(|| plain(headers, body));
    if let Some(text) = text.filter(|text| *text != code && !message.ends_with(text.as_str())) {
        message.push_str(&format!(": {text}"));
    }
    let skew = skew(headers);
    if kind == RemoteErrorKind::ClockSkew
        || (matches!(kind, RemoteErrorKind::Denied | RemoteErrorKind::Credentials) && skew.abs() > SKEW)
    {
        kind = RemoteErrorKind::ClockSkew;
        if skew.abs() > 1 {
            let direction = if skew > 0 { "behind" } else { "ahead of" };
            message.push_str(&format!(
                " (this machine's clock is {} s {direction} the server's)",
                skew.abs()
            ));
        }
    }
    if let Some(region) = headers
        .get("x-amz-bucket-region")
        .and_then(|value| value.to_str().ok())
        && kind == RemoteErrorKind::Config
    {
        message.push_str(&format!(" (the bucket is in region '{region}')"));
    } else if status.is_redirection()
        && let Some(place) = headers.get(LOCATION).and_then(|value| value.to_str().ok())
    {
        let place = place.split('?').next().unwrap_or_default();
        message.push_str(&format!(" (to {place})"));
    }
    RemoteError {
        kind,
        message,
        retry_after,
    }
}

/// Whether the answer says that the bucket is missing, and not only the object.
pub(super) fn is_missing_bucket(headers: &HeaderMap, body: &str) -> bool {
    by_code(&code(headers, body), body) == Some(RemoteErrorKind::Missing)
}

fn by_code(code: &str, body: &str) -> Option<RemoteErrorKind> {
    Some(match code {
        "RequestTimeTooSkewed" | "RequestInTheFuture" => RemoteErrorKind::ClockSkew,
        "AuthenticationFailed" if body.contains("Request date header too old") => RemoteErrorKind::ClockSkew,
        "ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired" | "InvalidToken" => {
            RemoteErrorKind::Credentials
        }
        "NoSuchBucket"
        | "ContainerNotFound"
        | "ContainerBeingDeleted"
        | "AccountNotFound"
        | "NoSuchUpload" => RemoteErrorKind::Missing,
        "SlowDown" | "ServerBusy" | "TooManyRequests" | "Throttling" | "RequestLimitExceeded" => {
            RemoteErrorKind::Throttled
        }
        "EntityTooLarge" | "RequestBodyTooLarge" | "MaxMessageLengthExceeded" => RemoteErrorKind::TooLarge,
        "QuotaExceeded" | "XMinioStorageFull" | "InsufficientCapacity" => RemoteErrorKind::Full,
        "PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException" => {
            RemoteErrorKind::Config
        }
        "RequestTimeout" | "OperationTimedOut" => RemoteErrorKind::TimedOut,
        "OperationAborted" | "ConditionalRequestConflict" => RemoteErrorKind::Unavailable,
        _ => return None,
    })
}

fn by_status(status: StatusCode, retry_after: Option<Duration>) -> RemoteErrorKind {
    match status.as_u16() {
        401 | 403 | 407 => RemoteErrorKind::Denied,
        404 | 410 => RemoteErrorKind::Missing,
        405 | 501 => RemoteErrorKind::Unsupported,
        408 => RemoteErrorKind::TimedOut,
        413 => RemoteErrorKind::TooLarge,
        429 => RemoteErrorKind::Throttled,
        503 if retry_after.is_some() => RemoteErrorKind::Throttled,
        507 => RemoteErrorKind::Full,
        409 | 425 | 500..=599 => RemoteErrorKind::Unavailable,
        300..=399 => RemoteErrorKind::Config,
        _ => RemoteErrorKind::Invalid,
    }
}

/// The machine-readable cause: a header of Azure, an element of Amazon's XML, a member of Google's JSON.
pub(super) fn code(headers: &HeaderMap, body: &str) -> String {
    let header = headers
        .get("x-ms-error-code")
        .and_then(|value| value.to_str().ok());
    let text = header
        .map(str::to_owned)
        .or_else(|| element(body, "Code"))
        .or_else(|| {
            let json: serde_json::Value = serde_json::from_str(body).ok()?;
            Some(json.get("error")?.as_str()?.to_owned())
        });
    text.unwrap_or_default()
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
        .take(80)
        .collect()
}

pub(in crate::remote) fn element(body: &str, name: &str) -> Option<String> {
    let (_, rest) = body.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    Some(text.trim().to_owned())
}

/// A body that is a short plain text.
fn plain(headers: &HeaderMap, body: &str) -> Option<String> {
    let kind = headers.get("content-type").and_then(|value| value.to_str().ok());
    let text = kind.is_none_or(|kind| kind.starts_with("text/plain") || kind.contains("json"));
    let body = body.trim();
    (text && !body.is_empty() && !body.starts_with('<')).then(|| body.to_owned())
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let pause = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let then = DateTime::parse_from_rfc2822(text).ok()?;
            (then.to_utc() - Utc::now()).to_std().unwrap_or_default()
        }
    };
    Some(pause.min(LONGEST_PAUSE))
}

/// How many seconds the server's clock is ahead of this machine's.
fn skew(headers: &HeaderMap) -> i64 {
    let theirs = headers
        .get(DATE)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| DateTime::parse_from_rfc2822(text).ok());
    theirs.map_or(0, |theirs| (theirs.to_utc() - Utc::now()).num_seconds())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn of(status: u16, headers: &[(&'static str, &str)], body: &str) -> RemoteError {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, HeaderValue::from_str(value).unwrap());
        }
        error("GET x", StatusCode::from_u16(status).unwrap(), &map, body)
    }

    #[test]
    fn answers_are_told_apart() {
        let xml = |code: &str| {
            format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>why</Message></Error>")
        };
        let cases = [
            (of(401, &[], ""), RemoteErrorKind::Denied),
            (
                of(403, &[], &xml("SignatureDoesNotMatch")),
                RemoteErrorKind::Denied,
            ),
            (
                of(403, &[], &xml("RequestTimeTooSkewed")),
                RemoteErrorKind::ClockSkew,
            ),
            (of(400, &[], &xml("ExpiredToken")), RemoteErrorKind::Credentials),
            (of(404, &[], &xml("NoSuchBucket")), RemoteErrorKind::Missing),
            (
                of(404, &[("x-ms-error-code", "ContainerNotFound")], ""),
                RemoteErrorKind::Missing,
            ),
            (of(429, &[], ""), RemoteErrorKind::Throttled),
            (of(503, &[("retry-after", "3")], ""), RemoteErrorKind::Throttled),
            (of(503, &[], &xml("SlowDown")), RemoteErrorKind::Throttled),
            (of(503, &[], ""), RemoteErrorKind::Unavailable),
            (of(413, &[], ""), RemoteErrorKind::TooLarge),
            (of(507, &[], ""), RemoteErrorKind::Full),
            (of(418, &[], ""), RemoteErrorKind::Invalid),
        ];
        for (error, kind) in cases {
            assert_eq!(error.kind, kind, "{error}");
        }
        assert_eq!(
            of(503, &[("retry-after", "3")], "").retry_after,
            Some(Duration::from_secs(3))
        );
        let moved = of(
            301,
            &[("x-amz-bucket-region", "eu-west-1")],
            &xml("PermanentRedirect"),
        );
        assert_eq!(moved.kind, RemoteErrorKind::Config);
        assert!(moved.message.contains("'eu-west-1'"), "{moved}");
    }

    #[test]
    fn a_refusal_whose_date_is_far_off_is_the_clocks_fault() {
        let date = (Utc::now() + chrono::TimeDelta::minutes(20))
            .to_rfc2822()
            .replace("+0000", "GMT");
        let error = of(403, &[("date", &date)], "");
        assert_eq!(error.kind, RemoteErrorKind::ClockSkew, "{error}");
        assert!(error.message.contains("behind the server's"), "{error}");
    }
}
