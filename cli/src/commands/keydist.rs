//! `fvm keydist`: VMs learn the user's key, and the user their host keys.

use super::{Context, each::status_of};
use crate::{
    exit::{self, CommandResult, Exit},
    keys::{self, KnownHosts},
    quantity::Seconds,
    ssh::{Login, SshError},
    vm_names::VmNames,
    wait::{Goal, Wait},
};
use fvm_vmm::api::{ApiError, ErrorKind, REPORT_VERSION, VmNumber, VmReport, VmSet};
use serde::Serialize;
use std::{
    ffi::OsString,
    fs::{self, Permissions},
    io::{self, Write},
    net::Ipv4Addr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};
use tempfile::TempDir;
use tokio::task::JoinSet;

/// Arguments of `fvm keydist`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Waits until ssh answers, puts the VM's host keys into ~/.ssh/known_hosts, and the public half of your key for VMs into \
the VM. The key is ~/.fast-vm/id_fastvm if you have that, else ~/.config/fvm/id_fvm, which is made if it is missing \
and has no passphrase; `fvm ssh` uses it from then on.

A password is needed once. It is taken from $FVM_KEYDIST_PASSWORD, ~/.config/fvm/keydist-password or \
/etc/fvm/keydist-password; where none of these is right, you are asked on the terminal.

Examples:
  fvm keydist 42
  fvm keydist 42,50-59")]
pub(crate) struct KeyDist {
    /// The user to log in as
    #[arg(short, value_name = "USER", default_value = "root")]
    login: String,
    /// VM numbers: 42, 42,44 or 50-59; @web for all of the group web
    #[arg(value_name = "NUM")]
    vms: VmNames,
    /// How long to wait for ssh at most
    #[arg(long, value_name = "TIME", default_value = "120s")]
    timeout: Seconds,
}

/// What came of it.
#[derive(Debug, Serialize)]
struct KeyDistReport {
    version: u32,
    key: PathBuf,
    vms: Vec<Given>,
}

/// What came of it for one VM.
#[derive(Debug, Serialize)]
struct Given {
    vm: VmNumber,
    /// False if it knew the key already.
    new: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ApiError>,
}

impl KeyDist {
    pub(super) async fn run(self, context: &Context<'_>) -> CommandResult {
        let vms = self.vms.resolve(&context.client).await?;
        distribute(context, &vms, self.login, self.timeout).await
    }
}

/// The whole of it, for VMs that have been started.
pub(super) async fn distribute(
    context: &Context<'_>,
    vms: &VmSet,
    user: String,
    timeout: Seconds,
) -> CommandResult {
    let no_home = || {
        ApiError::new(
            ErrorKind::Usage,
            "HOME is not set, so there is no place for a key",
        )
    };
    let key = keys::keydist_key().ok_or_else(no_home)?;
    make_key(&key)?;
    let public = public_key(&key)?;
    let hosts = KnownHosts::of_user().ok_or_else(no_home)?;
    let login = Login {
        jump: context.client.jump(),
        user,
        key: Some(key.clone()),
    };
    context.out.busy("waiting for ssh, and reading host keys");
    let mut waits = JoinSet::new();
    let numbers = vms.numbers();
    for &vm in numbers {
        let wait = Wait::new(
            context.client.clone(),
            vm,
            Goal::Ssh,
            timeout,
            numbers.len(),
        );
        let login = login.clone();
        let public = public.clone();
        waits.spawn(async move {
            let ready = match wait.run().await {
                Ok(ready) => ready.vm,
                Err(error) => return (vm, Err(error)),
            };
            let look = move || first_look(ready, &login, &public);
            let result = tokio::task::spawn_blocking(look).await;
            (vm, result.unwrap_or_else(|_| Err(exit::bug())))
        });
    }
    let mut seen = Vec::new();
    while let Some(ended) = waits.join_next().await {
        seen.push(ended.map_err(|_| exit::bug())?);
    }
    context.out.settled();
    seen.sort_by_key(|(vm, _)| *vm);
    learn(&hosts, &seen)?;

    let mut report = KeyDistReport {
        version: REPORT_VERSION,
        key,
        vms: Vec::new(),
    };
    for (vm, look) in seen {
        // One after the other: each may have to ask on the terminal.
        let result = look.and_then(|look| match look.has_key {
            Has::Already => Ok(false),
            Has::Now => Ok(true),
            Has::NotYet => ask_and_give(&look.vm, &login, &public, context.out.can_ask()),
        });
        let (new, error) = match result {
            Ok(new) => (new, None),
            Err(error) => (false, Some(error)),
        };
        report.vms.push(Given { vm, new, error });
    }
    let kinds: Vec<ErrorKind> = report
        .vms
        .iter()
        .filter_map(|given| Some(given.error.as_ref()?.kind))
        .collect();
    tell(context, &report);
    Ok(match kinds.as_slice() {
        [] => Exit::DONE,
        [first, rest @ ..] if rest.iter().all(|kind| kind == first) => Exit::of(*first),
        _ => Exit::of(ErrorKind::Failed),
    })
}

