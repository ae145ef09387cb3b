//! The pool, and what takes its space.

use super::{Look, Show};
use crate::{
    output::{
        style::Tone,
        table::{Cell, Table, cell, number},
    },
    quantity::Bytes,
};
use fvm_vmm::api::{
    ActivePool, DiskUsageReport, ExtendReport, Fill, HostFileSystem, PoolBacking, PoolCheckReport,
    PoolLimits, PoolStatusReport, RepairReport, VmSet, VolumeSpace,
};

fn filled(fill: &Fill) -> String {
    format!(
        "{} of {} used ({} %)",
        Bytes(fill.used_bytes),
        Bytes(fill.bytes),
        fill.used_percent
    )
}

/// How full something is, louder above a mark.
fn fill_cell(fill: &Fill, mark: u8) -> Cell {
    cell(filled(fill)).tone(match fill.used_percent {
        100 => Tone::Bad,
        percent if percent > mark => Tone::Warn,
        _ => Tone::Plain,
    })
}

fn place(backing: &PoolBacking) -> String {
    let kind = match backing.is_device {
        true => "block device",
        false => "file",
    };
    format!("{kind} {}", backing.path)
}

fn host_file_system(below: &HostFileSystem) -> String {
    format!(
        "{}, the pool takes {} of it",
        filled(&below.fill),
        Bytes(below.pool_bytes)
    )
}

fn limits(limits: &PoolLimits) -> String {
    let extends = match limits.extend_limit_bytes {
        Some(limit) => format!(
            "extended by {} % at {} % up to {}",
            limits.extend_by_percent,
            limits.extend_at_percent,
            Bytes(limit)
        ),
        None => "not extended by itself".to_owned(),
    };
    format!(
        "new VMs and images are refused above {} %; {extends}",
        limits.watermark_percent
    )
}

impl Show for PoolStatusReport {
    fn show(&self, look: &Look) -> String {
        let mut table = Table::plain();
        let mut line = |name: &str, value: Cell| table.row([cell(name).tone(Tone::Dim), value]);
        line(
            "health",
            cell(&self.health).tone(match self.health.as_str() {
                "ok" => Tone::Good,
                _ => Tone::Bad,
            }),
        );
        if let Some(hint) = &self.hint {
            line("", cell(hint));
        }
        let mark = self.limits.map_or(100, |limits| limits.watermark_percent);
        match &self.active {
            Some(ActivePool { data, metadata, .. }) => {
                line("data", fill_cell(data, mark));
                line("", cell(place(&self.data)));
                line("metadata", fill_cell(metadata, mark));
                line("", cell(place(&self.metadata)));
            }
            None => {
                line(
                    "data",
                    cell(format!("{}, {}", Bytes(self.data_bytes), place(&self.data))),
                );
                line("metadata", cell(place(&self.metadata)));
            }
        }
        line("spare", cell(place(&self.spare)));
        if let Some(below) = &self.host_file_system {
            line(
                "below",
                cell(host_file_system(below)).tone(fill_tone(below.fill.used_percent, mark)),
            );
        }
        for one in self.active.iter().flat_map(|active| &active.loops) {
            let (direct, tone) = match one.direct_io {
                true => ("direct I/O", Tone::Plain),
                false => ("no direct I/O: every block is cached twice", Tone::Warn),
            };
            let text = format!("{} of {}, {direct}", one.device, one.file);
            line("loop", cell(text).tone(tone));
        }
        line("chunk", cell(Bytes(self.chunk_bytes).to_string()));
        line(
            "transaction",
            cell(match &self.active {
                Some(active) if active.transaction_id != self.store_transaction_id => format!(
                    "{}, and {} in the store",
                    active.transaction_id, self.store_transaction_id
                ),
                _ => self.store_transaction_id.to_string(),
            }),
        );
        if let Some(set) = &self.limits {
            line("limits", cell(limits(set)));
        }
        table.show(look.palette)
    }
}

fn fill_tone(percent: u8, mark: u8) -> Tone {
    match percent > mark {
        true => Tone::Warn,
        false => Tone::Plain,
    }
}

