//! `init`: the host is made ready, or brought back to what is configured.
//!
//! Everything is checked before anything is touched. Done again, it changes only what differs, and says
//! of each thing whether it did.

use super::{
    Manager, Progress,
    error::{Result, failed, file},
    host::{self, POOL_NAME},
    whole_file,
};
use crate::{
    api::{ApiError, Change, ErrorKind, InitReport, InitRequest, REPORT_VERSION},
    config::{Config, DEFAULT_SUBNET},
    manager::Caller,
    store::{BackingRow, NewPool, PoolRow},
};
use fvm_netd::{HostId, Subnet, net};
use fvm_thin::{Backing, Bytes, DEFAULT_CHUNK, Pool, PoolSpec};
use std::{fs, path::Path, process::Command, sync::Arc};
use uuid::Uuid;

/// Setting: IPv4 forwarding was off before fvm turned it on.
pub(super) const IP_FORWARD_IS_OURS: &str = "ip_forward_is_ours";

/// Setting: the pool in the store was being made when that was interrupted.
const POOL_IS_UNFINISHED: &str = "pool_is_unfinished";

/// The least that a pool is of use with.
const MIN_POOL: Bytes = Bytes::gib(1);
/// The most that is proposed.
const MAX_PROPOSED_POOL: Bytes = Bytes::gib(1024);

/// What `init` is going to do, checked.
struct Plan {
    /// The text of a configuration to be written; none if there is one.
    new_config: Option<String>,
    /// A pool to be made; none if there is one.
    new_pool: Option<NewPool>,
    changes: Vec<Change>,
}

impl Manager {
    /// Sets the host up, or brings it back to what is configured.
    ///
    /// # Errors
    /// When the caller is not root, the request cannot be done here (then nothing was touched), or a step
    /// failed.
    pub fn init(
        self: &Arc<Self>,
        caller: Caller,
        request: &InitRequest,
        progress: &Progress,
    ) -> Result<InitReport> {
        if !caller.is_root() {
            return Err(
                ApiError::new(ErrorKind::Refused, "only root may set the host up")
                    .hint("run it as root: `sudo fvm init`"),
            );
        }
        let _alone = self.setup_lock.lock(());
        progress.step(None, "checking this host");
        let plan = self.plan_init(request)?;
        if request.dry_run {
            return Ok(InitReport {
                version: REPORT_VERSION,
                changes: plan.changes,
            });
        }
        if let Some(pool) = &plan.new_pool {
            progress.step(None, "making the thin pool");
            self.drop_unfinished_pool()?;
            self.make_pool(pool)?;
        }
        if let Some(text) = &plan.new_config {
            progress.step(None, format!("writing {}", self.paths.config.display()));
            whole_file::write(&self.paths.config, text)?;
        }
        progress.step(None, "bringing up the pool and the network");
        self.bring_up()?;
        tracing::info!(uid = caller.uid, "init done");
        Ok(InitReport {
            version: REPORT_VERSION,
            changes: plan.changes,
        })
    }

    fn plan_init(&self, request: &InitRequest) -> Result<Plan> {
        check_kernel()?;
        let mut changes = Vec::new();
        let mut say = |what: &str, state: String, changed| {
            changes.push(Change {
                what: what.to_owned(),
                state,
                changed,
            });
        };

        let config_path = &self.paths.config;
        let shown = config_path.display().to_string();
        let wanted: Option<Subnet> = match &request.subnet {
            Some(text) => Some(
                text.parse()
                    .map_err(|error| usage(format!("'{}': {error}", text.escape_debug())))?,
            ),
            None => None,
        };
        let (config, new_config) = match Config::load(config_path)? {
            Some(config) => {
                if let Some(wanted) = wanted.filter(|wanted| *wanted != config.subnet) {
                    return Err(ApiError::new(
                        ErrorKind::Refused,
                        format!("{shown} says subnet {}, not {wanted}", config.subnet),
                    )
                    .hint("change network.subnet there, then run `fvm init` without --subnet"));
                }
                say("configuration", format!("{shown} is in order"), false);
                (config, None)
            }
            None => {
                let subnet = match wanted {
                    Some(subnet) => subnet,
                    None => DEFAULT_SUBNET
                        .parse()
                        .map_err(|error| failed("the default subnet", &error))?,
                };
                let text = Config::new_file(&subnet);
                say(
                    "configuration",
                    format!("{shown} with subnet {subnet}"),
                    true,
                );
                (Config::parse(&text, config_path)?, Some(text))
            }
        };
        self.check_vms_keep_their_addresses(&config)?;

        let id = HostId::of_this_host().map_err(|error| failed("identifying this host", &error))?;
        let network = host::network(&config, &id)?;
        net::check_conflicts(&network).map_err(|error| {
            let api = ApiError::from_error(ErrorKind::Refused, &error);
            match new_config {
                Some(_) => api.hint("choose another: `fvm init --subnet 10.77.0.0/24`"),
                None => api.hint(format!("choose another network.subnet in {shown}")),
            }
        })?;
        let bridge_is_there = Path::new("/sys/class/net").join(&network.bridge).exists();
        say(
            "network",
            format!(
                "bridge {} with {}/{} and NAT",
                network.bridge,
                network.gateway,
                network.subnet.prefix()
            ),
            !bridge_is_there,
        );

        let new_pool = match self.finished_pool()? {
            Some(row) => {
                check_same_pool(&row, request)?;
                say(
                    "pool",
                    format!("{} in {}", Bytes(row.pool.data_bytes), row.pool.data.path),
                    false,
                );
                None
            }
            None => {
                let pool = self.plan_pool(request)?;
                say(
                    "pool",
                    format!("{} in {}", Bytes(pool.data_bytes), pool.data.path),
                    true,
                );
                Some(pool)
            }
        };
        Ok(Plan {
            new_config,
            new_pool,
            changes,
        })
    }

