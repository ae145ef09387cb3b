//! `/etc/fvm/fvm.toml`: whatever an administrator has typed, what is taken keeps its own promises.

#![no_main]
#![allow(dead_code, missing_docs, unused_imports)]

mod api {
    pub(crate) use fvm_vmm::api::VmNumber;
}
#[path = "../../vmm/src/config/mod.rs"]
mod config;

use libfuzzer_sys::fuzz_target;
use std::path::Path;

fuzz_target!(|text: &str| {
    let Ok(config) = config::Config::parse(text, Path::new("fvm.toml")) else {
        return;
    };
    assert!(config.first_number <= config.last_number);
    assert!((60..=31_536_000).contains(&config.lease_time_s));
    assert!(config.uid_base.checked_add(config.last_number).is_some());
});
