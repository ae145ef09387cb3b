//! Serial lines, consoles and channels.

use crate::domain::address::{self, VirtioSerialAddress};
use crate::domain::error::Result;
use crate::domain::node::Node;
use crate::domain::origin::Origin;
use crate::domain::os::MachineKind;

/// What is behind a character device.
///
/// fvm gives every one a socket of its own, so the kinds differ only in what the template may say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CharacterBackend {
    /// A socket that fvm listens on.
    Socket,
    /// Nothing: output is thrown away.
    Null,
    /// The agent channel of SPICE.
    SpiceAgent,
}

/// A serial line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Serial {
    /// The device's id in QEMU.
    pub alias: String,
    /// Where it stands in the template.
    pub origin: Origin,
    /// What is behind it.
    pub backend: CharacterBackend,
    /// The number of the line: 0 is the guest's first.
    pub port: u32,
    /// The kind of line that the template names; without a word it is the machine's own.
    pub kind: Option<SerialKind>,
    /// The register of a line of POWER, if the template fixes it.
    pub vio: Option<u32>,
}

/// The kind of a serial line, which is the machine's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SerialKind {
    /// A 16550A on the ISA bus.
    Isa,
    /// The PL011 of ARM's machine.
    System,
    /// POWER's virtual terminal.
    Vio,
}

impl SerialKind {
    /// The lines of a machine.
    pub fn of(machine: MachineKind) -> Self {
        match machine {
            MachineKind::I440fx | MachineKind::Q35 | MachineKind::Microvm => Self::Isa,
            MachineKind::Virt => Self::System,
            MachineKind::Pseries => Self::Vio,
        }
    }
}

/// What a console is shown on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsoleTarget {
    /// A serial line: the console is another name for it.
    Serial,
    /// A virtio console of its own.
    Virtio,
}

/// A console.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Console {
    /// The device's id in QEMU.
    pub alias: String,
    /// Where it stands in the template.
    pub origin: Origin,
    /// What is behind it.
    pub backend: CharacterBackend,
    /// What it is shown on.
    pub target: ConsoleTarget,
    /// The place of a virtio console.
    pub address: Option<VirtioSerialAddress>,
}

/// A named channel between guest and host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Channel {
    /// The device's id in QEMU.
    pub alias: String,
    /// Where it stands in the template.
    pub origin: Origin,
    /// What is behind it.
    pub backend: CharacterBackend,
    /// The name by which the guest finds it.
    pub name: String,
    /// Its port on a virtio-serial controller.
    pub address: Option<VirtioSerialAddress>,
}

/// The name of the guest agent's channel.
pub(crate) const GUEST_AGENT: &str = "org.qemu.guest_agent.0";

fn backend(node: &Node<'_>) -> Result<CharacterBackend> {
    let kind = node.need("type")?;
    let backend = kind.choice(&[
        ("pty", CharacterBackend::Socket),
        ("unix", CharacterBackend::Socket),
        ("null", CharacterBackend::Null),
        ("spicevmc", CharacterBackend::SpiceAgent),
    ])?;
    // libvirt reports the terminal that it opened here.
    node.ignore_attr("tty");
    node.child("source", |source| {
        if let Some(mode) = source.attr("mode") {
            mode.choice(&[("bind", ())])?;
        }
        if source.attr("path").is_some() {
            source.warn("fvm puts the socket in the VM's own run directory; the path is not used");
        }
        Ok(())
    })?;
    node.ignore_children("alias");
    Ok(backend)
}

/// Reads `<serial>`.
pub(crate) fn serial(node: &Node<'_>) -> Result<Serial> {
    let backend = backend(node)?;
    if backend == CharacterBackend::SpiceAgent {
        return Err(node.refuse("spicevmc is for channels"));
    }
    let target = node.child("target", |target| {
        let kind = match target.attr("type") {
            None => None,
            Some(kind) => kind.choice(&[
                ("isa-serial", Some(SerialKind::Isa)),
                ("serial", None),
                ("system-serial", Some(SerialKind::System)),
                ("spapr-vio-serial", Some(SerialKind::Vio)),
            ])?,
        };
        let model = target.child("model", |model| {
            model.need("name")?.choice(&[
                ("isa-serial", SerialKind::Isa),
                ("pl011", SerialKind::System),
                ("spapr-vty", SerialKind::Vio),
            ])
        })?;
        if let (Some(kind), Some(model)) = (kind, model)
            && kind != model
        {
            return Err(target.refuse("type and model are of different machines"));
        }
        let port = target
            .attr("port")
            .map(|port| port.address(3))
            .transpose()?;
        Ok((port, kind.or(model)))
    })?;
    let (port, kind) = target.unwrap_or_default();
    let vio = node.child("address", |address| {
        if address
            .need("type")?
            .choice(&[("isa", false), ("spapr-vio", true)])?
        {
            return address::vio_register(address).map(Some);
        }
        for name in ["iobase", "irq"] {
            if let Some(value) = address.attr(name) {
                return Err(value.refuse("the port of a serial line follows from its number"));
            }
        }
        Ok(None)
    })?;
    Ok(Serial {
        alias: String::new(),
        origin: node.origin(),
        backend,
        // Completion numbers the lines without a port.
        port: port.unwrap_or(u32::MAX),
        kind,
        vio: vio.flatten(),
    })
}

/// Reads `<console>`.
pub(crate) fn console(node: &Node<'_>) -> Result<Console> {
    let backend = backend(node)?;
    if backend == CharacterBackend::SpiceAgent {
        return Err(node.refuse("spicevmc is for channels"));
    }
    let target = node.child("target", |target| {
        let kind = match target.attr("type") {
            None => ConsoleTarget::Serial,
            Some(kind) => kind.choice(&[
                ("serial", ConsoleTarget::Serial),
                ("virtio", ConsoleTarget::Virtio),
            ])?,
        };
        // A number among the consoles, which the guest does not see.
        if let Some(port) = target.attr("port") {
            port.address(30)?;
        }
        Ok(kind)
    })?;
    let target = target.unwrap_or(ConsoleTarget::Serial);
    let address = match target {
        ConsoleTarget::Serial => None,
        ConsoleTarget::Virtio => address::virtio_serial(node)?,
    };
    Ok(Console {
        alias: String::new(),
        origin: node.origin(),
        backend,
        target,
        address,
    })
}

/// Reads `<channel>`.
pub(crate) fn channel(node: &Node<'_>) -> Result<Channel> {
    let backend = backend(node)?;
    let name = node.need_child("target", |target| {
        target.need("type")?.expect("virtio")?;
        target.ignore_attr("state");
        let Some(name) = target.attr("name") else {
            return match backend {
                CharacterBackend::SpiceAgent => Ok("com.redhat.spice.0".to_owned()),
                _ => Err(target.refuse("the attribute `name` is missing")),
            };
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if !name.str().chars().all(plain) {
            return Err(name.refuse("only letters, digits, `.`, `-` and `_` can stand here"));
        }
        name.non_empty()
    })?;
    Ok(Channel {
        alias: String::new(),
        origin: node.origin(),
        backend,
        name,
        address: address::virtio_serial(node)?,
    })
}

impl Channel {
    /// Whether this is the channel of the QEMU guest agent.
    pub fn is_guest_agent(&self) -> bool {
        self.name == GUEST_AGENT
    }
}
