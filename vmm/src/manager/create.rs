//! `create`: VMs as writable snapshots of an image, all of them or none; or the base VM, on the image itself.

use super::{
    Manager, Progress, cards,
    error::Result,
    host::{Host, check_cpus},
    journal::thin_id,
    kept,
    launch::QemuCache,
    lifetime,
    quota::Amounts,
    seed, templates,
};
use crate::{
    api::{Action, ApiError, BatchReport, CreateVms, ErrorKind, VmNumber, VmSet},
    domain::Domain,
    fault,
    manager::Caller,
    store::{ImageRow, NewVm, NicRow},
};
use uuid::Uuid;

impl Manager {
    /// Makes VMs of an image.
    ///
    /// # Errors
    /// When anything about the request is wrong, or the pool refuses; then there is none of them.
    pub fn create(
        &self,
        caller: Caller,
        request: &CreateVms,
        progress: &Progress,
    ) -> Result<BatchReport> {
        let host = self.host()?;
        // A profile's and an image's template were looked at when they were given.
        let own_template = request.template.as_deref();
        let (request, profile) = self.apply_profile(request)?;
        let _image = self.image_locks.lock(request.image.to_string());
        let numbers = request.vms.numbers();
        let _vms = self.vm_locks.lock_all(numbers);

        let image = self.image_row(request.image.as_str())?;
        super::base::refuse(&image)?;
        self.finish_shrink(&host, image.thin_id)?;
        let image = self.image_row(&image.name)?;
        self.check_numbers(&host, &request.vms)?;
        if let Some(ttl_s) = request.ttl_s {
            lifetime::check(&request.vms, ttl_s)?;
        }
        let template = match &request.template {
            Some(wanted) => templates::resolve(&self.paths, wanted)?,
            None => image.template.clone(),
        };
        let wanted = Wanted {
            host: &host,
            caller,
            request: &request,
            image: &image,
            template: &template,
            own_template,
            qemu: Some(&self.qemu),
            most_cpus: self.most_cpus(),
        };
        // No network goes while cards for it are being planned.
        let _networks = self.networks_lock.lock(());
        let mut new = Vec::with_capacity(numbers.len());
        for &number in numbers {
            new.push(NewVm {
                profile: profile.clone(),
                ..plan(&wanted, number, progress)?
            });
        }
        self.check_pool_takes_more(&host)?;
        let made = new.iter().filter(|vm| !vm.number.is_base()).count() as u64;
        let more = Amounts {
            vms: made,
            disk_bytes: image.size_bytes.saturating_mul(made),
            ..Amounts::default()
        };
        let _quota = self.within_quota(&host, caller, caller.uid, more)?;
        fault::point("create/validated");

        match new.as_slice() {
            // The base VM has the image's own volume.
            [base] if base.number.is_base() => self.store.insert_base_vm(base, image.thin_id)?,
            _ => {
                let origin = thin_id(image.thin_id)?;
                self.journal
                    .create_vms(&self.store, &host.pool, &new, origin, image.size_bytes)?;
            }
        }
        for vm in &new {
            tracing::info!(vm = %vm.number, image = %vm.image, uid = caller.uid, "created");
        }
        let results = numbers
            .iter()
            .map(|&number| (number, self.info(number).map(Some)))
            .collect();
        Ok(self.batch_report(Action::Create, results))
    }

    /// Refuses numbers that no VM may have, or another VM has.
    fn check_numbers(&self, host: &Host, wanted: &VmSet) -> Result<()> {
        if wanted.numbers().contains(&VmNumber::BASE) {
            return self.check_base(wanted);
        }
        let allowed =
            VmNumber::new(host.config.first_number)..=VmNumber::new(host.config.last_number);
        let outside: Vec<VmNumber> = wanted
            .numbers()
            .iter()
            .copied()
            .filter(|number| !allowed.contains(number))
            .collect();
        if let Ok(outside) = VmSet::try_from(outside) {
            let (first, last) = allowed.into_inner();
            return Err(ApiError::new(
                ErrorKind::Usage,
                format!(
                    "VM number {outside} is out of range: this host's VMs are {first} to {last}"
                ),
            ));
        }
        let mut taken = Vec::new();
        for &number in wanted.numbers() {
            taken.extend(self.store.vm(number)?.map(|row| row.number));
        }
        match VmSet::try_from(taken) {
            Ok(taken) => {
                let (number, is, it) = match taken.numbers() {
                    [_] => ("number", "is", "it"),
                    _ => ("numbers", "are", "them"),
                };
                Err(ApiError::new(
                    ErrorKind::Refused,
                    format!("VM {number} {taken} {is} taken"),
                )
                .hint(format!(
                    "`fvm delete {taken}` makes {it} free; nothing was created"
                )))
            }
            Err(_) => Ok(()),
        }
    }
}

