//! Whether this host can have a pool at all, asked before anything is touched.

use crate::error::{Error, Result};
use crate::kernel::dm::Dm;

/// The targets that a pool is made of, and the modules that bring them.
const TARGETS: [(&str, &str); 3] = [
    ("linear", "dm_mod"),
    ("thin-pool", "dm_thin_pool"),
    ("thin", "dm_thin_pool"),
];

/// Makes sure that the kernel has device-mapper and every target needed; loads their modules.
///
/// # Errors
/// [`Error::NoDeviceMapper`] or [`Error::NoTarget`] name what is missing.
pub fn probe() -> Result<()> {
    let dm = Dm::open()?;
    for (target, module) in TARGETS {
        match dm.need_target(target) {
            Ok(()) => tracing::debug!(target, "device-mapper target found"),
            Err(source) if source.raw_os_error() == Some(libc::EINVAL) => {
                return Err(Error::NoTarget {
                    target,
                    module,
                    source: Box::new(source),
                });
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
