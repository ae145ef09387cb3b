//! What is not said on the command line: fvm acts on it once QEMU runs; and what is said as the template has it.

use super::Builder;

impl Builder<'_> {
    pub(super) fn acted_on_later(&mut self) {
        let domain = self.domain;
        let pins = [
            "cputune/vcpupin",
            "cputune/emulatorpin",
            "cputune/iothreadpin",
        ];
        let pins = domain.origin.within(&pins);
        self.vector.remark(
            pins,
            "fvm binds QEMU's threads to these processors before the guest runs",
        );
        let shares = [
            "cputune/shares",
            "cputune/global_period",
            "cputune/global_quota",
        ];
        let mut shares = domain.origin.within(&shares);
        shares.extend(domain.origin.at(&["cputune"]));
        self.vector
            .remark(shares, "fvm sets it for the VM's cgroup");
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
