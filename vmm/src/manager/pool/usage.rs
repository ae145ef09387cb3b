//! `disk-usage`: what VMs and images take of the pool, from the kernel's own mappings.

use super::{fill, status::read_status};
use crate::{
    api::{
        ApiError, DiskUsageReport, DiskUsageRequest, ErrorKind, ImageUsage, InvalidName,
        OwnerUsage, REPORT_VERSION, VmNumber, VmUsage, VolumeSpace,
    },
    manager::{
        Manager,
        error::{Result, failed},
        host::Host,
    },
    store::{ImageRow, VmRow},
};
use fvm_thin::VolumeUsage;
use std::collections::{BTreeMap, HashMap, HashSet};

impl Manager {
    /// What VMs and images take of the pool.
    ///
    /// # Errors
    /// When a VM that was asked for is not there, or the pool or the tools fail.
    pub fn disk_usage(&self, request: &DiskUsageRequest) -> Result<DiskUsageReport> {
        let host = self.host()?;
        let (mut vms, mut images) = (self.store.vms()?, self.store.images()?);
        if let Some(wanted) = &request.vms {
            for &number in wanted.numbers() {
                self.vm_row(number)?;
            }
            let wanted: HashSet<VmNumber> = wanted.numbers().iter().copied().collect();
            vms.retain(|vm| wanted.contains(&vm.number));
            images.retain(|image| vms.iter().any(|vm| vm.image == image.name));
        }
        let usage = self.usage_by_volume(&host)?;
        let vms: Vec<VmUsage> = vms
            .iter()
            .map(|row| vm_usage(row, &usage))
            .collect::<Result<_>>()?;
        let images: Vec<ImageUsage> = images
            .iter()
            .map(|row| image_usage(row, &usage))
            .collect::<Result<_>>()?;
        Ok(DiskUsageReport {
            version: REPORT_VERSION,
            pool: fill(read_status(&host.pool)?.data),
            owners: owners(&vms, &images),
            vms,
            images,
        })
    }

    fn usage_by_volume(&self, host: &Host) -> Result<HashMap<u32, VolumeUsage>> {
        let volumes = host
            .pool
            .usage()
            .map_err(|error| failed("looking what the pool's volumes take", &error))?;
        Ok(volumes
            .into_iter()
            .map(|volume| (volume.id.get(), volume))
            .collect())
    }
}

/// What a volume takes; nothing if it was made after the look.
fn space(size_bytes: u64, usage: Option<&VolumeUsage>) -> VolumeSpace {
    match usage {
        Some(usage) => VolumeSpace {
            size_bytes,
            mapped_bytes: usage.mapped.0,
            exclusive_bytes: usage.exclusive.0,
            shared_bytes: usage.shared().0,
        },
        None => VolumeSpace {
            size_bytes,
            ..VolumeSpace::default()
        },
    }
}

fn malformed(error: InvalidName) -> ApiError {
    ApiError::new(ErrorKind::Internal, error.to_string())
}

fn vm_usage(row: &VmRow, usage: &HashMap<u32, VolumeUsage>) -> Result<VmUsage> {
    Ok(VmUsage {
        vm: row.number,
        name: row.name.parse().map_err(malformed)?,
        image: row.image.clone(),
        owner_uid: row.owner_uid,
        space: row
            .disks
            .iter()
            .map(|disk| space(disk.size_bytes, usage.get(&disk.thin_id)))
            .fold(space(row.disk_bytes, usage.get(&row.thin_id)), together),
    })
}

/// What two disks of one VM take.
fn together(one: VolumeSpace, other: VolumeSpace) -> VolumeSpace {
    VolumeSpace {
        size_bytes: one.size_bytes + other.size_bytes,
        mapped_bytes: one.mapped_bytes + other.mapped_bytes,
        exclusive_bytes: one.exclusive_bytes + other.exclusive_bytes,
        shared_bytes: one.shared_bytes + other.shared_bytes,
    }
}

fn image_usage(row: &ImageRow, usage: &HashMap<u32, VolumeUsage>) -> Result<ImageUsage> {
    Ok(ImageUsage {
        image: row.name.parse().map_err(malformed)?,
        owner_uid: row.owner_uid,
        space: space(row.size_bytes, usage.get(&row.thin_id)),
    })
}

/// Sums by owner, who has most first.
fn owners(vms: &[VmUsage], images: &[ImageUsage]) -> Vec<OwnerUsage> {
    let mut owners: BTreeMap<u32, OwnerUsage> = BTreeMap::new();
    let mut add = |owner_uid, vms, images, exclusive_bytes| {
        let owner = owners.entry(owner_uid).or_insert(OwnerUsage {
            owner_uid,
            vms: 0,
            images: 0,
            exclusive_bytes: 0,
        });
        owner.vms += vms;
        owner.images += images;
        owner.exclusive_bytes += exclusive_bytes;
    };
    for vm in vms {
        add(vm.owner_uid, 1, 0, vm.space.exclusive_bytes);
    }
    for image in images {
        add(image.owner_uid, 0, 1, image.space.exclusive_bytes);
    }
    let mut owners: Vec<OwnerUsage> = owners.into_values().collect();
    owners.sort_by_key(|owner| std::cmp::Reverse(owner.exclusive_bytes));
    owners
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_summed_and_who_has_most_comes_first() {
        let vm = |number, owner_uid, exclusive_bytes| VmUsage {
            vm: VmNumber::new(number),
            name: "fvm-debian-42".parse().unwrap(),
            image: "debian".into(),
            owner_uid,
            space: VolumeSpace {
                exclusive_bytes,
                ..VolumeSpace::default()
            },
        };
        let image = ImageUsage {
            image: "debian".parse().unwrap(),
            owner_uid: 0,
            space: VolumeSpace {
                exclusive_bytes: 5,
                ..VolumeSpace::default()
            },
        };
        let owners = owners(&[vm(42, 1000, 3), vm(43, 0, 1), vm(44, 1000, 4)], &[image]);
        let found: Vec<_> = owners
            .iter()
            .map(|owner| {
                (
                    owner.owner_uid,
                    owner.vms,
                    owner.images,
                    owner.exclusive_bytes,
                )
            })
            .collect();
        assert_eq!(found, [(1000, 2, 0, 7), (0, 1, 1, 6)]);
    }
}
