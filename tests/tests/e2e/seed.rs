//! What cloud-init in a guest is told.

use crate::{refused, ssh};
use anyhow::{Result, ensure};
use fvm_lab::LabHost;

/// What `create` is told so that VM 42 has data for cloud-init.
pub(crate) const DATA: &str = "--user-data /root/user-data --ssh-key /lab/guests/id_ed25519.pub";

/// Writes the files that [`DATA`] names, and sees others refused.
pub(crate) fn write_data(host: &LabHost) -> Result<()> {
    host.ok("printf '#cloud-config\\npackages: [nginx]\\n' > /root/user-data
         head -c 16385 /dev/zero | tr '\\0' ' ' > /root/long
         sed 's|<os>|<sysinfo type=\"smbios\"><system><entry name=\"serial\">7</entry></system></sysinfo>\
              <os><smbios mode=\"sysinfo\"/>|' /usr/share/fvm/templates/linux.xml > /root/serial.xml")?;
    for (options, words) in [
        ("--user-data /root/long", "longer than 16 KiB"),
        ("--ssh-key /etc/hostname", "not a public SSH key"),
        ("--ssh-key /lab/guests/id_ed25519", "a private key"),
        (
            "--user-data /root/user-data --template /root/serial.xml",
            "serial number",
        ),
    ] {
        refused(
            host,
            &format!("fvm create debian 42 {options}"),
            2,
            &[words],
        )?;
    }
    Ok(())
}

/// The running VM 42 finds the data, and nobody finds those of VM 42 elsewhere.
pub(crate) fn found(host: &LabHost) -> Result<()> {
    let serial = ssh(host, 42, "cat /sys/class/dmi/id/product_serial")?;
    let url = serial.trim().strip_prefix("ds=nocloud-net;s=");
    let Some(url) = url.map(str::to_owned) else {
        anyhow::bail!("the guest is told nothing: {serial}");
    };
    let get = |what: &str| ssh(host, 42, &format!("wget -q -O - {url}{what}"));
    let user_data = get("user-data")?;
    ensure!(user_data == host.ok("cat /root/user-data")?, "{user_data}");
    let meta_data: serde_json::Value = serde_json::from_str(&get("meta-data")?)?;
    ensure!(
        meta_data["local-hostname"] == "fvm-debian-42"
            && meta_data["public-keys"][0] == host.ok("cat /lab/guests/id_ed25519.pub")?,
        "{meta_data}"
    );
    // A server that was restarted is told everything again.
    host.ok("systemctl restart fvm-netd")?;
    let again = ssh(
        host,
        42,
        &format!("timeout 20 sh -c \"until wget -q -O - {url}user-data; do sleep 0.2; done\""),
    )?;
    ensure!(again == user_data, "{again}");
    host.ok(&format!("! curl -sf {url}user-data"))?;
    Ok(())
}