fn tell(context: &Context<'_>, report: &KeyDistReport) {
    if !context.out.json() {
        for given in &report.vms {
            if let Some(error) = &given.error {
                context.out.failure_of(given.vm, error);
            }
        }
    }
    let lines: Vec<String> = report
        .vms
        .iter()
        .filter(|given| given.error.is_none())
        .map(|given| {
            let what = if given.new {
                "has your key now"
            } else {
                "had your key already"
            };
            format!("{}  {what}", given.vm)
        })
        .collect();
    context.out.lines(report, &lines);
}

/// What a first look at a VM has found.
struct Look {
    vm: VmReport,
    has_key: Has,
    /// Its host keys, as lines of `known_hosts`.
    host_keys: String,
}

/// Whether a VM has the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Has {
    Already,
    Now,
    NotYet,
}

/// Reads the host keys, and tries what needs nobody at the terminal.
fn first_look(vm: VmReport, login: &Login, public: &str) -> Result<Look, ApiError> {
    let host_keys = scan(vm.address)?;
    let has_key = if works(login, vm.address)? {
        Has::Already
    } else {
        match keys::default_password() {
            Some(password) if give_with(login, vm.address, public, &password)? => Has::Now,
            _ => Has::NotYet,
        }
    };
    Ok(Look {
        vm,
        has_key,
        host_keys,
    })
}

fn learn(hosts: &KnownHosts, seen: &[(VmNumber, Result<Look, ApiError>)]) -> Result<(), ApiError> {
    let looks: Vec<&Look> = seen
        .iter()
        .filter_map(|(_, look)| look.as_ref().ok())
        .collect();
    let addresses: Vec<Ipv4Addr> = looks.iter().map(|look| look.vm.address).collect();
    let lines: String = looks.iter().map(|look| look.host_keys.as_str()).collect();
    hosts
        .replace(&addresses, &lines)
        .map_err(|error| exit::of_file(hosts.path(), &error))
}

fn make_key(key: &Path) -> Result<(), ApiError> {
    if key.is_file() {
        return Ok(());
    }
    if let Some(directory) = key.parent() {
        fs::create_dir_all(directory)
            .and_then(|()| fs::set_permissions(directory, Permissions::from_mode(0o700)))
            .map_err(|error| exit::of_file(directory, &error))?;
    }
    let mut command = Command::new("ssh-keygen");
    command
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "fvm", "-f"])
        .arg(key)
        .stdin(Stdio::null());
    let output = command
        .output()
        .map_err(|source| SshError::new(command.get_program(), source))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(ApiError::new(
        ErrorKind::Failed,
        format!(
            "the key {} could not be made: {}",
            key.display(),
            said.trim()
        ),
    ))
}

fn public_key(key: &Path) -> Result<String, ApiError> {
    let mut path = key.as_os_str().to_owned();
    path.push(".pub");
    let path = PathBuf::from(path);
    let text = fs::read_to_string(&path).map_err(|error| {
        exit::of_file(&path, &error).hint("`ssh-keygen -y -f KEY > KEY.pub` makes it of the key")
    })?;
    Ok(text.trim().to_owned())
}

