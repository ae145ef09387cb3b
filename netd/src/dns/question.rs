//! One question as a client put it, and the short answers that need no records.

use hickory_proto::op::{Edns, Message, OpCode};
use hickory_proto::rr::{DNSClass, Name, RecordType};

use super::code;

/// Length of a message's header (RFC 1035, section 4.1.1).
const HEADER_LEN: usize = 12;
/// The most that one UDP datagram takes without words on its size (RFC 1035, section 4.2.1).
const PLAIN_UDP_MAX: u16 = 512;
/// The most that we send in one UDP datagram: not to be fragmented anywhere (RFC 9715).
const UDP_MAX: u16 = 1232;

/// A question that can be answered.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    /// The client's number for it.
    pub(crate) id: u16,
    pub(crate) name: Name,
    pub(crate) kind: RecordType,
    /// Whether the client asks for answers of servers elsewhere.
    pub(crate) recursion: bool,
    /// Whether it speaks EDNS (RFC 6891), and so may we.
    pub(crate) edns: bool,
    /// Whether it wants nothing special of DNSSEC, so that anybody's answer will do.
    pub(crate) plain: bool,
    /// The longest answer it takes by UDP, in bytes, as it says.
    pub(crate) udp_max: usize,
    /// Where the question ends in the message.
    pub(crate) end: usize,
}

/// Why a message has no question that could be answered.
#[derive(Debug)]
pub(crate) enum Unanswerable {
    /// It is no question; whoever sent it waits for nothing.
    NoQuestion,
    /// It is refused with this answer.
    Refused(Vec<u8>),
}

impl Question {
    /// Reads a message from a client.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, Unanswerable> {
        let is_response = bytes.get(2).is_none_or(|flags| flags & 0x80 != 0);
        if bytes.len() < HEADER_LEN || is_response {
            return Err(Unanswerable::NoQuestion);
        }
        let refused = |end, code| Unanswerable::Refused(short_answer(bytes, end, code, false));
        if opcode(bytes) != u8::from(OpCode::Query) {
            return Err(refused(HEADER_LEN, code::NOT_IMPLEMENTED));
        }
        let malformed = || refused(HEADER_LEN, code::FORMAT_ERROR);
        let end = question_end(bytes).ok_or_else(malformed)?;
        let message = Message::from_vec(bytes).map_err(|_| malformed())?;
        let [query] = message.queries.as_slice() else {
            return Err(malformed());
        };
        let transfer = matches!(query.query_type(), RecordType::AXFR | RecordType::IXFR);
        if query.query_class() != DNSClass::IN || transfer {
            return Err(refused(end, code::REFUSED));
        }
        let edns = message.edns.as_ref();
        let wants_dnssec = edns.is_some_and(|edns| edns.flags().dnssec_ok);
        Ok(Question {
            id: message.metadata.id,
            name: query.name().clone(),
            kind: query.query_type(),
            recursion: message.metadata.recursion_desired,
            edns: edns.is_some(),
            plain: !wants_dnssec && !message.metadata.checking_disabled,
            udp_max: usize::from(
                edns.map_or(PLAIN_UDP_MAX, Edns::max_payload)
                    .max(PLAIN_UDP_MAX),
            ),
            end,
        })
    }

    /// The beginning of an answer: its header, the question, and EDNS if the client has it.
    pub(crate) fn begin_answer(&self) -> Message {
        let mut answer = Message::response(self.id, OpCode::Query);
        answer.metadata.recursion_desired = self.recursion;
        answer.metadata.recursion_available = true;
        answer.add_query(hickory_proto::op::Query::query(
            self.name.clone(),
            self.kind,
        ));
        if self.edns {
            let mut edns = Edns::new();
            edns.set_max_payload(UDP_MAX);
            answer.set_edns(edns);
        }
        answer
    }

    /// An answer's bytes; cut by its rules if they are more than the client takes.
    pub(crate) fn encode(&self, answer: &Message, udp: bool) -> Option<Vec<u8>> {
        let limit = match udp {
            true => self.udp_max.min(usize::from(UDP_MAX)),
            false => usize::from(u16::MAX),
        };
        let bytes = answer.to_vec().ok()?;
        if bytes.len() <= limit {
            return Some(bytes);
        }
        answer.truncate().to_vec().ok()
    }
}

fn opcode(bytes: &[u8]) -> u8 {
    bytes.get(2).map_or(0, |flags| flags >> 3 & 0xf)
}

/// Where the first question ends: a name without pointers, since there is nothing before it to point to.
fn question_end(bytes: &[u8]) -> Option<usize> {
    let mut at = HEADER_LEN;
    loop {
        match usize::from(*bytes.get(at)?) {
            0 => break,
            label if label < 64 => at += 1 + label,
            _ => return None,
        }
    }
    let end = at + 5;
    (end <= bytes.len()).then_some(end)
}

/// An answer without records: the question up to `end`, and a code or that it is to be asked again by TCP.
pub(crate) fn short_answer(query: &[u8], end: usize, code: u8, truncated: bool) -> Vec<u8> {
    let mut answer = query.get(..end).unwrap_or(query).to_vec();
    answer.resize(answer.len().max(HEADER_LEN), 0);
    let questions = u8::from(end > HEADER_LEN);
    if let Some(header) = answer.first_chunk_mut::<HEADER_LEN>() {
        // Response, opcode and "recursion desired" as asked; "recursion available", "checking disabled" as asked.
        header[2] = 0x80 | header[2] & 0x79 | u8::from(truncated) << 1;
        header[3] = 0x80 | header[3] & 0x10 | code;
        header[4..].copy_from_slice(&[0, questions, 0, 0, 0, 0, 0, 0]);
    }
    answer
}

/// Whether these bytes answer a query with that number and question.
pub(crate) fn is_answer(answer: &[u8], query: &[u8], end: usize) -> bool {
    let same_id = answer.get(..2) == query.get(..2);
    let is_response = answer.get(2).is_some_and(|flags| flags & 0x80 != 0);
    let one_question = answer.get(4..6) == Some(&[0, 1]);
    let asked = |bytes: &[u8]| bytes.get(HEADER_LEN..end).map(<[u8]>::to_ascii_lowercase);
    same_id && is_response && one_question && asked(query).is_some_and(|q| asked(answer) == Some(q))
}

/// What an answer says, for people.
pub(crate) fn outcome(answer: &[u8]) -> String {
    let Ok(message) = Message::from_vec(answer) else {
        return format!("an answer of {} bytes", answer.len());
    };
    if message.metadata.truncation {
        return "too long for UDP".to_owned();
    }
    let code = message.metadata.response_code;
    let mut data: Vec<String> = message
        .answers
        .iter()
        .take(4)
        .map(|record| record.data.to_string())
        .collect();
    if let more @ 1.. = message.answers.len().saturating_sub(4) {
        data.push(format!("{more} more"));
    }
    match (u16::from(code), data.is_empty()) {
        (0, false) => data.join(", "),
        (0, true) => "nothing of this type".to_owned(),
        _ => code.to_string(),
    }
}
