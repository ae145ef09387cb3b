//! A client's message, with every length checked before anything is believed.
//!
//! Layout: RFC 2131 section 2. Options: RFC 2132, continued in `file` and `sname` if option 52 says
//! so, and options that occur several times joined (RFC 3396). A message with one malformed option
//! is malformed as a whole: half of what a client asks is not what it asks.

use std::borrow::Cow;
use std::net::Ipv4Addr;

use super::options::code;
use super::{MessageType, Silence};
use crate::MacAddr;

/// Bytes before the options, cookie included.
pub const FIXED_LEN: usize = 240;
/// What begins the options (RFC 2131, section 3).
pub const COOKIE: [u8; 4] = [99, 130, 83, 99];

const OP_REQUEST: u8 = 1;
const HARDWARE_ETHERNET: u8 = 1; // RFC 1700, "hardware type"
const FLAG_BROADCAST: u16 = 0x8000;

const SNAME: std::ops::Range<usize> = 44..108;
const FILE: std::ops::Range<usize> = 108..236;

/// A DHCP request.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// The transaction.
    pub xid: u32,
    /// The flags as sent.
    pub flags: u16,
    /// The address the client says it has.
    pub ciaddr: Ipv4Addr,
    /// The relay agent.
    pub giaddr: Ipv4Addr,
    /// The client's hardware address.
    pub client: MacAddr,
    /// The type.
    pub message: MessageType,
    options: Options<'a>,
}

/// Codes and values, each code once.
type Options<'a> = Vec<(u8, Cow<'a, [u8]>)>;

impl<'a> Request<'a> {
    /// Reads a message.
    pub fn parse(message: &'a [u8]) -> Result<Self, Silence> {
        let (fixed, options) = message
            .split_first_chunk::<FIXED_LEN>()
            .ok_or(Silence::TooShort)?;
        let [
            op,
            kind,
            length,
            _hops,
            x0,
            x1,
            x2,
            x3,
            _,
            _,
            f0,
            f1,
            c0,
            c1,
            c2,
            c3,
            ..,
        ] = *fixed;
        if op != OP_REQUEST {
            return Err(Silence::NotARequest);
        }
        if fixed.last_chunk() != Some(&COOKIE) {
            return Err(Silence::Cookie);
        }
        if kind != HARDWARE_ETHERNET || length != 6 {
            return Err(Silence::Hardware { kind, length });
        }
        let client = MacAddr(array_at(fixed, 28));
        if !client.is_station() {
            return Err(Silence::NotAStation { address: client });
        }
        let options = collect_options(fixed, options)?;
        let mut request = Request {
            xid: u32::from_be_bytes([x0, x1, x2, x3]),
            flags: u16::from_be_bytes([f0, f1]),
            ciaddr: Ipv4Addr::new(c0, c1, c2, c3),
            giaddr: Ipv4Addr::from(array_at(fixed, 24)),
            client,
            message: MessageType::Other(0),
            options,
        };
        // A message type sent twice has been joined to two bytes, and is malformed like any other.
        let [number] = request.fixed(code::MESSAGE_TYPE)?.ok_or(Silence::Bootp)?;
        request.message = MessageType::from_number(number);
        request.check_lengths()?;
        Ok(request)
    }

    /// The value of an option, its parts joined.
    pub fn option(&self, code: u8) -> Option<&[u8]> {
        self.options
            .iter()
            .find(|(found, _)| *found == code)
            .map(|(_, value)| value.as_ref())
    }

    /// Whether the client asks for its reply by broadcast.
    pub fn wants_broadcast(&self) -> bool {
        self.flags & FLAG_BROADCAST != 0
    }

    /// The address the client asks for (option 50).
    pub fn requested_address(&self) -> Option<Ipv4Addr> {
        self.checked(code::REQUESTED_ADDRESS).map(Ipv4Addr::from)
    }

    /// The server the client has chosen (option 54).
    pub fn server_id(&self) -> Option<Ipv4Addr> {
        self.checked(code::SERVER_ID).map(Ipv4Addr::from)
    }

    /// The lease the client asks for, in seconds (option 51).
    pub fn lease_time_s(&self) -> Option<u32> {
        self.checked(code::LEASE_TIME).map(u32::from_be_bytes)
    }

