//! Network cards that are added to a VM and taken from it, also while it runs.
//!
//! The row comes first and goes last: what a daemon that dies in between has not done is done at the VM's next start, or when
//! it is asked for again.

use super::{
    Manager, Progress,
    cards::{self, cards},
    error::{Result, failed},
    host::Host,
    kept,
    machine::Machine,
    owner::{Root, check_owner},
    plug::{self, QMP_TIMEOUT},
};
use crate::{
    api::{AddNic, ApiError, ErrorKind, RemoveNic, VmReport},
    domain::{Domain, Interface, NicModel, NicSource, PciAddress},
    manager::Caller,
    qemu::{
        args::{self, PluggedCard},
        pci::{self, PciError, Place},
    },
    store::{NicRow, VmRow},
};
use std::{os::fd::AsFd, time::Duration};

/// How long a guest may take to let go of a card.
const LET_GO_TIMEOUT: Duration = Duration::from_secs(20);

impl Manager {
    /// Gives a VM one more network card.
    ///
    /// # Errors
    /// When there is no such VM or network, the machine has no place for the card, or QEMU refuses; then the VM is as it was.
    pub fn add_nic(
        &self,
        caller: Caller,
        request: &AddNic,
        progress: &Progress,
    ) -> Result<VmReport> {
        let host = self.host()?;
        let number = request.vm;
        let _vm = self.vm_locks.lock(number);
        let _networks = self.networks_lock.lock(());
        let row = self.lasting_vm_row(number)?;
        check_owner(&host, caller, &row, Root::May)?;
        let domain = kept::domain(&host, &row)?;
        let taken = |index: &u32| row.nics.iter().any(|nic| nic.index == *index);
        let index = (0..).find(|index| !taken(index)).unwrap_or(u32::MAX);
        let name = match &request.network {
            Some(name) => name.to_string(),
            None => host.network.bridge.clone(),
        };
        let model = cards::model(&request.model)?;
        let card = Interface::added(index, NicSource::Network(name), model);
        let nic = cards::planned(&host, number, index, &card)?;
        let before = row.layout.clone();
        let address = free_place(&row, &domain, model)?;
        let mut layout = kept::layout_in_row(&row)?;
        let place = Place {
            address,
            multifunction: false,
        };
        layout.places.insert(card.alias, place);
        self.store.add_nic(number, &nic, &kept::to_text(&layout)?)?;
        let row = self.vm_row(number)?;
        if let Some(machine) = self.machines.up(number) {
            progress.step(Some(number), "plugging the card in");
            if let Err(mut error) = self.plug_card(&host, &row, &nic, &machine) {
                self.store.remove_nic(number, index, &before)?;
                let place = host.nic(number, index.try_into().unwrap_or(u8::MAX))?;
                if let Err(left) = self.release_ports(&[place]) {
                    error.details.push(format!("left behind: {}", left.message));
                }
                return Err(error);
            }
        }
        tracing::info!(vm = %number, card = index, network = nic.network, uid = caller.uid, "card added");
        self.report(&host, &row)
    }

    /// Plugs a card that is in the store into a machine that runs.
    fn plug_card(&self, host: &Host, row: &VmRow, nic: &NicRow, machine: &Machine) -> Result<()> {
        let domain = kept::domain(host, row)?;
        let layout = kept::layout(row, &domain)?;
        let cards = cards(host, row)?;
        let all = cards.iter().zip(&domain.devices.interfaces);
        let Some((card, interface)) = all.into_iter().find(|(card, _)| card.nic == nic) else {
            return Err(no_card(row, nic.index));
        };
        let tap = self.plug_tap(host, row, card)?;
        let plugged = args::plugged_card(&domain, &layout, interface, &nic.mac)
            .map_err(|error| failed("describing the card", &error))?;
        let id = args::netdev_id(&interface.alias);
        tap.fds.iter().try_for_each(|fd| {
            let PluggedCard { netdev, device } = plugged.clone();
            plug::ask(machine, |qmp| {
                qmp.plug_card(&id, netdev, device, fd.as_fd(), QMP_TIMEOUT)
            })
            .map_err(|error| failed(format!("plugging a card into VM {}", row.number), &error))
        })
    }

