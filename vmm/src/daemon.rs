//! What the program `fvmd` does: options, log, socket, service.

use crate::{
    api::DOCTOR_ARGUMENT,
    fault, kvm,
    manager::{Manager, look_at_host},
    paths::Paths,
    server,
};
use clap::{Parser, Subcommand};
use nix::unistd::Group;
use std::{
    fs::{self, Permissions},
    io::{self, IsTerminal, Write},
    os::unix::{
        fs::{PermissionsExt, chown},
        net::UnixListener,
    },
    path::{Path, PathBuf},
    process::ExitCode,
};
use tokio::signal::unix::{SignalKind, signal};

#[derive(Parser)]
#[command(
    name = "fvmd",
    version,
    about = "The daemon of fvm: storage, networks and VMs"
)]
struct Options {
    /// Where what survives a reboot is kept
    #[arg(long, default_value = "/var/lib/fvm")]
    state_dir: PathBuf,
    /// Where sockets are
    #[arg(long, default_value = "/run/fvm")]
    run_dir: PathBuf,
    /// The configuration
    #[arg(long, default_value = "/etc/fvm/fvm.toml")]
    config: PathBuf,
    /// Where shipped templates are
    #[arg(long, default_value = "/usr/share/fvm/templates")]
    template_dir: PathBuf,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Run a few instructions on KVM and say whether that worked (used by fvmd itself)
    #[command(name = kvm::SELF_TEST_ARGUMENT, hide = true)]
    KvmSelfTest,
    /// Look at this host without a daemon, and print the report as JSON (used by `fvm doctor`)
    #[command(name = DOCTOR_ARGUMENT, hide = true)]
    Doctor,
    /// Name the places where a test build can be killed
    #[command(hide = true)]
    FaultPoints,
}

impl Options {
    fn into_paths(self) -> Paths {
        Paths {
            state_dir: self.state_dir,
            run_dir: self.run_dir,
            config: self.config,
            template_dir: self.template_dir,
            ..Paths::default()
        }
    }
}

/// The group whose members may use fvm.
const GROUP: &str = "fvm";

/// Runs the daemon, or the subcommand that was given, to its end.
pub fn main() -> ExitCode {
    let options = Options::parse();
    match options.command {
        Some(Command::KvmSelfTest) => return kvm::self_test_child(),
        Some(Command::FaultPoints) => {
            let names = fault::POINTS.join("\n");
            return match writeln!(io::stdout(), "{names}") {
                Ok(()) => ExitCode::SUCCESS,
                Err(_) => ExitCode::FAILURE,
            };
        }
        Some(Command::Doctor) => return doctor(&options.into_paths()),
        None => {}
    }
    log();
    match run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Lines for the journal, which adds the time itself.
fn log() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("FVM_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false);
    if std::env::var_os("JOURNAL_STREAM").is_some() {
        lines.without_time().init();
    } else {
        lines.init();
    }
}

/// Looks at the host and prints what was found.
fn doctor(paths: &Paths) -> ExitCode {
    let written = serde_json::to_string(&look_at_host(paths))
        .map_err(io::Error::from)
        .and_then(|text| writeln!(io::stdout(), "{text}"));
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn run(options: Options) -> io::Result<()> {
    let socket = options.run_dir.join("fvm.sock");
    let paths = options.into_paths();
    // Taken before anything else, and before there are threads: it is an environment variable.
    let listener = match listenfd::ListenFd::from_env().take_unix_listener(0)? {
        Some(listener) => listener,
        None => listen(&socket)?,
    };
    listener.set_nonblocking(true)?;
    let manager = Manager::open(paths).map_err(|error| io::Error::other(error.message))?;
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(async {
            let listener = tokio::net::UnixListener::from_std(listener)?;
            let mut terminated = signal(SignalKind::terminate())?;
            let mut interrupted = signal(SignalKind::interrupt())?;
            // Not started by systemd is fine.
            let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
            tracing::info!(version = env!("CARGO_PKG_VERSION"), "ready");
            // VMs run on; what is under way is finished or undone by the next start.
            tokio::select! {
                result = server::serve(listener, manager) => result,
                _ = terminated.recv() => Ok(()),
                _ = interrupted.recv() => Ok(()),
            }
        })
}

/// A socket of our own, where systemd has given us none.
fn listen(path: &Path) -> io::Result<UnixListener> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    if let Some(group) = Group::from_name(GROUP)? {
        chown(path, None, Some(group.gid.as_raw()))?;
    }
    fs::set_permissions(path, Permissions::from_mode(0o660))?;
    Ok(listener)
}
