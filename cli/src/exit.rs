//! What every failure means to the user: its kind, the exit status that follows, and what to do next.
//!
//! One place for the whole program: modules say what happened, this says what it amounts to.

use crate::{
    client::ClientError, commands::init::InitError, decode::DecodeError, editor::EditorError,
    encode::EncodeError, fetch::FetchError, origin::OriginError, ssh::SshError,
    template::TemplateError, terminal::TerminalError,
};
use fvm_vmm::api::{
    ApiError, BatchReport, ErrorKind, InvalidVmSet, SOCKET_PATH, stream::StreamError,
};
use std::{path::Path, process::ExitCode};

/// What a command returns: its exit status, or the one error that it ended with.
pub(crate) type CommandResult = Result<Exit, ApiError>;

/// An exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exit(u8);

impl Exit {
    /// All went well.
    pub(crate) const DONE: Self = Self(0);

    /// The status of a failure.
    pub(crate) fn of(kind: ErrorKind) -> Self {
        Self(kind.exit_code())
    }

    /// The status that another program ended with.
    pub(crate) const fn status(status: u8) -> Self {
        Self(status)
    }

    /// The status of a program that a signal ended, as shells count it.
    pub(crate) fn signal(number: i32) -> Self {
        Self(128_u8.saturating_add(u8::try_from(number).unwrap_or(0)))
    }

    /// The status of a program that was run for the user.
    pub(crate) fn of_program(status: i32) -> Self {
        Self(u8::try_from(status).unwrap_or(1))
    }

