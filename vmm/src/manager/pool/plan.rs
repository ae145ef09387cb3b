//! When the pool is to be extended, and how far. Pure.

use super::host_fs::HostFs;
use crate::config::PoolConfig;
use fvm_thin::{Bytes, METADATA_MAX, Usage};

/// Metadata are extended once they are so full: without room for them the pool goes read-only.
const METADATA_AT_PERCENT: u8 = 70;
/// The kernel's metadata block.
const METADATA_BLOCK: Bytes = Bytes::kib(4);
/// One part in so many of the host's file system stays free when the pool extends itself: the host has to go on.
const HOST_SHARE: u64 = 20;

/// The size that the data of a pool in a file should have now; `None` if the present one will do, or there is
/// no room for more.
pub(super) fn data_size(
    data: Usage,
    chunk: Bytes,
    config: &PoolConfig,
    below: &HostFs,
) -> Option<Bytes> {
    let limit = config.extend_limit?;
    if data.percent() < config.extend_at_percent {
        return None;
    }
    let step = u128::from(data.total.0) * u128::from(config.extend_by_percent) / 100;
    let step = u64::try_from(step).unwrap_or(u64::MAX).max(chunk.0);
    let wanted = Bytes(data.total.0.saturating_add(step))
        .min(limit)
        .min(largest(below, Bytes(below.total.0 / HOST_SHARE)))
        .round_down(chunk);
    (wanted > data.total).then_some(wanted)
}

/// The largest size of which the file system can keep its promise, when `kept` of it stays free.
pub(super) fn largest(below: &HostFs, kept: Bytes) -> Bytes {
    Bytes(
        below
            .allocated
            .0
            .saturating_add(below.available.saturating_sub(kept).0),
    )
}

/// The size that the metadata should have now; `None` if the present one will do. `device` is the size of the
/// device that they lie on, if it is one.
pub(super) fn metadata_size(metadata: Usage, device: Option<Bytes>) -> Option<Bytes> {
    // A pool that failed tells no numbers.
    if metadata.total == Bytes(0) || metadata.percent() < METADATA_AT_PERCENT {
        return None;
    }
    let wanted = match device {
        Some(size) => size.round_down(METADATA_BLOCK),
        None => {
            Bytes(metadata.total.0.saturating_add(metadata.total.0 / 2)).round_up(METADATA_BLOCK)?
        }
    };
    let wanted = wanted.min(METADATA_MAX);
    (wanted > metadata.total).then_some(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNK: Bytes = Bytes::kib(64);

    fn usage(used: Bytes, total: Bytes) -> Usage {
        Usage { used, total }
    }

    fn config(limit: Option<Bytes>) -> PoolConfig {
        PoolConfig {
            watermark_percent: 95,
            extend_at_percent: 80,
            extend_by_percent: 20,
            extend_limit: limit,
        }
    }

    fn below(total: Bytes, available: Bytes, allocated: Bytes) -> HostFs {
        HostFs {
            total,
            free: available,
            available,
            allocated,
            length: Bytes::gib(1 << 20),
        }
    }

    fn sized(used: Bytes, limit: Option<Bytes>, fs: HostFs) -> Option<Bytes> {
        data_size(usage(used, Bytes::gib(10)), CHUNK, &config(limit), &fs)
    }

    #[test]
    fn a_pool_grows_by_its_step_within_the_limit_and_the_room_there_is() {
        let roomy = below(Bytes::gib(1000), Bytes::gib(900), Bytes::gib(8));
        let limit = Some(Bytes::gib(100));
        assert_eq!(sized(Bytes::gib(8), limit, roomy), Some(Bytes::gib(12)));
        assert_eq!(sized(Bytes(8 << 30) - Bytes(1 << 28), limit, roomy), None);
        assert_eq!(sized(Bytes::gib(10), None, roomy), None);
        let near = Some(Bytes::gib(11) + Bytes(5));
        assert_eq!(sized(Bytes::gib(8), near, roomy), Some(Bytes::gib(11)));
        assert_eq!(sized(Bytes::gib(8), Some(Bytes::gib(10)), roomy), None);
        // 8 GiB are there, and 8 of 100 are free, of which 5 stay.
        let tight = below(Bytes::gib(100), Bytes::gib(8), Bytes::gib(8));
        assert_eq!(sized(Bytes::gib(9), limit, tight), Some(Bytes::gib(11)));
        let full = below(Bytes::gib(100), Bytes::gib(6), Bytes::gib(8));
        assert_eq!(sized(Bytes::gib(9), limit, full), None);
    }

    #[test]
    fn a_tiny_step_is_still_one() {
        let roomy = below(Bytes::gib(1000), Bytes::gib(900), Bytes(0));
        let full = usage(CHUNK, CHUNK);
        assert_eq!(
            data_size(full, CHUNK, &config(Some(Bytes::gib(1))), &roomy),
            Some(Bytes::kib(128))
        );
    }

    #[test]
    fn metadata_grow_by_half_or_to_their_device() {
        let at = |used| usage(Bytes::mib(used), Bytes::mib(100));
        assert_eq!(metadata_size(at(69), None), None);
        assert_eq!(metadata_size(at(70), None), Some(Bytes::mib(150)));
        assert_eq!(metadata_size(at(70), Some(Bytes::mib(100))), None);
        assert_eq!(
            metadata_size(at(100), Some(Bytes::mib(120))),
            Some(Bytes::mib(120))
        );
        let whole = usage(METADATA_MAX, METADATA_MAX);
        assert_eq!(metadata_size(whole, None), None);
        assert_eq!(metadata_size(usage(Bytes(0), Bytes(0)), None), None);
    }
}
