//! The names of VMs: `vm42.fvm.internal` and back.
//!
//! The zone is never asked for elsewhere: what is not in it is not there.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::{A, NS, PTR, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::{DnsConfig, Question};
use crate::Subnet;
use crate::dhcp::DnsName;

/// How long an answer may be kept, in seconds. An address stays a VM's; its name goes with it.
const TTL_S: u32 = 30;
/// How long it may be kept that a name is not there: its VM may be started at any time.
const NEGATIVE_TTL_S: u32 = 2;
/// The host's own name in the domain.
const HOST_LABEL: &str = "host";

/// What is known here.
#[derive(Debug)]
pub(crate) struct Zone {
    domain: Name,
    host: Name,
    subnet: Subnet,
    gateway: Ipv4Addr,
    addresses: HashMap<Name, Ipv4Addr>,
    names: HashMap<Ipv4Addr, Name>,
}

impl Zone {
    /// A zone without VMs, or `None` if the domain's name is too long for names in it.
    pub(crate) fn new(config: &DnsConfig) -> Option<Self> {
        let domain = fully(config.domain.as_str())?;
        let mut zone = Zone {
            host: domain.prepend_label(HOST_LABEL).ok()?,
            domain,
            subnet: config.subnet,
            gateway: config.gateway,
            addresses: HashMap::new(),
            names: HashMap::new(),
        };
        zone.set_names([]);
        Some(zone)
    }

    /// Has exactly these names, of those whose addresses are in the subnet: labels and addresses. The first name of
    /// an address is what the address is called.
    pub(crate) fn set_names<'a>(
        &mut self,
        names: impl IntoIterator<Item = (&'a DnsName, Ipv4Addr)>,
    ) {
        self.addresses.clear();
        self.names.clear();
        self.addresses.insert(self.host.clone(), self.gateway);
        self.names.insert(self.gateway, self.host.clone());
        for (label, address) in names {
            if !self.subnet.contains(address) {
                continue;
            }
            let name = fully(label.as_str()).and_then(|name| name.append_domain_of(&self.domain));
            if let Some(name) = name {
                self.names.entry(address).or_insert_with(|| name.clone());
                self.addresses.entry(name).or_insert(address);
            }
        }
    }

    /// The answer, if the question is about this zone.
    pub(crate) fn answer(&self, question: &Question) -> Option<Message> {
        let name = question.name.to_lowercase();
        if self.domain.zone_of(&name) {
            let records = if name == self.domain {
                Some(self.apex())
            } else {
                let address = self.addresses.get(&name);
                address.map(|address| vec![RData::A(A(*address))])
            };
            return Some(self.reply(question, &self.domain, records));
        }
        let octets = reversed(&name)?;
        let apex_len = usize::from(self.subnet.prefix().div_ceil(8));
        let apex_octets = octets.get(..apex_len)?;
        let mut padded = [0; 4];
        padded
            .iter_mut()
            .zip(&octets)
            .for_each(|(to, from)| *to = *from);
        let address = Ipv4Addr::from(padded);
        if !self.subnet.contains(address) {
            return None;
        }
        let apex = reverse_name(apex_octets)?;
        let records = match octets.len() {
            4 => {
                let found = self.names.get(&address);
                found.map(|name| vec![RData::PTR(PTR(name.clone()))])
            }
            len if len == apex_len => Some(self.apex()),
            // There are names below it.
            _ => Some(Vec::new()),
        };
        Some(self.reply(question, &apex, records))
    }

    /// The records at the top of a zone.
    fn apex(&self) -> Vec<RData> {
        vec![RData::NS(NS(self.host.clone())), self.authority()]
    }

    fn authority(&self) -> RData {
        // No secondary server ever reads the times.
        RData::SOA(SOA::new(
            self.host.clone(),
            self.host.clone(),
            1,
            3600,
            600,
            86_400,
            NEGATIVE_TTL_S,
        ))
    }

    fn reply(&self, question: &Question, apex: &Name, records: Option<Vec<RData>>) -> Message {
        let mut answer = question.begin_answer();
        answer.metadata.authoritative = true;
        if records.is_none() {
            answer.metadata.response_code = ResponseCode::NXDomain;
        }
        let wanted =
            |data: &RData| question.kind == RecordType::ANY || data.record_type() == question.kind;
        for data in records.into_iter().flatten().filter(wanted) {
            answer.add_answer(Record::from_rdata(question.name.clone(), TTL_S, data));
        }
        if answer.answers.is_empty() {
            let authority = Record::from_rdata(apex.clone(), NEGATIVE_TTL_S, self.authority());
            answer.add_authority(authority);
        }
        answer
    }
}

/// A name as it stands in messages: in lower case, with the root at its end.
fn fully(text: &str) -> Option<Name> {
    let mut name = Name::from_ascii(text.to_ascii_lowercase()).ok()?;
    name.set_fqdn(true);
    Some(name)
}

trait AppendDomain: Sized {
    fn append_domain_of(self, domain: &Name) -> Option<Name>;
}

impl AppendDomain for Name {
    fn append_domain_of(mut self, domain: &Name) -> Option<Name> {
        self.set_fqdn(false);
        self.append_domain(domain).ok()
    }
}

/// The octets of an address, or of its beginning, whose name for lookups this is (RFC 1035, section 3.5).
fn reversed(name: &Name) -> Option<Vec<u8>> {
    let labels: Vec<&[u8]> = name.iter().collect();
    let (rest, ends) = labels.split_at_checked(labels.len().checked_sub(2)?)?;
    if ends != [&b"in-addr"[..], &b"arpa"[..]] || rest.len() > 4 {
        return None;
    }
    let octet = |label: &&[u8]| {
        let text = std::str::from_utf8(label).ok()?;
        let octet: u8 = text.parse().ok()?;
        (octet.to_string() == text).then_some(octet)
    };
    rest.iter().rev().map(octet).collect()
}

fn reverse_name(octets: &[u8]) -> Option<Name> {
    let text: String = octets
        .iter()
        .rev()
        .map(|octet| format!("{octet}."))
        .collect();
    fully(&format!("{text}in-addr.arpa"))
}