    /// The status of a batch: 0 if all went well, the common kind of what failed, 1 if there were
    /// several kinds, and 70 if one was a bug of ours.
    pub(crate) fn of_batch<R>(report: &BatchReport<R>) -> Self {
        let kinds = || {
            let errors = report.outcomes.iter().flat_map(|outcome| &outcome.error);
            errors.map(|error| error.kind)
        };
        match kinds().next() {
            None => Self::DONE,
            Some(_) if kinds().any(|kind| kind == ErrorKind::Internal) => {
                Self::of(ErrorKind::Internal)
            }
            Some(first) if kinds().all(|kind| kind == first) => Self::of(first),
            Some(_) => Self::of(ErrorKind::Failed),
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.0.into()
    }
}

impl From<ClientError> for ApiError {
    fn from(error: ClientError) -> Self {
        use ClientError as E;
        use ErrorKind as K;
        let (kind, hint) = match error {
            E::Answer(answer) => return answer,
            E::NoDaemon { ref socket, .. } if is_default(socket) => (
                K::HostNotAble,
                Some(
                    "start it with `sudo systemctl start fvmd.socket`; a new host is set up with `sudo fvm init`",
                ),
            ),
            E::NoDaemon { .. } => (
                K::HostNotAble,
                Some(
                    "is --socket or FVM_SOCKET right? without them, fvm uses the daemon of this host",
                ),
            ),
            E::Denied { .. } => (
                K::Refused,
                Some(
                    "ask to be added to the group fvm (`sudo usermod -aG fvm USER`), then log in again",
                ),
            ),
            E::Connect { .. } | E::Ssh { .. } => (K::HostNotAble, None),
            E::Remote { status: 255, .. } => (
                K::HostNotAble,
                Some("`ssh HOST true` must work; its own words are above"),
            ),
            E::Remote { status: 4, .. } => (
                K::Refused,
                Some("the user that ssh logs in as must be in the group fvm there"),
            ),
            E::Remote { .. } => (
                K::HostNotAble,
                Some("`ssh HOST fvm status` must work; the other side's words are above"),
            ),
            E::Cut { changes: true, .. } => (
                K::Failed,
                Some(
                    "nothing is known of the outcome: look with `fvm list`, and at `journalctl -u fvmd`",
                ),
            ),
            E::Cut { changes: false, .. } => (
                K::Failed,
                Some("try again; `journalctl -u fvmd` says why it went"),
            ),
            E::Silent { .. } => (K::Failed, Some("see `journalctl -u fvmd`")),
            E::Malformed { .. } | E::Status { .. } | E::Endless { .. } | E::Version { .. } => (
                K::HostNotAble,
                Some(
                    "fvm and fvmd are probably of different versions: `sudo systemctl restart fvmd` after an upgrade",
                ),
            ),
        };
        with(kind, &error, hint)
    }
}

impl From<DecodeError> for ApiError {
    fn from(error: DecodeError) -> Self {
        use DecodeError as E;
        use ErrorKind as K;
        let (kind, hint) = match error {
            E::Open { ref source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                (K::NotFound, None)
            }
            E::Open { .. } | E::Read { .. } => (K::Failed, None),
            E::NotAFile { .. } => (K::Usage, None),
            E::Terminal => (
                K::Usage,
                Some("send an image into it: `curl -fL URL | fvm image import NAME -`"),
            ),
            E::Empty { .. } => (K::Failed, None),
            E::Shrank { .. } => (
                K::Failed,
                Some("import it when nothing writes to it any more"),
            ),
            E::Unsupported { .. } | E::Inside { .. } => (
                K::Usage,
                Some("fvm imports raw and qcow2 images, plain or compressed with gzip, xz or zstd"),
            ),
            E::WrongName { .. } | E::Damaged { .. } | E::Truncated { .. } | E::Trailing { .. } => (
                K::Failed,
                Some("get the file again and compare its checksum; nothing was imported"),
            ),
            E::Memory { .. } => (
                K::Failed,
                Some("give a larger --unpack-memory, or unpack it first"),
            ),
            E::Unfit { .. } => (
                K::Usage,
                Some(
                    "if you trust it, convert it where its other files are: `qemu-img convert -O qcow2 IMAGE NEW.qcow2`",
                ),
            ),
            E::Inconsistent { .. } | E::Checksum { .. } => (
                K::Failed,
                Some("get the file again and compare its checksum; nothing was imported"),
            ),
            E::Changed { .. } => (
                K::Failed,
                Some("import it when nothing writes to it any more"),
            ),
            E::Endless { .. } => (K::Refused, Some("give its --sha256 or --sha512")),
            E::Spool { .. } | E::NoRoom { .. } => (
                K::Failed,
                Some("set TMPDIR to a folder with more room, or save it to a file first"),
            ),
            E::Stopped => (K::Internal, None),
        };
        with(kind, &error, hint)
    }
}

impl From<FetchError> for ApiError {
    fn from(error: FetchError) -> Self {
        use ErrorKind as K;
        use FetchError as E;
        let (kind, hint) = match error {
            E::Scheme { .. } | E::Malformed { .. } => (K::Usage, None),
            E::Status { status, .. } if [404, 410].contains(&status.as_u16()) => {
                (K::NotFound, None)
            }
            E::Unprotected { .. } => (
                K::Refused,
                Some("if that is right, import from there, with a checksum"),
            ),
            E::Status { .. }
            | E::Request { .. }
            | E::TooLong { .. }
            | E::Read { .. }
            | E::NotResumable { .. }
            | E::NoRanges { .. }
            | E::Broken { .. }
            | E::Changed => (K::Failed, None),
        };
        with(kind, &error, hint)
    }
}

impl From<OriginError> for ApiError {
    fn from(error: OriginError) -> Self {
        use ErrorKind as K;
        use OriginError as E;
        let (kind, hint) = match error {
            E::Fetch(error) => return error.into(),
            E::Decode(error) => return error.into(),
            E::SizeNeeded => (K::Usage, Some("add --size, such as --size 20G")),
            E::ChecksumOfNothing => (K::Usage, None),
            E::NoName(_) => (K::Usage, Some("use --sha256 or --sha512")),
            E::ReadList { ref source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                (K::NotFound, None)
            }
            E::ReadList { .. } | E::List { .. } => (K::Failed, None),
        };
        with(kind, &error, hint)
    }
}

impl From<TemplateError> for ApiError {
    fn from(error: TemplateError) -> Self {
        let kind = match &error {
            TemplateError::Read { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                ErrorKind::NotFound
            }
            TemplateError::Read { .. } => ErrorKind::Failed,
            TemplateError::TooLong { .. } | TemplateError::NotText { .. } => ErrorKind::Usage,
        };
        with(
            kind,
            &error,
            Some(
                "--template takes the name of a shipped template (see `fvm status`) or a file (a path with '/' or ending in .xml)",
            ),
        )
    }
}

impl From<EncodeError> for ApiError {
    fn from(error: EncodeError) -> Self {
        use EncodeError as E;
        use ErrorKind as K;
        let (kind, hint) = match &error {
            // The daemon's own words.
            E::Stream(StreamError::Failed(told)) => return (**told).clone(),
            E::Exists { .. } => (
                K::Refused,
                Some("choose another name, or --force to replace it"),
            ),
            E::NotAFile { what: "device", .. } => (
                K::Usage,
                Some("a device is written by way of standard output: --format raw - > DEVICE"),
            ),
            E::NotAFile { .. } => (K::Usage, None),
            E::Terminal => (
                K::Usage,
                Some("name a file, or send it somewhere: … - | other"),
            ),
            E::Make { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                (K::NotFound, Some("its directory must be there"))
            }
            E::Make { .. } | E::Write { .. } | E::Stream(_) | E::Cancelled => (K::Failed, None),
        };
        with(kind, &error, hint)
    }
}

impl From<InitError> for ApiError {
    fn from(error: InitError) -> Self {
        use ErrorKind as K;
        use InitError as E;
        let (kind, hint) = match error {
            E::NotRoot => (K::Refused, Some("use sudo")),
            E::Unasked => (
                K::Usage,
                Some("add --yes to go on without questions, or --dry-run to see what would change"),
            ),
            E::UnaskedRemove => (K::Usage, Some("add --yes to remove without questions")),
            E::Declined => (K::Failed, None),
            E::DevicePath { .. } => (K::Usage, None),
            E::Question { .. } => (K::Failed, None),
            E::Systemctl { .. } => (K::HostNotAble, None),
        };
        with(kind, &error, hint)
    }
}

impl From<SshError> for ApiError {
    fn from(error: SshError) -> Self {
        let hint = match error {
            SshError::Missing { ref program } if program == "rsync" => {
                Some("install it: `sudo apt install rsync`")
            }
            SshError::Missing { ref program } if program.contains('/') => None,
            SshError::Missing { .. } => Some("install it: `sudo apt install openssh-client`"),
            SshError::Exec { .. } => None,
        };
        with(ErrorKind::HostNotAble, &error, hint)
    }
}

impl From<EditorError> for ApiError {
    fn from(error: EditorError) -> Self {
        let hint = match error {
            EditorError::Start { .. } => Some("set EDITOR to one that is installed"),
            _ => None,
        };
        with(ErrorKind::Failed, &error, hint)
    }
}

impl From<TerminalError> for ApiError {
    fn from(error: TerminalError) -> Self {
        with(ErrorKind::Failed, &error, None)
    }
}

/// The error for a host that is named in a wrong way.
pub(crate) fn wrong_host(error: &crate::client::InvalidRemote) -> ApiError {
    with(ErrorKind::Usage, error, None)
}

/// The error for what can only be done on the host itself.
pub(crate) fn not_from_afar(what: &str, host: &str) -> ApiError {
    ApiError::new(
        ErrorKind::Usage,
        format!("`fvm {what}` is for the host it runs on"),
    )
    .hint(format!("log in there: `ssh {host}`"))
}

/// The error for a wrong list of VMs.
pub(crate) fn wrong_vms(error: &InvalidVmSet) -> ApiError {
    with(ErrorKind::Usage, error, None)
}

/// The error for words that make no sense.
pub(crate) fn wrong_usage(message: impl Into<String>) -> ApiError {
    ApiError::new(ErrorKind::Usage, message)
}

/// The error for results that could not be written.
pub(crate) fn unwritten(error: &std::io::Error) -> ApiError {
    ApiError::new(
        ErrorKind::Failed,
        format!("the results could not be written: {error}"),
    )
}

/// The error for a file of the user's that cannot be used.
pub(crate) fn of_file(path: &Path, error: &std::io::Error) -> ApiError {
    let message = without_numbers(&format!("{}: {error}", path.display()));
    ApiError::new(ErrorKind::Failed, message)
}

/// The error for a runtime that could not be built.
pub(crate) fn no_runtime(error: &std::io::Error) -> ApiError {
    ApiError::new(ErrorKind::HostNotAble, format!("fvm cannot start: {error}"))
}

/// The error for a panic, whose message has been shown.
pub(crate) fn bug() -> ApiError {
    ApiError::new(ErrorKind::Internal, "fvm has failed by a bug of its own")
        .hint("please report it with the lines above and the command that you typed")
}

fn with(kind: ErrorKind, error: &dyn std::error::Error, hint: Option<&str>) -> ApiError {
    let mut told = ApiError::from_error(kind, error);
    told.message = without_numbers(&told.message);
    match hint {
        Some(hint) => told.hint(hint),
        None => told,
    }
}

/// The text without the numbers that the standard library adds to errors of the system: `(os error 2)`.
fn without_numbers(text: &str) -> String {
    const START: &str = " (os error ";
    let mut parts = text.split(START);
    let mut kept = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once(')') {
            Some((number, rest)) if number.bytes().all(|b| b.is_ascii_digit()) => {
                kept.push_str(rest);
            }
            _ => {
                kept.push_str(START);
                kept.push_str(part);
            }
        }
    }
    kept
}

