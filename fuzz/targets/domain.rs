//! Domain XML: whatever somebody sends as a template is refused at its place, or becomes a machine whose devices have
//! places of their own.

#![no_main]
#![allow(dead_code, missing_docs, unused_imports)]

#[path = "../../vmm/src/domain/mod.rs"]
mod domain;
#[path = "../../vmm/src/qemu/pci/mod.rs"]
mod pci;

use libfuzzer_sys::fuzz_target;
use std::collections::BTreeSet;

fuzz_target!(|text: &str| {
    let macros = domain::Macros::new("fvm-debian-42", "fvm", "fvm0", 42, "debian");
    let permitted = domain::Permitted {
        disk: "/dev/fvm/fvm-debian-42",
        network: "fvm0",
        is_firmware: &|_| false,
    };
    let permission = domain::check_policy(text, &macros, &permitted);
    let Ok((machine, _)) = domain::load(text, &macros) else {
        return;
    };
    assert!(permission.is_ok(), "read once, and once not");
    assert!(machine.memory.current_kib <= machine.memory.total_kib);
    assert!((1..=machine.vcpus.max).contains(&machine.vcpus.current));
    if let Ok(layout) = pci::assign(&machine) {
        let places = layout.places.values().map(|place| place.address);
        let different: BTreeSet<_> = places.clone().collect();
        assert_eq!(different.len(), places.count(), "two devices in one place");
    }
});
