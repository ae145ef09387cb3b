//! Hooks ("hack files"): scripts that are run as the user after a VM was made or deleted, with fast-vm's variables.
//!
//! A hook is, in this order: the file that the command names; the one that the VM's profile keeps; the image's, which
//! is a file `IMAGE/create` or `IMAGE/delete` below ~/.config/fvm/hooks, or below /etc/fvm/hooks. While a create hook runs,
//! the VM's disk is at /dev/$THINPOOL_VG/$VM_NAME, and the user's.

use crate::{client::Client, exit};
use fvm_vmm::api::{
    ApiError, ErrorKind, HookKind, HostReport, NetworkReport, ProfileName, ProfileReport, VmReport,
    routes,
};
use std::{
    env, fs,
    io::Write,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Stdio,
};
use tempfile::{NamedTempFile, TempDir};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::Command,
    signal::unix::{SignalKind, signal},
};

/// Where images' hooks are: below the user's directory, and the system's.
const USER_HOOKS: &str = ".config/fvm/hooks";
const SYSTEM_HOOKS: &str = "/etc/fvm/hooks";
/// What THINPOOL_VG stands for, as in templates.
const VOLUME_GROUP: &str = "fvm";
/// What every VM's name begins with.
const PREFIX: &str = "fvm-";

/// A script to run.
#[derive(Debug)]
pub(crate) struct Hook {
    when: HookKind,
    file: PathBuf,
    /// What the user knows it as.
    name: String,
    _kept: Option<NamedTempFile>,
}

impl Hook {
    /// The file that a command names, if it can be read.
    pub(crate) fn named(when: HookKind, file: &Path) -> Result<Self, ApiError> {
        let file = std::path::absolute(file).map_err(|error| exit::of_file(file, &error))?;
        fs::File::open(&file).map_err(|error| {
            let mut told = exit::of_file(&file, &error);
            if error.kind() == std::io::ErrorKind::NotFound {
                told.kind = ErrorKind::NotFound;
            }
            told
        })?;
        Ok(Self {
            when,
            name: file.display().to_string(),
            file,
            _kept: None,
        })
    }

    /// The hook that a VM has from its profile, or else from its image.
    pub(crate) async fn of_vm(
        client: &Client,
        when: HookKind,
        vm: &VmReport,
    ) -> Result<Option<Self>, ApiError> {
        if let Some(profile) = &vm.profile
            && let Some(hook) = Self::of_profile(client, when, profile).await?
        {
            return Ok(Some(hook));
        }
        let home = env::var_os("HOME").map(|home| Path::new(&home).join(USER_HOOKS));
        let directories = home.into_iter().chain([PathBuf::from(SYSTEM_HOOKS)]);
        for directory in directories {
            let file = directory.join(&vm.image).join(when.as_str());
            if file.is_file() {
                return Self::named(when, &file).map(Some);
            }
        }
        Ok(None)
    }

    async fn of_profile(
        client: &Client,
        when: HookKind,
        profile: &str,
    ) -> Result<Option<Self>, ApiError> {
        let Ok(name) = profile.parse::<ProfileName>() else {
            return Ok(None);
        };
        let report: ProfileReport = match client.get(&routes::profile(&name)).await {
            Ok(report) => report,
            Err(error) => {
                let error = ApiError::from(error);
                // A VM may outlive its profile.
                return match (error.kind, when) {
                    (ErrorKind::NotFound, HookKind::Delete) => Ok(None),
                    _ => Err(error),
                };
            }
        };
        let Some(hook) = report.hooks.into_iter().find(|hook| hook.when == when) else {
            return Ok(None);
        };
        let failed = |error: std::io::Error| {
            ApiError::new(
                ErrorKind::Failed,
                format!("the {when} hook of profile {name} cannot be written to a file: {error}"),
            )
        };
        let mut kept = NamedTempFile::with_prefix("fvm-hook-").map_err(failed)?;
        kept.write_all(hook.script.as_bytes()).map_err(failed)?;
        Ok(Some(Self {
            when,
            file: kept.path().to_owned(),
            name: format!("the {when} hook of profile {name}"),
            _kept: Some(kept),
        }))
    }

    /// Runs it for a VM, with the VM's disk if the VM was made, and fails if it does.
    pub(crate) async fn run(&self, client: &Client, vm: &VmReport) -> Result<(), ApiError> {
        let host: HostReport = client.get(routes::HOST).await?;
        let network = host.network.ok_or_else(|| {
            ApiError::new(ErrorKind::HostNotAble, "this host has no network for VMs")
        })?;
        match self.when {
            HookKind::Delete => self.execute(client, vm, &network).await,
            HookKind::Create => {
                let loan = client.disk(&routes::disk(vm.number)).await?;
                let result = self.execute(client, vm, &network).await;
                let (mut from, mut to) = tokio::io::split(loan);
                // The disk is nobody's again once the other side has ended.
                let mut said = Vec::new();
                let ended = to.shutdown().await;
                let read = (&mut from).take(64 * 1024).read_to_end(&mut said).await;
                result?;
                if let Ok(error) = serde_json::from_slice::<ApiError>(&said) {
                    return Err(error);
                }
                ended.and(read).map(drop).map_err(|error| {
                    let number = vm.number;
                    ApiError::new(
                        ErrorKind::Failed,
                        format!(
                            "nothing is known of whether VM {number}'s disk was taken back: {error}"
                        ),
                    )
                })
            }
        }
    }

