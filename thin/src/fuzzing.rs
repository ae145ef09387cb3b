//! What is private otherwise, for fuzz targets alone: it exists only in their builds.

use crate::kernel::dm::TableLine;
use crate::table::{Linear, Thin, ThinPool};
use crate::volume::Mapped;

/// Reads `<sectors> <target> <params>` as each of the tables; what is taken is written as it was read.
pub fn table(text: &str) {
    let mut words = text.splitn(3, ' ');
    let Some(sectors) = words.next().and_then(|word| word.parse().ok()) else {
        return;
    };
    let line = TableLine {
        sectors,
        target: words.next().unwrap_or_default().into(),
        params: words.next().unwrap_or_default().into(),
    };
    if let Some(linear) = Linear::parse(&line) {
        assert_eq!(Linear::parse(&linear.line()), Some(linear));
    }
    if let Some(pool) = ThinPool::parse(&line) {
        assert_eq!(ThinPool::parse(&pool.line()), Some(pool));
    }
    if let Some(thin) = Thin::parse(&line) {
        assert_eq!(Thin::parse(&thin.line()), Some(thin));
    }
}

/// Reads a thin device's status.
pub fn volume_status(params: &str) {
    let _ = Mapped::parse(params);
}