    /// Takes a network card from a VM.
    ///
    /// # Errors
    /// When there is no such VM or card, its guest does not let go of it in time, or a step fails. It can be repeated.
    pub fn remove_nic(
        &self,
        caller: Caller,
        request: &RemoveNic,
        progress: &Progress,
    ) -> Result<VmReport> {
        let host = self.host()?;
        let number = request.vm;
        let _vm = self.vm_locks.lock(number);
        let row = self.lasting_vm_row(number)?;
        check_owner(&host, caller, &row, Root::May)?;
        let domain = kept::domain(&host, &row)?;
        let cards = cards(&host, &row)?;
        let mut all = cards.iter().zip(&domain.devices.interfaces);
        let (card, interface) = all
            .find(|(card, _)| card.nic.index == request.card)
            .ok_or_else(|| no_card(&row, request.card))?;
        let running = self.machines.up(number);
        if let Some(machine) = &running {
            progress.step(Some(number), "waiting for the guest to let go of the card");
            unplug(machine, &interface.alias, request.card)?;
            self.release_ports(&[card.place])?;
        }
        let mut layout = kept::layout_in_row(&row)?;
        layout.places.remove(&interface.alias);
        self.store
            .remove_nic(number, request.card, &kept::to_text(&layout)?)?;
        if running.is_some() {
            // Another card may be the VM's first on the network now.
            self.resync_netd(&host)?;
        }
        tracing::info!(vm = %number, card = request.card, uid = caller.uid, "card removed");
        self.report(&host, &self.vm_row(number)?)
    }
}

/// Has the guest let go of a card, and QEMU of its tap; one that is gone already is fine.
fn unplug(machine: &Machine, alias: &str, card: u32) -> Result<()> {
    let number = machine.number;
    let failed = |error| failed(format!("unplugging card {card} of VM {number}"), &error);
    if !plug::lets_go(machine, alias, LET_GO_TIMEOUT).map_err(failed)? {
        return Err(ApiError::new(
            ErrorKind::Failed,
            format!(
                "VM {number}'s guest has not let go of card {card} within {} s; the card stays",
                LET_GO_TIMEOUT.as_secs()
            ),
        )
        .hint(format!(
            "a guest that is booting or paused cannot: try again later, or `fvm stop {number}` first"
        )));
    }
    let netdev = args::netdev_id(alias);
    plug::ask(machine, |qmp| qmp.delete_netdev(&netdev, QMP_TIMEOUT)).map_err(failed)
}

fn no_card(row: &VmRow, card: u32) -> ApiError {
    let number = row.number;
    ApiError::new(
        ErrorKind::NotFound,
        format!("VM {number} has no network card {card}"),
    )
    .hint(format!("`fvm info {number}` shows the cards that it has"))
}

/// A place for a card that is plugged into a VM's machine.
fn free_place(row: &VmRow, domain: &Domain, model: NicModel) -> Result<PciAddress> {
    let refused = |message: String| ApiError::new(ErrorKind::Refused, message);
    let number = row.number;
    if domain.os.kind.pci_root().is_none() {
        return Err(refused(format!(
            "nothing can be plugged into VM {number}, whose machine has no PCI"
        ))
        .hint("a VM of another template can have cards added"));
    }
    let is_express = matches!(model, NicModel::Virtio | NicModel::E1000e | NicModel::Igb);
    if domain.os.kind.is_express() && !is_express {
        return Err(refused(format!(
            "a card of model {} cannot be plugged into VM {number}, which has PCI Express",
            model.as_str()
        ))
        .hint("virtio, e1000e and igb can"));
    }
    pci::free_place(domain, &kept::layout(row, domain)?).map_err(|error| match error {
        PciError::Full => refused(format!(
            "VM {number} has no place left that a card can be plugged into"
        ))
        .hint(
            "with PCI Express, each <controller type='pci' model='pcie-root-port'/> in the template is one place more",
        ),
        error => failed(format!("looking for a place in VM {number}"), &error),
    })
}
