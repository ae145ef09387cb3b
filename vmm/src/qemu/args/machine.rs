//! Name, machine type, firmware, memory, clock, boot, what happens at the end, confinement.

use super::vector::List;
use super::{Argument, ArgumentError, Builder, insert, object, on_off};
use crate::domain::{
    ClockOffset, ElementId, GenerationId, GicVersion, LifecycleAction, MachineKind, TickPolicy,
    TimerName, WatchdogAction,
};
use crate::qemu::{Accel, FirmwareBacking};

/// The id that a machine type gives its memory, which guests' migration data also carry.
fn memory_id(kind: MachineKind) -> &'static str {
    match kind {
        MachineKind::I440fx | MachineKind::Q35 => "pc.ram",
        MachineKind::Microvm => "microvm.ram",
        MachineKind::Virt => "mach-virt.ram",
        MachineKind::Pseries => "ppc_spapr.ram",
    }
}

impl Builder<'_> {
    pub(super) fn identity(&mut self) {
        let name = List::default()
            .with("guest", &self.given.name)
            .with("debug-threads", "on");
        self.vector.list("-name", name);
        if self.given.start_paused {
            self.vector.flag("-S");
        }
        let named = self.domain.origin.within(&["name", "uuid"]);
        self.vector
            .remark(named, "fvm gives every VM its name and its UUID");
        for option in ["-no-user-config", "-nodefaults"] {
            self.vector.flag(option);
        }
        self.vector.value("-uuid", &self.given.uuid);
        for set in &self.given.fd_sets {
            for fd in &set.fds {
                let list = List::default().with("fd", fd).with("set", set.number);
                self.vector.list("-add-fd", list);
            }
        }
    }

    pub(super) fn machine(&mut self) -> Result<(), ArgumentError> {
        let (os, origin) = (&self.domain.os, &self.domain.origin);
        let wanted = self.given.machine.as_ref().unwrap_or(&os.machine);
        let machine = self.given.qemu.machine(wanted);
        let machine = machine.ok_or_else(|| ArgumentError::UnknownMachine {
            machine: wanted.clone(),
            version: self.given.qemu.version.to_string(),
        })?;
        if self.domain.vcpus.max > machine.cpu_max {
            return Err(ArgumentError::TooManyVcpus {
                machine: machine.name.clone(),
                wanted: self.domain.vcpus.max,
                most: machine.cpu_max,
            });
        }
        let features = &self.domain.features;
        let hpet = self.domain.clock.timer(TimerName::Hpet);
        // Secure flash is secure because only system management mode may write it.
        let secure = os.firmware.secure_boot == Some(true);
        let smm = features.smm.or(secure.then_some(true));
        let acpi = (os.kind != MachineKind::Pseries).then_some(features.acpi);
        let has_hpet = hpet.and_then(|timer| timer.present).unwrap_or(true);
        let has_hpet = os.kind.is_pc().then_some(has_hpet);
        let gic = (os.kind == MachineKind::Virt).then(|| self.interrupt_controller());
        let mut list = List::starting(&machine.name)
            .with("usb", "off")
            .with_some("gic-version", gic.map(GicVersion::as_str))
            .with("dump-guest-core", "off")
            .with_some("acpi", acpi.map(on_off))
            .with_some("hpet", has_hpet.map(on_off))
            .with_some("smm", smm.map(on_off))
            .with_some("vmport", features.vmport.map(on_off));
        if self.domain.memory.nodes.is_empty() {
            list = list.with("memory-backend", memory_id(os.kind));
        }
        if let (Some(split), Accel::Kvm) = (features.split_irqchip, self.given.accel) {
            list = list.with("kernel_irqchip", if split { "split" } else { "on" });
        }
        if self.domain.memory.nosharepages {
            list = list.with("mem-merge", "off");
        }
        if os.bios_useserial == Some(true) {
            list = list.with("graphics", "off");
        }
        if os.firmware.is_uefi() {
            let firmware = self.given.firmware.clone();
            self.flash(&firmware.ok_or(ArgumentError::NoFirmware)?);
            list = list
                .with("pflash0", "pflash-code")
                .with("pflash1", "pflash-vars");
        }
        let mut origins = origin.within(&[
            "os/type",
            "os/loader",
            "os/firmware",
            "os/bios",
            "features/acpi",
            "features/gic",
            "features/vmport",
            "features/smm",
            "features/ioapic",
            "memoryBacking/nosharepages",
            "cpu/numa",
        ]);
        if os.firmware.is_uefi() {
            origins.extend(origin.at(&["os"]));
        }
        let hpet = hpet.map(|timer| timer.origin.all());
        self.vector
            .list("-machine", list)
            .because(origins)
            .because(hpet.unwrap_or_default());
        self.vector.value("-accel", self.given.accel.as_str());
        if let Some(loader) = &os.firmware.loader
            && !loader.pflash
            && !os.firmware.is_uefi()
        {
            self.vector
                .value("-bios", &loader.path)
                .because(origin.within(&["os/loader"]));
        }
        if let Some(kernel) = &os.kernel {
            for (option, value, path) in [
                ("-kernel", Some(&kernel.kernel), "os/kernel"),
                ("-initrd", kernel.initrd.as_ref(), "os/initrd"),
                ("-append", kernel.cmdline.as_ref(), "os/cmdline"),
            ] {
                if let Some(value) = value {
                    self.vector
                        .value(option, value)
                        .because(origin.within(&[path]));
                }
            }
        }
        if features.vmcoreinfo {
            self.vector
                .value("-device", "vmcoreinfo")
                .because(origin.within(&["features/vmcoreinfo"]));
        }
        Ok(())
    }

    fn flash(&mut self, firmware: &FirmwareBacking) {
        let node = |name: &str, path: &str, read_only: bool| {
            object! {
                "driver": "raw",
                "node-name": name,
                "read-only": read_only,
                "file": {"driver": "file", "filename": path, "read-only": read_only},
            }
        };
        let origin = &self.domain.origin;
        let said = |paths: &[&str]| [origin.at(&["os"]), origin.within(paths)].concat();
        let code = said(&["os/loader", "os/firmware"]);
        let vars = said(&["os/loader", "os/firmware", "os/nvram"]);
        self.vector
            .json("-blockdev", node("pflash-code", &firmware.code, true))
            .because(code);
        self.vector
            .json("-blockdev", node("pflash-vars", &firmware.vars, false))
            .because(vars);
        if self.domain.os.firmware.secure_boot == Some(true) {
            let secure = origin.within(&["os/loader", "os/firmware"]);
            self.global("driver=cfi.pflash01,property=secure,value=on")
                .because(secure);
        }
    }

    /// Which interrupt controller ARM's machine has: with KVM the one that its host can give.
    fn interrupt_controller(&self) -> GicVersion {
        self.domain.features.gic.unwrap_or(match self.given.accel {
            Accel::Kvm => GicVersion::Host,
            Accel::Tcg => GicVersion::V2,
        })
    }

    pub(super) fn memory(&mut self) {
        let memory = &self.domain.memory;
        let size = List::default().with("size", format!("{}k", memory.total_kib));
        let origin = &self.domain.origin;
        let sizes = match memory.nodes.is_empty() {
            true => origin.within(&["memory"]),
            false => {
                let sum = "the nodes' memory counts";
                self.vector.remark(origin.within(&["memory"]), sum);
                origin.at(&["cpu/numa/cell"])
            }
        };
        let balloon = "the balloon takes the rest as soon as the guest runs";
        self.vector
            .remark(origin.within(&["currentMemory"]), balloon);
        self.vector.list("-m", size).because(sizes);
        let backing = self.backing_origins();
        if memory.nodes.is_empty() {
            let id = memory_id(self.domain.os.kind);
            self.memory_object(id, memory.total_kib, memory.shared)
                .because(origin.within(&["memory"]))
                .because(backing.clone());
        }
        for node in &memory.nodes {
            let id = format!("ram-node{}", node.id);
            self.memory_object(&id, node.memory_kib, node.shared.or(memory.shared))
                .because(node.origin.at(&[""]))
                .because(backing.clone());
            let mut list = List::starting("node").with("nodeid", node.id);
            for (first, last) in &node.cpus {
                list = match first == last {
                    true => list.with("cpus", first),
                    false => list.with("cpus", format!("{first}-{last}")),
                };
            }
            self.vector
                .list("-numa", list.with("memdev", id))
                .because(node.origin.at(&[""]));
        }
        for node in &memory.nodes {
            let said = node.origin.at(&["distances/sibling"]);
            for ((other, distance), sibling) in node.distances.iter().zip(said) {
                let list = List::starting("dist")
                    .with("src", node.id)
                    .with("dst", other)
                    .with("val", distance);
                self.vector.list("-numa", list).because([sibling]);
            }
        }
        self.vector
            .list("-overcommit", List::default().with("mem-lock", "off"));
        for number in 1..=self.domain.iothreads {
            let id = format!("iothread{number}");
            self.vector
                .json("-object", object! {"qom-type": "iothread", "id": id})
                .because(origin.within(&["iothreads"]));
        }
    }

    /// What the template says of all memory.
    fn backing_origins(&self) -> Vec<ElementId> {
        let origin = &self.domain.origin;
        origin.within(&[
            "memoryBacking/hugepages",
            "memoryBacking/source",
            "memoryBacking/access",
            "memoryBacking/allocation",
        ])
    }

    fn memory_object(&mut self, id: &str, kib: u64, shared: Option<bool>) -> &mut Argument {
        let memory = &self.domain.memory;
        let memfd = memory.memfd || memory.huge_pages.is_some();
        let kind = if memfd {
            "memory-backend-memfd"
        } else {
            "memory-backend-ram"
        };
        let mut object = object! {"qom-type": kind, "id": id, "size": kib * 1024};
        insert(&mut object, "share", shared);
        insert(&mut object, "prealloc", memory.preallocated.then_some(true));
        if let Some(size) = memory.huge_pages {
            insert(&mut object, "hugetlb", Some(true));
            insert(&mut object, "hugetlbsize", size.map(|kib| kib * 1024));
        }
        // Else the id in a saved state would be a path, unlike that of anonymous memory.
        if memfd && memory.nodes.is_empty() {
            insert(
                &mut object,
                "x-use-canonical-path-for-ramblock-id",
                Some(false),
            );
        }
        self.vector.json("-object", object)
    }

    pub(super) fn tables(&mut self) {
        let domain = self.domain;
        for table in &domain.smbios {
            let start = List::default().with("type", table.kind);
            let list = table
                .entries
                .iter()
                .fold(start, |list, (name, value)| list.with(name, value));
            self.vector
                .list("-smbios", list)
                .because(table.origin.all())
                .because(domain.origin.within(&["os/smbios"]));
        }
        for entry in &domain.firmware_entries {
            let list = List::default()
                .with("name", &entry.name)
                .with("string", &entry.value);
            self.vector
                .list("-fw_cfg", list)
                .because(domain.origin.at(&["sysinfo"]))
                .because(entry.origin.all());
        }
        if let Some(id) = &domain.generation_id {
            let id = match id {
                GenerationId::New => "auto",
                GenerationId::Fixed(id) => id,
            };
            let device = object! {"driver": "vmgenid", "guid": id, "id": "vmgenid0"};
            self.vector
                .json("-device", device)
                .because(domain.origin.within(&["genid"]));
        }
    }

    pub(super) fn monitors(&mut self) {
        for (number, fd) in self.given.monitors.iter().enumerate() {
            let id = format!("charmonitor{number}");
            let socket = List::starting("socket")
                .with("id", &id)
                .with("fd", fd)
                .with("server", "on")
                .with("wait", "off");
            self.vector.list("-chardev", socket);
            let monitor = List::default()
                .with("chardev", id)
                .with("id", format!("monitor{number}"))
                .with("mode", "control");
            self.vector.list("-mon", monitor);
        }
    }

    pub(super) fn clock(&mut self) {
        let clock = &self.domain.clock;
        let base = match clock.offset {
            ClockOffset::Utc => "utc",
            ClockOffset::LocalTime => "localtime",
        };
        let policy = |name| clock.timer(name).and_then(|timer| timer.tick_policy);
        let mut rtc = List::default().with("base", base);
        if policy(TimerName::Rtc) == Some(TickPolicy::Catchup) {
            rtc = rtc.with("driftfix", "slew");
        }
        let timer = |name| {
            let timer = clock.timer(name);
            timer.map_or_else(Vec::new, |timer| timer.origin.all())
        };
        self.vector
            .list("-rtc", rtc)
            .because(self.domain.origin.at(&["clock"]))
            .because(timer(TimerName::Rtc));
        // Under emulation there is another timer, without the property.
        if let (Some(policy), Accel::Kvm) = (policy(TimerName::Pit), self.given.accel) {
            self.global(&format!("kvm-pit.lost_tick_policy={}", policy.as_str()))
                .because(timer(TimerName::Pit));
        }
    }

    pub(super) fn lifecycle(&mut self) {
        let lifecycle = self.domain.lifecycle;
        let reboot = match lifecycle.on_reboot {
            LifecycleAction::Restart => "reset",
            LifecycleAction::Destroy | LifecycleAction::Preserve => "shutdown",
        };
        let shutdown = match lifecycle.on_poweroff {
            LifecycleAction::Preserve => "pause",
            LifecycleAction::Destroy | LifecycleAction::Restart => "poweroff",
        };
        // A restart after a crash is fvm's, which sees the pause and resets the guest.
        let panic = match lifecycle.on_crash {
            LifecycleAction::Destroy => "shutdown",
            LifecycleAction::Restart | LifecycleAction::Preserve => "pause",
        };
        let watchdog = self.domain.devices.watchdogs.first();
        let action = watchdog.map(|watchdog| watchdog.action);
        let origin = &self.domain.origin;
        let mut origins = origin.within(&["on_poweroff", "on_reboot", "on_crash"]);
        origins.extend(watchdog.into_iter().flat_map(|w| w.origin.at(&[""])));
        let list = List::default()
            .with("reboot", reboot)
            .with("shutdown", shutdown)
            .with("panic", panic)
            .with_some("watchdog", action.map(WatchdogAction::as_str));
        self.vector.list("-action", list).because(origins);
        let power = self.domain.power;
        let device = match self.domain.os.kind {
            MachineKind::I440fx => "PIIX4_PM",
            MachineKind::Q35 => "ICH9-LPC",
            _ => return,
        };
        // Without ACPI there is no power management.
        let acpi = self.domain.features.acpi;
        for (state, enabled, path) in [
            ("s3", power.suspend_to_mem, "pm/suspend-to-mem"),
            ("s4", power.suspend_to_disk, "pm/suspend-to-disk"),
        ] {
            if let (Some(enabled), true) = (enabled, acpi) {
                self.global(&format!("{device}.disable_{state}={}", u8::from(!enabled)))
                    .because(origin.within(&[path, "features/acpi"]));
            }
        }
    }

    pub(super) fn boot(&mut self) {
        let os = &self.domain.os;
        let (menu, timeout) = os
            .boot_menu
            .map_or((None, None), |(menu, t)| (Some(menu), t));
        let list = List::default()
            .with_some("menu", menu.map(on_off))
            .with_some("splash-time", timeout)
            .with_some("reboot-timeout", os.reboot_timeout_ms)
            .with("strict", "on");
        self.vector
            .list("-boot", list)
            .because(self.domain.origin.within(&["os/bootmenu", "os/bios"]));
    }

    pub(super) fn confinement(&mut self) {
        let sandbox = List::starting("on")
            .with("obsolete", "deny")
            .with("elevateprivileges", "deny")
            .with("spawn", "deny")
            .with("resourcecontrol", "deny");
        self.vector.list("-sandbox", sandbox);
        self.vector
            .list("-msg", List::default().with("timestamp", "on"));
    }

    /// Sets a property of a device that the machine makes by itself.
    pub(super) fn global(&mut self, setting: &str) -> &mut Argument {
        self.vector.value("-global", setting)
    }
}
