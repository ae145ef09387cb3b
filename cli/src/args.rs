//! The command line: what it may say, and how its words become values.
//!
//! Each command's own arguments stand beside the command, in `commands`.

use crate::{
    client::Client,
    commands, exit,
    output::Wishes,
    vm_names::{self, VmNames},
};
use clap::{Parser, Subcommand};
use fvm_vmm::api::{ApiError, SOCKET_PATH, VmNumber, VmSet};
use std::path::PathBuf;

/// Virtual machines for a lab: made from an image in milliseconds, each at the address of its number.
#[derive(Debug, Parser)]
#[command(
    name = "fvm",
    version,
    arg_required_else_help = true,
    after_help = "\
A day with fvm:
  fvm image import debian debian-13.raw.xz     once: a golden image
  fvm create debian 42                         VM 42, a snapshot of it
  fvm start 42 --wait ssh                      boots; its address ends in .42
  fvm ssh 42
  fvm delete 42

NUM is one VM (42), several (42,44), a range (50-59), or any mix of them, or all of a group (@web); base is the VM that edits an image itself.

Exit status: 0 done, 1 it failed, 2 wrong usage, 3 not found, 4 refused (not yours, its state, a limit), \
5 the host is not able (no daemon, no pool), 70 a bug in fvm. When several VMs fail for different \
reasons, 1."
)]
pub(crate) struct Args {
    /// What applies to every command.
    #[command(flatten)]
    pub(crate) global: Global,
    /// The command.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What applies to every command.
#[derive(Debug, clap::Args)]
pub(crate) struct Global {
    /// Print the report as JSON, and errors as JSON on standard error
    #[arg(long, global = true, help_heading = "Everywhere")]
    json: bool,
    /// Print each step of an operation on standard error
    #[arg(short, long, global = true, help_heading = "Everywhere")]
    verbose: bool,
    /// Where fvmd listens
    #[arg(
        long,
        global = true,
        env = "FVM_SOCKET",
        default_value = SOCKET_PATH,
        value_name = "PATH",
        hide_env_values = true,
        help_heading = "Everywhere"
    )]
    pub(crate) socket: PathBuf,
    /// Work on another host, through ssh: ssh://user@host
    #[arg(
        long,
        global = true,
        env = "FVM_HOST",
        value_name = "URL",
        hide_env_values = true,
        help_heading = "Everywhere"
    )]
    pub(crate) host: Option<String>,
}

impl Global {
    /// The daemon that is meant.
    pub(crate) fn client(&self, command: &Command) -> Result<Client, ApiError> {
        // `fvm inventory --host NAME` is Ansible's question about a host of its own.
        let is_question =
            |host: &str| matches!(command, Command::Inventory(_)) && !host.starts_with("ssh://");
        match self.host.as_deref().filter(|host| !is_question(host)) {
            None | Some("") => Ok(Client::new(self.socket.clone())),
            Some(host) => {
                let remote = host.parse().map_err(|error| exit::wrong_host(&error))?;
                Ok(Client::of_host(remote))
            }
        }
    }

