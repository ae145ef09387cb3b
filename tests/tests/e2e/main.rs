//! The main job on lab hosts: real device-mapper, real KVM, real guests, through the installed package.

mod cards;
mod compact;
mod crash;
mod cycles;
mod emulation;
mod image_life;
mod images;
mod many;
mod people;
mod pool;
mod resize;
mod restart;
mod seed;
mod set_up;
mod snapshots;
mod sources;
mod template;
mod vms;

use anyhow::{Context, Result, bail, ensure};
use fvm_lab::{LabHost, Needs, lab_host};
use serde_json::Value;
use std::process::Output;

/// The ssh options for the test guests.
const KEY: &str = "-i /lab/guests/id_ed25519";
/// A bound on waiting for a guest: emulated processors on a shared machine are slow.
const WAIT: &str = "--wait ssh --timeout 300s";

/// A host that has been set up and has the image `debian`.
fn ready_host(needs: Needs) -> Result<Option<LabHost>> {
    let Some(host) = lab_host(needs)? else {
        return Ok(None);
    };
    host.ok("fvm init --yes --size 4G && fvm image import debian /lab/guests/bios.raw.zst")?;
    Ok(Some(host))
}

/// What a command prints with `--json`.
fn json(host: &LabHost, command: &str) -> Result<Value> {
    let text = host.ok(&format!("{command} --json"))?;
    serde_json::from_str(&text).with_context(|| format!("{command} --json printed {text:?}"))
}

/// How far a VM has come with booting, straight from the API.
fn boot(host: &LabHost, vm: u32) -> Result<Value> {
    let text = host.ok(&format!(
        "curl -sS --fail-with-body --unix-socket /run/fvm/fvm.sock http://fvm/v1/vms/{vm}/boot"
    ))?;
    serde_json::from_str(&text).with_context(|| format!("not JSON: {text:?}"))
}

/// Runs a command in a VM.
fn ssh(host: &LabHost, vm: u32, command: &str) -> Result<String> {
    host.ok(&format!("fvm ssh {KEY} {vm} -- '{command}'"))
}

/// Everything that a command printed, on either stream.
fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Requires that a command is refused: with this exit status, naming these words, changing nothing.
fn refused(host: &LabHost, command: &str, status: i32, words: &[&str]) -> Result<()> {
    let before = fingerprint(host)?;
    let output = host.sh(command)?;
    let text = said(&output);
    ensure!(
        output.status.code() == Some(status),
        "{command}\nended with {} instead of {status}: {text}",
        output.status
    );
    for word in words {
        ensure!(
            text.contains(word),
            "{command}\ndoes not say {word:?}: {text}"
        );
    }
    is_as_before(host, &before, command)
}

/// Requires that everything is as it was before something.
fn is_as_before(host: &LabHost, before: &str, what: &str) -> Result<()> {
    // An upload that was broken off is cleaned up after the command has ended.
    let mut after = fingerprint(host)?;
    for _ in 0..100 {
        if after == before {
            return Ok(());
        }
        host.ok("sleep 0.2")?;
        after = fingerprint(host)?;
    }
    bail!("{what}\nchanged something:\n{before}\n{after}")
}

/// Everything that a refused command must leave as it was: the store's rows, device-mapper, links, rules,
/// files.
fn fingerprint(host: &LabHost) -> Result<String> {
    host.ok(
        "for table in setting volume image vm disk nic run snapshot pending forward seed network; do
             [ ! -e /var/lib/fvm/state.db ] || sqlite3 -readonly /var/lib/fvm/state.db \"SELECT '$table', * FROM $table\"
         done | sed '/^setting|clock|/d' # which the daemon notes by itself
         # The pool without its counters, which go on when an import is undone.
         [ ! -e /var/lib/fvm/state.db ] ||
             sqlite3 -readonly /var/lib/fvm/state.db 'SELECT name, uuid, data_path, data_bytes, metadata_path FROM pool'
         dmsetup ls | sort; losetup --list --noheadings -O BACK-FILE | sort
         ip -brief link | awk '{print $1}' | sort; ip -brief address show | awk '{print $1, $3}' | sort
         nft list ruleset | grep -v 'packets [0-9]* bytes' || true
         find /etc/fvm /var/lib/fvm /run/fvm /dev/fvm -not -name 'state.db-*' 2>/dev/null | sort || true
         cat /proc/sys/net/ipv4/ip_forward; pgrep -c qemu-system || true",
    )
}
