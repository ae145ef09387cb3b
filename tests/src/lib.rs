//! Lab hosts.
