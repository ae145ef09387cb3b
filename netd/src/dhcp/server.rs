//! What to say: the port's binding against what the guest asks.
//!
//! Rules by RFC 2131 section 4.3, with the port in the place of the client identifier. The server is
//! authoritative: it knows the one right address of every port, so it never has to probe, to keep
//! silent for the sake of other servers' leases, or to remember an offer.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::frame::{self, CLIENT_PORT, Datagram, Envelope, SERVER_PORT};
use super::options::code;
use super::reply::{self, Grant};
use super::request::Request;
use super::{Binding, FrameNotes, MessageType, Silence};
use crate::MacAddr;

/// What one frame asked, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exchange {
    /// The type of the message, if it could be read.
    pub message: Option<MessageType>,
    /// The transaction.
    pub xid: Option<u32>,
    /// The client's hardware address.
    pub client: Option<MacAddr>,
    /// The address asked for: option 50, or the one the client says it has.
    pub asked: Option<Ipv4Addr>,
    /// The client's name for itself.
    pub host_name: Option<String>,
    /// The end of it.
    pub outcome: Outcome,
}

/// How an exchange ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum Outcome {
    /// A reply was made.
    Answered {
        /// Its type.
        message: MessageType,
        /// The address it offers or grants; none in a NAK.
        address: Option<Ipv4Addr>,
        /// The lease it grants, in seconds.
        lease_s: Option<u32>,
    },
    /// Nothing was said.
    Silent {
        /// Why.
        cause: Silence,
    },
}

/// Answers one frame that came in by a port: writes the reply's frame into `reply`, which is empty
/// if there is none, and says what happened.
///
/// `binding` is that of the port, `None` if no VM is bound to it.
pub fn respond(
    bytes: &[u8],
    notes: FrameNotes,
    binding: Option<&Binding>,
    reply: &mut Vec<u8>,
) -> Exchange {
    reply.clear();
    let silent = |cause| Exchange {
        message: None,
        xid: None,
        client: None,
        asked: None,
        host_name: None,
        outcome: Outcome::Silent { cause },
    };
    let datagram = match frame::parse(bytes, notes) {
        Ok(datagram) => datagram,
        Err(cause) => return silent(cause),
    };
    let request = match Request::parse(datagram.payload) {
        Ok(request) => request,
        Err(cause) => {
            return Exchange {
                client: Some(datagram.source_mac),
                ..silent(cause)
            };
        }
    };
    let asked = request
        .requested_address()
        .or_else(|| (!request.ciaddr.is_unspecified()).then_some(request.ciaddr));
    let outcome = match decide(&datagram, &request, binding) {
        Ok((binding, answer)) => write(&datagram, &request, binding, answer, reply),
        Err(cause) => Outcome::Silent { cause },
    };
    Exchange {
        message: Some(request.message),
        xid: Some(request.xid),
        client: Some(request.client),
        asked,
        host_name: request.host_name(),
        outcome,
    }
}

/// What is to be said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Offer,
    /// The lease asked for, at once, without an offer first.
    CommitAtOnce,
    Ack,
    AckInform,
    Nak(&'static str),
}

fn decide<'b>(
    datagram: &Datagram<'_>,
    request: &Request<'_>,
    binding: Option<&'b Binding>,
) -> Result<(&'b Binding, Answer), Silence> {
    let binding = binding.ok_or(Silence::Unbound)?;
    check_sender(datagram, request, binding)?;
    let answer = match request.message {
        MessageType::Discover
            if binding.rapid_commit && request.option(code::RAPID_COMMIT).is_some() =>
        {
            Answer::CommitAtOnce
        }
        MessageType::Discover => Answer::Offer,
        MessageType::Request => answer_request(request, binding)?,
        MessageType::Inform => answer_inform(datagram, request, binding)?,
        MessageType::Decline => {
            let address = request.requested_address().unwrap_or(binding.address);
            return Err(Silence::Declined { address });
        }
        MessageType::Release => {
            return Err(Silence::Released {
                address: request.ciaddr,
            });
        }
        message => return Err(Silence::NotAnswered { message }),
    };
    Ok((binding, answer))
}