    async fn execute(
        &self,
        client: &Client,
        vm: &VmReport,
        network: &NetworkReport,
    ) -> Result<(), ApiError> {
        let cannot = |error: std::io::Error| {
            ApiError::new(
                ErrorKind::Failed,
                format!("{} cannot be run: {error}", self.name),
            )
        };
        let tools = tools().map_err(cannot)?;
        let mut path = tools.path().as_os_str().to_owned();
        if let Some(before) = env::var_os("PATH") {
            path.push(":");
            path.push(before);
        }
        let mut signals = [SignalKind::interrupt(), SignalKind::terminate()]
            .map(signal)
            .into_iter()
            .collect::<Result<Vec<_>, _>>()
            .map_err(cannot)?
            .into_iter();
        let (Some(mut interrupt), Some(mut terminate)) = (signals.next(), signals.next()) else {
            return Err(exit::bug());
        };
        // A script needs no x bit, as with fast-vm, which reads it into its own shell.
        let mut child = Command::new("bash")
            .arg(&self.file)
            .envs(variables(self.when, vm, network))
            .env("PATH", path)
            .env("FVM_SOCKET", client.socket())
            .stdin(Stdio::null())
            // Standard output has the command's own results.
            .stdout(std::io::stderr())
            .kill_on_drop(true)
            .spawn()
            .map_err(cannot)?;
        let status = tokio::select! {
            status = child.wait() => status.map_err(cannot)?,
            _ = interrupt.recv() => return self.broken_off(&mut child).await,
            _ = terminate.recv() => return self.broken_off(&mut child).await,
        };
        if status.success() {
            return Ok(());
        }
        let message = format!("{} ended with {status}", self.name);
        Err(ApiError::new(ErrorKind::Failed, message))
    }

    async fn broken_off(&self, child: &mut tokio::process::Child) -> Result<(), ApiError> {
        let _ = child.kill().await;
        let message = format!("{} was interrupted", self.name);
        Err(ApiError::new(ErrorKind::Failed, message))
    }
}

/// A directory with the programs that hooks expect: `virsh`, which this program plays.
fn tools() -> std::io::Result<TempDir> {
    let directory = tempfile::Builder::new().prefix("fvm-hook-").tempdir()?;
    symlink(env::current_exe()?, directory.path().join("virsh"))?;
    Ok(directory)
}

/// What a hook is told, in the names that fast-vm's hooks know, and some of fvm's own.
fn variables(
    when: HookKind,
    vm: &VmReport,
    network: &NetworkReport,
) -> Vec<(&'static str, String)> {
    let number = match vm.number.is_base() {
        // Its place on the network, as in templates.
        true => network.first_number.saturating_sub(1),
        false => vm.number.get(),
    };
    let mac = vm
        .nics
        .first()
        .map(|nic| nic.mac.clone())
        .unwrap_or_default();
    let [_, _, subnet, _] = network.gateway.octets();
    vec![
        ("VM_NAME", vm.name.to_string()),
        ("VM_NUMBER", number.to_string()),
        ("vm_number", number.to_string()),
        ("VM_HEX_NUMBER", format!("{number:02x}")),
        ("VM_MAC", mac),
        ("VM_PREFIX", PREFIX.to_owned()),
        ("VM_ADDRESS", vm.address.to_string()),
        ("IMAGE_NAME", vm.image.clone()),
        ("image_name", vm.image.clone()),
        ("PROFILE_NAME", vm.profile.clone().unwrap_or_default()),
        ("THINPOOL_VG", VOLUME_GROUP.to_owned()),
        ("LIBVIRT_NETWORK", network.name.clone()),
        ("SUBNET_NUMBER", subnet.to_string()),
        ("FVM_HOOK", when.as_str().to_owned()),
        // libguestfs must not go through libvirt, which is not there.
        ("LIBGUESTFS_BACKEND", "direct".to_owned()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use fvm_vmm::api::{NicReport, Note, REPORT_VERSION, VmState};

    #[test]
    fn a_hook_is_told_what_fast_vms_are() {
        let vm = VmReport {
            version: REPORT_VERSION,
            number: 42.into(),
            name: "fvm-debian-42".parse().unwrap(),
            uuid: String::new(),
            image: "debian".into(),
            profile: None,
            owner_uid: 0,
            state: VmState::Stopped,
            cause: None,
            address: [192, 168, 22, 42].into(),
            nics: vec![NicReport {
                card: 0,
                mac: "52:54:00:00:00:2a".into(),
                network: "fvm0".into(),
                tap: None,
                address: None,
            }],
            disk_bytes: 1,
            disk_device: None,
            disks: Vec::new(),
            memory_mib: 1,
            cpus: 1,
            pid: None,
            accelerator: None,
            created_at_s: 0,
            lifetime: None,
            group: None,
            used_at_s: 0,
            note: Note::default(),
            started_at_s: None,
        };
        let network = NetworkReport {
            name: "fvm0".into(),
            subnet: "192.168.22.0/24".into(),
            gateway: [192, 168, 22, 1].into(),
            first_number: 20,
            last_number: 220,
            dns_trouble: None,
        };
        let told = variables(HookKind::Create, &vm, &network);
        let value = |wanted: &str| {
            let mut found = told.iter().filter(|(name, _)| *name == wanted);
            found.next().map(|(_, value)| value.clone()).unwrap()
        };
        assert_eq!(value("VM_HEX_NUMBER"), "2a");
        assert_eq!(value("SUBNET_NUMBER"), "22");
        assert_eq!(value("VM_MAC"), "52:54:00:00:00:2a");
        assert_eq!(
            format!("/dev/{}/{}", value("THINPOOL_VG"), value("VM_NAME")),
            "/dev/fvm/fvm-debian-42"
        );
        let base = VmReport {
            number: fvm_vmm::api::VmNumber::BASE,
            address: [192, 168, 22, 19].into(),
            ..vm
        };
        let told = variables(HookKind::Create, &base, &network);
        assert!(told.contains(&("VM_NUMBER", "19".to_owned())), "{told:?}");
    }
}
