use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::*;

fn zone() -> Zone {
    zone_of("192.168.22.0/24")
}

fn zone_of(subnet: &str) -> Zone {
    let subnet: Subnet = subnet.parse().unwrap();
    let mut zone = Zone::new(&DnsConfig {
        domain: "fvm.internal".parse().unwrap(),
        subnet,
        gateway: subnet.host(1).unwrap(),
        upstreams: Vec::new(),
    })
    .unwrap();
    let names: [DnsName; 2] = ["fvm-debian-42", "vm42"].map(|name| name.parse().unwrap());
    // The same VM is on another network, too, which is none of this zone's business.
    let elsewhere = Ipv4Addr::new(172, 31, 0, 42);
    let addresses = [elsewhere, subnet.host(42).unwrap()];
    zone.set_names(
        addresses
            .iter()
            .flat_map(|at| names.iter().map(|name| (name, *at))),
    );
    zone
}

fn query(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

fn question(name: &str, kind: RecordType) -> Question {
    Question::read(&query(name, kind).to_vec().unwrap()).unwrap()
}

/// What the zone says: the code and the answers' data; `None` if it is not its business.
fn said(zone: &Zone, name: &str, kind: RecordType) -> Option<(ResponseCode, Vec<String>)> {
    let question = question(name, kind);
    let answer = zone.answer(&question)?;
    // Through the wire, as a client has it.
    let answer = Message::from_vec(&question.encode(&answer, true).unwrap()).unwrap();
    assert!(answer.metadata.authoritative && answer.metadata.recursion_available);
    assert_eq!(answer.metadata.id, 7);
    assert_eq!(answer.queries[0].name().to_ascii(), name, "as it was asked");
    let has_authority = answer
        .authorities
        .iter()
        .any(|record| record.record_type() == RecordType::SOA);
    assert_eq!(
        answer.answers.is_empty(),
        has_authority,
        "negative answers are kept for a while"
    );
    let data = answer.answers.iter().map(|record| record.data.to_string());
    Some((answer.metadata.response_code, data.collect()))
}

#[test]
fn names_have_addresses_and_addresses_names() {
    let zone = zone();
    let found = |data: &str| Some((ResponseCode::NoError, vec![data.to_owned()]));
    let nothing = Some((ResponseCode::NoError, Vec::new()));
    let unknown = Some((ResponseCode::NXDomain, Vec::new()));
    for name in [
        "vm42.fvm.internal.",
        "fvm-debian-42.fvm.internal.",
        "VM42.Fvm.Internal.",
    ] {
        assert_eq!(
            said(&zone, name, RecordType::A),
            found("192.168.22.42"),
            "{name}"
        );
        assert_eq!(said(&zone, name, RecordType::AAAA), nothing, "{name}");
    }
    assert_eq!(
        said(&zone, "host.fvm.internal.", RecordType::A),
        found("192.168.22.1")
    );
    assert_eq!(said(&zone, "vm43.fvm.internal.", RecordType::A), unknown);
    assert_eq!(said(&zone, "a.vm42.fvm.internal.", RecordType::A), unknown);
    assert_eq!(said(&zone, "fvm.internal.", RecordType::A), nothing);
    assert_eq!(
        said(&zone, "fvm.internal.", RecordType::NS),
        found("host.fvm.internal.")
    );

    let back = |name| said(&zone, name, RecordType::PTR);
    assert_eq!(
        back("42.22.168.192.in-addr.arpa."),
        found("fvm-debian-42.fvm.internal.")
    );
    assert_eq!(
        back("1.22.168.192.in-addr.arpa."),
        found("host.fvm.internal.")
    );
    assert_eq!(back("43.22.168.192.in-addr.arpa."), unknown);
    assert_eq!(back("22.168.192.in-addr.arpa."), nothing);
}

#[test]
fn other_names_are_others_business() {
    let zone = zone();
    for name in [
        "example.org.",
        "vm42.",
        "xfvm.internal.",
        "internal.",
        "42.23.168.192.in-addr.arpa.",
        "168.192.in-addr.arpa.",
        "042.22.168.192.in-addr.arpa.",
        "1.42.22.168.192.in-addr.arpa.",
        ".",
    ] {
        assert_eq!(said(&zone, name, RecordType::A), None, "{name}");
    }
}

#[test]
fn a_subnet_need_not_end_at_an_octet() {
    let zone = zone_of("10.20.16.0/20");
    let found = Some((
        ResponseCode::NoError,
        vec!["fvm-debian-42.fvm.internal.".to_owned()],
    ));
    assert_eq!(
        said(&zone, "42.16.20.10.in-addr.arpa.", RecordType::PTR),
        found
    );
    let unknown = Some((ResponseCode::NXDomain, Vec::new()));
    assert_eq!(
        said(&zone, "9.31.20.10.in-addr.arpa.", RecordType::PTR),
        unknown
    );
    assert_eq!(
        said(&zone, "9.32.20.10.in-addr.arpa.", RecordType::PTR),
        None
    );
}

#[test]
fn what_is_no_question_is_refused_or_ignored() {
    let good = query("example.org.", RecordType::A).to_vec().unwrap();
    let code = |bytes: &[u8]| match Question::read(bytes) {
        Err(Unanswerable::Refused(answer)) => {
            assert_eq!(answer[..2], bytes[..2]);
            assert_eq!(answer[2] & 0x80, 0x80);
            Some(answer[3] & 0xf)
        }
        Err(Unanswerable::NoQuestion) => None,
        Ok(question) => panic!("{question:?}"),
    };
    let changed = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    assert_eq!(code(&good[..11]), None, "short");
    assert_eq!(code(&changed(2, 0x81)), None, "an answer");
    assert_eq!(
        code(&changed(2, 0x28)),
        Some(code::NOT_IMPLEMENTED),
        "an update"
    );
    assert_eq!(
        code(&changed(5, 2)),
        Some(code::FORMAT_ERROR),
        "two questions, one there"
    );
    assert_eq!(code(&changed(5, 0)), Some(code::FORMAT_ERROR), "none");
    assert_eq!(
        code(&changed(12, 0xc0)),
        Some(code::FORMAT_ERROR),
        "a pointer"
    );
    assert_eq!(
        code(&good[..good.len() - 1]),
        Some(code::FORMAT_ERROR),
        "cut"
    );
    assert_eq!(
        code(&changed(good.len() - 1, 3)),
        Some(code::REFUSED),
        "another class"
    );
    let transfer = query("fvm.internal.", RecordType::AXFR).to_vec().unwrap();
    assert_eq!(code(&transfer), Some(code::REFUSED), "a transfer");
    for len in 0..good.len() {
        let _ = Question::read(&good[..len]);
    }
}

#[test]
fn an_answer_too_long_for_its_client_is_cut() {
    let mut plain = query("example.org.", RecordType::A);
    let mut answer = question("example.org.", RecordType::A).begin_answer();
    for last in 0..100 {
        let data = RData::A(A(Ipv4Addr::new(10, 0, 0, last)));
        answer.add_answer(Record::from_rdata(
            Name::from_ascii("example.org.").unwrap(),
            60,
            data,
        ));
    }
    let encoded = |message: &Message, udp| {
        let question = Question::read(&message.to_vec().unwrap()).unwrap();
        let bytes = question.encode(&answer, udp).unwrap();
        let truncated = Message::from_vec(&bytes).unwrap().metadata.truncation;
        (truncated, bytes.len() > 512)
    };
    assert_eq!(encoded(&plain, true), (true, false));
    assert_eq!(encoded(&plain, false), (false, true));
    let mut edns = Edns::new();
    edns.set_max_payload(4096);
    plain.set_edns(edns);
    assert_eq!(encoded(&plain, true), (true, false), "not above 1232 bytes");
}

#[test]
fn an_answer_is_kept_as_long_as_it_holds() {
    let now = Instant::now();
    let after = |seconds| now + Duration::from_secs(seconds);
    let mut cache = Cache::default();
    let asked = question("example.org.", RecordType::A);
    let name = || Name::from_ascii("example.org.").unwrap();
    let mut answer = asked.begin_answer();
    for ttl in [60, 30] {
        answer.add_answer(Record::from_rdata(
            name(),
            ttl,
            RData::A(A(Ipv4Addr::LOCALHOST)),
        ));
    }
    cache.put(&asked, &answer.to_vec().unwrap(), now);
    let ttls = |cache: &Cache, question: &Question, at| {
        let kept = cache.get(question, at)?;
        Some(
            kept.answers
                .iter()
                .map(|record| record.ttl)
                .collect::<Vec<_>>(),
        )
    };
    assert_eq!(ttls(&cache, &asked, after(10)), Some(vec![50, 20]));
    assert_eq!(
        ttls(&cache, &question("EXAMPLE.org.", RecordType::A), now),
        Some(vec![60, 30])
    );
    assert_eq!(ttls(&cache, &asked, after(30)), None);
    assert_eq!(
        ttls(&cache, &question("example.org.", RecordType::AAAA), now),
        None
    );
    let special = Question {
        plain: false,
        ..asked.clone()
    };
    assert_eq!(
        ttls(&cache, &special, now),
        None,
        "what is signed is asked for anew"
    );

    let mut failed = question("bad.example.", RecordType::A).begin_answer();
    failed.metadata.response_code = ResponseCode::ServFail;
    cache.put(
        &question("bad.example.", RecordType::A),
        &failed.to_vec().unwrap(),
        now,
    );
    assert_eq!(
        ttls(&cache, &question("bad.example.", RecordType::A), now),
        None
    );

    let gone = question("gone.example.", RecordType::A);
    let mut nothing = gone.begin_answer();
    nothing.metadata.response_code = ResponseCode::NXDomain;
    cache.put(&gone, &nothing.to_vec().unwrap(), now);
    assert_eq!(ttls(&cache, &gone, now), None, "nobody said for how long");
    let authority = SOA::new(name(), name(), 1, 1, 1, 1, 20);
    nothing.add_authority(Record::from_rdata(name(), 900, RData::SOA(authority)));
    cache.put(&gone, &nothing.to_vec().unwrap(), now);
    assert_eq!(ttls(&cache, &gone, after(19)), Some(Vec::new()));
    assert_eq!(ttls(&cache, &gone, after(20)), None);
}

#[test]
fn the_oldest_answers_make_room() {
    let now = Instant::now();
    let mut cache = Cache::default();
    let put = |cache: &mut Cache, number: usize| {
        let asked = question(&format!("n{number}.example."), RecordType::A);
        let mut answer = asked.begin_answer();
        let data = RData::A(A(Ipv4Addr::LOCALHOST));
        answer.add_answer(Record::from_rdata(asked.name.clone(), 60, data));
        cache.put(
            &asked,
            &answer.to_vec().unwrap(),
            now + Duration::from_millis(number as u64),
        );
        asked
    };
    let first = put(&mut cache, 0);
    let last = (1..3000)
        .map(|number| put(&mut cache, number))
        .last()
        .unwrap();
    assert!(cache.get(&first, now).is_none());
    assert!(cache.get(&last, now).is_some());
}

#[test]
fn only_the_answer_to_what_was_asked_counts() {
    let sent = query("example.org.", RecordType::A).to_vec().unwrap();
    let asked = Question::read(&sent).unwrap();
    let answers = |message: &Message| is_answer(&message.to_vec().unwrap(), &sent, asked.end);
    let good = asked.begin_answer();
    assert!(answers(&good));
    let mut other = good.clone();
    other.metadata.id = 8;
    assert!(!answers(&other), "another number");
    assert!(
        !answers(&question("example.com.", RecordType::A).begin_answer()),
        "another name"
    );
    assert!(
        !answers(&question("example.org.", RecordType::AAAA).begin_answer()),
        "another type"
    );
    assert!(answers(
        &question("EXAMPLE.ORG.", RecordType::A).begin_answer()
    ));
    assert!(!is_answer(&sent, &sent, asked.end), "a question");
}

/// Numbers that are the same each time (xorshift64*, Vigna 2016).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize
    }
}

