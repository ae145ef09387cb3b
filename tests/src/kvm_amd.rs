//! Works around a defect of QEMU's emulated AMD-V in the lab host's `kvm-amd` module.
//!
//! When a nested guest writes the register CR8 while its hypervisor waits for an interrupt window, the emulator ends
//! with `assertion failed: (bql_locked())` (seen in QEMU 10.0 and 11.1; UEFI firmware does it within seconds). It does
//! not when the hypervisor intercepts those writes. KVM sets that intercept when it makes a VCPU and takes it away
//! again in `svm_update_cr8_intercept` as an optimisation; so that function is made to return at once. Nothing that a
//! guest can see changes.

use anyhow::{Context, Result, bail, ensure};

const FUNCTION: &[u8] = b"svm_update_cr8_intercept";

/// What the kernel's build appends after a module's signature.
const SIGNATURE_MAGIC: &[u8] = b"~Module signature appended~\n";
/// `struct module_signature` (include/linux/module_signature.h); its last four bytes are the signature's length.
const SIGNATURE_HEADER_BYTES: usize = 12;

const SECTION_SYMBOLS: u32 = 2; // SHT_SYMTAB
const SYMBOL_BYTES: usize = 24; // sizeof(Elf64_Sym)

const ENDBR64: &[u8] = &[0xf3, 0x0f, 0x1e, 0xfa];
const CALL: u8 = 0xe8;
const CALL_BYTES: usize = 5;
const RETURN: u8 = 0xc3;

/// Returns the module with the function switched off and without its signature, which no longer fits.
pub(crate) fn with_cr8_intercept(module: &[u8]) -> Result<Vec<u8>> {
    let mut module = without_signature(module)?.to_vec();
    let mut at = function_offset(&module)?;
    if module.get(at..at + ENDBR64.len()) == Some(ENDBR64) {
        at += ENDBR64.len();
    }
    // The call of the function tracer must stay: the kernel looks for it when it loads the module.
    ensure!(
        module.get(at) == Some(&CALL),
        "the function does not start as kernel functions do"
    );
    *module
        .get_mut(at + CALL_BYTES)
        .context("the function ends too early")? = RETURN;
    Ok(module)
}

fn without_signature(module: &[u8]) -> Result<&[u8]> {
    let Some(rest) = module.strip_suffix(SIGNATURE_MAGIC) else {
        return Ok(module);
    };
    let length = rest
        .last_chunk::<4>()
        .context("the module's signature has no length")?;
    let appended = u32::from_be_bytes(*length) as usize + SIGNATURE_HEADER_BYTES;
    let end = rest
        .len()
        .checked_sub(appended)
        .context("the module's signature is too long")?;
    Ok(&rest[..end])
}

/// Where in the file the function's code is.
fn function_offset(module: &[u8]) -> Result<usize> {
    let sections = Sections::of(module)?;
    for index in 0..sections.count {
        if sections.u32(index, 4)? != SECTION_SYMBOLS {
            continue;
        }
        let start = sections.u64(index, 24)?;
        let end = start + sections.u64(index, 32)?;
        let names = sections.u64(sections.u32(index, 40)? as usize, 24)?;
        for symbol in (start..end).step_by(SYMBOL_BYTES) {
            let name = names + u32_at(module, symbol)? as usize;
            let is_it = module.get(name..).is_some_and(|rest| {
                rest.strip_prefix(FUNCTION)
                    .is_some_and(|rest| rest.first() == Some(&0))
            });
            if is_it {
                let section = u16_at(module, symbol + 6)? as usize;
                return Ok(sections.u64(section, 24)? + u64_at(module, symbol + 8)?);
            }
        }
    }
    bail!(
        "the module has no function {}",
        String::from_utf8_lossy(FUNCTION)
    )
}

/// The section headers of a 64-bit little-endian ELF file.
struct Sections<'a> {
    file: &'a [u8],
    start: usize,
    size: usize,
    count: usize,
}

impl<'a> Sections<'a> {
    fn of(file: &'a [u8]) -> Result<Self> {
        ensure!(
            file.starts_with(b"\x7fELF\x02\x01"),
            "not a 64-bit little-endian ELF file"
        );
        Ok(Self {
            file,
            start: u64_at(file, 0x28)?,
            size: u16_at(file, 0x3a)?.into(),
            count: u16_at(file, 0x3c)?.into(),
        })
    }

    fn u32(&self, section: usize, field: usize) -> Result<u32> {
        u32_at(self.file, self.start + section * self.size + field)
    }

    fn u64(&self, section: usize, field: usize) -> Result<usize> {
        u64_at(self.file, self.start + section * self.size + field)
    }
}

fn bytes_at<const N: usize>(file: &[u8], at: usize) -> Result<[u8; N]> {
    file.get(at..)
        .and_then(|rest| rest.first_chunk::<N>())
        .copied()
        .with_context(|| format!("the module ends before byte {at}"))
}

fn u16_at(file: &[u8], at: usize) -> Result<u16> {
    Ok(u16::from_le_bytes(bytes_at(file, at)?))
}

fn u32_at(file: &[u8], at: usize) -> Result<u32> {
    Ok(u32::from_le_bytes(bytes_at(file, at)?))
}

fn u64_at(file: &[u8], at: usize) -> Result<usize> {
    usize::try_from(u64::from_le_bytes(bytes_at(file, at)?)).context("an offset is too large")
}
