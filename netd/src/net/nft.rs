//! Running `nft`: JSON in, JSON out (libnftables-json(5)), one transaction a call.

use std::io::{self, Write};
use std::process::{Command, Output, Stdio};

use nftables::batch::Batch;
use serde_json::Value;

use super::{Error, NftFailure};

/// Applies a batch as one transaction.
pub(super) fn apply(batch: Batch<'static>, action: &'static str) -> Result<(), Error> {
    let failed = |source| Error::Firewall { action, source };
    let input = serde_json::to_vec(&batch.to_nftables())
        .map_err(|error| failed(NftFailure::Listing(error)))?;
    run(&["-j", "-f", "-"], &input).map(drop).map_err(failed)
}

/// Lists what the arguments name.
pub(super) fn list(arguments: &[&str]) -> Result<Value, Error> {
    run(&[&["-j"], arguments].concat(), &[])
        .and_then(|text| serde_json::from_slice(&text).map_err(NftFailure::Listing))
        .map_err(|source| Error::Firewall {
            action: "list the firewall rules",
            source,
        })
}

fn run(arguments: &[&str], input: &[u8]) -> Result<Vec<u8>, NftFailure> {
    let output = spawn(arguments, input).map_err(NftFailure::Run)?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    // The lines after the first repeat the input with a marker under a part of it.
    let stderr = String::from_utf8_lossy(&output.stderr);
    let first = stderr.lines().map(str::trim).find(|line| !line.is_empty());
    Err(NftFailure::Refused(
        first.map_or_else(|| output.status.to_string(), str::to_owned),
    ))
}

fn spawn(arguments: &[&str], input: &[u8]) -> io::Result<Output> {
    let mut nft = Command::new("nft")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    // nft reads all of its input before it says anything, so this cannot wait for us to read.
    let written = nft
        .stdin
        .take()
        .map_or(Ok(()), |mut stdin| stdin.write_all(input));
    let output = nft.wait_with_output()?;
    match written {
        // It ended early; what it said is worth more than that its input was closed.
        Err(error) if output.status.success() => Err(error),
        _ => Ok(output),
    }
}
