//! Network managers of Debian 13, for tests of DHCP against them: unpacked, never installed, since either would take over the
//! network of the machine it is installed on.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::cache::{Entry, Recipe};
use crate::debian::{self, SUITE};

const PACKAGES: &str = "systemd,network-manager,dbus-daemon,coreutils,dash";

/// What the packages' own scripts would have made.
const FILES: [(&str, &str); 3] = [
    (
        "etc/passwd",
        "root:x:0:0::/:/bin/sh\nsystemd-network:x:998:998::/:/bin/sh\n",
    ),
    ("etc/group", "root:x:0:\nsystemd-network:x:998:\n"),
    ("etc/machine-id", "0123456789abcdef0123456789abcdef\n"),
];

/// Opens the tree, making it first on a fresh machine. Tests find it in the cache by its name.
pub(crate) fn get() -> Result<Entry> {
    let mut recipe = Recipe::new("clients")
        .with("suite", SUITE)
        .with("packages", PACKAGES);
    for (path, content) in FILES {
        recipe = recipe.with(path, content);
    }
    recipe.entry(
        "clients: systemd-networkd and NetworkManager of Debian 13 (about 10 s)",
        make,
    )
}

fn make(directory: &Path) -> Result<()> {
    debian::unpack(
        PACKAGES,
        directory,
        &["dev", "usr/share/doc", "usr/share/locale"],
    )?;
    for place in ["dev", "proc", "sys", "run", "var/lib/NetworkManager"] {
        fs::create_dir_all(directory.join(place)).with_context(|| format!("making {place}"))?;
    }
    for (path, content) in FILES {
        fs::write(directory.join(path), content).with_context(|| format!("writing {path}"))?;
    }
    Ok(())
}
