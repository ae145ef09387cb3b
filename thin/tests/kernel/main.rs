//! The crate on a real kernel: needs root and device-mapper, and `dmsetup`, `thin-provisioning-tools`
//! and `util-linux` to look at its work with other people's eyes.
//!
//! Where there is no device-mapper each test says so and does nothing; with `FVM_TEST_HOST` in the
//! environment, as on a lab host, that is a failure. `tests/assets/uml.sh` runs this binary in User Mode Linux.

// Helpers of tests are not tests in clippy's eyes, but may do what tests may.
#![allow(clippy::unwrap_used, clippy::panic)]

mod commit;
mod content;
mod crash;
mod errors;
mod host;
mod life;
mod metadata;
mod repair;
mod size;
mod udev;
mod volumes;
mod zeros;