fn is_default(socket: &Path) -> bool {
    socket == Path::new(SOCKET_PATH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fvm_vmm::api::{Action, REPORT_VERSION, VmNumber, VmOutcome};

    fn batch(kinds: &[Option<ErrorKind>]) -> Exit {
        let outcomes: Vec<VmOutcome> = (42..)
            .map(VmNumber::new)
            .zip(kinds)
            .map(|(vm, kind)| VmOutcome {
                vm,
                report: None,
                error: kind.map(|kind| ApiError::new(kind, "x")),
            })
            .collect();
        Exit::of_batch(&BatchReport {
            version: REPORT_VERSION,
            action: Action::Start,
            outcomes,
        })
    }

    #[test]
    fn a_batch_exits_by_what_failed() {
        use ErrorKind::{Internal, NotFound, Refused};
        assert_eq!(batch(&[None, None]), Exit(0));
        assert_eq!(batch(&[None, Some(NotFound)]), Exit(3));
        assert_eq!(batch(&[Some(Refused), None, Some(Refused)]), Exit(4));
        assert_eq!(batch(&[Some(Refused), Some(NotFound)]), Exit(1));
        assert_eq!(batch(&[Some(Refused), Some(Internal)]), Exit(70));
    }

    #[test]
    fn the_system_speaks_in_words_only() {
        assert_eq!(
            without_numbers("a: No such file (os error 2): b (os error x)"),
            "a: No such file: b (os error x)"
        );
    }

    #[test]
    fn signals_are_counted_as_shells_do() {
        assert_eq!(Exit::signal(15), Exit(143));
    }
}
