//! Further disks of VMs: empty ones or snapshots of images, given to VMs that run or not, and taken away.
//!
//! A disk is added in one transaction of the journal; from then on it is one of the VM's, whatever happens. A VM that runs
//! is given it at once (`plug.rs`), another one at its next start; if the running one cannot be given it, the disk goes
//! again. It is removed as a deleted VM's is, once the guest has let go of it.

use super::{
    Manager, Progress,
    batch::{report_of, side_by_side},
    error::{Result, failed},
    host::Host,
    import::checked_size,
    journal::thin_id,
    kept,
    owner::{Root, check_owner},
    quota::Amounts,
    templates,
};
use crate::{
    api::{
        Action, AddDisks, ApiError, BatchReport, DiskBus, DiskList, DiskReport, ErrorKind,
        InvalidName, NamedDisks, REPORT_VERSION, VmNumber,
    },
    domain::{self, ControllerKind, Domain, FurtherPlace, ScsiModel},
    fault,
    manager::Caller,
    qemu::pci::{self, Layout, PciError},
    store::{DiskRow, ImageRow, NewDisk, VmRow},
};
use uuid::Uuid;

/// The units of a virtio-scsi controller (libvirt's bound).
const SCSI_UNITS: u32 = 16384;

/// What all further disks of one request have in common.
struct Wanted<'w> {
    host: &'w Host,
    request: &'w AddDisks,
    image: Option<&'w ImageRow>,
    size_bytes: u64,
}

impl Manager {
    /// Gives VMs a further disk; each has an outcome of its own.
    ///
    /// # Errors
    /// When the host is not set up, there is no such image, or the size is none that the disk can have.
    pub fn add_disks(
        &self,
        caller: Caller,
        request: &AddDisks,
        progress: &Progress,
    ) -> Result<BatchReport<DiskReport>> {
        let host = self.host()?;
        let name = request.image.as_ref().map(ToString::to_string);
        let _image = name
            .as_ref()
            .map(|name| self.image_locks.lock(name.clone()));
        let image = match &name {
            None => None,
            Some(name) => Some(self.origin(&host, name)?),
        };
        let size_bytes = size_of(request, image.as_ref())?;
        let wanted = Wanted {
            host: &host,
            request,
            image: image.as_ref(),
            size_bytes,
        };
        let results = side_by_side(request.vms.numbers(), |number| {
            let _alone = self.vm_locks.lock(number);
            let row = self.disk_owner_row(number)?;
            check_owner(&host, caller, &row, Root::May)?;
            let more = Amounts {
                disk_bytes: size_bytes,
                ..Amounts::default()
            };
            let _quota = self.within_quota(&host, caller, row.owner_uid, more)?;
            let report = self.add_disk(&wanted, &row, progress)?;
            tracing::info!(vm = %number, disk = %report.name, uid = caller.uid, "disk added");
            Ok(report)
        });
        Ok(report_of(Action::AddDisk, results))
    }

    /// The image of this name, ready to be taken a snapshot of. Its lock is held.
    fn origin(&self, host: &Host, name: &str) -> Result<ImageRow> {
        let image = self.image_row(name)?;
        super::base::refuse(&image)?;
        self.finish_shrink(host, image.thin_id)?;
        self.image_row(name)
    }

    fn add_disk(
        &self,
        wanted: &Wanted<'_>,
        row: &VmRow,
        progress: &Progress,
    ) -> Result<DiskReport> {
        let Wanted { host, request, .. } = *wanted;
        let number = row.number;
        let domain = kept::domain(host, row)?;
        let name = free_name(
            row,
            &domain,
            request.name.as_ref().map(|name| name.as_str()),
        )?;
        let layout = kept::layout(row, &domain)?;
        let place = free_place(row, &domain, &layout, request.bus)?;
        self.check_pool_takes_more(host)?;
        let new = NewDisk {
            vm: number,
            volume_uuid: Uuid::new_v4().to_string(),
            size_bytes: wanted.size_bytes,
            name: name.clone(),
            target: free_target(&domain, place),
            place: place.to_string(),
            image: wanted.image.map(|image| image.name.clone()),
            created_at_s: super::now_s(),
        };
        let origin = wanted
            .image
            .map(|image| thin_id(image.thin_id))
            .transpose()?;
        let thin = self
            .journal
            .create_disk(&self.store, &host.pool, &new, origin)?;
        self.touch(row);
        let row = self.disk_owner_row(number)?;
        let disk = disk_row(&row, &name)?;
        if let Some(machine) = self.machines.up(number) {
            progress.step(Some(number), "plugging the disk in");
            if let Err(mut error) = self.plug_in(host, &machine, &row, disk) {
                let link = row.link_of(disk);
                let gone = self
                    .close_disk(host, disk.thin_id, &link)
                    .and_then(|()| self.drop_volume(host, thin));
                if let Err(left) = gone {
                    error.details.push(format!("left behind: {}", left.message));
                }
                return Err(error.hint(format!(
                    "VM {number} has no more disks than before; `fvm stop {number}` first, and it has the disk when it is started"
                )));
            }
        }
        report(&row, disk)
    }

