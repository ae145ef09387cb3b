//! What cloud-init in a guest is told: where to ask, by SMBIOS; and what it finds there, by HTTP from `fvm-netd`.

use super::{
    Manager, Progress,
    cards::{cards, main_card},
    error::{Result, failed},
    host::Host,
    netd::{Netd, host_name},
};
use crate::{
    api::{ApiError, CreateVms, ErrorKind, MAX_SSH_KEYS_BYTES, MAX_USER_DATA_BYTES},
    domain::{Domain, SmbiosTable},
    store::{SeedRow, VmRow},
};
use fvm_netd::{
    control::Client,
    net::seed_socket,
    seed::{SEED_PORT, Seed},
};
use std::{net::Ipv4Addr, os::fd::AsFd};

/// The SMBIOS table that describes the system (DMTF DSP0134, section 7.2).
const SYSTEM: u8 = 1;

/// What a request wants told, checked; `None` if nothing.
pub(super) fn wanted(request: &CreateVms, domain: &Domain) -> Result<Option<SeedRow>> {
    if request.user_data.is_none() && request.ssh_keys.is_empty() {
        return Ok(None);
    }
    let refused = |message: String| ApiError::new(ErrorKind::Usage, message);
    let user_data = request.user_data.clone().unwrap_or_default();
    if user_data.len() > MAX_USER_DATA_BYTES {
        return Err(refused(format!(
            "the user data are {} bytes long: {MAX_USER_DATA_BYTES} are possible",
            user_data.len()
        )));
    }
    for key in &request.ssh_keys {
        check_key(key).map_err(refused)?;
    }
    let ssh_keys = request.ssh_keys.join("\n");
    if ssh_keys.len() > MAX_SSH_KEYS_BYTES {
        return Err(refused(format!(
            "the SSH keys are {} bytes long together: {MAX_SSH_KEYS_BYTES} are possible",
            ssh_keys.len()
        )));
    }
    let tables = domain.smbios.iter().filter(|table| table.kind == SYSTEM);
    if tables
        .flat_map(|table| &table.entries)
        .any(|(name, _)| name == "serial")
    {
        return Err(refused(
            "the template gives the system a serial number, by which cloud-init would be told where to ask"
                .to_owned(),
        )
        .hint("take <entry name='serial'> out of <sysinfo><system>"));
    }
    Ok(Some(SeedRow {
        user_data,
        ssh_keys,
    }))
}

/// A line of `authorized_keys` without options: type, key, and perhaps a comment.
fn check_key(key: &str) -> std::result::Result<(), String> {
    let shown: String = key.chars().take(40).flat_map(char::escape_debug).collect();
    let mut words = key.split(' ');
    let kind = words.next().unwrap_or_default();
    let is_kind = ["ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-sha2-"]
        .iter()
        .any(|start| kind.starts_with(start));
    let is_key = words.next().is_some_and(|word| {
        word.len() > 16
            && word
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "+/=".contains(c))
    });
    if is_kind && is_key && !key.chars().any(char::is_control) {
        Ok(())
    } else {
        Err(format!("'{shown}' is not a public SSH key"))
    }
}

/// Tells the guest where to ask. cloud-init looks for it in the system's serial number ("NoCloud").
pub(super) fn announce(domain: &mut Domain, gateway: Ipv4Addr) {
    domain.smbios.push(SmbiosTable {
        origin: Default::default(),
        kind: SYSTEM,
        entries: vec![(
            "serial".to_owned(),
            format!("ds=nocloud-net;s=http://{gateway}:{SEED_PORT}/"),
        )],
    });
}

/// What `fvm-netd` serves to the VM.
pub(super) fn served(vm: &VmRow, seed: &SeedRow) -> Seed {
    let keys: Vec<&str> = seed.ssh_keys.lines().collect();
    // JSON is YAML.
    let meta_data = serde_json::json!({
        "instance-id": vm.uuid,
        "local-hostname": host_name(&vm.name, vm.number),
        "public-keys": keys,
    });
    Seed {
        meta_data: format!("{meta_data}\n"),
        user_data: seed.user_data.clone(),
    }
}

impl Manager {
    /// Readies a guest that is about to start for cloud-init, if its VM was made with data for that.
    pub(super) fn seed_guest(
        &self,
        host: &Host,
        row: &VmRow,
        domain: &mut Domain,
        progress: &Progress,
    ) -> Result<()> {
        if self.store.seed(row.number)?.is_none() {
            return Ok(());
        }
        let cards = cards(host, row)?;
        let Some(network) = main_card(&cards).and_then(|card| card.network.own.as_ref()) else {
            progress.warn(
                Some(row.number),
                "cloud-init gets no data: no card of the VM is on a network of fvm's",
            );
            return Ok(());
        };
        announce(domain, network.gateway);
        if let Some(trouble) = self.netd.seeds_trouble(network.gateway)? {
            progress.warn(
                Some(row.number),
                format!(
                    "cloud-init gets no data: {trouble}; once that is mended, `sudo systemctl restart fvm-netd`"
                ),
            );
        }
        Ok(())
    }
}

impl Netd {
    /// Why cloud-init gets no data at a gateway at present, if so.
    fn seeds_trouble(&self, gateway: Ipv4Addr) -> Result<Option<String>> {
        let mut link = self.lock();
        // With a connection that was made anew if need be, and told all.
        self.call(&mut link, |_| Ok(()))?;
        let served = link.networks.get(&gateway);
        Ok(served.and_then(|served| served.seeds_trouble.clone()))
    }
}

/// Has the data served; says why not, if so.
pub(super) fn serve(client: &mut Client, gateway: Ipv4Addr) -> Option<String> {
    let served = seed_socket(gateway)
        .map_err(|error| failed("serving cloud-init", &error))
        .and_then(|socket| {
            client
                .serve_seeds(gateway, socket.as_fd())
                .map_err(|error| failed("fvm-netd", &error))
        });
    let error = served.err()?;
    tracing::error!(error = %error.message, "cloud-init gets no data");
    Some(error.message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_public_ones_on_one_line() {
        const KEY: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIJ5w";
        for good in [
            format!("ssh-ed25519 {KEY}"),
            format!("ssh-rsa {KEY}== ann@desk at home"),
            format!("sk-ssh-ed25519@openssh.com {KEY} a"),
            format!("ecdsa-sha2-nistp256 {KEY}"),
        ] {
            check_key(&good).unwrap();
        }
        for bad in [
            String::new(),
            "-----BEGIN OPENSSH PRIVATE KEY-----".to_owned(),
            "ssh-ed25519".to_owned(),
            "ssh-ed25519 short".to_owned(),
            format!("command=\"x\" ssh-ed25519 {KEY}"),
            format!("ssh-ed25519 {KEY}\nssh-ed25519 {KEY}"),
            format!("ssh-ed25519 {KEY} a\u{1b}[2J"),
        ] {
            let error = check_key(&bad).unwrap_err();
            assert!(error.contains("not a public SSH key"), "{bad}: {error}");
            assert!(!error.contains('\u{1b}'), "{error}");
        }
    }
}
