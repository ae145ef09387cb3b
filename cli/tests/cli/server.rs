//! A server of files over HTTP/1.1 on localhost that misbehaves as it is told.

use std::{
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

/// A request: its first line and its header lines, in lower case but for values.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) line: String,
    headers: Vec<(String, String)>,
}

impl Asked {
    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// The first byte of the range that is asked for.
    pub(crate) fn from(&self) -> Option<usize> {
        let range = self.header("range")?.strip_prefix("bytes=")?;
        range.strip_suffix('-')?.parse().ok()
    }
}

/// What is sent back: everything up to the end of the connection.
pub(crate) type Reply = Vec<u8>;

/// Serves until the test's process ends.
#[derive(Debug)]
pub(crate) struct Server {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    /// Answers each request with `reply`, which is told how many there were before.
    pub(crate) fn new(reply: impl Fn(usize, &Asked) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let Some(request) = read(&stream) else {
                    continue;
                };
                let before = {
                    let mut seen = seen.lock().unwrap();
                    seen.push(request.clone());
                    seen.len() - 1
                };
                // Whoever asked may have gone.
                let _ = stream.write_all(&reply(before, &request));
            }
        });
        Self { address, asked }
    }

    /// The URL of a path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// What was asked so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

/// Reads a request; nothing if there is none.
pub(crate) fn read(stream: &TcpStream) -> Option<Asked> {
    let mut lines = BufReader::new(stream).lines();
    let line = lines.next()?.ok()?;
    let mut headers = Vec::new();
    for line in lines {
        let line = line.ok()?;
        match line.split_once(':') {
            Some((name, value)) => {
                headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
            }
            None => break,
        }
    }
    Some(Asked { line, headers })
}

/// A response with these header lines; `Connection: close` always.
pub(crate) fn response(status: &str, headers: &[&str], body: &[u8]) -> Reply {
    let mut reply = format!("HTTP/1.1 {status}\r\nConnection: close\r\n");
    for header in headers {
        reply.push_str(header);
        reply.push_str("\r\n");
    }
    reply.push_str("\r\n");
    [reply.as_bytes(), body].concat()
}

/// All of a file.
pub(crate) fn whole(headers: &[&str], body: &[u8]) -> Reply {
    let length = format!("Content-Length: {}", body.len());
    response("200 OK", &[headers, &[&length]].concat(), body)
}

/// The part of a file from a byte on.
pub(crate) fn rest(headers: &[&str], body: &[u8], from: usize) -> Reply {
    let length = format!("Content-Length: {}", body.len() - from);
    let total = body.len();
    let range = format!("Content-Range: bytes {from}-{}/{total}", total - 1);
    let headers = [headers, &[&length, &range]].concat();
    response("206 Partial Content", &headers, &body[from..])
}