    /// What concerns output.
    pub(crate) fn wishes(&self) -> Wishes {
        Wishes {
            json: self.json,
            verbose: self.verbose,
        }
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Set this host up, check it, or take it all away
    Init(commands::init::Init),
    /// Show what this host has: pool, network, KVM
    Status(commands::status::Status),
    /// Look at everything fvm needs of this host, and say what mends what is not well
    Doctor(commands::doctor::Doctor),
    /// Look at the pool, extend, check and repair it
    Pool(commands::pool::Pool),
    /// Show what VMs and images take of the pool
    #[command(alias = "disk_usage")]
    DiskUsage(commands::disk_usage::DiskUsage),
    /// Import, export and manage images
    Image(commands::image::Image),
    /// Name an image together with how VMs are made of it
    Profile(commands::profile::Profile),
    /// Make VMs from an image
    Create(commands::create::Create),
    /// Start VMs, and wait for them if asked to
    Start(commands::start::Start),
    /// Stop VMs
    Stop(commands::stop::Stop),
    /// Stop the processors of running VMs where they are
    Pause(commands::control::Pause),
    /// Let paused VMs go on
    Resume(commands::control::Resume),
    /// Press the reset button of running VMs
    Reset(commands::control::Reset),
    /// Plug the network cable of running VMs in or out
    Link(commands::control::Link),
    /// Press keys on the keyboards of running VMs
    SendKey(commands::control::SendKey),
    /// Write a picture of a VM's screen to a file
    Screenshot(commands::screenshot::Screenshot),
    /// Delete VMs with their disks, without a question
    Delete(commands::delete::Delete),
    /// Make and start the VMs of a lab file
    Up(commands::lab::Up),
    /// Delete the VMs of a lab file
    Down(commands::lab::Down),
    /// Show what `fvm up` would do
    Diff(commands::lab::Diff),
    /// Show what users have and may have: VMs, memory, disks
    Quota(commands::quota::Quota),
    /// Give VMs their time to live again, or another one
    Renew(commands::renew::Renew),
    /// Bring VMs back whose time to live is over
    Undelete(commands::renew::Undelete),
    /// Say something about VMs, which the list shows
    #[command(visible_aliases = ["edit-note", "edit_note"])]
    Note(commands::note::EditNote),
    /// Make the disks of VMs larger, or smaller if told to
    Resize(commands::resize::Resize),
    /// Give VMs further disks, list and remove them
    Disk(commands::disk::Disk),
    /// Take, list, restore and delete snapshots of VMs' disks
    Snapshot(commands::snapshot::Snapshot),
    /// Have the disks of VMs give back what they do not need
    Compact(commands::compact::Compact),
    /// Write a VM's disk to a file
    Export(commands::export::ExportVm),
    /// List all VMs
    List(commands::list::List),
    /// Show everything about a VM
    Info(commands::info::Info),
    /// Print a VM's domain XML with everything filled in
    Dumpxml(commands::dumpxml::DumpXml),
    /// Look at templates: list, show, check, args, explain; publish, unpublish
    Template(commands::template::Template),
    /// Print what a VM's guest, or its QEMU, has said
    Log(commands::log::Log),
    /// Use the serial console of a VM
    Console(commands::console::Console),
    /// Run a command in VMs, all at once
    Exec(commands::exec::Exec),
    /// Ask the guest agent of a VM: ping, time, set-time, addresses, exec
    Agent(commands::agent::Agent),
    /// Print VMs for ssh's configuration
    SshConfig(commands::ssh_config::PrintSshConfig),
    /// Print VMs as an inventory of Ansible's
    Inventory(commands::inventory::Inventory),
    /// Hand the daemon's socket on, for an `fvm --host` on another machine
    #[command(hide = true)]
    Connect(commands::connect::Connect),
    /// Write manual pages and completion scripts, for packages
    #[command(hide = true)]
    Generate(commands::generate::Generate),
    /// Have ports of this host lead to VMs
    Forward(commands::forward::Forward),
    /// Make and show networks; show leases, and what guests ask and are told
    Net(commands::net::Net),
    /// Add network cards to VMs and remove them, also while they run
    Nic(commands::nic::Nic),
    /// Log in to a VM, or run a command in it
    Ssh(commands::ssh::Ssh),
    /// Copy files to VMs and from them
    Scp(commands::copy::Scp),
    /// Bring directories in VMs up to date, or those here
    Rsync(commands::copy::Rsync),
    /// Answer what hooks ask of libvirt
    #[command(name = "virsh-for-hooks", hide = true)]
    Virsh(commands::virsh::Virsh),
    /// Give VMs your key, and learn theirs
    Keydist(commands::keydist::KeyDist),
    /// Ask a VM's QEMU something itself, as root
    Qmp(commands::qmp::Qmp),
}

/// The VMs that a command is for.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Vms {
    /// VM numbers: 42, 42,44, 50-59 or base; @web for all of the group web
    #[arg(value_name = "NUM", required = true)]
    sets: Vec<VmNames>,
}

impl Vms {
    /// All of them, as one set.
    pub(crate) async fn resolve(self, client: &Client) -> Result<VmSet, ApiError> {
        vm_names::resolve(self.sets, client).await
    }
}

/// Reads the number of exactly one VM.
pub(crate) fn one_vm(text: &str) -> Result<VmNumber, String> {
    let set: VmSet = text
        .parse()
        .map_err(|error: fvm_vmm::api::InvalidVmSet| error.to_string())?;
    match *set.numbers() {
        [number] => Ok(number),
        _ => Err(format!("'{set}' names several VMs: this command takes one")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn every_command_and_option_is_explained() {
        fn check(command: &clap::Command) {
            let name = command.get_name();
            assert!(command.get_about().is_some(), "{name} has no explanation");
            for argument in command.get_arguments() {
                let id = argument.get_id();
                assert!(
                    argument.get_help().is_some(),
                    "{id} of {name} has no explanation"
                );
            }
            command.get_subcommands().for_each(check);
        }
        check(&Args::command());
    }

    #[test]
    fn vms_are_named_in_every_documented_way() {
        for arguments in [["42", "43-44"], ["42,43", "44"], ["44 43", "42,43"]] {
            let line = ["fvm", "stop"].into_iter().chain(arguments);
            let Command::Stop(stop) = Args::try_parse_from(line).unwrap().command else {
                panic!("not a stop");
            };
            let runtime = tokio::runtime::Builder::new_current_thread()
                .build()
                .unwrap();
            // Nobody is asked about numbers.
            let client = Client::new("/nowhere".into());
            let set = runtime.block_on(stop.vms.resolve(&client)).unwrap();
            assert_eq!(set.numbers(), [42, 43, 44].map(VmNumber::new));
        }
    }

    #[test]
    fn one_vm_is_one() {
        assert_eq!(one_vm("42"), Ok(42.into()));
        assert_eq!(one_vm("base"), Ok(VmNumber::BASE));
        assert!(one_vm("42,43").unwrap_err().contains("42-43"));
        assert!(one_vm("x").is_err());
    }
}
