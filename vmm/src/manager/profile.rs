//! Profiles: made, listed, deleted, and put in the place of an image when VMs are made.

use super::{
    Manager, Progress,
    create::{Wanted, plan},
    error::Result,
    templates,
};
use crate::{
    api::{
        ApiError, CreateProfile, CreateVms, ErrorKind, Hook, HookKind, InvalidName, MAX_HOOK_BYTES,
        ProfileList, ProfileName, ProfileReport, REPORT_VERSION, VmNumber,
    },
    manager::Caller,
    store::ProfileRow,
};

impl Manager {
    /// Makes a profile.
    ///
    /// # Errors
    /// When the name is taken, there is no such image, or no VM could be made by it.
    pub fn create_profile(
        &self,
        caller: Caller,
        name: &ProfileName,
        request: &CreateProfile,
        progress: &Progress,
    ) -> Result<ProfileReport> {
        let host = self.host()?;
        let _alone = self
            .image_locks
            .lock_all(&[name.to_string(), request.image.to_string()]);
        let refused = |message: String| ApiError::new(ErrorKind::Refused, message);
        if self.store.profile(name.as_str())?.is_some() {
            return Err(
                refused(format!("there is a profile '{name}' already")).hint(format!(
                    "choose another name, or `fvm profile delete {name}` first"
                )),
            );
        }
        if self.store.image(name.as_str())?.is_some() {
            return Err(refused(format!("there is an image '{name}'"))
                .hint("images and profiles are both named in `fvm create`: choose another name"));
        }
        let image = self.image_row(request.image.as_str())?;
        check_hooks(&request.hooks)?;
        let template = match &request.template {
            Some(wanted) => Some(templates::resolve(&self.paths, wanted)?),
            None => None,
        };
        // A profile that no VM could be made by is refused now rather than then.
        let first = VmNumber::new(host.config.first_number);
        let trial = CreateVms {
            image: request.image.clone(),
            vms: first.into(),
            template: template.clone(),
            memory_mib: request.memory_mib,
            cpus: request.cpus,
            group: None,
            ttl_s: None,
            user_data: None,
            ssh_keys: Vec::new(),
        };
        let tried = template.as_ref().unwrap_or(&image.template);
        let wanted = Wanted {
            host: &host,
            caller,
            request: &trial,
            image: &image,
            template: tried,
            own_template: request.template.as_deref(),
            qemu: None,
            most_cpus: self.most_cpus(),
        };
        plan(&wanted, first, progress)?;
        let hooks = request.hooks.iter();
        self.store.insert_profile(&ProfileRow {
            name: name.to_string(),
            image: request.image.to_string(),
            template,
            memory_mib: request.memory_mib,
            cpus: request.cpus,
            owner_uid: caller.uid,
            hooks: hooks
                .map(|hook| (hook.when.as_str().to_owned(), hook.script.clone()))
                .collect(),
        })?;
        tracing::info!(profile = %name, uid = caller.uid, "profile created");
        self.profile(name)
    }

    /// Every profile.
    ///
    /// # Errors
    /// When the host is not set up or the store fails.
    pub fn profile_list(&self) -> Result<ProfileList> {
        self.host()?;
        let profiles = self
            .store
            .profiles()?
            .iter()
            .map(report)
            .collect::<Result<_>>()?;
        Ok(ProfileList {
            version: REPORT_VERSION,
            profiles,
        })
    }

    /// One profile.
    ///
    /// # Errors
    /// When there is none, the host is not set up, or the store fails.
    pub fn profile(&self, name: &ProfileName) -> Result<ProfileReport> {
        self.host()?;
        report(&self.profile_row(name)?)
    }

    fn profile_row(&self, name: &ProfileName) -> Result<ProfileRow> {
        self.store.profile(name.as_str())?.ok_or_else(|| {
            ApiError::new(ErrorKind::NotFound, format!("there is no profile '{name}'"))
                .hint("`fvm profile list` shows the profiles that there are")
        })
    }

    /// Deletes a profile; VMs made by it stay.
    ///
    /// # Errors
    /// When there is none or the store fails.
    pub fn delete_profile(&self, caller: Caller, name: &ProfileName) -> Result<ProfileReport> {
        self.host()?;
        let _alone = self.image_locks.lock(name.to_string());
        let row = self.profile_row(name)?;
        self.store.delete_profile(name.as_str())?;
        tracing::info!(profile = %name, uid = caller.uid, "profile deleted");
        report(&row)
    }

    /// What a request to make VMs asks for if it names a profile: its image, and whatever the request does not say
    /// itself; and the profile's name.
    pub(super) fn apply_profile(&self, request: &CreateVms) -> Result<(CreateVms, Option<String>)> {
        let Some(profile) = self.store.profile(request.image.as_str())? else {
            return Ok((request.clone(), None));
        };
        let said = report(&profile)?;
        let request = CreateVms {
            image: said.image,
            vms: request.vms.clone(),
            template: request.template.clone().or(said.template),
            memory_mib: request.memory_mib.or(said.memory_mib),
            cpus: request.cpus.or(said.cpus),
            group: request.group.clone(),
            ttl_s: request.ttl_s,
            user_data: request.user_data.clone(),
            ssh_keys: request.ssh_keys.clone(),
        };
        Ok((request, Some(profile.name)))
    }
}

fn check_hooks(hooks: &[Hook]) -> Result<()> {
    let usage = |message: String| ApiError::new(ErrorKind::Usage, message);
    for (index, hook) in hooks.iter().enumerate() {
        let when = hook.when;
        if hooks[..index].iter().any(|other| other.when == when) {
            return Err(usage(format!("there are two {when} hooks")));
        }
        if hook.script.len() > MAX_HOOK_BYTES {
            return Err(usage(format!(
                "the {when} hook is {} bytes long: {MAX_HOOK_BYTES} are possible",
                hook.script.len()
            )));
        }
    }
    Ok(())
}

fn report(row: &ProfileRow) -> Result<ProfileReport> {
    let malformed = |error: InvalidName| ApiError::new(ErrorKind::Internal, error.to_string());
    Ok(ProfileReport {
        version: REPORT_VERSION,
        name: row.name.parse().map_err(malformed)?,
        image: row.image.parse().map_err(malformed)?,
        template: row.template.clone(),
        memory_mib: row.memory_mib,
        cpus: row.cpus,
        hooks: row
            .hooks
            .iter()
            .map(|(kind, script)| Hook {
                // The column has a CHECK, so nothing else can be read.
                when: match kind.as_str() {
                    "delete" => HookKind::Delete,
                    _ => HookKind::Create,
                },
                script: script.clone(),
            })
            .collect(),
        owner_uid: row.owner_uid,
    })
}
