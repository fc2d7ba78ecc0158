//! A small service that gives canned answers, for tests.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

/// Answers requests until the process ends.
pub(in crate::remote) struct Service {
    /// Where it is.
    pub url: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Service {
    /// A service that answers a request whose text contains the first of a pair with the second (a body, or a whole answer), and others with 404.
    pub(in crate::remote) fn new(answers: &[(&str, &str)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let answers: Vec<(String, String)> = answers
            .iter()
            .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
            .collect();
        let seen = Arc::clone(&requests);
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let text = request(&mut stream);
                let answer = answers.iter().find(|(part, _)| text.contains(part));
                seen.lock().unwrap().push(text.clone());
                let (status, body) = match answer {
                    Some((_, body)) => ("200 OK", body.as_str()),
                    None => ("404 Not Found", "unknown"),
                };
                let head = format!(
                    "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                    body.len()
                );
                let whole = match body.starts_with("HTTP/1.1") {
                    true => body.to_owned(),
                    false => format!("{head}{body}"),
                };
                let _ = stream.write_all(whole.as_bytes());
            }
        });
        Self { url, requests }
    }

    /// All requests so far.
    pub(in crate::remote) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

/// Head and body of a request.
fn request(stream: &mut impl Read) -> String {
    let mut text = Vec::new();
    let mut byte = [0];
    while !text.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
        text.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&text).into_owned();
    let length = head
        .lines()
        .find_map(|line| {
            line.to_ascii_lowercase()
                .strip_prefix("content-length:")?
                .trim()
                .parse()
                .ok()
        })
        .unwrap_or(0);
    let mut body = vec![0; length];
    let _ = stream.read_exact(&mut body);
    head + &String::from_utf8_lossy(&body)
}
