//! What a template says that QEMU's command line cannot: it is done before the guest runs.

use crate::{WAIT, cards, json, ready_host, refused, ssh};
use anyhow::{Context, Result, ensure};
use fvm_lab::Needs;

/// The shipped template with processors, limits, a second card and an option for QEMU.
const TUNED: &str = r#"
fvm template show linux | python3 -c "
import sys
text = sys.stdin.read()
def put(old, new):
    global text
    assert text.count(old) == 1, old
    text = text.replace(old, new)
put('<domain type=\'kvm\'>', '<domain type=\'kvm\' xmlns:qemu=\'http://libvirt.org/schemas/domain/qemu/1.0\'>')
put('<source dev=\'/dev/THINPOOL_VG/VM_NAME\'/>', '''<source dev=\'/dev/THINPOOL_VG/VM_NAME\'/>
      <iotune><total_iops_sec>5000</total_iops_sec><read_bytes_sec>104857600</read_bytes_sec></iotune>''')
put('</interface>', '''</interface>
    <interface type=\'network\'><source network=\'lab\'/><model type=\'virtio\'/></interface>''')
put('<devices>', '''<cputune><shares>50</shares><global_quota>150000</global_quota><vcpupin vcpu=\'0\' cpuset=\'0\'/></cputune>
  <devices>''')
put('</domain>', '''  <qemu:commandline><qemu:arg value=\'-global\'/><qemu:arg value=\'i8042.extended-state=on\'/></qemu:commandline>
</domain>''')
print(text)
" > /root/tuned.xml
"#;

#[test]
fn what_a_template_says_of_processors_disks_and_cables_is_done() -> Result<()> {
    let Some(host) = ready_host(Needs::default())? else {
        return Ok(());
    };
    cards::make_networks(&host)?;
    host.ok(TUNED)?;
    host.ok(&format!(
        "fvm create debian 42 --template /root/tuned.xml && fvm start 42 {WAIT}"
    ))?;
    let pid = json(&host, "fvm info 42")?["pid"]
        .as_u64()
        .context("no pid")?;

    let cgroup = "/sys/fs/cgroup/fvm.slice/fvmd.service/vm-42";
    let limits = host.ok(&format!("cat {cgroup}/cpu.weight {cgroup}/cpu.max"))?;
    ensure!(limits == "50\n150000 100000", "{limits}");
    let report = json(&host, "fvm qmp 42 query-block")?;
    let disks = report["answer"].as_array().context("no disks")?;
    ensure!(
        disks
            .iter()
            .any(|disk| disk["inserted"]["iops"] == 5000
                && disk["inserted"]["bps_rd"] == 104_857_600),
        "{disks:?}"
    );
    let arguments = host.ok(&format!("tr '\\0' ' ' < /proc/{pid}/cmdline"))?;
    ensure!(
        arguments.ends_with("-global i8042.extended-state=on"),
        "{arguments}"
    );

    cards::are_plugged(&host)?;

    // A card without its cable: its guest is asked on the console.
    host.ok(
        "fvm template show linux | sed \"s|</interface>|<link state='down'/></interface>|\" > /root/unplugged.xml
         fvm create debian 44 --template /root/unplugged.xml && fvm nic add 44 --network lab && fvm start 44",
    )?;
    host.ok(
        r#"timeout 300 sh -c 'until printf "\necho carrier-is-\$(cat /sys/class/net/eth0/carrier)\n" \
               | fvm console 44 --timeout 5s | grep -q carrier-is-0; do :; done'"#,
    )?;
    host.ok(
        r#"fvm link 44 up
           timeout 300 sh -c 'until timeout 20 fvm ssh -i /lab/guests/id_ed25519 44 -- true; do sleep 1; done'"#,
    )?;

    // It was not running when its second card was added.
    ensure!(ssh(&host, 44, "ls /sys/class/net")? == "eth0\neth1\nlo");

    // A processor that this host does not have is told before anything is made.
    host.ok(
        "fvm create debian 43 --template /root/tuned.xml && fvm delete 43
         sed \"s/cpuset='0'/cpuset='4000'/\" /root/tuned.xml > /root/far.xml
         fvm create debian 43 --template /root/far.xml",
    )?;
    refused(&host, "fvm start 43", 5, &["processor 4000", "cputune"])?;
    host.ok("fvm delete 42-44")?;
    cards::delete_networks(&host)?;
    host.nothing_left()
}
