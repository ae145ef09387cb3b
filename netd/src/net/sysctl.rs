//! The kernel settings this crate reads or writes, each by one function.

use std::io;
use std::path::Path;

use super::Error;

const IP_FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";
const BRIDGE_CALLS_IPTABLES: &str = "/proc/sys/net/bridge/bridge-nf-call-iptables";

/// Whether the host forwards IPv4.
pub(super) fn ip_forward() -> Result<bool, Error> {
    Ok(read(IP_FORWARD)?.is_some_and(|value| value != "0"))
}

/// Turns IPv4 forwarding on or off.
pub(super) fn set_ip_forward(on: bool) -> Result<(), Error> {
    std::fs::write(IP_FORWARD, if on { "1" } else { "0" }).map_err(|source| Error::Setting {
        action: "write",
        path: IP_FORWARD.to_owned(),
        source,
    })
}

/// Whether frames crossing a bridge also go through the host's IP rules. Off when `br_netfilter` is
/// not loaded, which this crate never does.
pub(super) fn bridge_calls_iptables() -> Result<bool, Error> {
    Ok(read(BRIDGE_CALLS_IPTABLES)?.is_some_and(|value| value != "0"))
}

fn read(path: &str) -> Result<Option<String>, Error> {
    match std::fs::read_to_string(Path::new(path)) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Setting {
            action: "read",
            path: path.to_owned(),
            source,
        }),
    }
}
