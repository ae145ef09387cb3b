//! Where this server departs from the RFCs on purpose.

use super::wire::*;
use super::{binding, reply_with, silence_with};

#[test]
fn the_port_overrides_the_client_identifier() {
    // RFC 2131, section 4.2 binds a lease to the client identifier. Here, two clients of different
    // identifiers on one port are the same guest, and one identifier on two ports are two guests.
    let (first, mut second) = (binding(), binding());
    second.address = B;
    let clone = Ask::new(DISCOVER).option(61, b"\xffthe same machine id");
    assert_eq!(reply_with(&first, &clone).decoded.yiaddr(), A);
    assert_eq!(reply_with(&second, &clone).decoded.yiaddr(), B);
    let other = Ask::new(REQUEST).asking(A).option(61, b"\x01another");
    assert_eq!(reply_with(&first, &other).kind(), ACK);
}

#[test]
fn a_declined_address_is_kept() {
    // RFC 2131, section 4.3.3 has the server mark the address as not available. Here it is the VM's, and
    // nothing else could be offered.
    let binding = binding();
    for _ in 0..3 {
        silence_with(&binding, &Ask::new(DECLINE).naming(S).asking(A));
        assert_eq!(
            reply_with(&binding, &Ask::new(DISCOVER)).decoded.yiaddr(),
            A
        );
    }
}
