//! The host as fvm uses it: its configuration, its pool, its network, and whether KVM works.

use super::{
    HostState, Manager,
    error::{Result, failed, file},
    networks::{GuestNetwork, Networks, dns_trouble},
    not_initialised, templates,
};
use crate::{
    api::{
        ApiError, ErrorKind, HostReport, KvmOffers, KvmReport, NetworkReport, PoolReport,
        REPORT_VERSION, VmNumber,
    },
    config::Config,
    domain::Arch,
    kvm::{self, KvmHealth},
    store::{PoolRow, Store, VolumeRow},
};
use fvm_netd::{HostId, MacAddr, names::Nic, net};
use fvm_thin::{Backing, Bytes, Flush, Outcome, Pool, PoolSpec, VolumeSpec};
use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// The pool's short name, part of every device's name.
pub(super) const POOL_NAME: &str = "main";
/// How long the self-test of KVM may take.
const KVM_TEST_TIMEOUT: Duration = Duration::from_secs(10);
/// This very program, also after another was installed in its place.
const OWN_PROGRAM: &str = "/proc/self/exe";
/// How long a good result of it is believed.
const KVM_TEST_VALID: Duration = Duration::from_secs(300);

/// What a host that is set up has.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) config: Config,
    pub(super) id: HostId,
    pub(super) network: net::Network,
    /// The networks beside it.
    pub(super) others: Arc<Networks>,
    /// Why no DNS is served to guests, if so.
    pub(super) dns_trouble: Option<String>,
    pub(super) pool: Pool,
    /// All of the host's memory.
    pub(super) memory_mib: u64,
}

impl Host {
    /// The address that VM `number` always has.
    pub(super) fn address(&self, number: VmNumber) -> Result<Ipv4Addr> {
        let host_number = self.host_number(number)?;
        self.config.subnet.host(host_number).ok_or_else(|| {
            ApiError::new(
                ErrorKind::HostNotAble,
                format!(
                    "VM {number} has no address in {}: was network.subnet changed?",
                    self.config.subnet
                ),
            )
        })
    }

    /// The host part of a VM's address, by which taps and templates know it.
    pub(super) fn host_number(&self, vm: VmNumber) -> Result<u32> {
        self.config.host_number(vm).ok_or_else(|| {
            ApiError::new(
                ErrorKind::HostNotAble,
                "there is no address for the base VM: the one below network.first_number is the gateway's",
            )
            .hint("raise network.first_number in /etc/fvm/fvm.toml, then run `sudo fvm init`")
        })
    }

    /// A network card of a VM.
    pub(super) fn nic(&self, vm: VmNumber, index: u8) -> Result<Nic> {
        Nic::new(self.host_number(vm)?, index)
            .map_err(|error| failed(format!("naming a card of VM {vm}"), &error))
    }

    /// DNS servers for guests on a network of fvm's: those configured, else fvm's own, else the host's.
    pub(super) fn dns(&self, network: &GuestNetwork) -> Result<Vec<Ipv4Addr>> {
        match &network.own {
            Some(own) if self.config.dns.is_empty() && network.dns_trouble.is_none() => {
                Ok(vec![own.gateway])
            }
            _ if self.config.dns.is_empty() => net::host_resolvers()
                .map_err(|error| failed("finding DNS servers for guests", &error)),
            _ => Ok(self.config.dns.clone()),
        }
    }

    /// How a volume is activated.
    pub(super) fn volume_spec(&self, row: &VolumeRow) -> Result<VolumeSpec> {
        Ok(VolumeSpec {
            id: super::journal::thin_id(row.thin_id)?,
            uuid: parse_uuid(&row.uuid)?,
            size: Bytes(row.size_bytes),
        })
    }

    /// The same in whole chunks, for work on a volume that nobody uses: a discard frees no others.
    pub(super) fn whole_chunks(&self, row: &VolumeRow) -> Result<VolumeSpec> {
        let spec = self.volume_spec(row)?;
        Ok(VolumeSpec {
            size: spec
                .size
                .round_up(self.pool.spec().chunk)
                .unwrap_or(spec.size),
            ..spec
        })
    }
}

pub(super) fn parse_uuid(text: &str) -> Result<uuid::Uuid> {
    text.parse()
        .map_err(|error| failed("the state store holds a malformed UUID", &error))
}