    /// The subnet can be changed only while nobody has an address in it.
    fn check_vms_keep_their_addresses(&self, config: &Config) -> Result<()> {
        let host = self.host().ok();
        let changed = host
            .as_ref()
            .is_some_and(|host| host.config.subnet != config.subnet);
        if changed && !self.store.vms()?.is_empty() {
            return Err(ApiError::new(
                ErrorKind::Refused,
                format!(
                    "network.subnet was changed to {} while there are VMs",
                    config.subnet
                ),
            )
            .hint("delete them, or put network.subnet back"));
        }
        let base = crate::api::VmNumber::BASE;
        let moved =
            host.is_some_and(|host| host.config.host_number(base) != config.host_number(base));
        if moved && self.store.vm(base)?.is_some() {
            return Err(ApiError::new(
                ErrorKind::Refused,
                "network.first_number was changed while there is a base VM, which has the address below it",
            )
            .hint("`fvm delete base`, or put network.first_number back"));
        }
        Ok(())
    }

    fn plan_pool(&self, request: &InitRequest) -> Result<NewPool> {
        let dir = self.paths.pool_dir();
        let backing = |device: &Option<String>, file: &str| match device {
            Some(path) => BackingRow {
                is_device: true,
                path: path.clone(),
            },
            None => BackingRow {
                is_device: false,
                path: dir.join(file).display().to_string(),
            },
        };
        if request.metadata_device.is_some() && request.data_device.is_none() {
            return Err(usage("--metadata goes with --data"));
        }
        let data = backing(&request.data_device, "data");
        let data_bytes = match (&request.data_device, request.pool_bytes) {
            (Some(_), Some(_)) => {
                return Err(usage(
                    "--size is for a pool in a file; a device is used whole",
                ));
            }
            (Some(path), None) => {
                Pool::capacity(&Backing::Device { path: path.into() }, DEFAULT_CHUNK)
                    .map_err(|error| ApiError::from_error(ErrorKind::Refused, &error))?
            }
            (None, wanted) => self.file_pool_size(wanted)?,
        };
        let chunk = PoolSpec::chunk_for(data_bytes);
        Ok(NewPool {
            name: POOL_NAME.to_owned(),
            uuid: Uuid::new_v4().to_string(),
            data,
            data_bytes: data_bytes.round_down(chunk).0,
            metadata: backing(&request.metadata_device, "metadata"),
            spare: backing(&None, "metadata-spare"),
            chunk_bytes: chunk.0,
        })
    }

    /// The size of a pool in a sparse file: as asked for, or half of what is free.
    fn file_pool_size(&self, wanted: Option<u64>) -> Result<Bytes> {
        let dir = &self.paths.state_dir;
        let stat = nix::sys::statvfs::statvfs(dir)
            .map_err(|error| failed(format!("looking at {}", dir.display()), &error))?;
        let available = Bytes(stat.blocks_available() * stat.fragment_size());
        let size = wanted.map_or_else(
            || {
                Bytes(available.0 / 2)
                    .min(MAX_PROPOSED_POOL)
                    .round_down(Bytes::gib(1))
            },
            Bytes,
        );
        if size < MIN_POOL {
            return Err(match wanted {
                Some(_) => usage(format!(
                    "a pool of {size} is too small: at least {MIN_POOL}"
                )),
                None => ApiError::new(
                    ErrorKind::HostNotAble,
                    format!(
                        "there is too little space in {}: {} MiB are free",
                        dir.display(),
                        available.0 >> 20
                    ),
                )
                .hint("make room, or give a block device: `fvm init --data DEVICE`"),
            });
        }
        if size > available {
            return Err(usage(format!(
                "a pool of {size} does not fit in {}, where {} MiB are free",
                dir.display(),
                available.0 >> 20
            )));
        }
        Ok(size)
    }

