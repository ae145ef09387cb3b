//! The processor's model, features and arrangement.

use super::vector::List;
use super::{Builder, on_off};
use crate::domain::{
    Arch, CpuCache, CpuMode, ElementId, FeaturePolicy, PanicModel, TimerName, Topology,
};
use crate::qemu::Accel;

impl Builder<'_> {
    pub(super) fn cpu(&mut self) {
        let list = self.cpu_list();
        let origins = self.cpu_origins();
        self.vector.list("-cpu", list).because(origins);
        let vcpus = self.domain.vcpus;
        // Without a topology libvirt gives every processor a socket of its own.
        let topology = self.domain.cpu.topology.unwrap_or(Topology {
            sockets: vcpus.max,
            dies: 1,
            cores: 1,
            threads: 1,
        });
        let mut smp = List::starting(&vcpus.current.to_string());
        if vcpus.max != vcpus.current {
            smp = smp.with("maxcpus", vcpus.max);
        }
        let smp = smp
            .with("sockets", topology.sockets)
            .with("dies", topology.dies)
            .with("cores", topology.cores)
            .with("threads", topology.threads);
        let origins = self.domain.origin.within(&["vcpu", "cpu/topology"]);
        self.vector.list("-smp", smp).because(origins);
    }

    /// All that the processor is put together from.
    fn cpu_origins(&self) -> Vec<ElementId> {
        let origin = &self.domain.origin;
        let mut origins = origin.at(&["cpu"]);
        origins.extend(origin.within(&[
            "cpu/model",
            "cpu/vendor",
            "cpu/feature",
            "cpu/cache",
            "features/pmu",
            "features/kvm",
            "features/apic",
        ]));
        let mut timers = vec![TimerName::Kvmclock, TimerName::Tsc];
        if self.given.accel == Accel::Kvm {
            origins.extend(origin.within(&["features/hyperv"]));
            timers.push(TimerName::Hypervclock);
            let panics = self.domain.devices.panics.iter();
            let crash = panics.filter(|panic| panic.model == PanicModel::Hyperv);
            origins.extend(crash.flat_map(|panic| panic.origin.all()));
        }
        let clock = &self.domain.clock;
        let timers = timers.into_iter().filter_map(|name| clock.timer(name));
        origins.extend(timers.flat_map(|timer| timer.origin.all()));
        origins
    }

    fn cpu_list(&self) -> List {
        let cpu = &self.domain.cpu;
        let arch = self.domain.os.arch;
        // Emulation has no host processor to show; it shows all that it can do.
        let host = match (self.given.accel, arch) {
            (Accel::Kvm, _) => "host",
            (Accel::Tcg, Arch::Ppc64le) => "POWER10",
            (Accel::Tcg, _) => "max",
        };
        // Only x86 can leave features out that cannot be migrated.
        let migratable = |migratable: bool| {
            let there = self.given.accel == Accel::Kvm && arch == Arch::X86_64;
            there.then(|| on_off(migratable))
        };
        let mut list = match &cpu.mode {
            CpuMode::HostModel => List::starting(host).with_some("migratable", migratable(true)),
            CpuMode::HostPassthrough { migratable: only } => {
                List::starting(host).with_some("migratable", migratable(*only))
            }
            CpuMode::Maximum { migratable } => {
                let migratable = migratable.filter(|_| arch == Arch::X86_64);
                List::starting("max").with_some("migratable", migratable.map(on_off))
            }
            CpuMode::Custom(model) => List::starting(model),
            CpuMode::Default => List::starting(match arch {
                Arch::X86_64 => "qemu64",
                Arch::Aarch64 if self.given.accel == Accel::Kvm => "host",
                Arch::Aarch64 => "cortex-a15",
                Arch::Ppc64le => "POWER10",
            }),
        };
        list = list.with_some("vendor", cpu.vendor_id.as_ref());
        for feature in &cpu.features {
            let on = match feature.policy {
                FeaturePolicy::Force | FeaturePolicy::Require | FeaturePolicy::Optional => true,
                FeaturePolicy::Disable | FeaturePolicy::Forbid => false,
            };
            // libvirt spells some names with an underscore where QEMU has a dash.
            list = list.with(&feature.name.replace('_', "-"), on_off(on));
        }
        self.cpu_timers(self.cpu_flags(list))
    }

    /// What `<features>` says that QEMU keeps with the processor.
    fn cpu_flags(&self, list: List) -> List {
        let (cpu, features) = (&self.domain.cpu, &self.domain.features);
        let list = list
            .with_some("pmu", features.pmu.map(on_off))
            .with_some("kvm", features.kvm_hidden.map(|hidden| on_off(!hidden)))
            .with_some("kvm-pv-eoi", features.apic_eoi.map(on_off));
        let list = match self.given.accel {
            Accel::Kvm => self.hyperv_flags(list),
            // QEMU has Hyper-V's interfaces only with KVM; older ones would not even start.
            Accel::Tcg => list,
        };
        match cpu.cache {
            Some(CpuCache::Passthrough) => {
                list.with("host-cache-info", "on").with("l3-cache", "off")
            }
            Some(CpuCache::Emulate) => list.with("l3-cache", "on"),
            Some(CpuCache::Disable) => list.with("l3-cache", "off"),
            None => list,
        }
    }

    fn hyperv_flags(&self, mut list: List) -> List {
        let hyperv = &self.domain.features.hyperv;
        if hyperv.passthrough {
            list = list.with("hv-passthrough", "on");
        }
        for (flag, on) in &hyperv.flags {
            list = list.with(flag, on_off(*on));
        }
        if let Some(retries) = hyperv.spinlock_retries {
            list = list.with("hv-spinlocks", format!("{retries:#x}"));
        }
        let panics = &self.domain.devices.panics;
        if panics.iter().any(|panic| panic.model == PanicModel::Hyperv) {
            list = list.with("hv-crash", "on");
        }
        let present = self
            .domain
            .clock
            .timer(TimerName::Hypervclock)
            .and_then(|t| t.present);
        list.with_some("hv-vendor-id", hyperv.vendor_id.as_ref())
            .with_some("hv-time", present.map(on_off))
    }

    /// The timers that are features of the processor.
    fn cpu_timers(&self, list: List) -> List {
        let clock = &self.domain.clock;
        let present = |name| clock.timer(name).and_then(|timer| timer.present);
        let frequency = clock
            .timer(TimerName::Tsc)
            .and_then(|timer| timer.frequency_hz);
        list.with_some("kvmclock", present(TimerName::Kvmclock).map(on_off))
            .with_some("tsc-frequency", frequency)
    }
}