#[test]
fn whatever_bytes_come_there_is_an_answer_or_none() {
    let zone = zone();
    let mut cache = Cache::default();
    let now = Instant::now();
    let mut signed = query("vm42.fvm.internal.", RecordType::A);
    let mut edns = Edns::new();
    edns.set_max_payload(4096).set_dnssec_ok(true);
    signed.set_edns(edns);
    let mut answer = question("example.org.", RecordType::A).begin_answer();
    let name = || Name::from_ascii("example.org.").unwrap();
    answer.add_answer(Record::from_rdata(
        name(),
        60,
        RData::A(A(Ipv4Addr::LOCALHOST)),
    ));
    let authority = SOA::new(name(), name(), 1, 1, 1, 1, 20);
    answer.add_authority(Record::from_rdata(name(), 900, RData::SOA(authority)));
    let seeds = [
        signed,
        query("42.22.168.192.in-addr.arpa.", RecordType::PTR),
        answer,
    ]
    .map(|message| message.to_vec().unwrap());
    let asked = question("example.org.", RecordType::A);
    let mut numbers = Numbers(42);
    let mut read = 0;
    for round in 0..50_000 {
        let mut bytes = seeds[round % seeds.len()].clone();
        for _ in 0..=numbers.next() % 4 {
            let at = numbers.next() % bytes.len();
            match numbers.next() % 4 {
                0 => bytes.truncate(at.max(1)),
                1 => bytes.insert(at, numbers.next() as u8),
                _ => bytes[at] = numbers.next() as u8,
            }
        }
        cache.put(&asked, &bytes, now);
        let _ = outcome(&bytes);
        let _ = is_answer(&bytes, &seeds[0], bytes.len());
        if let Ok(question) = Question::read(&bytes) {
            read += 1;
            assert!(question.end <= bytes.len());
            if let Some(answer) = zone.answer(&question).or_else(|| cache.get(&question, now)) {
                let encoded = question.encode(&answer, true).unwrap();
                assert!(encoded.len() <= 1232, "{}", encoded.len());
            }
        }
    }
    assert!(read > 1000, "only {read} could be read");
}