fn check_sender(
    datagram: &Datagram<'_>,
    request: &Request<'_>,
    binding: &Binding,
) -> Result<(), Silence> {
    let relayed = !request.giaddr.is_unspecified();
    if !binding.relay && (relayed || request.option(code::RELAY_INFORMATION).is_some()) {
        return Err(Silence::Relayed);
    }
    let Datagram {
        source_port,
        destination,
        source_mac,
        ..
    } = *datagram;
    if source_port == SERVER_PORT && !relayed {
        return Err(Silence::Ports {
            source_port,
            destination_port: SERVER_PORT,
        });
    }
    let to_us = destination == binding.server
        || destination == Ipv4Addr::BROADCAST
        || destination == binding.subnet.broadcast();
    if !to_us {
        return Err(Silence::OtherDestination { destination });
    }
    if binding.strict_client && !relayed && source_mac != request.client {
        return Err(Silence::ForeignClient {
            source_mac,
            client: request.client,
        });
    }
    Ok(())
}

/// RFC 2131, section 4.3.2.
fn answer_request(request: &Request<'_>, binding: &Binding) -> Result<Answer, Silence> {
    let has = (!request.ciaddr.is_unspecified()).then_some(request.ciaddr);
    let asked = request.requested_address();
    if let Some(server) = request
        .server_id()
        .filter(|server| *server != binding.server)
    {
        return Err(Silence::OtherServer { server });
    }
    match (asked, has) {
        (None, None) => Err(Silence::NoAddressAsked),
        (Some(asked), Some(has)) if asked != has => {
            Ok(Answer::Nak("two different addresses asked for"))
        }
        (Some(address), _) | (None, Some(address)) if address == binding.address => Ok(Answer::Ack),
        (Some(address), _) | (None, Some(address)) => {
            Ok(Answer::Nak(match binding.subnet.contains(address) {
                true => "not the address of this port",
                false => "not an address of this network",
            }))
        }
    }
}

/// RFC 2131, section 4.3.5. A client that leaves `ciaddr` out has its address in the packet.
fn answer_inform(
    datagram: &Datagram<'_>,
    request: &Request<'_>,
    binding: &Binding,
) -> Result<Answer, Silence> {
    let address = match request.ciaddr.is_unspecified() {
        true => datagram.source,
        false => request.ciaddr,
    };
    if address == binding.address {
        Ok(Answer::AckInform)
    } else {
        Err(Silence::OtherInform { address })
    }
}

fn write(
    datagram: &Datagram<'_>,
    request: &Request<'_>,
    binding: &Binding,
    answer: Answer,
    frame: &mut Vec<u8>,
) -> Outcome {
    let lease = match request.lease_time_s() {
        Some(asked) => binding.lease.asked(asked),
        None => binding.lease,
    };
    let (message, grant, rapid) = match answer {
        Answer::Offer => (MessageType::Offer, Grant::Lease(lease), false),
        Answer::CommitAtOnce => (MessageType::Ack, Grant::Lease(lease), true),
        Answer::Ack => (MessageType::Ack, Grant::Lease(lease), false),
        Answer::AckInform => (MessageType::Ack, Grant::Configuration, false),
        Answer::Nak(why) => (MessageType::Nak, Grant::Refusal(why), false),
    };
    frame::reserve_headers(frame);
    reply::write(
        request,
        binding,
        &reply::Reply {
            message,
            grant,
            rapid,
        },
        frame,
    );
    frame::write_headers(frame, &envelope(datagram, request, binding, answer));
    let lease_s = match grant {
        Grant::Lease(lease) => Some(lease.lease_s()),
        Grant::Configuration | Grant::Refusal(_) => None,
    };
    let address = (message != MessageType::Nak).then_some(binding.address);
    Outcome::Answered {
        message,
        address,
        lease_s,
    }
}

/// Where a reply goes (RFC 2131, section 4.1).
fn envelope(
    datagram: &Datagram<'_>,
    request: &Request<'_>,
    binding: &Binding,
    answer: Answer,
) -> Envelope {
    let to = |destination_mac, destination, destination_port| Envelope {
        destination_mac,
        source_mac: binding.server_mac,
        source: binding.server,
        destination,
        destination_port,
    };
    if !request.giaddr.is_unspecified() {
        return to(datagram.source_mac, request.giaddr, SERVER_PORT);
    }
    let broadcast = to(MacAddr::BROADCAST, Ipv4Addr::BROADCAST, CLIENT_PORT);
    match answer {
        Answer::Nak(_) => broadcast,
        // The client has checked that it has this address, and hears nothing else.
        Answer::AckInform => to(request.client, binding.address, CLIENT_PORT),
        Answer::Ack if !request.ciaddr.is_unspecified() => {
            to(request.client, request.ciaddr, CLIENT_PORT)
        }
        _ if request.wants_broadcast() => broadcast,
        _ => to(request.client, binding.address, CLIENT_PORT),
    }
}
