//! Where the lab keeps what it makes: `target/lab` of the checkout, whatever Cargo's own target directory is.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The root of the checkout this crate was built from.
pub(crate) fn workspace() -> Result<PathBuf> {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map(Path::to_path_buf)
        .context("the lab's crate has no parent directory")
}

/// `target/lab`, made if missing.
pub(crate) fn lab() -> Result<PathBuf> {
    made(workspace()?.join("target/lab"))
}

/// A directory of the lab by name, made if missing.
pub(crate) fn lab_dir(name: &str) -> Result<PathBuf> {
    made(lab()?.join(name))
}

fn made(directory: PathBuf) -> Result<PathBuf> {
    std::fs::create_dir_all(&directory)
        .with_context(|| format!("making directory {}", directory.display()))?;
    Ok(directory)
}
