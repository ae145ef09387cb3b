//! The lab as a tool: hosts to try this build of fvm on.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use fvm_lab::{LabHost, Needs, clean, demo, say};

/// Lab hosts: fresh Debian servers with real KVM and this build of fvm installed, emulated on any machine.
#[derive(Parser)]
#[command(name = "fvm-lab")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show the main job: an image, VM 42 created, started, reached over ssh, stopped, deleted
    Demo,
    /// Open a root shell on a fresh lab host; it is gone when the shell ends
    Shell {
        /// A host without /dev/kvm
        #[arg(long)]
        no_kvm: bool,
    },
    /// Run a script on a fresh lab host, show its output, and end with its exit status
    Run {
        /// Leave the host running afterwards, and tell how to come in
        #[arg(long)]
        keep: bool,
        /// A host without /dev/kvm
        #[arg(long)]
        no_kvm: bool,
        /// The script, for the interpreter that its first line names
        script: PathBuf,
        /// Arguments of the script
        #[arg(trailing_var_arg = true)]
        arguments: Vec<String>,
    },
    /// Make everything that a first lab host needs, and run none
    Prepare,
    /// Remove everything that the lab has made
    Clean,
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            say(&format!("fvm-lab: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<u8> {
    match command {
        Command::Demo => Ok(exit_status(demo()?)),
        Command::Shell { no_kvm } => {
            let host = LabHost::fresh(Needs {
                kvm: !no_kvm,
                ..Needs::default()
            })?;
            say("[lab] a root shell on a fresh lab host; test guests are in /lab/guests");
            Ok(exit_status(host.shell()?.code().unwrap_or(1)))
        }
        Command::Run {
            keep,
            no_kvm,
            script,
            arguments,
        } => {
            let host = LabHost::fresh(Needs {
                kvm: !no_kvm,
                ..Needs::default()
            })?;
            host.put(&script, "/root/script")
                .and_then(|()| host.ok("chmod +x /root/script").map(drop))
                .with_context(|| format!("bringing {} to the lab host", script.display()))?;
            let words: Vec<String> = arguments.iter().map(|word| quoted(word)).collect();
            let status = host.sh_streamed(&format!("exec /root/script {}", words.join(" ")))?;
            if keep {
                say(&host.keep()?);
            }
            Ok(exit_status(status.code().unwrap_or(1)))
        }
        Command::Prepare => LabHost::prepare().map(|()| 0),
        Command::Clean => clean().map(|()| 0),
    }
}

/// An argument as one word of the host's shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

fn exit_status(code: i32) -> u8 {
    u8::try_from(code).unwrap_or(1)
}