    /// The largest message the client takes, in bytes with IPv4 and UDP header (option 57).
    pub fn max_message_size(&self) -> Option<u16> {
        self.checked(code::MAX_MESSAGE_SIZE).map(u16::from_be_bytes)
    }

    /// The codes the client asks for, in its order (option 55).
    pub fn parameter_list(&self) -> &[u8] {
        self.option(code::PARAMETER_LIST).unwrap_or_default()
    }

    /// The client's name for itself, for people to read: printable ASCII, one label long.
    pub fn host_name(&self) -> Option<String> {
        let sent = self.option(code::HOST_NAME)?;
        let printable = |byte: &u8| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => char::from(*byte),
            _ => '?',
        };
        let end = sent
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |last| last + 1);
        let name: String = sent.iter().take(end).take(63).map(printable).collect();
        (!name.is_empty()).then_some(name)
    }

    /// The options this server reads must be of the length their RFC gives.
    fn check_lengths(&self) -> Result<(), Silence> {
        self.fixed::<4>(code::REQUESTED_ADDRESS)?;
        self.fixed::<4>(code::SERVER_ID)?;
        self.fixed::<4>(code::LEASE_TIME)?;
        self.fixed::<2>(code::MAX_MESSAGE_SIZE)?;
        Ok(())
    }

    fn fixed<const N: usize>(&self, code: u8) -> Result<Option<[u8; N]>, Silence> {
        match self.option(code) {
            None => Ok(None),
            Some(value) => match value.try_into() {
                Ok(value) => Ok(Some(value)),
                Err(_) => Err(Silence::MalformedOption { code }),
            },
        }
    }

    /// The value of an option whose length `check_lengths` has seen.
    fn checked<const N: usize>(&self, code: u8) -> Option<[u8; N]> {
        self.fixed(code).ok().flatten()
    }
}

fn array_at<const N: usize>(fixed: &[u8; FIXED_LEN], offset: usize) -> [u8; N] {
    fixed
        .get(offset..)
        .and_then(|rest| rest.first_chunk())
        .copied()
        .unwrap_or([0; N])
}

/// Walks all fields that hold options, in the order of RFC 2131, section 4.1.
fn collect_options<'a>(
    fixed: &'a [u8; FIXED_LEN],
    options: &'a [u8],
) -> Result<Options<'a>, Silence> {
    let mut found = Vec::with_capacity(16);
    walk(options, &mut found)?;
    let overload = found
        .iter()
        .find(|(code, _)| *code == code::OVERLOAD)
        .map(|(_, value)| value);
    let (in_file, in_sname) = match overload.map(|value| value.as_ref()) {
        None => (false, false),
        Some([1]) => (true, false),
        Some([2]) => (false, true),
        Some([3]) => (true, true),
        Some(_) => {
            return Err(Silence::MalformedOption {
                code: code::OVERLOAD,
            });
        }
    };
    // An overload option within these fields says nothing: there is no third place to go on in.
    for (used, range) in [(in_file, FILE), (in_sname, SNAME)] {
        if used {
            let mut more = Vec::new();
            walk(fixed.get(range).unwrap_or_default(), &mut more)?;
            more.retain(|(code, _)| *code != code::OVERLOAD);
            for (code, value) in more {
                join(&mut found, code, value);
            }
        }
    }
    Ok(found)
}

/// Walks one field. A field without END that is filled to its last byte is taken as ended there.
fn walk<'a>(mut field: &'a [u8], found: &mut Options<'a>) -> Result<(), Silence> {
    while let Some((&code, rest)) = field.split_first() {
        match code {
            code::PAD => field = rest,
            code::END => return Ok(()),
            _ => {
                let (&length, rest) = rest
                    .split_first()
                    .ok_or(Silence::MalformedOption { code })?;
                let (value, rest) = rest
                    .split_at_checked(usize::from(length))
                    .ok_or(Silence::MalformedOption { code })?;
                join(found, code, Cow::Borrowed(value));
                field = rest;
            }
        }
    }
    Ok(())
}

fn join<'a>(found: &mut Options<'a>, code: u8, value: Cow<'a, [u8]>) {
    match found.iter_mut().find(|(present, _)| *present == code) {
        Some((_, present)) => present.to_mut().extend_from_slice(&value),
        None => found.push((code, value)),
    }
}
