//! A proxy with faults, to stand before a real server: what a network and a server can do to a client, switched on and off while it runs.
//!
//! It reads whole requests and answers of one protocol, so that a fault is where it is meant to be: in a body, behind a whole request, in
//! place of an answer.

mod wire;

use std::collections::BTreeMap;
use std::io::{BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use wire::Message;
pub use wire::Protocol;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// Each request waits before it is passed on.
    Delay(Duration),
    /// Answers come in ten pieces, with this time between them.
    Trickle(Duration),
    /// About every third request is answered 503.
    EveryThird,
    /// Of longer answers only so many bytes come; then the connection ends.
    Cut(usize),
    /// One bit of each body or value that is sent to the client is another one.
    CorruptAnswers,
    /// One bit of each body or value that is sent to the server is another one.
    CorruptRequests,
    /// Answers are noise, and the end of their connections.
    Garble,
    /// Connections end instead of an answer.
    Close,
    /// Connections are reset.
    Reset,
    /// Requests are taken and never answered. Those connections end when the fault does.
    Hang,
    /// Requests are answered with this status, or with what the protocol has in its place.
    Status(u16),
    /// What would write is told that there is no room; reading works.
    Full,
    /// What would write contents is answered 500; what would write anything else takes half a second.
    NoContents,
}

/// A proxy before one server on this machine.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    protocol: Protocol,
    server: u16,
    fault: Mutex<Fault>,
    /// Requests by their kinds, since they were last counted.
    requests: Mutex<BTreeMap<String, usize>>,
    /// How many requests of a kind are being answered, and the most that there have been.
    at_once: Mutex<BTreeMap<String, (usize, usize)>>,
    is_over: AtomicBool,
}

impl Proxy {
    /// A proxy before the server on a port, without a fault.
    pub fn new(protocol: Protocol, server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("find a port");
        let port = listener.local_addr().expect("the port that was found").port();
        let shared = Arc::new(Shared {
            protocol,
            server,
            fault: Mutex::new(Fault::None),
            requests: Mutex::default(),
            at_once: Mutex::default(),
            is_over: AtomicBool::new(false),
        });
        let all = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if all.is_over.load(Ordering::Acquire) {
                    return;
                }
                let shared = Arc::clone(&all);
                // Ends with an error when one of both sides goes away.
                std::thread::spawn(move || shared.serve(client));
            }
        });
        Self { port, shared }
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// From the next request on, this goes wrong.
    pub fn set(&self, fault: Fault) {
        *lock(&self.shared.fault) = fault;
    }

    /// Requests since this was last asked, by their verbs and by what they are about: `GET blobs`, `set actions`.
    pub fn take_requests(&self) -> BTreeMap<String, usize> {
        std::mem::take(&mut lock(&self.shared.requests))
    }
}

impl Proxy {
    /// The most requests of a kind, such as `GET blobs`, that were being answered at once.
    pub fn most_at_once(&self, kind: &str) -> usize {
        lock(&self.shared.at_once).get(kind).map_or(0, |(_, most)| *most)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Release);
        self.set(Fault::None);
        // So that it is noticed.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl Shared {
    fn fault(&self) -> Fault {
        *lock(&self.fault)
    }

