//! What other servers said, for as long as they said it holds.

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::Question;

/// How many answers are kept.
const ENTRIES_MAX: usize = 2048;
/// The longest answer that is kept, in bytes.
const ANSWER_MAX: usize = 4096;
/// No answer is kept longer, whatever its server says.
const TTL_MAX_S: u32 = 3600;
/// The same for that there is nothing (RFC 2308, section 5).
const NEGATIVE_TTL_MAX_S: u32 = 300;

type Key = (Name, RecordType);

#[derive(Debug)]
struct Entry {
    code: ResponseCode,
    answers: Vec<Record>,
    authorities: Vec<Record>,
    since: Instant,
    ttl_s: u32,
}

/// Answers by name and type; the oldest make room for new ones.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    entries: HashMap<Key, Entry>,
    order: VecDeque<(Key, Instant)>,
}

fn key(question: &Question) -> Key {
    (question.name.to_lowercase(), question.kind)
}

impl Cache {
    /// An answer that still holds, with what is left of its time.
    pub(crate) fn get(&self, question: &Question, now: Instant) -> Option<Message> {
        if !question.plain {
            return None;
        }
        let entry = self.entries.get(&key(question))?;
        let age_s = u32::try_from(now.saturating_duration_since(entry.since).as_secs()).ok()?;
        if age_s >= entry.ttl_s {
            return None;
        }
        let mut answer = question.begin_answer();
        answer.metadata.response_code = entry.code;
        let aged = |records: &[Record]| -> Vec<Record> {
            let older = |record: &Record| {
                let mut record = record.clone();
                record.ttl = record.ttl.saturating_sub(age_s);
                record
            };
            records.iter().map(older).collect()
        };
        answer.answers = aged(&entry.answers);
        answer.authorities = aged(&entry.authorities);
        Some(answer)
    }

    /// Keeps an answer if it may be kept.
    pub(crate) fn put(&mut self, question: &Question, answer: &[u8], now: Instant) {
        if !question.plain || answer.len() > ANSWER_MAX {
            return;
        }
        let Ok(message) = Message::from_vec(answer) else {
            return;
        };
        let Some(ttl_s) = time_to_live(&message) else {
            return;
        };
        let key = key(question);
        let entry = Entry {
            code: message.metadata.response_code,
            answers: message.answers,
            authorities: message.authorities,
            since: now,
            ttl_s,
        };
        self.entries.insert(key.clone(), entry);
        self.order.push_back((key, now));
        while self.order.len() > ENTRIES_MAX {
            let Some((oldest, since)) = self.order.pop_front() else {
                break;
            };
            // One that was heard again since has a later place too.
            if self
                .entries
                .get(&oldest)
                .is_some_and(|entry| entry.since == since)
            {
                self.entries.remove(&oldest);
            }
        }
    }
}

/// How long an answer holds, in seconds; `None` if it is not to be kept.
fn time_to_live(message: &Message) -> Option<u32> {
    if message.metadata.truncation {
        return None;
    }
    let negative = match message.metadata.response_code {
        ResponseCode::NoError => message.answers.is_empty(),
        ResponseCode::NXDomain => true,
        _ => return None,
    };
    let shortest = message.answers.iter().map(|record| record.ttl).min();
    let ttl_s = if negative {
        let authority = message
            .authorities
            .iter()
            .find_map(|record| match &record.data {
                RData::SOA(soa) => Some(record.ttl.min(soa.minimum)),
                _ => None,
            })?;
        authority
            .min(shortest.unwrap_or(authority))
            .min(NEGATIVE_TTL_MAX_S)
    } else {
        shortest?.min(TTL_MAX_S)
    };
    (ttl_s > 0).then_some(ttl_s)
}
