//! DNS: whatever a guest or a server sends is answered, kept or dropped; and what cloud-init's port is sent, too.

#![no_main]
#![allow(dead_code, missing_docs, unused_imports)]

use fvm_netd::Subnet;
mod dhcp {
    pub(crate) use fvm_netd::dhcp::DnsName;
}
#[path = "../../netd/src/dns/mod.rs"]
mod dns;
#[path = "../../netd/src/seed.rs"]
mod seed;

use dhcp::DnsName;
use dns::{Cache, DnsConfig, Question, Unanswerable, Zone, is_answer, outcome, short_answer};
use libfuzzer_sys::fuzz_target;
use std::{sync::LazyLock, time::Instant};

static ZONE: LazyLock<Zone> = LazyLock::new(|| {
    let subnet: Subnet = "192.168.22.0/24".parse().expect("a subnet");
    let mut zone = Zone::new(&DnsConfig {
        domain: "fvm.internal".parse().expect("a domain"),
        subnet,
        gateway: subnet.host(1).expect("in the subnet"),
        upstreams: Vec::new(),
    })
    .expect("short enough");
    let name: DnsName = "vm42".parse().expect("a name");
    zone.set_names([(&name, subnet.host(42).expect("in the subnet"))]);
    zone
});

fuzz_target!(|bytes: &[u8]| {
    let _ = outcome(bytes);
    let _ = seed::answer(bytes, None);
    // What a server says to a question, and the cache then to the next.
    let (query, answer) = bytes.split_at(bytes.len() / 2);
    let now = Instant::now();
    let mut cache = Cache::default();
    for (query, answer) in [(bytes, bytes), (query, answer)] {
        let _ = is_answer(answer, query, query.len());
        match Question::read(query) {
            Ok(question) => {
                assert!(question.end <= query.len());
                assert!(short_answer(query, question.end, 0, true).len() <= query.len());
                cache.put(&question, answer, now);
                let known = ZONE.answer(&question).or_else(|| cache.get(&question, now));
                if let Some(encoded) = known.and_then(|answer| question.encode(&answer, true)) {
                    assert!(encoded.len() <= 1232, "{} bytes by UDP", encoded.len());
                    assert_eq!(encoded.get(..2), query.get(..2), "another number");
                }
            }
            Err(Unanswerable::Refused(answer)) => assert!(answer.len() >= 12),
            Err(Unanswerable::NoQuestion) => {}
        }
    }
});
