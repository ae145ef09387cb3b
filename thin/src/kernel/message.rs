//! Device-mapper requests and replies as bytes; no system call.
//!
//! A request is a `struct dm_ioctl` (`linux/dm-ioctl.h`) and its payload in one buffer, in which the
//! kernel puts its reply.

use super::DeviceNumber;

/// `sizeof(struct dm_ioctl)`.
pub(crate) const HEADER_BYTES: usize = 312;
/// `sizeof(struct dm_target_spec)`.
const TARGET_BYTES: usize = 40;
/// `DM_MAX_TYPE_NAME`.
const TARGET_TYPE_BYTES: usize = 16;
/// Room for a reply; doubled until it fits.
const FIRST_BUFFER_BYTES: usize = 4 * 1024;
const LARGEST_BUFFER_BYTES: usize = 16 * 1024 * 1024;
/// The interface version that every request claims; each kernel answers all older ones.
const VERSION: [u32; 3] = [4, 0, 0];

/// Commands of `linux/dm-ioctl.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Command {
    List = 2,
    Create = 3,
    Remove = 4,
    /// Suspends with [`flags::SUSPEND`], resumes without.
    Suspend = 6,
    Info = 7,
    LoadTable = 9,
    ClearTable = 10,
    Status = 12,
    Message = 14,
    ArmPoll = 16,
    /// Loads the target's module if need be; the target goes where the device's name does.
    TargetVersion = 17,
}

/// `DM_…_FLAG`s.
pub(crate) mod flags {
    pub(crate) const READ_ONLY: u32 = 1;
    pub(crate) const SUSPEND: u32 = 1 << 1;
    pub(crate) const STATUS_TABLE: u32 = 1 << 4;
    pub(crate) const ACTIVE_PRESENT: u32 = 1 << 5;
    pub(crate) const INACTIVE_PRESENT: u32 = 1 << 6;
    pub(crate) const BUFFER_FULL: u32 = 1 << 8;
    pub(crate) const SKIP_LOCKFS: u32 = 1 << 10;
    pub(crate) const NO_FLUSH: u32 = 1 << 11;
}

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
const TARGET_COUNT: usize = 20;
const OPEN_COUNT: usize = 24;
const FLAGS: usize = 28;
const EVENT_NR: usize = 32;
const DEV: usize = 40;
const NAME: std::ops::Range<usize> = 48..176;
const UUID: std::ops::Range<usize> = 176..305;

/// How a request names its device.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target<'a> {
    /// No device, or all.
    None,
    /// By name.
    Name(&'a str),
    /// By uuid: never meets a device of somebody else's.
    Uuid(&'a str),
    /// Both, to create it.
    New { name: &'a str, uuid: &'a str },
}

/// One line of a table: from the device's first sector on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TableLine {
    pub(crate) sectors: u64,
    pub(crate) target: String,
    pub(crate) params: String,
}

/// A request, and after the call its reply.
#[derive(Debug)]
pub(crate) struct Request {
    command: Command,
    /// Always at least a header long, and as long as the header's `data_size` says when sent.
    buffer: Vec<u8>,
    /// The request's own bytes, for another try with more room.
    sent: Vec<u8>,
}

impl Request {
    /// A request without payload; `None` if name or uuid are too long or hold a NUL.
    pub(crate) fn new(command: Command, target: Target<'_>, flags: u32) -> Option<Self> {
        let mut header = vec![0; HEADER_BYTES];
        for (i, number) in VERSION.into_iter().enumerate() {
            put_u32(&mut header, i * 4, number);
        }
        put_u32(&mut header, DATA_START, HEADER_BYTES as u32);
        put_u32(&mut header, FLAGS, flags);
        if matches!(command, Command::Remove | Command::Suspend) {
            put_u32(&mut header, EVENT_NR, UDEV_EVENT_NR);
        }
        let (name, uuid) = match target {
            Target::None => ("", ""),
            Target::Name(name) => (name, ""),
            Target::Uuid(uuid) => ("", uuid),
            Target::New { name, uuid } => (name, uuid),
        };
        put_text(&mut header[NAME], name)?;
        put_text(&mut header[UUID], uuid)?;
        Some(Self {
            command,
            buffer: Vec::new(),
            sent: header,
        })
    }

    /// Adds a table of one line.
    pub(crate) fn with_table(mut self, line: &TableLine) -> Option<Self> {
        let mut target = [0; TARGET_BYTES];
        target[8..16].copy_from_slice(&line.sectors.to_ne_bytes());
        put_text(&mut target[24..24 + TARGET_TYPE_BYTES], &line.target)?;
        put_u32(&mut self.sent, TARGET_COUNT, 1);
        self.sent.extend(target);
        self.push_text(&line.params)?;
        Some(self)
    }

