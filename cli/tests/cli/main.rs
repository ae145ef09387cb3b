//! The program `fvm` as users run it, against an HTTP server on a Unix socket that answers with the API's types.
//!
//! What belongs to the command line alone is shown here: exit statuses, messages, streams, terminals. What the real
//! daemon does is shown on lab hosts.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod afar;
mod batch;
mod completion;
mod console;
mod daemon;
mod disks;
mod doctor;
mod exec;
mod failures;
mod fetching;
mod fixtures;
mod hooks;
mod hostile;
mod images;
mod init;
mod inventory;
mod lab;
mod remote;
mod reports;
mod run;
mod server;
mod terminal;
mod waiting;
