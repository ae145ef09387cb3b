//! The device-mapper requests that this crate makes itself, as bytes; no system call.
//!
//! A request is a `struct dm_ioctl` (`linux/dm-ioctl.h`), in whose buffer the kernel puts its reply.

/// `sizeof(struct dm_ioctl)`.
pub(crate) const HEADER_BYTES: usize = 312;
/// Room for the reply, which is of no interest.
const BUFFER_BYTES: usize = 4 * 1024;
/// The interface version that every request claims; each kernel answers all older ones.
const VERSION: [u32; 3] = [4, 0, 0];

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    /// Remove a device.
    Remove,
    /// Make a loaded table live and let I/O pass.
    Resume,
    /// Hold I/O back, and freeze a file system on it first.
    SuspendConsistently,
    /// Hold I/O back.
    SuspendQuickly,
    /// Load a target's module if need be. The target goes where the device's name does.
    TargetVersion,
}

/// `DM_SUSPEND_FLAG` and `DM_SKIP_LOCKFS_FLAG`.
const SUSPEND: u32 = 1 << 1;
const SKIP_LOCKFS: u32 = 1 << 10;

/// The flags by which udev's device-mapper rules leave a device alone, from `libdevmapper.h`; the kernel
/// hands `event_nr` on to udev, flags in its upper half.
///
/// Set are: no subsystem, disk and other rules, and "primary source", without which the rules would take
/// the event for an echo and use the flags of an earlier one. Without these a guest's file system label
/// would show up in the host's `/dev/disk`, and udev would open the device for a look.
const UDEV_EVENT_NR: u32 = (0x0002 | 0x0004 | 0x0008 | 0x0040) << 16;

// Offsets inside struct dm_ioctl.
const DATA_SIZE: usize = 12;
const DATA_START: usize = 16;
const FLAGS: usize = 28;
const EVENT_NR: usize = 32;
const NAME: std::ops::Range<usize> = 48..176;
const UUID: std::ops::Range<usize> = 176..305;

impl Command {
    /// `DM_DEV_REMOVE_CMD`, `DM_DEV_SUSPEND_CMD` (which also resumes) and `DM_GET_TARGET_VERSION_CMD`.
    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::Remove => 4,
            Self::Resume | Self::SuspendConsistently | Self::SuspendQuickly => 6,
            Self::TargetVersion => 17,
        }
    }

    const fn flags(self) -> u32 {
        match self {
            Self::SuspendConsistently => SUSPEND,
            Self::SuspendQuickly => SUSPEND | SKIP_LOCKFS,
            Self::Remove | Self::Resume | Self::TargetVersion => 0,
        }
    }
}

/// A request.
#[derive(Debug)]
pub(crate) struct Request {
    command: Command,
    /// As long as the header's `data_size` says.
    buffer: Vec<u8>,
}

impl Request {
    /// A request about the device with this uuid, or about this target; `None` if that is too long or
    /// holds a NUL.
    pub(crate) fn new(command: Command, about: &str) -> Option<Self> {
        let mut buffer = vec![0; BUFFER_BYTES];
        for (i, number) in VERSION.into_iter().enumerate() {
            put_u32(&mut buffer, i * 4, number);
        }
        put_u32(&mut buffer, DATA_SIZE, BUFFER_BYTES as u32);
        put_u32(&mut buffer, DATA_START, HEADER_BYTES as u32);
        put_u32(&mut buffer, FLAGS, command.flags());
        let field = match command {
            Command::TargetVersion => NAME,
            _ => {
                put_u32(&mut buffer, EVENT_NR, UDEV_EVENT_NR);
                UUID
            }
        };
        put_text(&mut buffer[field], about)?;
        Some(Self { command, buffer })
    }

    pub(crate) fn command(&self) -> u8 {
        self.command.number()
    }

    /// The buffer to hand to the kernel.
    pub(crate) fn buffer(&mut self) -> &mut [u8] {
        &mut self.buffer
    }
}

fn put_u32(buffer: &mut [u8], at: usize, value: u32) {
    buffer[at..at + 4].copy_from_slice(&value.to_ne_bytes());
}

/// Copies a text and leaves at least one NUL after it.
fn put_text(field: &mut [u8], text: &str) -> Option<()> {
    if text.len() >= field.len() || text.contains('\0') {
        return None;
    }
    field[..text.len()].copy_from_slice(text.as_bytes());
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn u32_at(buffer: &[u8], at: usize) -> u32 {
        u32::from_ne_bytes(*buffer[at..].first_chunk().unwrap())
    }

    #[test]
    fn a_request_says_how_long_it_is_and_whom_it_is_about() {
        let mut request = Request::new(Command::Remove, "FVM-x").unwrap();
        let buffer = request.buffer();
        assert_eq!(u32_at(buffer, DATA_SIZE) as usize, buffer.len());
        assert_eq!(buffer[UUID][..6], *b"FVM-x\0");
        assert!(buffer[NAME].iter().all(|&byte| byte == 0));
        let mut request = Request::new(Command::TargetVersion, "thin-pool").unwrap();
        assert_eq!(request.buffer()[NAME][..10], *b"thin-pool\0");
    }

    #[test]
    fn udev_flags_go_with_everything_that_makes_an_event() {
        for (command, expected) in [
            (Command::Resume, 0x004e_0000),
            (Command::SuspendConsistently, 0x004e_0000),
            (Command::SuspendQuickly, 0x004e_0000),
            (Command::Remove, 0x004e_0000),
            (Command::TargetVersion, 0),
        ] {
            let mut request = Request::new(command, "a").unwrap();
            assert_eq!(u32_at(request.buffer(), EVENT_NR), expected);
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(Request::new(Command::Remove, &"u".repeat(128)).is_some());
        assert!(Request::new(Command::Remove, &"u".repeat(129)).is_none());
        assert!(Request::new(Command::TargetVersion, &"n".repeat(128)).is_none());
        assert!(Request::new(Command::Remove, "a\0b").is_none());
    }
}