/// What all VMs of one request have in common.
pub(super) struct Wanted<'w> {
    pub(super) host: &'w Host,
    pub(super) caller: Caller,
    pub(super) request: &'w CreateVms,
    pub(super) image: &'w ImageRow,
    pub(super) template: &'w str,
    /// What the caller gave as a template; none if it is not the caller's.
    pub(super) own_template: Option<&'w str>,
    /// The host's QEMUs. Without the one for a template, the machine type is settled at the first start.
    pub(super) qemu: Option<&'w QemuCache>,
    /// The most processors that KVM gives a VM, if it works.
    pub(super) most_cpus: Option<u32>,
}

/// Everything about one VM, checked.
pub(super) fn plan(wanted: &Wanted<'_>, number: VmNumber, progress: &Progress) -> Result<NewVm> {
    let Wanted {
        host,
        caller,
        request,
        image,
        template,
        own_template,
        qemu,
        most_cpus,
    } = *wanted;
    let name = format!("fvm-{}-{number}", image.name);
    let host_number = host.host_number(number)?;
    let network = &host.network.bridge;
    if let Some(given) = own_template {
        let macros = templates::macros(&name, host_number, &image.name, network);
        templates::permit(caller, given, &name, &macros, network)?;
    }
    let (domain, warnings) = templates::load(template, host_number, &name, &image.name, network)?;
    for warning in warnings {
        progress.warn(Some(number), warning.to_string());
    }
    templates::check_disks(&domain, &name)?;
    let layout = kept::to_text(&kept::assigned(&domain)?)?;
    let memory_mib = request.memory_mib.unwrap_or_else(|| domain.memory_mib());
    let cpus = request.cpus.unwrap_or_else(|| domain.vcpus());
    if memory_mib == 0 || memory_mib > host.memory_mib {
        return Err(ApiError::new(
            ErrorKind::Usage,
            format!(
                "{memory_mib} MiB of memory is not within 1 to {}, what this host has",
                host.memory_mib
            ),
        ));
    }
    if cpus == 0 || cpus > MAX_CPUS {
        return Err(ApiError::new(
            ErrorKind::Usage,
            format!("{cpus} CPUs is not within 1 to {MAX_CPUS}"),
        ));
    }
    check_cpus(domain.os.arch, cpus, most_cpus)?;
    let capabilities = qemu.and_then(|qemu| qemu.capabilities(domain.os.arch).ok());
    let machine = capabilities.and_then(|qemu| kept::machine(&qemu, &domain.os.machine));
    Ok(NewVm {
        number,
        uuid: Uuid::new_v4().to_string(),
        volume_uuid: Uuid::new_v4().to_string(),
        image: image.name.clone(),
        profile: None,
        owner_uid: caller.uid,
        template: template.to_owned(),
        memory_mib,
        cpus,
        created_at_s: super::now_s(),
        group: request.group.as_ref().map(ToString::to_string),
        ttl_s: request.ttl_s,
        machine,
        layout,
        nics: nics(host, &domain, number)?,
        seed: seed::wanted(request, &domain)?,
        name,
    })
}

/// What QEMU's `pc` and `q35` machines take.
const MAX_CPUS: u32 = 255;

/// The network cards of a template, with the MAC addresses they keep.
pub(super) fn nics(host: &Host, domain: &Domain, number: VmNumber) -> Result<Vec<NicRow>> {
    let mut rows = Vec::new();
    for (index, nic) in (0u32..).zip(&domain.devices.interfaces) {
        let row = cards::planned(host, number, index, nic)?;
        if rows.iter().any(|other: &NicRow| other.mac == row.mac) {
            return Err(ApiError::new(
                ErrorKind::Usage,
                format!(
                    "the template gives two network cards the address {}",
                    row.mac
                ),
            ));
        }
        rows.push(row);
    }
    Ok(rows)
}
