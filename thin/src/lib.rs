//! Thin pools, volumes and block streams.