    /// Further disks of one VM, or of all.
    ///
    /// # Errors
    /// When there is no such VM, the host is not set up, or the store fails.
    pub fn disk_list(&self, vm: Option<VmNumber>) -> Result<DiskList> {
        self.host()?;
        let rows = match vm {
            Some(number) => vec![self.vm_row(number)?],
            None => self.store.vms()?,
        };
        let disks = rows.iter().map(reports).collect::<Result<Vec<_>>>()?;
        Ok(DiskList {
            version: REPORT_VERSION,
            disks: disks.into_iter().flatten().collect(),
        })
    }

    /// Takes the further disk of a name away from VMs, with what is on it; each has an outcome of its own.
    ///
    /// # Errors
    /// When the host is not set up.
    pub fn remove_disks(
        &self,
        caller: Caller,
        request: &NamedDisks,
        progress: &Progress,
    ) -> Result<BatchReport<DiskReport>> {
        let host = self.host()?;
        let results = side_by_side(request.vms.numbers(), |number| {
            let _alone = self.vm_locks.lock(number);
            let row = self.disk_owner_row(number)?;
            check_owner(&host, caller, &row, Root::May)?;
            let disk = disk_row(&row, request.name.as_str())?;
            let was = report(&row, disk)?;
            self.touch(&row);
            if let Some(machine) = self.machines.up(number) {
                progress.step(Some(number), "waiting for the guest to let go of the disk");
                self.unplug(&host, &machine, &row, disk)?;
            }
            self.close_disk(&host, disk.thin_id, &row.link_of(disk))?;
            fault::point("disk/unplugged");
            self.drop_volume(&host, thin_id(disk.thin_id)?)?;
            tracing::info!(vm = %number, disk = %was.name, uid = caller.uid, "disk removed");
            Ok(was)
        });
        Ok(report_of(Action::RemoveDisk, results))
    }
}

/// The size that the disks are to have.
fn size_of(request: &AddDisks, image: Option<&ImageRow>) -> Result<u64> {
    let usage = |message: String| Err(ApiError::new(ErrorKind::Usage, message));
    match (request.size_bytes, image) {
        (None, None) => usage("neither a size nor an image was given for the disk".to_owned()),
        (None, Some(image)) => Ok(image.size_bytes),
        (Some(size), Some(image)) if size < image.size_bytes => usage(format!(
            "a disk of image '{}' has at least {}, which is more than {}",
            image.name,
            fvm_thin::Bytes(image.size_bytes),
            fvm_thin::Bytes(size)
        )),
        (Some(size), _) => Ok(checked_size(size)?.0),
    }
}

/// The name that was asked for if no disk of the VM has it, or one that none has.
fn free_name(row: &VmRow, domain: &Domain, wanted: Option<&str>) -> Result<String> {
    let taken = |name: &str| {
        let serials = domain.devices.disks.iter();
        let mut serials = serials.filter_map(|disk| disk.serial.as_deref());
        serials.any(|serial| serial == name)
    };
    match wanted {
        Some(name) if taken(name) => Err(ApiError::new(
            ErrorKind::Refused,
            format!("VM {} has a disk '{name}' already", row.number),
        )
        .hint(format!(
            "`fvm disk list {}` shows its further disks",
            row.number
        ))),
        Some(name) => Ok(name.to_owned()),
        None => {
            let mut numbered = (1_u32..).map(|number| format!("disk{number}"));
            let free = numbered.find(|name| !taken(name));
            Ok(free.unwrap_or_default())
        }
    }
}