    /// Makes a pool. Its row comes first, marked as unfinished, so that one that was interrupted is
    /// found by its row and taken away before the next is made.
    fn make_pool(&self, new: &NewPool) -> Result<()> {
        let dir = self.paths.pool_dir();
        fs::create_dir_all(&dir).map_err(|error| file("making", &dir, &error))?;
        let spec = host::pool_spec(&PoolRow {
            pool: new.clone(),
            transaction_id: 0,
        })?;
        self.store.set_setting(POOL_IS_UNFINISHED, "yes")?;
        self.store.insert_pool(new)?;
        if let Err(error) = Pool::format(&spec) {
            // Format leaves nothing of its own behind; the directory stays if it was there and is in use.
            let _ = fs::remove_dir(&dir);
            self.store.delete_pool()?;
            self.store.clear_setting(POOL_IS_UNFINISHED)?;
            return Err(ApiError {
                kind: ErrorKind::Refused,
                ..failed("making the thin pool", &error)
            });
        }
        Ok(self.store.clear_setting(POOL_IS_UNFINISHED)?)
    }

    /// The pool, unless its making was interrupted.
    pub(super) fn finished_pool(&self) -> Result<Option<PoolRow>> {
        Ok(match self.store.setting(POOL_IS_UNFINISHED)? {
            Some(_) => None,
            None => self.store.pool()?,
        })
    }

    /// Takes away what an interrupted `init` has left of a pool.
    fn drop_unfinished_pool(&self) -> Result<()> {
        if self.store.setting(POOL_IS_UNFINISHED)?.is_none() {
            return Ok(());
        }
        if let Some(row) = self.store.pool()? {
            let spec = host::pool_spec(&row)?;
            Pool::destroy(&spec)
                .map_err(|error| failed("taking an unfinished pool away", &error))?;
            self.store.delete_pool()?;
        }
        Ok(self.store.clear_setting(POOL_IS_UNFINISHED)?)
    }
}

fn usage(message: impl Into<String>) -> ApiError {
    ApiError::new(ErrorKind::Usage, message)
}

/// A pool that is there is not made anew, so what is asked for must be what it is.
fn check_same_pool(row: &PoolRow, request: &InitRequest) -> Result<()> {
    let pool = &row.pool;
    let other = |what: &str, is: String, wanted: String| {
        Err(ApiError::new(
            ErrorKind::Refused,
            format!("the pool's {what} is {is}, not {wanted}"),
        )
        .hint("the pool is there already; leave this option out"))
    };
    if let Some(bytes) = request.pool_bytes.filter(|bytes| *bytes != pool.data_bytes) {
        return other(
            "size",
            Bytes(pool.data_bytes).to_string(),
            Bytes(bytes).to_string(),
        );
    }
    for (what, backing, wanted) in [
        ("data", &pool.data, &request.data_device),
        ("metadata", &pool.metadata, &request.metadata_device),
    ] {
        if let Some(wanted) = wanted.as_ref().filter(|wanted| **wanted != backing.path) {
            return other(what, backing.path.clone(), wanted.clone());
        }
    }
    Ok(())
}

/// What mends a kernel that lacks something.
const FULL_KERNEL: &str = "boot a distribution's full kernel: those made for clouds and containers often leave modules out";

/// Refuses a kernel without what everything here is made of.
fn check_kernel() -> Result<()> {
    // (module, what shows that it is there, what it is for)
    const NEEDED: [(&str, &str, &str); 3] = [
        ("loop", "/dev/loop-control", "a pool in a file"),
        ("tun", "/dev/net/tun", "network cards of VMs"),
        ("bridge", "/sys/module/bridge", "the network"),
    ];
    fvm_thin::probe()
        .map_err(|error| ApiError::from_error(ErrorKind::HostNotAble, &error).hint(FULL_KERNEL))?;
    let mut missing = Vec::new();
    for (module, sign, purpose) in NEEDED {
        // Loading is harmless and quick when it is there already; a module that is built in has no file.
        let loaded = Path::new(sign).exists()
            || Command::new("modprobe")
                .arg(module)
                .output()
                .is_ok_and(|out| out.status.success())
                && Path::new(sign).exists();
        if !loaded {
            missing.push(format!("{module} ({purpose})"));
        }
    }
    if !Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        missing.push("cgroup v2 (limits of VMs)".to_owned());
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(ApiError::new(
        ErrorKind::HostNotAble,
        format!("this kernel lacks {}", missing.join(", ")),
    )
    .hint(FULL_KERNEL))
}