    /// Adds a message to the target at sector 0.
    pub(crate) fn with_message(mut self, text: &str) -> Option<Self> {
        self.sent.extend(0_u64.to_ne_bytes());
        self.push_text(text)?;
        Some(self)
    }

    fn push_text(&mut self, text: &str) -> Option<()> {
        if text.contains('\0') {
            return None;
        }
        self.sent.extend(text.bytes());
        self.sent.push(0);
        // The kernel wants whole words.
        self.sent.resize(self.sent.len().next_multiple_of(8), 0);
        Some(())
    }

    pub(crate) fn command(&self) -> u8 {
        self.command as u8
    }

    /// The buffer to hand to the kernel, made anew from the request.
    pub(crate) fn buffer(&mut self) -> &mut [u8] {
        let length = self
            .buffer
            .len()
            .max(FIRST_BUFFER_BYTES)
            .max(self.sent.len());
        self.buffer.clear();
        self.buffer.extend_from_slice(&self.sent);
        self.buffer.resize(length, 0);
        put_u32(&mut self.buffer, DATA_SIZE, length as u32);
        &mut self.buffer
    }

    /// After a call: whether it has to be sent again because the reply did not fit; makes room for it.
    pub(crate) fn needs_more_room(&mut self) -> bool {
        let full = self.flags() & flags::BUFFER_FULL != 0;
        let larger = self.buffer.len() * 2;
        if full && larger <= LARGEST_BUFFER_BYTES {
            self.buffer.resize(larger, 0);
            return true;
        }
        false
    }

    fn flags(&self) -> u32 {
        u32_at(&self.buffer, FLAGS).unwrap_or_default()
    }

    /// The reply about one device.
    pub(crate) fn device(&self) -> Option<Device> {
        let reply = &self.buffer;
        Some(Device {
            name: text_at(reply.get(NAME)?)?.to_owned(),
            uuid: text_at(reply.get(UUID)?)?.to_owned(),
            number: DeviceNumber::from_raw(u64_at(reply, DEV)?),
            open_count: u32_at(reply, OPEN_COUNT)?,
            flags: self.flags(),
        })
    }

    fn data(&self) -> Option<&[u8]> {
        let start = u32_at(&self.buffer, DATA_START)? as usize;
        self.buffer.get(start..)
    }

    /// The status or table in the reply: its first line, or `None` if there is no table.
    pub(crate) fn table(&self) -> Option<TableLine> {
        if u32_at(&self.buffer, TARGET_COUNT)? == 0 {
            return None;
        }
        let data = self.data()?;
        Some(TableLine {
            sectors: u64_at(data, 8)?,
            target: text_at(data.get(24..TARGET_BYTES)?)?.to_owned(),
            params: text_at(data.get(TARGET_BYTES..)?)?.trim_end().to_owned(),
        })
    }

    /// The version in the reply to [`Command::TargetVersion`].
    pub(crate) fn target_version(&self) -> Option<(u32, u32, u32)> {
        let data = self.data()?;
        Some((u32_at(data, 4)?, u32_at(data, 8)?, u32_at(data, 12)?))
    }

    /// The names in the reply to [`Command::List`].
    pub(crate) fn names(&self) -> Option<Vec<String>> {
        let mut names = Vec::new();
        let mut rest = self.data()?;
        // Without any device there is one entry, all zero.
        while u64_at(rest, 0)? != 0 {
            names.push(text_at(rest.get(12..)?)?.to_owned());
            match u32_at(rest, 8)? as usize {
                0 => break,
                next => rest = rest.get(next..)?,
            }
        }
        Some(names)
    }
}

/// What device-mapper says of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Device {
    pub(crate) name: String,
    pub(crate) uuid: String,
    pub(crate) number: DeviceNumber,
    pub(crate) open_count: u32,
    flags: u32,
}

impl Device {
    pub(crate) fn is_suspended(&self) -> bool {
        self.flags & flags::SUSPEND != 0
    }

    /// Whether it has a live table; one that was only created has none.
    pub(crate) fn has_table(&self) -> bool {
        self.flags & flags::ACTIVE_PRESENT != 0
    }

    /// Whether it has a table that waits to be made live by a resume.
    pub(crate) fn has_loaded_table(&self) -> bool {
        self.flags & flags::INACTIVE_PRESENT != 0
    }

    pub(crate) fn is_read_only(&self) -> bool {
        self.flags & flags::READ_ONLY != 0
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

fn u32_at(buffer: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*buffer.get(at..)?.first_chunk()?))
}

fn u64_at(buffer: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(*buffer.get(at..)?.first_chunk()?))
}

