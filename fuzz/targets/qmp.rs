//! QMP: whatever a QEMU that its guest has taken over says, there is an end to it, and words to show that hold nothing a terminal
//! would obey.

#![no_main]
#![allow(dead_code, missing_docs, unused_imports)]

#[path = "../../vmm/src/domain/mod.rs"]
mod domain;
#[path = "."]
mod qemu {
    #[path = "../../vmm/src/qemu/qmp/mod.rs"]
    pub(crate) mod qmp;
    #[path = "../../vmm/src/qemu/version.rs"]
    pub(crate) mod version;
}

use libfuzzer_sys::fuzz_target;
use qemu::qmp::{Client, QmpError};
use std::{io::Write, net::Shutdown, os::unix::net::UnixStream, time::Duration};

/// Nothing waits: what is said is there from the beginning, and then the connection ends.
const LIMIT: Duration = Duration::from_secs(60);
const GREETING: &[u8] = b"{\"QMP\":{\"version\":{\"qemu\":{\"major\":10,\"minor\":0}}}}\n{\"return\":{},\"id\":1}\n";

fuzz_target!(|said: &[u8]| {
    let Some((greet, said)) = said.split_first() else {
        return;
    };
    let (ours, mut theirs) = UnixStream::pair().expect("a pair");
    let greeting: &[u8] = if greet % 2 == 0 { GREETING } else { b"" };
    theirs.write_all(&[greeting, said].concat()).expect("it fits");
    theirs.shutdown(Shutdown::Write).expect("an end");
    let mut client = match Client::handshake(ours, LIMIT) {
        Ok(client) => client,
        Err(error) => return harmless(&error),
    };
    let asked = client
        .status(LIMIT)
        .map(drop)
        .and_then(|()| client.disk_is_full(LIMIT).map(drop))
        .and_then(|()| client.vcpu_threads(LIMIT).map(drop))
        .and_then(|()| client.is_port_open("charchannel0", LIMIT).map(drop))
        .and_then(|()| client.grow_disk("disk0", 1, LIMIT));
    if let Err(error) = &asked {
        harmless(error);
    }
    // Events that came meanwhile, and then the end.
    loop {
        match client.next_event(LIMIT) {
            Ok(Some(event)) => assert!(!event.name.contains(control)),
            Ok(None) => panic!("neither an event nor an end"),
            Err(error) => return harmless(&error),
        }
    }
});

fn control(c: char) -> bool {
    c.is_control() && c != '\n'
}

fn harmless(error: &QmpError) {
    let text = error.to_string();
    assert!(!text.contains(control) && text.len() < 4096, "{text:?}");
}
