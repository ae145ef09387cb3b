//! What `fvm-netd` heard and said on the ports of VMs, for people to see.

use super::{Manager, cards::cards, error::Result, host::Host, netd};
use crate::{
    api::{
        LeaseList, LeaseReport, LeaseTimes, NetMessage, NetProtocol, NicReport, REPORT_VERSION,
        TraceReport, VmNumber, VmReport,
    },
    store::VmRow,
};
use fvm_netd::{control::PortLog, names::Nic};

impl Manager {
    /// Every VM's address: what its guest asked last, what it was told, and when it renews.
    ///
    /// # Errors
    /// When the host is not set up, the store fails, or `fvm-netd` does not answer.
    pub fn leases(&self) -> Result<LeaseList> {
        let host = self.host()?;
        let rows = self.store.vms()?;
        let mut leases = Vec::new();
        for row in &rows {
            let vm = self.report(&host, row)?;
            for (card, nic) in cards(&host, row)?.iter().zip(&vm.nics) {
                leases.push(self.lease(&vm, nic, card.place)?);
            }
        }
        Ok(LeaseList::new(leases))
    }

    fn lease(&self, vm: &VmReport, nic: &NicReport, place: Nic) -> Result<LeaseReport> {
        let log = match nic.tap {
            Some(_) => self.netd.port_log(place)?,
            None => None,
        };
        Ok(LeaseReport {
            vm: vm.number,
            name: vm.name.clone(),
            state: vm.state,
            network: nic.network.clone(),
            port: nic.tap.clone(),
            mac: nic.mac.clone(),
            address: nic.address,
            last: log
                .as_ref()
                .and_then(|log| log.exchanges.last())
                .map(netd::exchange),
            lease: log
                .as_ref()
                .and_then(|log| log.lease)
                .map(|lease| LeaseTimes {
                    granted_at_ms: lease.granted_unix_ms,
                    renew_at_ms: lease.renew_unix_ms,
                    expires_at_ms: lease.expires_unix_ms,
                }),
            requests: log.as_ref().map_or(0, |log| log.frames),
            answered: log.as_ref().map_or(0, |log| log.answered),
            dropped: log.as_ref().map_or(0, |log| log.rate_limited),
        })
    }

    /// The last messages on a VM's port.
    ///
    /// # Errors
    /// When there is no such VM, the host is not set up, the store fails, or `fvm-netd` does not answer.
    pub fn trace(&self, number: VmNumber) -> Result<TraceReport> {
        let host = self.host()?;
        let row = self.vm_row(number)?;
        let state = self.report(&host, &row)?.state;
        let log = self.port_log(&host, &row)?;
        Ok(TraceReport {
            version: REPORT_VERSION,
            vm: number,
            state,
            served: log.is_some(),
            messages: log.as_ref().map(messages).unwrap_or_default(),
        })
    }

    /// The log of a running VM's port; there is no need to ask for that of any other.
    fn port_log(&self, host: &Host, row: &VmRow) -> Result<Option<PortLog>> {
        match (self.machines.get(row.number), self.main_card(host, row)?) {
            (Some(_), Some(nic)) => self.netd.port_log(nic),
            _ => Ok(None),
        }
    }
}

/// All that was said, in its order.
fn messages(log: &PortLog) -> Vec<NetMessage> {
    let dhcp = log.exchanges.iter().map(|logged| {
        let exchange = netd::exchange(logged);
        NetMessage {
            number: logged.number,
            at_ms: exchange.at_ms,
            protocol: NetProtocol::Dhcp,
            asked: exchange.asked,
            answered: exchange.answered,
        }
    });
    let dns = log.queries.iter().map(|logged| NetMessage {
        number: logged.number,
        at_ms: logged.at_unix_ms,
        protocol: NetProtocol::Dns,
        asked: logged.asked.clone(),
        answered: logged.told.clone(),
    });
    let mut all: Vec<NetMessage> = dhcp.chain(dns).collect();
    all.sort_by_key(|message| message.number);
    all
}