/// The host keys of a VM.
fn scan(address: Ipv4Addr) -> Result<String, ApiError> {
    let mut command = Command::new("ssh-keyscan");
    command
        .args(["-T", "10", "--"])
        .arg(address.to_string())
        .stdin(Stdio::null());
    let output = command
        .output()
        .map_err(|source| SshError::new(command.get_program(), source))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let prefix = format!("{address} ");
    // What a guest says is taken only in the form that is expected of it.
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with(&prefix) && !line.contains(char::is_control))
        .collect();
    if lines.is_empty() {
        let message = format!("the ssh server at {address} tells no host key");
        return Err(ApiError::new(ErrorKind::Failed, message));
    }
    Ok(lines.join("\n") + "\n")
}

/// True if the key opens the VM.
fn works(login: &Login, address: Ipv4Addr) -> Result<bool, ApiError> {
    let mut command = batch(login, address, &["true".into()], "BatchMode=yes");
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let status = command
        .status()
        .map_err(|source| SshError::new(command.get_program(), source))?;
    Ok(status.success())
}

/// ssh with one more option, which comes first and so counts.
fn batch(login: &Login, address: Ipv4Addr, remote: &[OsString], option: &str) -> Command {
    let plain = login.command(address, remote);
    let mut command = Command::new("ssh");
    command.args(["-o", option]).args(plain.get_args());
    command
}

/// What puts standard input into the list of keys, unless it is there.
const GIVE: &str = "umask 077; mkdir -p ~/.ssh && k=$(cat) && touch ~/.ssh/authorized_keys && \
    { grep -qxF -e \"$k\" ~/.ssh/authorized_keys || printf '%s\\n' \"$k\" >> ~/.ssh/authorized_keys; }";

/// Gives the key with this password; false if it is not the right one.
fn give_with(
    login: &Login,
    address: Ipv4Addr,
    public: &str,
    password: &str,
) -> Result<bool, ApiError> {
    let asked = Asked::new().map_err(|error| {
        ApiError::new(
            ErrorKind::Failed,
            format!("a password cannot be handed to ssh: {error}"),
        )
    })?;
    let mut command = batch(login, address, &[GIVE.into()], "NumberOfPasswordPrompts=1");
    command
        .env("SSH_ASKPASS", asked.program())
        .env("SSH_ASKPASS_REQUIRE", "force")
        .env("FVM_ASKED_PASSWORD", password)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Ok(give(command, public)? == 0)
}

/// Has ssh ask for the password on the terminal.
fn ask_and_give(
    vm: &VmReport,
    login: &Login,
    public: &str,
    can_ask: bool,
) -> Result<bool, ApiError> {
    let number = vm.number;
    if !can_ask {
        let message = format!("VM {number} has not your key, and no configured password opens it");
        return Err(ApiError::new(ErrorKind::Failed, message).hint(
            "write the password into ~/.config/fvm/keydist-password, or run this on a terminal, which asks for it",
        ));
    }
    let command = batch(
        login,
        vm.address,
        &[GIVE.into()],
        "NumberOfPasswordPrompts=3",
    );
    match give(command, public)? {
        0 => Ok(true),
        status => Err(ApiError::new(
            ErrorKind::Failed,
            format!("VM {number} did not take the key: ssh ended with {status}"),
        )),
    }
}

fn give(mut command: Command, public: &str) -> Result<i32, ApiError> {
    let failed = |error: io::Error| {
        ApiError::new(
            ErrorKind::Failed,
            format!("the key cannot be handed to ssh: {error}"),
        )
    };
    let mut child = command
        .stdin(Stdio::piped())
        .spawn()
        .map_err(|source| SshError::new(command.get_program(), source))?;
    if let Some(mut input) = child.stdin.take() {
        // If ssh has ended already, its status says more.
        let _ = writeln!(input, "{public}");
    }
    child.wait().map(status_of).map_err(failed)
}

/// A program that tells ssh a password that is in the environment, for as long as this is there.
struct Asked(TempDir);

impl Asked {
    fn new() -> io::Result<Self> {
        let directory = tempfile::Builder::new().prefix("fvm-").tempdir()?;
        let asked = Self(directory);
        fs::write(
            asked.program(),
            "#!/bin/sh\nprintf '%s\\n' \"$FVM_ASKED_PASSWORD\"\n",
        )?;
        fs::set_permissions(asked.program(), Permissions::from_mode(0o700))?;
        Ok(asked)
    }

    fn program(&self) -> PathBuf {
        self.0.path().join("askpass")
    }
}
