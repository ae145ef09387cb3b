//! The end of a run: everything that was made for it goes. The counterpart of `launch`.

use super::{
    Manager,
    delete::remove_tree,
    error::{Failures, Result, failed, file},
    host::Host,
};
use crate::store::VmRow;
use fvm_netd::{names::Nic, net};
use std::io;

impl Manager {
    /// Releases all that a run of this VM had; what is not there is fine.
    ///
    /// Goes on past failures and returns them all. The VM's QEMU must have ended, or is killed here.
    pub(super) fn release(&self, host: &Host, row: &VmRow) -> Result<()> {
        let number = row.number;
        let mut failures = Failures::default();
        failures.keep(
            self.cgroups
                .destroy(number)
                .map_err(|error| failed(format!("removing VM {number}'s cgroup"), &error)),
        );
        let nics: Vec<Nic> = row
            .nics
            .iter()
            .filter_map(|nic| host.nic(number, u8::try_from(nic.index).ok()?).ok())
            .collect();
        failures.keep(self.release_ports(&nics));
        for (thin, link) in row.volumes() {
            failures.keep(self.close_disk(host, thin, &link));
        }
        failures.keep(remove_tree(&self.paths.vm(number).run));
        failures.into_result()
    }

    /// Serves these ports no more, and closes and removes them.
    pub(super) fn release_ports(&self, nics: &[Nic]) -> Result<()> {
        let mut failures = Failures::default();
        for nic in nics {
            failures.keep(self.netd.unbind(*nic));
        }
        let ports: Vec<String> = nics.iter().map(|nic| nic.tap()).collect();
        let ports: Vec<&str> = ports.iter().map(String::as_str).collect();
        failures
            .keep(net::expel(&ports).map_err(|error| failed("removing firewall entries", &error)));
        for nic in nics {
            // A tap goes with QEMU; this is for one that somebody has made to stay.
            failures.keep(
                net::remove_tap(*nic)
                    .map(drop)
                    .map_err(|error| failed(format!("removing the tap {}", nic.tap()), &error)),
            );
        }
        failures.into_result()
    }

    /// Takes the link to a volume and its device away. The counterpart of `open_disk`.
    pub(super) fn close_disk(&self, host: &Host, thin: u32, link: &str) -> Result<()> {
        let mut failures = Failures::default();
        failures.keep(self.remove_device_link(link));
        let gone = self
            .volume_row(thin)
            .and_then(|row| host.volume_spec(&row))
            .and_then(|spec| {
                host.pool
                    .deactivate_volume(spec.id, spec.uuid)
                    .map_err(|error| failed(format!("deactivating the disk {link}"), &error))
            });
        failures.keep(gone);
        failures.into_result()
    }

    fn remove_device_link(&self, vm_name: &str) -> Result<()> {
        let link = self.paths.device_link(vm_name);
        match std::fs::remove_file(&link) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(|error| file("removing", &link, &error)),
        }
    }
}
