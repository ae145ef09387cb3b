//! The one place where names of device-mapper devices are made and read back.
//!
//! | device | name | uuid |
//! |---|---|---|
//! | volume | `fvm-<pool>-<thin id>` | `FVM-<pool uuid>-<volume uuid>` |
//! | the pool and its parts | `fvm-<pool>-pool`, `-data`, `-meta`, `-spare` | `FVM-<pool uuid>-pool`, … |
//!
//! Uuids are 32 hexadecimal digits. A device is fvm's only if name *and* uuid read back as a pair that
//! this module would make; anything else on the host is somebody else's and never touched.

use uuid::Uuid;

use crate::id::{PoolName, ThinId};

/// The longest name or uuid that device-mapper takes: `DM_NAME_LEN` (128) in `linux/dm-ioctl.h` less
/// the final NUL; uuids may be one longer.
pub const MAX_LEN: usize = 127;

const NAME_PREFIX: &str = "fvm-";
const UUID_PREFIX: &str = "FVM-";
const UUID_LEN: usize = uuid::fmt::Simple::LENGTH;
/// Decimal digits of the largest 24-bit number, and the longest [`Part`] suffix.
const LONGEST_NAME_SUFFIX: usize = 8;

// Every name and every uuid fits, whatever the pool, the volume and the id.
const _: () = {
    assert!(NAME_PREFIX.len() + PoolName::MAX_LEN + 1 + LONGEST_NAME_SUFFIX <= MAX_LEN);
    assert!(UUID_PREFIX.len() + UUID_LEN + 1 + UUID_LEN <= MAX_LEN);
    assert!(ThinId::MAX.get() < 10_u32.pow(LONGEST_NAME_SUFFIX as u32));
};

/// The devices that make up a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The `thin-pool` target itself.
    Pool,
    /// Where blocks of volumes lie.
    Data,
    /// Where the kernel notes which block belongs to which volume.
    Metadata,
    /// As large as the metadata, for a repair to write to.
    Spare,
}

impl Part {
    const ALL: [Self; 4] = [Self::Pool, Self::Data, Self::Metadata, Self::Spare];

    /// The end of the device's name and uuid.
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Pool => "pool",
            Self::Data => "data",
            Self::Metadata => "meta",
            Self::Spare => "spare",
        }
    }
}

/// What a device of fvm's is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// The pool or one of its parts.
    Part(Part),
    /// A thin volume.
    Volume {
        /// Its number inside the pool.
        id: ThinId,
        /// Its identity in the store.
        uuid: Uuid,
    },
}

/// Whose a device is: everything that its name and uuid say.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// The pool's short name.
    pub pool: PoolName,
    /// The pool's identity.
    pub pool_uuid: Uuid,
    /// Which of the pool's devices.
    pub kind: Kind,
}

impl Identity {
    /// The device-mapper name.
    pub fn name(&self) -> String {
        let pool = &self.pool;
        match self.kind {
            Kind::Part(part) => format!("{NAME_PREFIX}{pool}-{}", part.suffix()),
            Kind::Volume { id, .. } => volume_name(pool, id),
        }
    }

    /// The device-mapper uuid.
    pub fn uuid(&self) -> String {
        let pool = self.pool_uuid.simple();
        match self.kind {
            Kind::Part(part) => format!("{UUID_PREFIX}{pool}-{}", part.suffix()),
            Kind::Volume { uuid, .. } => format!("{UUID_PREFIX}{pool}-{}", uuid.simple()),
        }
    }

    /// Reads a device's name and uuid back; `None` if they are not a pair that fvm makes.
    pub fn parse(name: &str, uuid: &str) -> Option<Self> {
        let (pool, name_suffix) = name.strip_prefix(NAME_PREFIX)?.split_once('-')?;
        let (pool_uuid, uuid_suffix) = uuid.strip_prefix(UUID_PREFIX)?.split_once('-')?;
        let kind = match Part::ALL.into_iter().find(|p| p.suffix() == name_suffix) {
            Some(part) => Kind::Part(part),
            None => Kind::Volume {
                id: ThinId::try_from(name_suffix.parse::<u64>().ok()?).ok()?,
                uuid: Uuid::try_parse(uuid_suffix).ok()?,
            },
        };
        let identity = Self {
            pool: PoolName::try_from(pool).ok()?,
            pool_uuid: Uuid::try_parse(pool_uuid).ok()?,
            kind,
        };
        // One spelling only: "007", "+7" and uuids in capitals are not ours.
        (identity.name() == name && identity.uuid() == uuid).then_some(identity)
    }
}

/// The name of a volume's device, for looking one up whose uuid is not known.
pub(crate) fn volume_name(pool: &PoolName, id: ThinId) -> String {
    format!("{NAME_PREFIX}{pool}-{id}")
}

/// Whether a name looks like fvm's; the uuid still has to agree.
pub(crate) fn is_candidate(name: &str) -> bool {
    name.starts_with(NAME_PREFIX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const POOL: &str = "FVM-00112233445566778899aabbccddeeff";
    const VOLUME: &str = "ffeeddccbbaa99887766554433221100";

    fn identities() -> Vec<Identity> {
        let kinds = Part::ALL.map(Kind::Part).into_iter().chain([
            Kind::Volume {
                id: ThinId::try_from(0).unwrap(),
                uuid: Uuid::nil(),
            },
            Kind::Volume {
                id: ThinId::MAX,
                uuid: Uuid::max(),
            },
        ]);
        kinds
            .map(|kind| Identity {
                pool: "pool1234".try_into().unwrap(),
                pool_uuid: Uuid::max(),
                kind,
            })
            .collect()
    }

    #[test]
    fn names_read_back() {
        for identity in identities() {
            let (name, uuid) = (identity.name(), identity.uuid());
            assert!(name.len() <= MAX_LEN && uuid.len() <= MAX_LEN);
            assert_eq!(Identity::parse(&name, &uuid), Some(identity));
        }
    }

    #[test]
    fn names_are_as_documented() {
        let identity = Identity::parse("fvm-main-42", &format!("{POOL}-{VOLUME}")).unwrap();
        assert_eq!(identity.pool.as_str(), "main");
        assert!(matches!(identity.kind, Kind::Volume { id, .. } if id.get() == 42));
        let identity = Identity::parse("fvm-main-pool", &format!("{POOL}-pool")).unwrap();
        assert_eq!(identity.kind, Kind::Part(Part::Pool));
    }

    #[test]
    fn what_is_not_exactly_ours_is_not_ours() {
        let volume = format!("{POOL}-{VOLUME}");
        for (name, uuid) in [
            ("vg-lv", "LVM-whatever"),
            ("fvm-main-42", ""),
            ("fvm-main-42", "FVM-"),
            ("fvm-main-42", POOL),
            ("fvm-main-042", &volume),
            ("fvm-main-+42", &volume),
            ("fvm-main-16777216", &volume),
            ("fvm-Main-42", &volume),
            ("fvm-main-", &volume),
            ("fvm-main", &volume),
            ("xfvm-main-42", &volume),
            ("fvm-main-42", &volume.to_uppercase()),
            ("fvm-main-42", &format!("{POOL}-pool")),
            ("fvm-main-pool", &volume),
            ("fvm-main-data", &format!("{POOL}-meta")),
            ("fvm-main-42-1", &volume),
        ] {
            assert_eq!(Identity::parse(name, uuid), None, "{name} {uuid}");
        }
    }
}