    fn serve(&self, client: TcpStream) -> std::io::Result<()> {
        client.set_nodelay(true)?;
        let mut requests = BufReader::new(client.try_clone()?);
        let mut answers = client;
        let mut server: Option<(BufReader<TcpStream>, TcpStream)> = None;
        loop {
            if requests.buffer().is_empty() {
                // What was not read when a connection is closed makes it a reset one.
                answers.peek(&mut [0])?;
                if self.fault() == Fault::Reset {
                    self.count("reset");
                    return Ok(());
                }
            }
            let Some(request) = self.protocol.request(&mut requests)? else {
                return Ok(());
            };
            self.count(&request.kind());
            let answering = Answering::new(self, request.kind());
            let Some(request) = self.disturbed(request, &mut answers)? else {
                continue;
            };
            let (from, to) = match &mut server {
                Some(open) => open,
                closed => closed.insert(self.connect()?),
            };
            to.write_all(&request.bytes)?;
            let answer = self.protocol.answer(from, &request)?;
            match self.fault() {
                Fault::Trickle(time) => {
                    let mut pieces = answer.bytes.chunks(answer.bytes.len().div_ceil(10).max(1));
                    let last = pieces.next_back().unwrap_or_default();
                    for piece in pieces {
                        answers.write_all(piece)?;
                        std::thread::sleep(time);
                    }
                    // With it, the client has its answer.
                    drop(answering);
                    answers.write_all(last)?;
                }
                Fault::Cut(most) if answer.bytes.len() > most => {
                    answers.write_all(answer.bytes.get(..most).unwrap_or_default())?;
                    return answers.shutdown(Shutdown::Both);
                }
                Fault::CorruptAnswers => answers.write_all(&answer.with_one_bit_changed())?,
                Fault::Garble => {
                    let noise: Vec<u8> = answer.bytes.iter().map(|byte| byte ^ 0x55).collect();
                    answers.write_all(&noise)?;
                    return answers.shutdown(Shutdown::Both);
                }
                _ => answers.write_all(&answer.bytes)?,
            }
        }
    }

    /// The request as the server shall see it; `None` when it has its answer.
    fn disturbed(&self, request: Message, answers: &mut TcpStream) -> std::io::Result<Option<Message>> {
        let fault = self.fault();
        match fault {
            Fault::Delay(time) => {
                std::thread::sleep(time);
                Ok(Some(request))
            }
            Fault::CorruptRequests => {
                let mut request = request;
                request.bytes = request.with_one_bit_changed();
                Ok(Some(request))
            }
            Fault::Close => Err(std::io::ErrorKind::ConnectionAborted.into()),
            Fault::Hang => {
                self.while_it_hangs();
                Err(std::io::ErrorKind::TimedOut.into())
            }
            Fault::Status(status) => {
                answers.write_all(self.protocol.refusal(status, &request).as_bytes())?;
                Ok(None)
            }
            Fault::EveryThird if self.is_third() => {
                answers.write_all(self.protocol.refusal(503, &request).as_bytes())?;
                Ok(None)
            }
            Fault::Full if request.writes() => {
                answers.write_all(self.protocol.refusal(507, &request).as_bytes())?;
                Ok(None)
            }
            Fault::NoContents if request.writes() && request.kind().ends_with(" blobs") => {
                answers.write_all(self.protocol.refusal(500, &request).as_bytes())?;
                Ok(None)
            }
            Fault::NoContents if request.writes() => {
                std::thread::sleep(Duration::from_millis(500));
                Ok(Some(request))
            }
            _ => Ok(Some(request)),
        }
    }

    fn while_it_hangs(&self) {
        while self.fault() == Fault::Hang && !self.is_over.load(Ordering::Acquire) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn connect(&self) -> std::io::Result<(BufReader<TcpStream>, TcpStream)> {
        let stream = TcpStream::connect(("127.0.0.1", self.server))?;
        stream.set_nodelay(true)?;
        Ok((BufReader::new(stream.try_clone()?), stream))
    }

    /// Whether this request is one of a third of all, in no order that a client could fall into step with.
    fn is_third(&self) -> bool {
        let count = lock(&self.requests).values().sum::<usize>();
        let mixed = (count as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 32).is_multiple_of(3)
    }

    fn count(&self, verb: &str) {
        *lock(&self.requests).entry(verb.to_owned()).or_default() += 1;
    }
}

/// A request that is being answered.
struct Answering<'a> {
    shared: &'a Shared,
    kind: String,
}

impl<'a> Answering<'a> {
    fn new(shared: &'a Shared, kind: String) -> Self {
        let mut at_once = lock(&shared.at_once);
        let (now, most) = at_once.entry(kind.clone()).or_default();
        *now += 1;
        *most = (*most).max(*now);
        drop(at_once);
        Self { shared, kind }
    }
}

impl Drop for Answering<'_> {
    fn drop(&mut self) {
        if let Some((now, _)) = lock(&self.shared.at_once).get_mut(&self.kind) {
            *now -= 1;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
