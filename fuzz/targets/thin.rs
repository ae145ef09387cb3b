//! What the kernel says of pools and volumes: status lines, tables, names with uuids.

#![no_main]

use fvm_thin::{Bytes, DEFAULT_CHUNK, PoolMode, PoolStatus, fuzzing, names::Identity};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Some(status) = PoolStatus::parse(text, DEFAULT_CHUNK) {
        assert!(status.data.percent() <= 100 && status.metadata.percent() <= 100);
        assert!(status.mode == PoolMode::ReadWrite || !status.is_well());
        assert!(status.data.free() <= status.data.total.max(Bytes(0)));
    }
    fuzzing::table(text);
    fuzzing::volume_status(text);
    if let Some((name, uuid)) = text.split_once('\n')
        && let Some(identity) = Identity::parse(name, uuid)
    {
        assert_eq!((identity.name().as_str(), identity.uuid().as_str()), (name, uuid));
    }
});
