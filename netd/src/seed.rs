//! What cloud-init in a guest is told: its "NoCloud" data, by HTTP.
//!
//! Owns requests and answers: bytes in, bytes out. Sockets are [`crate::daemon`]'s.

use serde::{Deserialize, Serialize};

/// The port of the gateway at which guests ask: one that web servers leave alone.
pub const SEED_PORT: u16 = 4280;
/// The longest request that is read; those of cloud-init have some 200 bytes.
const REQUEST_MAX: usize = 8192;

/// A VM's data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seed {
    /// YAML: who the guest is.
    pub meta_data: String,
    /// What it is to do, in one of cloud-init's forms.
    pub user_data: String,
}

/// The answer to a request of the VM whose data this is; `None` until all of the request is there.
pub(crate) fn answer(request: &[u8], seed: Option<&Seed>) -> Option<Vec<u8>> {
    let end = request.windows(4).position(|four| four == b"\r\n\r\n");
    let Some(head) = end.and_then(|end| request.get(..end)) else {
        let too_long = request.len() >= REQUEST_MAX;
        return too_long.then(|| refusal("431 Request Header Fields Too Large"));
    };
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let parts: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let &[method, target, version] = parts.as_slice() else {
        return Some(refusal("400 Bad Request"));
    };
    if !version.starts_with(b"HTTP/1.") {
        return Some(refusal("400 Bad Request"));
    }
    if ![&b"GET"[..], b"HEAD"].contains(&method) {
        return Some(refusal("405 Method Not Allowed\r\nAllow: GET, HEAD"));
    }
    let body = seed.and_then(|seed| match target {
        b"/meta-data" => Some(seed.meta_data.as_str()),
        b"/user-data" => Some(seed.user_data.as_str()),
        // Asked for again and again if it is not there.
        b"/vendor-data" => Some(""),
        _ => None,
    });
    let Some(body) = body else {
        return Some(refusal("404 Not Found"));
    };
    let mut answer = head_of("200 OK", body.len());
    if method == b"GET" {
        answer.extend_from_slice(body.as_bytes());
    }
    Some(answer)
}

fn refusal(status: &str) -> Vec<u8> {
    head_of(status, 0)
}

fn head_of(status: &str, len: usize) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {len}\r\n\
         Cache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(request: &str, seed: Option<&Seed>) -> Option<(String, String)> {
        let answer = String::from_utf8(answer(request.as_bytes(), seed)?).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.lines().next().unwrap();
        let length = format!("Content-Length: {}", body.len());
        if !request.starts_with("HEAD") {
            assert!(head.contains(&length), "{head}");
        }
        Some((status.replace("HTTP/1.1 ", ""), body.to_owned()))
    }

    #[test]
    fn each_path_has_its_data_and_the_rest_is_refused() {
        let seed = Seed {
            meta_data: "{}".to_owned(),
            user_data: "#!/bin/sh\nécho\n".to_owned(),
        };
        let to = |line: &str| {
            asked(
                &format!("{line}\r\nHost: 192.168.22.1\r\n\r\n"),
                Some(&seed),
            )
        };
        for (line, status, body) in [
            ("GET /meta-data HTTP/1.1", "200 OK", "{}"),
            ("GET /user-data HTTP/1.0", "200 OK", "#!/bin/sh\nécho\n"),
            ("GET /vendor-data HTTP/1.1", "200 OK", ""),
            ("HEAD /user-data HTTP/1.1", "200 OK", ""),
            ("GET / HTTP/1.1", "404 Not Found", ""),
            ("GET /../user-data HTTP/1.1", "404 Not Found", ""),
            ("GET /network-config HTTP/1.1", "404 Not Found", ""),
            ("POST /user-data HTTP/1.1", "405 Method Not Allowed", ""),
            ("GET /user-data", "400 Bad Request", ""),
            ("GET /user-data HTTP/2", "400 Bad Request", ""),
            ("GET  /user-data HTTP/1.1", "400 Bad Request", ""),
            ("\u{0}", "400 Bad Request", ""),
        ] {
            let expected = (status.to_owned(), body.to_owned());
            assert_eq!(to(line), Some(expected), "{line:?}");
        }
        let nobody = asked("GET /user-data HTTP/1.1\r\n\r\n", None).unwrap();
        assert_eq!(nobody.0, "404 Not Found");
    }

    #[test]
    fn a_request_is_waited_for_up_to_a_length() {
        let whole = "GET /user-data HTTP/1.1\r\n\r\n";
        for end in 0..whole.len() {
            assert_eq!(asked(&whole[..end], None), None, "{end}");
        }
        let long = "x".repeat(REQUEST_MAX);
        assert_eq!(asked(&long[1..], None), None);
        assert!(asked(&long, None).unwrap().0.starts_with("431 "));
    }
}
