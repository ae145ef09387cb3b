//! The whole way of a qcow2 file through an import: whatever is in it, it is refused, or what comes out is a sound block stream
//! of the size that its header says.

#![no_main]
#![allow(dead_code, missing_docs)]

#[allow(unused_imports)]
#[path = "../../cli/src/checksum/mod.rs"]
mod checksum;
#[path = "../../cli/src/decode/mod.rs"]
mod decode;
#[path = "../../cli/src/quantity.rs"]
mod quantity;

use decode::{Meter, Source, Terms};
use fvm_vmm::api::{
    ImportHeader,
    stream::{Decoder, Item},
};
use libfuzzer_sys::fuzz_target;
use std::{
    io::Write,
    os::fd::AsRawFd,
    path::PathBuf,
    sync::Arc,
};

fuzz_target!(|rest: &[u8]| {
    let name = c"image";
    let memory = nix::sys::memfd::memfd_create(name, nix::sys::memfd::MFdFlags::MFD_CLOEXEC);
    let mut file = std::fs::File::from(memory.expect("a file in memory"));
    file.write_all(b"QFI\xfb").expect("room");
    file.write_all(rest).expect("room");
    let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    let Ok(source) = Source::open(&path) else {
        return;
    };
    let size = source.disk_bytes();
    let mut decoder = Decoder::<ImportHeader>::default();
    let mut end = None;
    let mut send = |piece: Vec<u8>| {
        decoder.push(&piece);
        while let Some(item) = decoder.next_item().expect("a sound stream") {
            if let Item::End { content_bytes, .. } = item {
                end = Some(content_bytes);
            }
        }
        true
    };
    let meter = Arc::new(Meter::default());
    let header = ImportHeader::default();
    let done = decode::encode(source, &Terms::default(), &header, &meter, &mut send);
    assert_eq!(done.is_ok(), end.is_some());
    if done.is_ok() {
        assert_eq!(end, size);
    }
});