/// Where a further disk is to sit: on the bus that was asked for, or on that of the VM's own disk.
fn free_place(
    row: &VmRow,
    domain: &Domain,
    layout: &Layout,
    wanted: Option<DiskBus>,
) -> Result<FurtherPlace> {
    let number = row.number;
    let refused = |message: String| ApiError::new(ErrorKind::Refused, message);
    let own = templates::disk_of(domain, &row.name)?;
    let controller = domain.devices.controllers.iter().find(|controller| {
        let is_virtio = matches!(
            controller.kind,
            ControllerKind::Scsi {
                model: ScsiModel::VirtioScsi,
                ..
            }
        );
        // The controller of the VM's own disk, or the first.
        is_virtio
            && (own.bus != domain::DiskBus::Scsi
                || own
                    .drive
                    .is_none_or(|drive| drive.controller == controller.index))
    });
    let bus = wanted.unwrap_or(match (own.bus, controller) {
        (domain::DiskBus::Scsi, Some(_)) => DiskBus::Scsi,
        _ => DiskBus::Virtio,
    });
    match bus {
        DiskBus::Virtio => match pci::free_place(domain, layout) {
            Ok(address) => Ok(FurtherPlace::Pci(address)),
            Err(PciError::Full) => Err(refused(format!(
                "VM {number} has no place left that a virtio disk can be plugged into"
            ))
            .hint("`--bus scsi` needs none, if the VM has a virtio-scsi controller")),
            Err(error) => Err(failed(
                format!("looking for a place in VM {number}"),
                &error,
            )),
        },
        DiskBus::Scsi => {
            let controller = controller.ok_or_else(|| {
                refused(format!("VM {number} has no virtio-scsi controller"))
                    .hint("`--bus virtio` needs none")
            })?;
            let taken = |unit: &u32| {
                domain.devices.disks.iter().any(|disk| {
                    disk.bus == domain::DiskBus::Scsi
                        && disk.drive.is_some_and(|drive| {
                            (drive.controller, drive.bus, drive.target, drive.unit)
                                == (controller.index, 0, 0, *unit)
                        })
                })
            };
            match (0..SCSI_UNITS).find(|unit| !taken(unit)) {
                Some(unit) => Ok(FurtherPlace::Scsi {
                    controller: controller.index,
                    unit,
                }),
                None => Err(refused(format!(
                    "the virtio-scsi controller of VM {number} has no unit left"
                ))),
            }
        }
    }
}

/// The first name for a disk at that place which is no other disk's, and makes no other's QEMU id.
fn free_target(domain: &Domain, place: FurtherPlace) -> String {
    let prefix = match place {
        FurtherPlace::Pci(_) => "vd",
        FurtherPlace::Scsi { .. } => "sd",
    };
    let disks = &domain.devices.disks;
    let taken = |index: u32, name: &str| {
        let alias = domain::virtio_alias(index);
        disks
            .iter()
            .any(|disk| disk.target == name || disk.alias == alias)
    };
    let mut names = (0..).map(|index| (index, domain::target_name(prefix, index)));
    let free = names.find(|(index, name)| !taken(*index, name));
    free.map(|(_, name)| name).unwrap_or_default()
}

/// The further disk of this name, or that there is none.
pub(super) fn disk_row<'r>(row: &'r VmRow, name: &str) -> Result<&'r DiskRow> {
    if let Some(disk) = row.disks.iter().find(|disk| disk.name == name) {
        return Ok(disk);
    }
    let hint = match row.disks.as_slice() {
        [] => format!("it has none; `fvm disk add {}` gives it one", row.number),
        _ => format!("there are: {}", names(row)),
    };
    Err(ApiError::new(
        ErrorKind::NotFound,
        format!("VM {} has no further disk '{name}'", row.number),
    )
    .hint(hint))
}

/// The names of a VM's further disks.
pub(super) fn names(row: &VmRow) -> String {
    let names: Vec<&str> = row.disks.iter().map(|disk| disk.name.as_str()).collect();
    names.join(", ")
}

/// What is said of a VM's further disks.
pub(super) fn reports(row: &VmRow) -> Result<Vec<DiskReport>> {
    row.disks.iter().map(|disk| report(row, disk)).collect()
}

fn report(row: &VmRow, disk: &DiskRow) -> Result<DiskReport> {
    let malformed = |message: String| ApiError::new(ErrorKind::Internal, message);
    let place: FurtherPlace = disk.place.parse().map_err(malformed)?;
    Ok(DiskReport {
        vm: row.number,
        name: disk
            .name
            .parse()
            .map_err(|error: InvalidName| malformed(error.to_string()))?,
        bus: match place {
            FurtherPlace::Pci(_) => DiskBus::Virtio,
            FurtherPlace::Scsi { .. } => DiskBus::Scsi,
        },
        target: disk.target.clone(),
        place: disk.place.clone(),
        disk_bytes: disk.size_bytes,
        image: disk.image.clone(),
        created_at_s: disk.created_at_s,
    })
}
