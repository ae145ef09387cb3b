//! Port forwards: rows of the store, and rules that follow from them.
//!
//! The row comes first. Rules are made from all rows at once, whenever these change and whenever the network is
//! brought up, so they are there after a reboot and gone with their VM.

use super::{
    Manager, Progress,
    error::{Result, failed},
    host::Host,
    owner::{Root, check_owner},
};
use crate::{
    api::{AddForward, ApiError, ErrorKind, ForwardList, ForwardReport, NetPort, REPORT_VERSION},
    config::Config,
    manager::Caller,
    store::ForwardRow,
};
use fvm_netd::net::{self, Forward, Network, Protocol};
use std::{
    io,
    net::{Ipv4Addr, TcpListener, UdpSocket},
};

/// Below it, ports belong to the system (`net.ipv4.ip_unprivileged_port_start`, as it is by default).
const FIRST_USER_PORT: u16 = 1024;

impl Manager {
    /// Has a port of the host lead to a port of a VM.
    ///
    /// # Errors
    /// When there is no such VM, the port is taken or not the caller's to give, or a step fails; then nothing has changed.
    pub fn add_forward(
        &self,
        caller: Caller,
        request: &AddForward,
        _progress: &Progress,
    ) -> Result<ForwardReport> {
        let host = self.host()?;
        let _vm = self.vm_locks.lock(request.vm);
        let vm = self.lasting_vm_row(request.vm)?;
        check_owner(&host, caller, &vm, Root::May)?;
        host.address(request.vm)?;
        let port = NetPort {
            udp: request.udp,
            port: request.host_port.get(),
        };
        if port.port < FIRST_USER_PORT && !caller.is_root() {
            return Err(refused(format!("{port} is for root alone to forward"))
                .hint(format!("choose one from {FIRST_USER_PORT} on, or use sudo")));
        }
        if let Some(other) = self.store.forward(port)? {
            return Err(
                refused(format!("{port} leads to VM {} already", other.vm)).hint(format!(
                    "choose another, or first `fvm forward delete {}{}`",
                    port.port,
                    if port.udp { " --udp" } else { "" }
                )),
            );
        }
        check_free(port)?;
        let row = ForwardRow {
            host: port,
            vm: request.vm,
            vm_port: request.vm_port.get(),
            owner_uid: caller.uid,
        };
        self.store.insert_forward(&row)?;
        if let Err(error) = self.apply_forwards(&host) {
            // Rules change all at once or not at all: without the row, it is as before.
            self.store.delete_forward(&row)?;
            return Err(error);
        }
        tracing::info!(%port, vm = %row.vm, uid = caller.uid, "forwarded");
        Ok(report(&host, &row))
    }

    /// Has a port of the host lead nowhere any more.
    ///
    /// # Errors
    /// When it leads nowhere, or to a VM that the caller may not change, or a step fails.
    pub fn delete_forward(
        &self,
        caller: Caller,
        port: &NetPort,
        _progress: &Progress,
    ) -> Result<ForwardReport> {
        let host = self.host()?;
        let row = self.store.forward(*port)?.ok_or_else(|| {
            ApiError::new(ErrorKind::NotFound, format!("{port} is not forwarded"))
                .hint("`fvm forward list` shows those that are")
        })?;
        check_owner(&host, caller, &self.vm_row(row.vm)?, Root::May)?;
        self.store.delete_forward(&row)?;
        self.apply_forwards(&host).map_err(stays_in_force)?;
        tracing::info!(%port, vm = %row.vm, uid = caller.uid, "forwarded no more");
        Ok(report(&host, &row))
    }

    /// Every forward.
    ///
    /// # Errors
    /// When the host is not set up or the store fails.
    pub fn forward_list(&self) -> Result<ForwardList> {
        let host = self.host()?;
        let rows = self.store.forwards()?;
        Ok(ForwardList {
            version: REPORT_VERSION,
            forwards: rows.iter().map(|row| report(&host, row)).collect(),
        })
    }

    /// Brings the rules into step with the rows.
    pub(super) fn apply_forwards(&self, host: &Host) -> Result<()> {
        // Rows are read and put in force by one at a time, so that the last to change them has them all.
        let _alone = self.forwards_lock.lock(());
        let network = self.with_forwards(&host.network, &host.config)?;
        net::ensure_forwards(&network)
            .map(drop)
            .map_err(|error| failed("changing the port forwards", &error))
    }

    /// The network with the forwards that the store has. One to a VM that has no address, since the configuration
    /// was changed, is kept for when it has one again.
    pub(super) fn with_forwards(&self, network: &Network, config: &Config) -> Result<Network> {
        let rows = self.store.forwards()?;
        let in_force = rows.iter().filter_map(|row| {
            let number = config.host_number(row.vm);
            let Some(address) = number.and_then(|number| config.subnet.host(number)) else {
                tracing::warn!(port = %row.host, vm = %row.vm, "not forwarded: the VM has no address");
                return None;
            };
            Some(Forward {
                protocol: protocol(row.host),
                host_port: row.host.port,
                address,
                port: row.vm_port,
            })
        });
        Ok(Network {
            forwards: in_force.collect(),
            ..network.clone()
        })
    }
}

/// The error of rules that could not be changed, after rows were.
pub(super) fn stays_in_force(error: ApiError) -> ApiError {
    error.hint("the forward is forgotten, but its rule is still there: `sudo systemctl restart fvmd` takes it away")
}

fn protocol(port: NetPort) -> Protocol {
    match port.udp {
        true => Protocol::Udp,
        false => Protocol::Tcp,
    }
}

fn refused(message: String) -> ApiError {
    ApiError::new(ErrorKind::Refused, message)
}

fn report(host: &Host, row: &ForwardRow) -> ForwardReport {
    ForwardReport {
        version: REPORT_VERSION,
        protocol: row.host.protocol().to_owned(),
        host_port: row.host.port,
        vm: row.vm,
        address: host.address(row.vm).ok(),
        vm_port: row.vm_port,
        owner_uid: row.owner_uid,
    }
}

/// Refuses a port that a program of the host has: it would be cut off from the outside.
fn check_free(port: NetPort) -> Result<()> {
    let at = (Ipv4Addr::UNSPECIFIED, port.port);
    let bound = match port.udp {
        true => UdpSocket::bind(at).map(drop),
        false => TcpListener::bind(at).map(drop),
    };
    match bound {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let flag = if port.udp { 'u' } else { 't' };
            Err(
                refused(format!("a program on this host uses {port}")).hint(format!(
                    "choose another; `ss -ln{flag}p 'sport = :{}'` tells which",
                    port.port
                )),
            )
        }
        Err(error) => Err(failed(format!("trying {port}"), &error)),
    }
}
