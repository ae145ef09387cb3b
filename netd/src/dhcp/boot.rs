//! Network boot: which file a client gets, by what it says it is.

use std::net::Ipv4Addr;

use super::binding::{Binding, Boot};
use super::options::code;
use super::reply::Options;
use super::request::Request;

const PXE_CLIENT: &[u8] = b"PXEClient"; // the PXE specification 2.1, section 2.2.2
const HTTP_CLIENT: &[u8] = b"HTTPClient"; // the UEFI specification 2.10, section 24.7
const IPXE: &[u8] = b"iPXE";
/// What the `file` field holds beside its final NUL (RFC 2131, section 2).
const FILE_MAX: usize = 127;

/// What a client that boots is told.
pub(super) struct Choice<'b> {
    boot: &'b Boot,
    file: &'b str,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Pxe,
    Ipxe,
    Http,
    /// A client that asks for a boot file without saying what it is.
    Plain,
}

/// The file for this client, or `None` if it does not boot from the network or has none set.
pub(super) fn choose<'b>(request: &Request<'_>, binding: &'b Binding) -> Option<Choice<'b>> {
    let boot = binding.boot.as_ref()?;
    let class = request.option(code::VENDOR_CLASS).unwrap_or_default();
    let asks = request.parameter_list().contains(&code::BOOT_FILE);
    let kind = if is_ipxe(request) {
        Kind::Ipxe
    } else if class.starts_with(HTTP_CLIENT) {
        Kind::Http
    } else if class.starts_with(PXE_CLIENT) {
        Kind::Pxe
    } else if asks {
        Kind::Plain
    } else {
        return None;
    };
    let by_architecture = || {
        let architecture = request.option(code::CLIENT_ARCHITECTURE)?;
        let number = u16::from_be_bytes(*architecture.first_chunk()?);
        boot.files
            .iter()
            .find(|file| file.architecture == number)
            .map(|file| file.file.as_str())
    };
    let file = match kind {
        Kind::Ipxe if boot.ipxe_script.is_some() => boot.ipxe_script.as_deref(),
        Kind::Http => boot.http_url.as_deref(),
        _ => by_architecture().or(boot.default_file.as_deref()),
    }?;
    Some(Choice { boot, file, kind })
}

/// iPXE says so in its user class, with or without the length byte of RFC 3004, and by its own option.
fn is_ipxe(request: &Request<'_>) -> bool {
    let class = request.option(code::USER_CLASS).unwrap_or_default();
    class == IPXE
        || class.split_first().is_some_and(|(_, rest)| rest == IPXE)
        || request.option(code::IPXE).is_some()
}

impl Choice<'_> {
    /// The TFTP server.
    pub(super) fn next_server(&self) -> Option<Ipv4Addr> {
        self.boot.next_server.filter(|_| self.kind != Kind::Http)
    }

    /// What goes into the `file` field: nothing if it does not fit, or the client reads option 67.
    pub(super) fn file_field(&self) -> Option<&[u8]> {
        let file = self.file.as_bytes();
        (self.kind != Kind::Http && file.len() <= FILE_MAX).then_some(file)
    }

    /// The options that go with it.
    pub(super) fn add_options(&self, options: &mut Options<'_>, request: &Request<'_>) {
        let asked = |code| request.parameter_list().contains(&code);
        match self.kind {
            // UEFI takes an offer for HTTP boot only if it says so (section 24.7.3.1).
            Kind::Http => options.add(code::VENDOR_CLASS, HTTP_CLIENT),
            Kind::Pxe => options.echo(request, code::CLIENT_MACHINE_ID),
            Kind::Ipxe | Kind::Plain => {}
        }
        if self.file_field().is_none() || asked(code::BOOT_FILE) {
            options.add(code::BOOT_FILE, self.file.as_bytes());
        }
        if let Some(server) = self.next_server().filter(|_| asked(code::TFTP_SERVER)) {
            options.add(code::TFTP_SERVER, server.to_string().as_bytes());
        }
    }
}
