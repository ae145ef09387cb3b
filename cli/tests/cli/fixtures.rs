//! Reports to answer with.

use fvm_vmm::api::{
    Action, ApiError, BatchReport, BootReport, ErrorKind, HostReport, ImageReport, KvmReport,
    NicReport, REPORT_VERSION, VmOutcome, VmReport, VmState,
};

/// A VM on loopback's network, so that connecting to it goes nowhere else.
pub(crate) fn vm(number: u32, state: VmState) -> VmReport {
    let running = matches!(state, VmState::Running);
    VmReport {
        version: REPORT_VERSION,
        number: number.into(),
        name: format!("fvm-debian-{number}").parse().unwrap(),
        uuid: "3f2b8c1e-0000-4000-8000-000000000042".to_owned(),
        image: "debian".to_owned(),
        profile: None,
        owner_uid: 0,
        state,
        cause: None,
        address: [127, 0, 22, number as u8].into(),
        nics: vec![NicReport {
            card: 0,
            mac: "52:54:00:00:00:2a".to_owned(),
            network: "fvm0".to_owned(),
            tap: None,
            address: None,
        }],
        disk_bytes: 2 << 30,
        disk_device: None,
        disks: Vec::new(),
        memory_mib: 512,
        cpus: 1,
        pid: running.then_some(4711),
        accelerator: running.then(|| "kvm".to_owned()),
        created_at_s: 1_700_000_000,
        lifetime: None,
        group: None,
        // The clock of whoever lists it may be anywhere, but not behind this.
        used_at_s: u64::MAX,
        note: "mail".parse().unwrap(),
        started_at_s: running.then_some(1_700_000_000),
    }
}

/// A VM that all went well with.
pub(crate) fn success(number: u32) -> VmOutcome {
    VmOutcome {
        vm: number.into(),
        report: Some(vm(number, VmState::Running)),
        error: None,
    }
}

/// A VM that something went wrong with.
pub(crate) fn failure(number: u32, kind: ErrorKind, message: &str) -> VmOutcome {
    VmOutcome {
        vm: number.into(),
        report: None,
        error: Some(ApiError::new(kind, message).hint("try something else")),
    }
}

/// The end of a batch.
pub(crate) fn batch(action: Action, outcomes: Vec<VmOutcome>) -> BatchReport {
    BatchReport {
        version: REPORT_VERSION,
        action,
        outcomes,
    }
}

/// A VM that boots.
pub(crate) fn boot(number: u32, state: VmState) -> BootReport {
    BootReport {
        version: REPORT_VERSION,
        vm: vm(number, state),
        dhcp: Vec::new(),
        has_lease: false,
        console_tail: Vec::new(),
    }
}

/// An image of two GiB.
pub(crate) fn image(name: &str) -> ImageReport {
    ImageReport {
        version: REPORT_VERSION,
        name: name.parse().unwrap(),
        size_bytes: 2 << 30,
        data_bytes: 61 << 20,
        digest: Some("blake3:00".to_owned()),
        changed_at_s: None,
        has_base_vm: false,
        owner_uid: 0,
        imported_at_s: 1_700_000_000,
        vms: 0,
    }
}

/// A host that has not been set up.
pub(crate) fn new_host() -> HostReport {
    HostReport {
        version: REPORT_VERSION,
        daemon_version: "0.1.0".to_owned(),
        initialised: false,
        trouble: None,
        pool: None,
        network: None,
        kvm: KvmReport {
            works: true,
            detail: "a guest ran".to_owned(),
            offers: None,
        },
        templates: vec!["linux".to_owned()],
    }
}
