//! `fvm-netd`: answers what guests send. Needs no privilege; `fvmd` hands it its sockets.

use std::convert::Infallible;
use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use fvm_netd::daemon::{
    Daemon, RateLimit, activated_listener, listen_at, lock_down, raise_descriptor_limit,
};

/// The guests' DHCP and DNS server of fvm.
///
/// Started by the service manager with a listening SOCK_SEQPACKET socket; fvmd connects to it and
/// hands over a packet socket for each guest.
#[derive(Parser)]
#[command(version)]
struct Options {
    /// Listen here instead of on the socket that the service manager passed
    #[arg(long, value_name = "PATH")]
    listen: Option<PathBuf>,
    /// Frames read of each guest a second, after a burst of twice as many; 0 for no limit
    #[arg(long, value_name = "N", default_value_t = RateLimit::default().per_second)]
    rate: u32,
}

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("FVM_LOG")
                .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info")),
        )
        .without_time()
        .with_target(false)
        .init();
    match run(&Options::parse()) {
        Ok(never) => match never {},
        Err(error) => {
            let mut causes = String::new();
            let mut source = error.source();
            while let Some(cause) = source {
                causes = format!("{causes}: {cause}");
                source = cause.source();
            }
            tracing::error!("{error}{causes}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<Infallible, Box<dyn Error>> {
    let listener = match &options.listen {
        Some(path) => listen_at(path)?,
        None => activated_listener()?.ok_or(
            "no socket was passed by the service manager; start fvm-netd.socket, or use --listen",
        )?,
    };
    raise_descriptor_limit()?;
    let limit = RateLimit {
        per_second: options.rate,
        burst: options.rate.saturating_mul(2),
    };
    let daemon = Daemon::new(listener, limit)?;
    // Nothing waits for this where there is no service manager.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    // From here on nothing is opened, and nothing can be.
    lock_down()?;
    Ok(daemon.run()?)
}
