//! A server of plain files that takes its time, keeps everything in memory, and counts.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// A server of plain files. Ends with the test process.
#[derive(Debug)]
pub struct Slow {
    /// Where it listens.
    pub port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    delay: Mutex<Duration>,
    /// Whether it knows conditional writes.
    is_weak: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<String, Vec<u8>>,
    /// `METHOD path` of every request, in order.
    requests: Vec<String>,
    /// Bytes of the bodies that are being received or answered now.
    under_way: usize,
    most_under_way: usize,
}

impl Slow {
    /// One that answers each request after so long.
    pub fn new(delay: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("its number").port();
        let shared = Arc::new(Shared {
            delay: Mutex::new(delay),
            is_weak: AtomicBool::new(false),
            state: Mutex::default(),
        });
        let of_threads = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&of_threads);
                std::thread::spawn(move || shared.serve(stream));
            }
        });
        Self { port, shared }
    }

    /// From now on it takes so long.
    pub fn set_delay(&self, delay: Duration) {
        *self.shared.delay.lock().expect("no fault") = delay;
    }

    /// From now on it ignores conditions, as many servers do.
    pub fn ignore_conditions(&self) {
        self.shared.is_weak.store(true, Ordering::Release);
    }

    /// Names of its files that contain this.
    pub fn files(&self, part: &str) -> Vec<String> {
        let state = self.shared.state();
        let all = state.files.keys().filter(|name| name.contains(part));
        all.cloned().collect()
    }

    /// What a file holds.
    pub fn file(&self, name: &str) -> Option<Vec<u8>> {
        self.shared.state().files.get(name).cloned()
    }

    /// Requests so far that contain this, as `PUT /cache/v1/…`.
    pub fn requests(&self, part: &str) -> Vec<String> {
        let state = self.shared.state();
        let all = state.requests.iter().filter(|request| request.contains(part));
        all.cloned().collect()
    }

    /// The most bytes of request bodies that it had before it at once.
    pub fn most_under_way(&self) -> usize {
        self.shared.state().most_under_way
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no fault")
    }

    fn serve(&self, stream: TcpStream) -> Option<()> {
        let mut answers = stream.try_clone().ok()?;
        let mut requests = BufReader::new(stream);
        loop {
            let mut line = String::new();
            requests.read_line(&mut line).ok().filter(|read| *read > 0)?;
            let mut words = line.split(' ');
            let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
            let (mut length, mut is_conditional) = (0, false);
            loop {
                let mut header = String::new();
                requests.read_line(&mut header).ok()?;
                let header = header.trim().to_ascii_lowercase();
                if header.is_empty() {
                    break;
                }
                if let Some(value) = header.strip_prefix("content-length:") {
                    length = value.trim().parse().ok()?;
                }
                let is_weak = self.is_weak.load(Ordering::Acquire);
                is_conditional |= !is_weak && header.starts_with("if-none-match:");
                if header == "expect: 100-continue" {
                    answers.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok()?;
                }
            }
            {
                let mut state = self.state();
                state.requests.push(format!("{method} {path}"));
                state.under_way += length;
                state.most_under_way = state.most_under_way.max(state.under_way);
            }
            let mut body = vec![0; length];
            let is_whole = requests.read_exact(&mut body).is_ok();
            let delay = *self.delay.lock().expect("no fault");
            std::thread::sleep(delay);
            let answer = {
                let mut state = self.state();
                state.under_way -= length;
                if !is_whole {
                    return None;
                }
                state.answer(&method, path, body, is_conditional)
            };
            answers.write_all(&answer).ok()?;
        }
    }
}

impl State {
    fn answer(&mut self, method: &str, path: String, body: Vec<u8>, is_conditional: bool) -> Vec<u8> {
        let empty = |status: &str| format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").into_bytes();
        match (method, self.files.get(&path)) {
            ("PUT", Some(_)) if is_conditional => empty("412 Precondition Failed"),
            ("PUT", _) => {
                self.files.insert(path, body);
                empty("201 Created")
            }
            ("GET" | "HEAD", Some(file)) => {
                let mut answer =
                    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", file.len()).into_bytes();
                if method == "GET" {
                    answer.extend_from_slice(file);
                }
                answer
            }
            ("DELETE", Some(_)) => {
                self.files.remove(&path);
                empty("204 No Content")
            }
            _ => empty("404 Not Found"),
        }
    }
}