/// The text up to the first NUL.
fn text_at(field: &[u8]) -> Option<&str> {
    let end = field.iter().position(|&byte| byte == 0)?;
    std::str::from_utf8(&field[..end]).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line() -> TableLine {
        TableLine {
            sectors: 2048,
            target: "thin".into(),
            params: "253:3 7".into(),
        }
    }

    #[test]
    fn a_request_says_how_long_it_is() {
        let mut request = Request::new(Command::Info, Target::Uuid("FVM-x"), 0).unwrap();
        let buffer = request.buffer();
        assert_eq!(u32_at(buffer, DATA_SIZE), Some(buffer.len() as u32));
        assert_eq!(text_at(&buffer[UUID]), Some("FVM-x"));
        assert_eq!(text_at(&buffer[NAME]), Some(""));
    }

    #[test]
    fn udev_flags_go_with_what_makes_an_event_and_nothing_else() {
        for (command, expected) in [
            (Command::Suspend, 0x004e_0000),
            (Command::Remove, 0x004e_0000),
            (Command::Status, 0),
            (Command::Create, 0),
        ] {
            let mut request = Request::new(command, Target::Name("a"), 0).unwrap();
            assert_eq!(u32_at(request.buffer(), EVENT_NR), Some(expected));
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let new = |name: &str, uuid: &str| {
            Request::new(Command::Create, Target::New { name, uuid }, 0).is_some()
        };
        assert!(new(&"n".repeat(127), &"u".repeat(128)));
        assert!(!new(&"n".repeat(128), "u"));
        assert!(!new("n", &"u".repeat(129)));
        assert!(!new("a\0b", "u"));
        let request = Request::new(Command::Message, Target::Uuid("u"), 0).unwrap();
        assert!(request.with_message("delete 1\0").is_none());
    }

    #[test]
    fn a_table_reads_back_as_it_was_written() {
        let request = Request::new(Command::LoadTable, Target::Uuid("u"), 0).unwrap();
        let mut request = request.with_table(&line()).unwrap();
        request.buffer();
        assert_eq!(request.table(), Some(line()));
    }

    #[test]
    fn a_full_buffer_is_doubled_up_to_a_limit() {
        let mut request = Request::new(Command::List, Target::None, 0).unwrap();
        let mut lengths = Vec::new();
        loop {
            let buffer = request.buffer();
            lengths.push(buffer.len());
            put_u32(buffer, FLAGS, flags::BUFFER_FULL);
            if !request.needs_more_room() {
                break;
            }
        }
        assert_eq!(lengths.first(), Some(&FIRST_BUFFER_BYTES));
        assert_eq!(lengths.last(), Some(&LARGEST_BUFFER_BYTES));
        assert!(lengths.windows(2).all(|pair| pair[1] == 2 * pair[0]));
    }

    #[test]
    fn names_are_read_from_a_linked_list() {
        let mut request = Request::new(Command::List, Target::None, 0).unwrap();
        let buffer = request.buffer();
        let data = &mut buffer[HEADER_BYTES..];
        data[0..8].copy_from_slice(&(253_u64 << 8).to_ne_bytes());
        put_u32(data, 8, 32);
        put_text(&mut data[12..32], "first").unwrap();
        data[32..40].copy_from_slice(&((253_u64 << 8) | 1).to_ne_bytes());
        put_text(&mut data[44..64], "second").unwrap();
        assert_eq!(request.names().unwrap(), ["first", "second"]);

        let mut none = Request::new(Command::List, Target::None, 0).unwrap();
        none.buffer();
        assert_eq!(none.names().unwrap(), Vec::<String>::new());
    }

    #[test]
    fn a_device_number_is_decoded_as_the_kernel_encodes_it() {
        let mut request = Request::new(Command::Info, Target::Name("a"), 0).unwrap();
        // new_encode_dev(253, 0x1234): low byte of the minor, major, rest of the minor.
        let raw = 0x34 | (253 << 8) | (0x12 << 20);
        request.buffer()[DEV..DEV + 8].copy_from_slice(&u64::to_ne_bytes(raw));
        assert_eq!(
            request.device().unwrap().number,
            DeviceNumber {
                major: 253,
                minor: 0x1234
            }
        );
    }

    /// Replies come from the kernel, but a wrong offset must end in `None`, not in a panic.
    #[test]
    fn damaged_replies_are_not_followed() {
        for at in [DATA_START, HEADER_BYTES + 8] {
            let mut request = Request::new(Command::List, Target::None, 0).unwrap();
            let buffer = request.buffer();
            buffer[HEADER_BYTES] = 1;
            put_u32(buffer, TARGET_COUNT, 1);
            put_u32(buffer, at, u32::MAX);
            assert_eq!(request.names(), None);
        }
    }
}
