//! Lease times: never out of order, never for ever.

use serde::{Deserialize, Serialize};

use super::BindingError;

/// How long a lease lasts and when the client is to renew it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "LeaseTimesForm", into = "LeaseTimesForm")]
pub struct LeaseTimes {
    lease_s: u32,
    renew_s: u32,
    rebind_s: u32,
}

#[derive(Serialize, Deserialize)]
struct LeaseTimesForm {
    lease_s: u32,
    renew_s: u32,
    rebind_s: u32,
}

/// The lease a client gets that asks for one too short to be of use, unless the network's is shorter.
const SHORTEST_ASKED_S: u32 = 120;

impl LeaseTimes {
    /// A lease of so many seconds, with T1 at a half and T2 at seven eighths (RFC 2131, 4.4.5).
    pub fn of_lease(lease_s: u32) -> Result<Self, BindingError> {
        let eighth = u64::from(lease_s) * 7 / 8;
        LeaseTimes::new(
            lease_s,
            lease_s / 2,
            u32::try_from(eighth).unwrap_or(lease_s),
        )
    }

    /// Lease, T1 and T2 in seconds.
    pub fn new(lease_s: u32, renew_s: u32, rebind_s: u32) -> Result<Self, BindingError> {
        // All ones would mean "for ever" (RFC 2132, 9.2).
        if renew_s == 0 || renew_s > rebind_s || rebind_s > lease_s || lease_s == u32::MAX {
            return Err(BindingError::Lease {
                lease_s,
                renew_s,
                rebind_s,
            });
        }
        Ok(LeaseTimes {
            lease_s,
            renew_s,
            rebind_s,
        })
    }

    /// The lease, in seconds.
    pub const fn lease_s(self) -> u32 {
        self.lease_s
    }

    /// T1, in seconds: when the client asks this server for more time.
    pub const fn renew_s(self) -> u32 {
        self.renew_s
    }

    /// T2, in seconds: when it asks any server.
    pub const fn rebind_s(self) -> u32 {
        self.rebind_s
    }

    /// The times for a client that asks for a lease of so many seconds: never longer than ours, and
    /// not shorter than is of use.
    pub fn asked(self, lease_s: u32) -> Self {
        let granted = lease_s.max(SHORTEST_ASKED_S).min(self.lease_s);
        let part = |time: u32| {
            let scaled = u64::from(time) * u64::from(granted) / u64::from(self.lease_s);
            u32::try_from(scaled).unwrap_or(granted).max(1)
        };
        LeaseTimes {
            lease_s: granted,
            renew_s: part(self.renew_s),
            rebind_s: part(self.rebind_s),
        }
    }
}

impl Default for LeaseTimes {
    /// One hour, renewed every half.
    fn default() -> Self {
        LeaseTimes {
            lease_s: 3600,
            renew_s: 1800,
            rebind_s: 3150,
        }
    }
}

impl TryFrom<LeaseTimesForm> for LeaseTimes {
    type Error = BindingError;

    fn try_from(form: LeaseTimesForm) -> Result<Self, BindingError> {
        LeaseTimes::new(form.lease_s, form.renew_s, form.rebind_s)
    }
}

impl From<LeaseTimes> for LeaseTimesForm {
    fn from(times: LeaseTimes) -> Self {
        LeaseTimesForm {
            lease_s: times.lease_s,
            renew_s: times.renew_s,
            rebind_s: times.rebind_s,
        }
    }
}
