//! What is not said on the command line: fvm acts on it once QEMU runs; and what is said as the template has it.

use super::Builder;

impl Builder<'_> {
    pub(super) fn acted_on_later(&mut self) {
        let domain = self.domain;
        let binds = "fvm binds QEMU's threads to these processors before the guest runs";
        for (path, text) in [
            ("cputune/vcpupin", binds),
            ("cputune/emulatorpin", binds),
            ("cputune/iothreadpin", binds),
            ("cputune", "fvm sets it for the VM's cgroup"),
        ] {
            let said = domain.origin.within(&[path]);
            let said = said
                .into_iter()
                .filter(|id| !self.vector.remarks.contains_key(id));
            let said = said.collect();
            self.vector.remark(said, text);
        }
        for disk in &domain.devices.disks {
            let limits = disk.origin.within(&["iotune"]);
            self.vector
                .remark(limits, "fvm has QEMU set the limits before the guest runs");
        }
        for nic in &domain.devices.interfaces {
            let filter = nic.origin.within(&["filterref"]);
            self.vector
                .remark(filter, "fvm keeps every guest to its own addresses");
            let link = nic.origin.within(&["link"]);
            let text = match nic.link_up {
                true => "a card has its cable",
                false => "fvm has QEMU unplug the cable before the guest runs",
            };
            self.vector.remark(link, text);
        }
    }

    /// Last, so that they can say something about everything before them.
    pub(super) fn as_they_are(&mut self) {
        let domain = self.domain;
        let said = domain.origin.at(&["qemu:commandline/qemu:arg"]);
        for (argument, element) in domain.qemu_arguments.iter().zip(said) {
            self.vector
                .flag(argument)
                .because([element])
                .because(domain.origin.at(&["qemu:commandline"]));
        }
    }
}