/// How the pool in the store is made up.
pub(super) fn pool_spec(row: &PoolRow) -> Result<PoolSpec> {
    let backing = |half: &crate::store::BackingRow| {
        let path = PathBuf::from(&half.path);
        if half.is_device {
            Backing::Device { path }
        } else {
            Backing::File { path }
        }
    };
    let data_size = Bytes(row.pool.data_bytes);
    Ok(PoolSpec {
        name: row
            .pool
            .name
            .clone()
            .try_into()
            .map_err(|error: fvm_thin::InvalidId| {
                failed("the state store holds a malformed pool name", &error)
            })?,
        uuid: parse_uuid(&row.pool.uuid)?,
        data: backing(&row.pool.data),
        data_size,
        metadata: backing(&row.pool.metadata),
        spare: backing(&row.pool.spare),
        chunk: Bytes(row.pool.chunk_bytes),
        // Of no meaning but for a pool that is brought up, where the configuration has it.
        low_water: Bytes(0),
    })
}

/// The network that the configuration asks for.
pub(super) fn network(config: &Config, id: &HostId) -> Result<net::Network> {
    let gateway = config.subnet.host(1).ok_or_else(|| {
        ApiError::new(
            ErrorKind::HostNotAble,
            format!("{} has no room for a gateway", config.subnet),
        )
    })?;
    Ok(net::Network {
        bridge: fvm_netd::names::DEFAULT_BRIDGE.to_owned(),
        mac: MacAddr::of_bridge(id),
        subnet: config.subnet,
        gateway,
        mtu: config.mtu,
        mode: net::Mode::Nat,
        forwards: Vec::new(),
    })
}

/// All of the host's memory, from `/proc/meminfo`.
pub(super) fn total_memory_mib() -> Result<u64> {
    let path = Path::new("/proc/meminfo");
    let text = std::fs::read_to_string(path).map_err(|error| file("reading", path, &error))?;
    text.lines()
        .find_map(|line| {
            line.strip_prefix("MemTotal:")?
                .trim()
                .strip_suffix(" kB")?
                .parse::<u64>()
                .ok()
        })
        .map(|kib| kib / 1024)
        .ok_or_else(|| ApiError::new(ErrorKind::Failed, "/proc/meminfo does not say MemTotal"))
}

impl Manager {
    /// The pool's row, or that the host is not set up.
    pub(super) fn pool_row(store: &Store) -> Result<PoolRow> {
        store.pool()?.ok_or_else(not_initialised)
    }

    /// The most processors that KVM gives a VM here, if it works.
    pub(super) fn most_cpus(&self) -> Option<u32> {
        offers(&self.kvm.health()).map(|offers| offers.max_vcpus)
    }

    /// What there is to say of the host.
    ///
    /// # Errors
    /// When the store fails.
    pub fn host_report(&self) -> Result<HostReport> {
        let kvm = self.kvm.health();
        let mut report = HostReport {
            version: REPORT_VERSION,
            daemon_version: env!("CARGO_PKG_VERSION").to_owned(),
            initialised: self.finished_pool()?.is_some(),
            trouble: None,
            pool: None,
            network: None,
            kvm: KvmReport {
                works: matches!(kvm, KvmHealth::Works),
                detail: describe(&kvm),
                offers: offers(&kvm),
            },
            templates: templates::names(&self.paths),
        };
        match self.host() {
            Ok(host) => {
                report.pool = Some(self.pool_report(&host)?);
                report.network = Some(NetworkReport {
                    name: host.network.bridge.clone(),
                    subnet: host.network.subnet.to_string(),
                    gateway: host.network.gateway,
                    first_number: host.config.first_number,
                    last_number: host.config.last_number,
                    dns_trouble: host.dns_trouble.clone(),
                });
                report.trouble = self
                    .netd
                    .trouble()
                    .or_else(|| self.pool_trouble(&host.pool));
            }
            Err(error) if report.initialised => report.trouble = Some(error.message),
            Err(_) => {}
        }
        Ok(report)
    }

    fn pool_report(&self, host: &Host) -> Result<PoolReport> {
        let row = Self::pool_row(&self.store)?;
        let status = host
            .pool
            .status(Flush::None)
            .map_err(|error| failed("reading the thin pool's status", &error))?;
        Ok(PoolReport {
            data_path: row.pool.data.path,
            data_bytes: status.data.total.0,
            data_used_bytes: status.data.used.0,
            metadata_bytes: status.metadata.total.0,
            metadata_used_bytes: status.metadata.used.0,
            chunk_bytes: row.pool.chunk_bytes,
            transaction_id: status.transaction.0,
            health: if status.is_well() {
                "ok".into()
            } else {
                status.health()
            },
        })
    }

