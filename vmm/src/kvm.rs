//! The KVM probe and self-test.
