//! The guest agent: whatever a guest says in its place, there is an end to it, and words to show that hold nothing a terminal
//! would obey.

#![no_main]
#![allow(dead_code, missing_docs, unused_imports)]

#[path = "../../vmm/src/domain/mod.rs"]
mod domain;
#[path = "."]
mod qemu {
    #[path = "../../vmm/src/qemu/agent/mod.rs"]
    pub(crate) mod agent;
    #[path = "../../vmm/src/qemu/qmp/mod.rs"]
    pub(crate) mod qmp;
    #[path = "../../vmm/src/qemu/version.rs"]
    pub(crate) mod version;
}

use libfuzzer_sys::fuzz_target;
use qemu::agent::{Agent, AgentError};
use std::{io::Write, net::Shutdown, os::unix::net::UnixStream, time::Duration};

/// Nothing waits: what is said is there from the beginning, and then the connection ends.
const LIMIT: Duration = Duration::from_secs(60);

fuzz_target!(|said: &[u8]| {
    let (ours, _theirs) = saying(said);
    if let Err(error) = Agent::synchronise(ours, LIMIT) {
        harmless(&error);
    }
    // Each line as the answer to each question.
    for line in said.split_inclusive(|&byte| byte == b'\n').take(16) {
        answered(line, |agent| agent.ping(LIMIT));
        answered(line, |agent| agent.freeze(LIMIT));
        answered(line, |agent| agent.freeze_state(LIMIT));
        answered(line, |agent| agent.time(LIMIT));
        answered(line, |agent| agent.exec("/bin/true", &[], LIMIT));
        answered(line, |agent| agent.exec_status(1, LIMIT));
        for trimmed in answered(line, |agent| agent.trim(LIMIT)).into_iter().flatten() {
            plain(&trimmed.path);
            trimmed.result.as_ref().err().into_iter().for_each(|why| plain(why));
        }
        for card in answered(line, |agent| agent.interfaces(LIMIT)).into_iter().flatten() {
            plain(&card.name);
            card.mac.iter().chain(&card.addresses).for_each(|word| plain(word));
        }
    }
});

/// A socket at whose other end somebody has said this, says no more and still listens.
fn saying(said: &[u8]) -> (UnixStream, UnixStream) {
    let (ours, mut theirs) = UnixStream::pair().expect("a pair");
    theirs.write_all(said).expect("it fits");
    theirs.shutdown(Shutdown::Write).expect("an end");
    (ours, theirs)
}

fn answered<T>(
    line: &[u8],
    ask: impl FnOnce(&mut Agent) -> Result<T, AgentError>,
) -> Option<T> {
    let (ours, _theirs) = saying(line);
    let answer = ask(&mut Agent::unsynchronised(ours));
    answer.map_err(|error| harmless(&error)).ok()
}

fn plain(word: &str) {
    assert!(!word.contains(char::is_control) && word.chars().count() <= 200, "{word:?}");
}

fn harmless(error: &AgentError) {
    let text = error.to_string();
    assert!(!text.contains(|c: char| c.is_control() && c != '\n') && text.len() < 4096, "{text:?}");
}