impl Show for ExtendReport {
    fn show(&self, _: &Look) -> String {
        let mut text = match self.data_bytes > self.old_data_bytes {
            true => format!(
                "the pool has {} now, {} more\n",
                Bytes(self.data_bytes),
                Bytes(self.data_bytes - self.old_data_bytes)
            ),
            false => format!("the pool has {} already\n", Bytes(self.data_bytes)),
        };
        if self.metadata_bytes > self.old_metadata_bytes {
            text.push_str(&format!(
                "its metadata have {} now\n",
                Bytes(self.metadata_bytes)
            ));
        }
        if let Ok(vms) = VmSet::try_from(self.resumed.clone()) {
            text.push_str(&format!("these VMs go on: {vms}\n"));
        }
        text
    }
}

impl Show for PoolCheckReport {
    fn show(&self, look: &Look) -> String {
        if self.sound {
            let sound = look.palette.paint(Tone::Good, "sound");
            return format!(
                "{sound}: {} volumes, in pool and store alike\n",
                self.volumes
            );
        }
        let mut table = Table::plain();
        for finding in &self.findings {
            table.row([cell(finding).tone(Tone::Bad)]);
        }
        table.show(look.palette)
    }
}

impl Show for RepairReport {
    fn show(&self, look: &Look) -> String {
        let mut text = super::host::changes(&self.changes, "changed", look);
        if let Ok(vms) = VmSet::try_from(self.lost_vms.clone()) {
            text.push_str(&format!(
                "the disks of these VMs are lost: {vms}; `fvm delete` takes the VMs away\n"
            ));
        }
        if !self.lost_images.is_empty() {
            let images = self.lost_images.join(", ");
            let images = crate::output::text::plain(&images);
            text.push_str(&format!("these images are lost: {images}\n"));
        }
        text
    }
}

fn space(space: &VolumeSpace) -> [Cell; 4] {
    [
        space.size_bytes,
        space.mapped_bytes,
        space.exclusive_bytes,
        space.shared_bytes,
    ]
    .map(|bytes| cell(Bytes(bytes).to_string()).right())
}