    /// Brings a host that has been set up into working order: at start, and at the end of `init`.
    pub(super) fn bring_up(self: &Arc<Self>) -> Result<()> {
        let result = self.try_bring_up();
        self.set_host(match &result {
            Ok(Some(host)) => HostState::Ready(host.clone()),
            Ok(None) => HostState::NotInitialised,
            Err(error) => HostState::Trouble(
                ApiError {
                    kind: ErrorKind::HostNotAble,
                    ..error.clone()
                }
                .hint(
                    error
                        .hint
                        .clone()
                        .unwrap_or_else(|| "`sudo fvm init` checks everything again".into()),
                ),
            ),
        });
        match result? {
            Some(host) => self.reconcile(&host),
            None => Ok(()),
        }
    }

    fn try_bring_up(&self) -> Result<Option<Arc<Host>>> {
        let (Some(config), Some(row)) = (Config::load(&self.paths.config)?, self.finished_pool()?)
        else {
            return Ok(None);
        };
        let id = HostId::of_this_host().map_err(|error| failed("identifying this host", &error))?;
        let network = self.with_forwards(&network(&config, &id)?, &config)?;
        let report = net::ensure_network(&network)
            .map_err(|error| failed("bringing the network up", &error))?;
        self.note_changes(&report.changes)?;
        for warning in &report.warnings {
            tracing::warn!("{warning}");
        }
        let dns_trouble = dns_trouble(network.gateway);
        let others = Arc::new(self.bring_networks_up(&config, &id)?);
        let mut spec = pool_spec(&row)?;
        spec.low_water = config.pool.low_water(spec.data_size);
        let pool = Pool::activate(spec).map_err(|error| {
            failed("activating the thin pool", &error)
                .hint("if its metadata are damaged, `sudo fvm pool repair` is the way back")
        })?;
        // Held by nobody of this process, so by an fvmd that was killed.
        match pool.release_stale_metadata_snapshot() {
            Ok(Outcome::Unchanged) => {}
            Ok(Outcome::Changed) => tracing::warn!("released a metadata snapshot that was left"),
            Err(error) => tracing::warn!(%error, "cannot release a metadata snapshot"),
        }
        // A pool that takes no change must not keep VMs that run from being looked after.
        if let Err(error) = self.journal.recover(&self.store, &pool) {
            tracing::error!(error = %error.message, "pool and store are not in step");
        }
        let memory_mib = total_memory_mib()?;
        Ok(Some(Arc::new(Host {
            config,
            id,
            network,
            others,
            dns_trouble,
            pool,
            memory_mib,
        })))
    }
}

/// Refuses more processors than KVM gives a VM here: `most`. A guest of another kind of processor is emulated anyhow.
pub(super) fn check_cpus(arch: Arch, cpus: u32, most: Option<u32>) -> Result<()> {
    match most {
        Some(most) if cpus > most && Arch::HOST == Some(arch) => Err(ApiError::new(
            ErrorKind::HostNotAble,
            format!("{cpus} processors are too many: KVM on this host gives a VM {most} at most"),
        )),
        _ => Ok(()),
    }
}

/// What KVM offers, if it works.
fn offers(health: &KvmHealth) -> Option<KvmOffers> {
    matches!(health, KvmHealth::Works)
        .then(|| kvm::probe().ok())
        .flatten()
}

/// What the self-test found, in words.
pub(super) fn describe(health: &KvmHealth) -> String {
    match health {
        KvmHealth::Works => match offers(health) {
            Some(offers) => {
                let nested = match offers.nested {
                    Some(true) => "; guests may use KVM themselves",
                    Some(false) => "; guests may not use KVM themselves",
                    None => "",
                };
                format!(
                    "KVM works; up to {} processors for a VM, {} are advisable{nested}",
                    offers.max_vcpus, offers.recommended_vcpus
                )
            }
            None => "KVM works".into(),
        },
        KvmHealth::Missing => format!("there is no {}", kvm::DEVICE),
        KvmHealth::Fails(reason) => format!("KVM does not work: {reason}"),
    }
}

/// The last result of KVM's self-test.
#[derive(Debug, Default)]
pub(super) struct KvmCache {
    last: Mutex<Option<(Instant, KvmHealth)>>,
}

impl KvmCache {
    /// Whether KVM works. A bad result is tried again each time, a good one every few minutes.
    pub(super) fn health(&self) -> KvmHealth {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((tested, health)) = &*last
            && matches!(health, KvmHealth::Works)
            && tested.elapsed() < KVM_TEST_VALID
        {
            return health.clone();
        }
        let health = kvm::self_test(Path::new(OWN_PROGRAM), KVM_TEST_TIMEOUT);
        *last = Some((Instant::now(), health.clone()));
        health
    }
}