impl Show for DiskUsageReport {
    fn show(&self, look: &Look) -> String {
        let mut text = String::new();
        if !self.vms.is_empty() {
            let mut table = Table::new([
                "VM",
                "IMAGE",
                "SIZE",
                "MAPPED",
                "EXCLUSIVE",
                "SHARED",
                "OWNER",
            ]);
            for vm in &self.vms {
                let [size, mapped, exclusive, shared] = space(&vm.space);
                let owner = cell(look.owner(vm.owner_uid));
                table.row([
                    number(vm.vm),
                    cell(&vm.image),
                    size,
                    mapped,
                    exclusive,
                    shared,
                    owner,
                ]);
            }
            text.push_str(&table.show(look.palette));
            text.push('\n');
        }
        if !self.images.is_empty() {
            let mut table = Table::new(["IMAGE", "SIZE", "MAPPED", "EXCLUSIVE", "SHARED", "OWNER"]);
            for image in &self.images {
                let [size, mapped, exclusive, shared] = space(&image.space);
                let owner = cell(look.owner(image.owner_uid));
                let name = cell(image.image.as_str());
                table.row([name, size, mapped, exclusive, shared, owner]);
            }
            text.push_str(&table.show(look.palette));
            text.push('\n');
        }
        if !self.owners.is_empty() {
            let mut table = Table::new(["OWNER", "VMS", "IMAGES", "EXCLUSIVE"]);
            for owner in &self.owners {
                table.row([
                    cell(look.owner(owner.owner_uid)),
                    number(owner.vms),
                    number(owner.images),
                    cell(Bytes(owner.exclusive_bytes).to_string()).right(),
                ]);
            }
            text.push_str(&table.show(look.palette));
            text.push('\n');
        }
        text.push_str(&format!("pool: {}\n", filled(&self.pool)));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fvm_vmm::api::{ImageUsage, LoopReport, OwnerUsage, REPORT_VERSION, VmUsage};

    fn half(bytes: u64) -> Fill {
        Fill {
            bytes,
            used_bytes: bytes / 2,
            used_percent: 50,
        }
    }

    fn status() -> PoolStatusReport {
        let file = |path: &str| PoolBacking {
            path: path.to_owned(),
            is_device: false,
        };
        PoolStatusReport {
            version: REPORT_VERSION,
            health: "ok".to_owned(),
            hint: None,
            data: file("/p/data"),
            metadata: file("/p/metadata"),
            spare: file("/p/spare"),
            data_bytes: 20 << 30,
            chunk_bytes: 65536,
            store_transaction_id: 7,
            active: Some(ActivePool {
                data: half(20 << 30),
                metadata: half(32 << 20),
                transaction_id: 7,
                mode: "read-write".to_owned(),
                needs_check: false,
                has_metadata_snapshot: false,
                loops: vec![LoopReport {
                    device: "/dev/loop0".to_owned(),
                    file: "/p/data".to_owned(),
                    direct_io: true,
                    autoclear: true,
                }],
            }),
            host_file_system: Some(HostFileSystem {
                fill: half(100 << 30),
                pool_bytes: 11 << 30,
            }),
            limits: Some(PoolLimits {
                watermark_percent: 95,
                extend_at_percent: 80,
                extend_by_percent: 20,
                extend_limit_bytes: Some(40 << 30),
            }),
        }
    }

    #[test]
    fn the_status_says_how_the_pool_is_and_what_it_lies_on() {
        assert_eq!(
            status().show(&Look::fixed()),
            "\
health       ok
data         10 GiB of 20 GiB used (50 %)
             file /p/data
metadata     16 MiB of 32 MiB used (50 %)
             file /p/metadata
spare        file /p/spare
below        50 GiB of 100 GiB used (50 %), the pool takes 11 GiB of it
loop         /dev/loop0 of /p/data, direct I/O
chunk        64 KiB
transaction  7
limits       new VMs and images are refused above 95 %; extended by 20 % at 80 % up to 40 GiB
"
        );
    }

    #[test]
    fn a_pool_that_is_down_is_shown_as_far_as_it_is_known() {
        let down = PoolStatusReport {
            health: "activating the thin pool: damaged".to_owned(),
            hint: Some("repair it".to_owned()),
            active: None,
            host_file_system: None,
            limits: None,
            ..status()
        };
        assert_eq!(
            down.show(&Look::fixed()),
            "\
health       activating the thin pool: damaged
             repair it
data         20 GiB, file /p/data
metadata     file /p/metadata
spare        file /p/spare
chunk        64 KiB
transaction  7
"
        );
    }

    #[test]
    fn an_extension_says_what_there_is_now_and_who_goes_on() {
        let extended = ExtendReport {
            version: REPORT_VERSION,
            old_data_bytes: 20 << 30,
            data_bytes: 30 << 30,
            old_metadata_bytes: 16 << 20,
            metadata_bytes: 45 << 20,
            resumed: vec![42.into(), 43.into()],
        };
        assert_eq!(
            extended.show(&Look::fixed()),
            "\
the pool has 30 GiB now, 10 GiB more
its metadata have 45 MiB now
these VMs go on: 42-43
"
        );
    }

    #[test]
    fn usage_is_a_line_for_each_vm_image_and_owner() {
        let space = VolumeSpace {
            size_bytes: 6 << 30,
            mapped_bytes: 900 << 20,
            exclusive_bytes: 300 << 20,
            shared_bytes: 600 << 20,
        };
        let usage = DiskUsageReport {
            version: REPORT_VERSION,
            pool: half(20 << 30),
            vms: vec![VmUsage {
                vm: 42.into(),
                name: "fvm-debian-42".parse().unwrap(),
                image: "debian".to_owned(),
                owner_uid: 1000,
                space,
            }],
            images: vec![ImageUsage {
                image: "debian".parse().unwrap(),
                owner_uid: 0,
                space,
            }],
            owners: vec![OwnerUsage {
                owner_uid: 1000,
                vms: 1,
                images: 0,
                exclusive_bytes: 300 << 20,
            }],
        };
        assert_eq!(
            usage.show(&Look::fixed()),
            "\
VM  IMAGE      SIZE   MAPPED  EXCLUSIVE   SHARED  OWNER
42  debian  6.0 GiB  900 MiB    300 MiB  600 MiB  1000

IMAGE      SIZE   MAPPED  EXCLUSIVE   SHARED  OWNER
debian  6.0 GiB  900 MiB    300 MiB  600 MiB  root

OWNER  VMS  IMAGES  EXCLUSIVE
1000     1       0    300 MiB

pool: 10 GiB of 20 GiB used (50 %)
"
        );
    }
}
