//! Templates that must be refused, each with the exact path, the line and a word of the reason.
//!
//! Every case is the same good template with one piece put in the place of another.

use anyhow::{Result, ensure};
use fvm_vmm::domain::{self, MAX_BYTES, Macros};

const GOOD: &str = "<domain type='kvm'>
  <name>VM_NAME</name>
  <memory unit='MiB'>512</memory>
  <vcpu>2</vcpu>
  <os><type arch='x86_64'>hvm</type><boot dev='hd'/></os>
  <features><acpi/></features>
  <cpu mode='host-passthrough'/>
  <clock offset='utc'><timer name='rtc' tickpolicy='catchup'/></clock>
  <on_reboot>restart</on_reboot>
  <pm><suspend-to-mem enabled='no'/></pm>
  <devices>
    <disk type='block' device='disk'>
      <driver name='qemu' type='raw' cache='none'/>
      <source dev='/dev/THINPOOL_VG/VM_NAME'/>
      <target dev='sda' bus='scsi'/>
    </disk>
    <disk type='file' device='cdrom'>
      <target dev='hdc' bus='ide'/>
    </disk>
    <controller type='scsi' index='0' model='virtio-scsi'/>
    <interface type='network'>
      <source network='LIBVIRT_NETWORK'/>
      <model type='virtio'/>
    </interface>
    <serial type='pty'><target port='0'/></serial>
    <console type='pty'><target type='serial' port='0'/></console>
    <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
    <memballoon model='virtio'/>
    <rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>
    <watchdog model='i6300esb' action='reset'/>
  </devices>
</domain>
";

fn macros() -> Macros {
    Macros::new("vm-42", "vg", "fvm0", 42, "image")
}

/// What is replaced, by what, the path that is told, a part of the message or hint.
type Case = (&'static str, &'static str, &'static str, &'static str);

const DISK: &str = "<disk type='block' device='disk'>";
const DRIVER: &str = "<driver name='qemu' type='raw' cache='none'/>";
const SOURCE: &str = "<source dev='/dev/THINPOOL_VG/VM_NAME'/>";
const TARGET: &str = "<target dev='sda' bus='scsi'/>";
const CONTROLLER: &str = "<controller type='scsi' index='0' model='virtio-scsi'/>";
const NIC_MODEL: &str = "<model type='virtio'/>";
const NIC_SOURCE: &str = "<source network='LIBVIRT_NETWORK'/>";
const OS: &str = "<os><type arch='x86_64'>hvm</type><boot dev='hd'/></os>";
const CPU: &str = "<cpu mode='host-passthrough'/>";
const BALLOON: &str = "<memballoon model='virtio'/>";
const SERIAL: &str = "<serial type='pty'><target port='0'/></serial>";
const CHANNEL: &str =
    "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>";

const D1: &str = "/domain/devices/disk[1]";

#[rustfmt::skip]
const CASES: &[Case] = &[
    // What fvm does not know at all, at every level.
    ("<features>", "<perf/><features>", "/domain/perf", "supported elements here"),
    ("<domain type='kvm'>", "<domain type='kvm' color='red'>", "/domain/@color", "`color`"),
    ("<domain type='kvm'>", "<domain type='xen'>", "/domain/@type", "kvm, qemu"),
    ("<devices>", "<devices><flux/>", "/domain/devices/flux", "`flux`"),
    ("<devices>", "<devices>stray", "/domain/devices", "stray"),
    (DISK, "<disk type='block' device='disk' color='red'>", "/domain/devices/disk[1]/@color", "color"),
    // Screens, sound, what viewers bring, cables.
    (BALLOON, "<tpm/>", "/domain/devices/tpm", "`backend` is missing"),
    (BALLOON, "<tpm model='tpm-spapr'><backend type='emulator'/></tpm>", "/domain/devices/tpm/@model", "tpm-tis, tpm-crb"),
    (BALLOON, "<tpm><backend type='passthrough'><device path='/dev/tpm0'/></backend></tpm>", "/domain/devices/tpm/backend/@type", "emulator"),
    (BALLOON, "<tpm><backend type='emulator' version='3'/></tpm>", "/domain/devices/tpm/backend/@version", "1.2, 2.0"),
    (BALLOON, "<tpm model='tpm-crb'><backend type='emulator' version='1.2'/></tpm>", "/domain/devices/tpm/@model", "tpm-tis"),
    (BALLOON, "<tpm><backend type='emulator'><encryption secret='x'/></backend></tpm>", "/domain/devices/tpm/backend/encryption", "encryption"),
    (BALLOON, "<redirdev bus='usb' type='tcp'/>", "/domain/devices/redirdev/@type", "spicevmc"),
    (BALLOON, "<redirdev bus='pci' type='spicevmc'/>", "/domain/devices/redirdev/@bus", "usb"),
    (BALLOON, "<audio id='1' type='gramophone'/>", "/domain/devices/audio/@type", "spice"),
    (BALLOON, "<graphics type='vnc' keymap='../x'/>", "/domain/devices/graphics/@keymap", "layout"),
    (BALLOON, "<graphics type='spice'><gl enable='yes'/></graphics>", "/domain/devices/graphics/gl/@enable", "graphics card"),
    (BALLOON, "<video><model type='virtio'><acceleration accel3d='yes'/></model></video>", "/domain/devices/video/model/acceleration/@accel3d", "graphics card"),
    (NIC_MODEL, "<model type='virtio'/><link state='loose'/>", "/domain/devices/interface/link/@state", "up, down"),
    // Identity, memory, processors.
    ("<name>VM_NAME</name>", "", "/domain", "`name` is missing"),
    ("<name>VM_NAME</name>", "<name></name>", "/domain/name", "empty"),
    ("<name>VM_NAME</name>", "<name>../x</name>", "/domain/name", "`/`"),
    ("<name>VM_NAME</name>", "<name>a</name><name>b</name>", "/domain/name[2]", "only once"),
    ("<vcpu>2</vcpu>", "<vcpu>2</vcpu><uuid>12</uuid>", "/domain/uuid", "UUID"),
    ("<memory unit='MiB'>512</memory>", "", "/domain", "`memory` is missing"),
    ("<memory unit='MiB'>512</memory>", "<memory unit='MiB'>-1</memory>", "/domain/memory", "-1"),
    ("<memory unit='MiB'>512</memory>", "<memory unit='furlong'>512</memory>", "/domain/memory/@unit", "furlong"),
    ("<memory unit='MiB'>512</memory>", "<memory unit='TiB'>99999999999</memory>", "/domain/memory", "addressed"),
    ("<memory unit='MiB'>512</memory>", "<memory>512</memory>", "/domain/memory", "at least 1 MiB"),
    ("<vcpu>2</vcpu>", "<vcpu>2</vcpu><currentMemory unit='GiB'>1</currentMemory>", "/domain/currentMemory", "more than"),
    ("<vcpu>2</vcpu>", "<vcpu>0</vcpu>", "/domain/vcpu", "from 1"),
    ("<vcpu>2</vcpu>", "<vcpu>two</vcpu>", "/domain/vcpu", "two"),
    ("<vcpu>2</vcpu>", "<vcpu current='3'>2</vcpu>", "/domain/vcpu/@current", "from 1 to 2"),
    ("<vcpu>2</vcpu>", "<vcpu placement='auto'>2</vcpu>", "/domain/vcpu/@placement", "static"),
    ("<on_reboot>restart</on_reboot>", "<on_reboot>rename-restart</on_reboot>", "/domain/on_reboot", "rename-restart"),
    ("<on_reboot>restart</on_reboot>", "<on_reboot>preserve</on_reboot>", "/domain", "preserve"),
    ("enabled='no'", "enabled='maybe'", "/domain/pm/suspend-to-mem/@enabled", "yes, no"),
    ("<vcpu>2</vcpu>", "<vcpu>2</vcpu><memoryBacking><locked/></memoryBacking>", "/domain/memoryBacking/locked", "locked"),
    ("<vcpu>2</vcpu>", "<vcpu>2</vcpu><memoryBacking><source type='file'/></memoryBacking>", "/domain/memoryBacking/source/@type", "memfd"),
    ("<vcpu>2</vcpu>", "<vcpu>2</vcpu><memoryBacking><hugepages><page size='3' unit='M'/></hugepages></memoryBacking>", "/domain/memoryBacking/hugepages/page/@size", "2 MiB"),
    ("<vcpu>2</vcpu>", "<vcpu>2</vcpu><iothreads>65</iothreads>", "/domain/iothreads", "64"),
    ("<vcpu>2</vcpu>", "<vcpu>2</vcpu><genid>x</genid>", "/domain/genid", "UUID"),
    ("<vcpu>2</vcpu>", "<vcpu>2</vcpu><sysinfo type='dmi'/>", "/domain/sysinfo/@type", "smbios, fwcfg"),
    ("<vcpu>2</vcpu>", "<vcpu>2</vcpu><sysinfo type='fwcfg'><entry name='etc/x'>y</entry></sysinfo>", "/domain/sysinfo/entry/@name", "opt/"),
    ("<vcpu>2</vcpu>", "<vcpu>2</vcpu><sysinfo type='fwcfg'><entry name='opt/x' file='/x'/></sysinfo>", "/domain/sysinfo/entry", "empty"),
    ("<vcpu>2</vcpu>", "<vcpu>2</vcpu><sysinfo type='smbios'><bios><entry name='colour'>x</entry></bios></sysinfo>", "/domain/sysinfo/bios/entry/@name", "vendor"),
    ("<vcpu>2</vcpu>", "<vcpu>2</vcpu><cputune><period>100000</period></cputune>", "/domain/cputune/period", "global_period"),
    ("<vcpu>2</vcpu>", "<vcpu>2</vcpu><cputune><shares>0</shares></cputune>", "/domain/cputune/shares", "1 to 10000"),
    ("<vcpu>2</vcpu>", "<vcpu>2</vcpu><cputune><vcpupin vcpu='2' cpuset='0'/></cputune>", "/domain/cputune/vcpupin/@vcpu", "no vcpu 2"),
    ("<vcpu>2</vcpu>", "<vcpu>2</vcpu><cputune><vcpupin vcpu='0' cpuset='0'/><vcpupin vcpu='0' cpuset='1'/></cputune>", "/domain/cputune/vcpupin[2]/@vcpu", "twice"),
    ("<vcpu>2</vcpu>", "<vcpu>2</vcpu><cputune><emulatorpin cpuset='3-1'/></cputune>", "/domain/cputune/emulatorpin/@cpuset", "set of processors"),
    ("<vcpu>2</vcpu>", "<vcpu>2</vcpu><cputune><emulatorpin cpuset='0,^0'/></cputune>", "/domain/cputune/emulatorpin/@cpuset", "set of processors"),
    ("<vcpu>2</vcpu>", "<vcpu>2</vcpu><cputune><iothreadpin iothread='1' cpuset='0'/></cputune>", "/domain/cputune/iothreadpin/@iothread", "no iothread 1"),
    ("<vcpu>2</vcpu>", "<vcpu>2</vcpu><cputune><global_period>100000</global_period></cputune>", "/domain/cputune/global_period", "global_quota"),
    ("<vcpu>2</vcpu>", "<vcpu>2</vcpu><cputune><global_quota>10</global_quota></cputune>", "/domain/cputune/global_quota", "1000"),
    ("<vcpu>2</vcpu>", "<vcpu cpuset='x'>2</vcpu>", "/domain/vcpu/@cpuset", "set of processors"),
    (CPU, "<cpu><numa><cell id='0' cpus='0' memory='512' unit='MiB'/></numa></cpu>", "/domain/cpu/numa", "exactly once"),
    (CPU, "<cpu><numa><cell id='1' cpus='0-1' memory='512' unit='MiB'/></numa></cpu>", "/domain/cpu/numa", "without gaps"),
    (CPU, "<cpu><numa><cell id='0' cpus='1-0' memory='512' unit='MiB'/></numa></cpu>", "/domain/cpu/numa/cell/@cpus", "0-3,8"),
    // Operating system and firmware.
    (OS, "", "/domain", "`os` is missing"),
    (OS, "<os/>", "/domain/os", "`type` is missing"),
    (OS, "<os><type>xen</type></os>", "/domain/os/type", "hvm"),
    (OS, "<os><type arch='s390x'>hvm</type></os>", "/domain/os/type/@arch", "s390x"),
    (OS, "<os><type machine='isapc'>hvm</type></os>", "/domain/os/type/@machine", "q35"),
    (OS, "<os><type machine='pc-i440fx-7.2,accel=x'>hvm</type></os>", "/domain/os/type/@machine", "name"),
    (OS, "<os><type arch='aarch64' machine='pc'>hvm</type></os>", "/domain/os/type/@machine", "virt-*"),
    (OS, "<os><type arch='ppc64le' machine='virt'>hvm</type></os>", "/domain/os/type/@machine", "pseries-*"),
    (OS, "<os><type machine='microvm-7.2'>hvm</type></os>", "/domain/os/type/@machine", "microvm"),
    (OS, "<os><type>hvm</type><boot dev='tape'/></os>", "/domain/os/boot/@dev", "tape"),
    (OS, "<os><type>hvm</type><boot dev='hd'/><boot dev='x'/></os>", "/domain/os/boot[2]/@dev", "x"),
    (OS, "<os firmware='coreboot'><type>hvm</type></os>", "/domain/os/@firmware", "coreboot"),
    (OS, "<os><type>hvm</type><loader type='pflash' readonly='yes'/></os>", "/domain/os/loader", "path"),
    (OS, "<os><type>hvm</type><loader type='pflash'>/x</loader></os>", "/domain/os/loader", "readonly"),
    (OS, "<os><type>hvm</type><cmdline>quiet</cmdline></os>", "/domain/os", "kernel"),
    (OS, "<os><type>hvm</type><dtb>/x</dtb></os>", "/domain/os/dtb", "dtb"),
    // Features, processor, clock.
    ("<acpi/>", "<acpi state='on'/>", "/domain/features/acpi/@state", "state"),
    ("<acpi/>", "<acpi/><xen/>", "/domain/features/xen", "xen"),
    ("<acpi/>", "<hyperv><vapic state='1'/></hyperv>", "/domain/features/hyperv/vapic/@state", "on, off"),
    ("<acpi/>", "<hyperv><vendor_id state='on' value='much-too-long-id'/></hyperv>", "/domain/features/hyperv/vendor_id/@value", "12"),
    (CPU, "<cpu mode='host'/>", "/domain/cpu/@mode", "host-passthrough"),
    (CPU, "<cpu><model>qemu64,+x</model></cpu>", "/domain/cpu/model", "letters"),
    (CPU, "<cpu><feature policy='require' name=''/></cpu>", "/domain/cpu/feature/@name", "empty"),
    (CPU, "<cpu><feature policy='wish' name='aes'/></cpu>", "/domain/cpu/feature/@policy", "wish"),
    (CPU, "<cpu><topology sockets='1' cores='3' threads='1'/></cpu>", "/domain/cpu/topology", "2 processors"),
    (CPU, "<cpu><topology sockets='0' cores='1' threads='1'/></cpu>", "/domain/cpu/topology/@sockets", "at least 1"),
    (CPU, "<cpu><vendor>Intel</vendor></cpu>", "/domain/cpu/vendor", "vendor"),
    ("tickpolicy='catchup'", "tickpolicy='merge'", "/domain/clock/timer/@tickpolicy", "merge"),
    ("name='rtc' tickpolicy='catchup'", "name='moon'", "/domain/clock/timer/@name", "moon"),
    ("offset='utc'", "offset='variable'", "/domain/clock/@offset", "utc, localtime"),
    ("<timer name='rtc' tickpolicy='catchup'/>", "<timer name='hpet'/><timer name='hpet'/>", "/domain/clock/timer[2]", "twice"),
    // Disks.
    (DISK, "<disk type='network' device='disk'>", "/domain/devices/disk[1]/@type", "network"),
    (DISK, "<disk type='block' device='lun'>", "/domain/devices/disk[1]/@device", "lun"),
    (DISK, "<disk type='block' device='floppy'>", D1, "bus='fdc'"),
    (DRIVER, "<driver type='qcow2'/>", "/domain/devices/disk[1]/driver/@type", "convert"),
    (DRIVER, "<driver name='tap'/>", "/domain/devices/disk[1]/driver/@name", "qemu"),
    (DRIVER, "<driver queues='4'/>", "/domain/devices/disk[1]/driver/@queues", "queues"),
    (DRIVER, "<driver io='native'/>", "/domain/devices/disk[1]/driver/@io", "cache='none'"),
    (DRIVER, "<driver cache='some'/>", "/domain/devices/disk[1]/driver/@cache", "some"),
    (DRIVER, "<driver discard='yes'/>", "/domain/devices/disk[1]/driver/@discard", "unmap, ignore"),
    (SOURCE, "", D1, "source"),
    (SOURCE, "<source dev='relative'/>", "/domain/devices/disk[1]/source/@dev", "absolute"),
    (SOURCE, "<source dev='/dev/../etc/shadow'/>", "/domain/devices/disk[1]/source/@dev", "`..`"),
    (SOURCE, "<source file='/x'/>", "/domain/devices/disk[1]/source/@file", "file"),
    (SOURCE, "<source dev='/x'><encryption/></source>", "/domain/devices/disk[1]/source/encryption", "encryption"),
    (TARGET, "", D1, "`target` is missing"),
    (TARGET, "<target bus='scsi'/>", "/domain/devices/disk[1]/target", "`dev` is missing"),
    (TARGET, "<target dev='xyz'/>", "/domain/devices/disk[1]/target/@dev", "xyz"),
    (TARGET, "<target dev='sdaaaa'/>", "/domain/devices/disk[1]/target/@dev", "letters"),
    (TARGET, "<target dev='sda' bus='sd'/>", "/domain/devices/disk[1]/target/@bus", "sd"),
    (TARGET, "<target dev='hdc' bus='ide'/>", "/domain/devices/disk[2]", "twice"),
    (TARGET, "<target dev='sda' bus='nvme'/>", D1, "serial"),
    (TARGET, "<target dev='sda' bus='scsi'/><address type='drive' unit='99999'/>", "/domain/devices/disk[1]/address/@unit", "99999"),
    (TARGET, "<target dev='sda' bus='scsi'/><address type='pci' slot='1'/>", "/domain/devices/disk[1]/address/@type", "drive"),
    (TARGET, "<target dev='sda' bus='scsi'/><serial>a,b</serial>", D1, "serial"),
    (TARGET, "<target dev='sda' bus='scsi'/><wwn>12</wwn>", "/domain/devices/disk[1]/wwn", "sixteen"),
    (TARGET, "<target dev='sda' bus='scsi'/><product>a much too long product</product>", "/domain/devices/disk[1]/product", "16"),
    (TARGET, "<target dev='sda' bus='scsi'/><boot order='0'/>", "/domain/devices/disk[1]/boot/@order", "from 1"),
    (TARGET, "<target dev='sda' bus='scsi'/><boot order='1'/>", "/domain", "exclude"),
    (TARGET, "<target dev='sda' bus='scsi'/><blockio logical_block_size='1000'/>", "/domain/devices/disk[1]/blockio/@logical_block_size", "power of two"),
    (TARGET, "<target dev='sda' bus='scsi'/><iotune><total_bytes_sec>1</total_bytes_sec><read_bytes_sec>1</read_bytes_sec></iotune>", "/domain/devices/disk[1]/iotune", "excludes"),
    (TARGET, "<target dev='sda' bus='scsi'/><iotune><total_iops_sec_max>5</total_iops_sec_max></iotune>", "/domain/devices/disk[1]/iotune", "must be more than"),
    (TARGET, "<target dev='sda' bus='scsi'/><iotune><total_iops_sec>5</total_iops_sec><total_iops_sec_max_length>5</total_iops_sec_max_length></iotune>", "/domain/devices/disk[1]/iotune", "total_iops_sec_max"),
    (TARGET, "<target dev='sda' bus='scsi'/><iotune><total_iops_sec>x</total_iops_sec></iotune>", "/domain/devices/disk[1]/iotune/total_iops_sec", "number"),
    (TARGET, "<target dev='sda' bus='scsi'/><iotune><speed>1</speed></iotune>", "/domain/devices/disk[1]/iotune/speed", "speed"),
    // Controllers.
    (CONTROLLER, "<controller index='0'/>", "/domain/devices/controller", "`type` is missing"),
    (CONTROLLER, "<controller type='xenbus'/>", "/domain/devices/controller/@type", "xenbus"),
    (CONTROLLER, "<controller type='scsi' model='buslogic'/>", "/domain/devices/controller/@model", "buslogic"),
    (CONTROLLER, "<controller type='scsi' index='256' model='virtio-scsi'/>", "/domain/devices/controller/@index", "256"),
    (CONTROLLER, "<controller type='scsi' index='0'/><controller type='scsi' index='0'/>", "/domain/devices/controller[2]", "twice"),
    (CONTROLLER, "<controller type='pci' index='1' model='pcie-root-port'/>", "/domain/devices/controller", "machine type"),
    (CONTROLLER, "<controller type='usb' model='usb9'/>", "/domain/devices/controller/@model", "usb9"),
    (CONTROLLER, "<controller type='scsi' model='vmpvscsi'/><controller type='scsi' model='lsilogic'><driver queues='2'/></controller>", "/domain/devices/controller[2]/driver/@queues", "queues"),
    // Network.
    ("<interface type='network'>", "<interface type='direct'>", "/domain/devices/interface/@type", "network, bridge"),
    (NIC_SOURCE, "", "/domain/devices/interface", "`source` is missing"),
    (NIC_SOURCE, "<source bridge='br0'/>", "/domain/devices/interface/source", "`network` is missing"),
    (NIC_MODEL, "<model type='ne2k'/>", "/domain/devices/interface/model/@type", "ne2k"),
    (NIC_MODEL, "<mac address='52:54:00:00:00'/>", "/domain/devices/interface/mac/@address", "MAC"),
    (NIC_MODEL, "<mac address='53:54:00:00:00:01'/>", "/domain/devices/interface/mac/@address", "group"),
    (NIC_MODEL, "<model type='e1000'/><mtu size='9000'/>", "/domain/devices/interface", "virtio"),
    (NIC_MODEL, "<mtu size='9'/>", "/domain/devices/interface/mtu/@size", "68"),
    (NIC_MODEL, "<driver queues='0'/>", "/domain/devices/interface/driver/@queues", "256"),
    (NIC_MODEL, "<filterref filter='x'/>", "/domain/devices/interface/filterref/@filter", "clean-traffic"),
    (NIC_MODEL, "<address type='pci' bus='0'/>", "/domain/devices/interface/address", "slot"),
    (NIC_MODEL, "<address type='pci' slot='0x20'/>", "/domain/devices/interface/address/@slot", "0x1f"),
    (NIC_MODEL, "<address type='pci' domain='1' slot='2'/>", "/domain/devices/interface/address/@domain", "0x0"),
    // Serial lines and channels.
    (SERIAL, "<serial type='tcp'><target port='0'/></serial>", "/domain/devices/serial/@type", "tcp"),
    (SERIAL, "<serial type='spicevmc'/>", "/domain/devices/serial", "channels"),
    (SERIAL, "<serial type='pty'><target port='4'/></serial>", "/domain/devices/serial/target/@port", "0x3"),
    (SERIAL, "<serial type='pty'><target port='1'/></serial><serial type='pty'><target port='1'/></serial>", "/domain", "four serial"),
    (CHANNEL, "<channel type='unix'><target type='xen' name='a'/></channel>", "/domain/devices/channel/target/@type", "virtio"),
    (CHANNEL, "<channel type='unix'><target type='virtio'/></channel>", "/domain/devices/channel/target", "`name` is missing"),
    (CHANNEL, "<channel type='unix'><target type='virtio' name='a b'/></channel>", "/domain/devices/channel/target/@name", "letters"),
    // What other machine types have.
    ("<features>", "<features><gic version='3'/>", "/domain/features/gic", "does not have it"),
    (CONTROLLER, "<controller type='scsi' index='0' model='ibmvscsi'/>", "/domain/devices/controller", "pseries"),
    (NIC_MODEL, "<model type='spapr-vlan'/>", "/domain/devices/interface", "pseries"),
    (SERIAL, "<serial type='pty'><target type='system-serial' port='0'/></serial>", "/domain/devices/serial", "another kind"),
    (SERIAL, "<serial type='pty'><target type='isa-serial'><model name='pl011'/></target></serial>", "/domain/devices/serial/target", "different machines"),
    (BALLOON, "<memballoon model='virtio'><address type='virtio-mmio'/></memballoon>", "/domain/devices/memballoon", "microvm"),
    (BALLOON, "<memballoon model='virtio'><address type='spapr-vio' reg='0x1000'/></memballoon>", "/domain/devices/memballoon", "spapr-vlan"),
    (BALLOON, "<panic model='pseries'/>", "/domain/devices/panic", "panic"),
    // The rest.
    (BALLOON, "<memballoon model='xen'/>", "/domain/devices/memballoon/@model", "virtio, none"),
    (BALLOON, "<memballoon model='virtio'/><memballoon model='virtio'/>", "/domain/devices/memballoon[2]", "only once"),
    ("/dev/urandom", "/etc/shadow", "/domain/devices/rng/backend", "/dev/random"),
    ("<backend model='random'>", "<backend model='egd'>", "/domain/devices/rng/backend/@model", "random"),
    ("action='reset'", "action='dump'", "/domain/devices/watchdog/@action", "dump"),
    (BALLOON, "<input type='tablet' bus='ps2'/>", "/domain/devices/input/@type", "usb"),
    (BALLOON, "<controller type='usb' model='none'/><input type='tablet'/>", "/domain", "USB controller"),
    (BALLOON, "<graphics type='sdl'/>", "/domain/devices/graphics/@type", "spice, vnc"),
    (BALLOON, "<video><model type='voodoo'/></video>", "/domain/devices/video/model/@type", "voodoo"),
    (BALLOON, "<sound model='sb16'/>", "/domain/devices/sound/@model", "sb16"),
    (BALLOON, "<panic model='s390'/>", "/domain/devices/panic/@model", "s390"),
    (BALLOON, "<vsock><cid address='2'/></vsock>", "/domain/devices/vsock/cid/@address", "3 or more"),
    (BALLOON, "<smartcard mode='host'/>", "/domain/devices/smartcard", "smartcard"),
];

/// The same for the shipped template of a machine type: what it has no bus, chipset or firmware for.
type OtherCase = (&'static str, Case);

const MICROVM: &str = include_str!("../../templates/microvm.xml");
const AARCH64: &str = include_str!("../../templates/aarch64.xml");
const VDA: &str = "<target dev='vda' bus='virtio'/>";
const APIC: &str = "<apic/>";

#[rustfmt::skip]
const OTHER_MACHINES: &[OtherCase] = &[
    (MICROVM, (BALLOON, "<watchdog model='i6300esb'/>", "/domain/devices/watchdog", "no PCI bus")),
    (MICROVM, (BALLOON, "<watchdog model='itco'/>", "/domain/devices/watchdog", "watchdog")),
    (MICROVM, (BALLOON, "<graphics type='vnc'/>", "/domain/devices/graphics", "no PCI bus")),
    (MICROVM, (BALLOON, "<input type='mouse' bus='ps2'/>", "/domain/devices/input", "virtio")),
    (MICROVM, (BALLOON, "<tpm><backend type='emulator'/></tpm>", "/domain/devices/tpm", "TPM")),
    (MICROVM, (BALLOON, "<controller type='usb'/>", "/domain/devices/controller", "no PCI bus")),
    (MICROVM, (VDA, "<target dev='sda' bus='sata'/>", "/domain/devices/disk", "no PCI bus")),
    (MICROVM, (VDA, "<target dev='hda' bus='ide'/>", "/domain/devices/disk", "IDE")),
    (MICROVM, (VDA, "<target dev='vda' bus='virtio'/><address type='pci' slot='3'/>", "/domain/devices/disk", "leave out")),
    (MICROVM, (NIC_MODEL, "<model type='e1000'/>", "/domain/devices/interface", "no PCI bus")),
    (MICROVM, (NIC_MODEL, "<model type='virtio'/><rom enabled='no'/>", "/domain/devices/interface", "option ROM")),
    (MICROVM, ("<os>", "<os firmware='efi'>", "/domain/os", "UEFI")),
    (MICROVM, ("<acpi/>", "", "/domain/os", "<kernel>")),
    (MICROVM, (APIC, "<smm/>", "/domain/features/smm", "does not have it")),
    (MICROVM, ("<clock offset='utc'/>", "<pm><suspend-to-mem enabled='no'/></pm>", "/domain/pm", "does not have it")),
    (AARCH64, (" firmware='efi'", "", "/domain/os", "UEFI")),
    (AARCH64, ("<acpi/>", "<acpi/><hyperv/>", "/domain/features/hyperv", "does not have it")),
    (AARCH64, ("<clock offset='utc'/>", "<clock offset='utc'><timer name='pit'/></clock>", "/domain/clock/timer", "does not have it")),
    (AARCH64, (BALLOON, "<panic model='isa'/>", "/domain/devices/panic", "panic")),
    (AARCH64, (BALLOON, "<tpm model='tpm-crb'><backend type='emulator'/></tpm>", "/domain/devices/tpm", "tpm-tis")),
    (AARCH64, (BALLOON, "<serial type='pty'><target port='1'/></serial>", "/domain/devices/serial[2]", "one serial line")),
    (AARCH64, (BALLOON, "<memballoon model='virtio'><address type='spapr-vio' reg='0x1000'/></memballoon>", "/domain/devices/memballoon", "spapr")),
];

#[test]
fn what_a_machine_type_does_not_have_is_refused_at_its_place() -> Result<()> {
    let mut failures = Vec::new();
    for (template, (piece, wrong, path, word)) in OTHER_MACHINES {
        domain::load(template, &macros())?;
        // The comment at the head has some of the pieces too.
        let (head, body) = template.split_once("-->").unwrap_or(("", template));
        ensure!(body.contains(piece), "the template has no {piece}");
        let text = format!("{head}-->{}", body.replacen(piece, wrong, 1));
        match domain::load(&text, &macros()) {
            Err(error) if error.path == *path && error.message.contains(word) => {}
            Err(error) => failures.push(format!("{wrong}\n  told {error}\n  not {path}: {word}")),
            Ok(_) => failures.push(format!("accepted: {wrong}")),
        }
    }
    ensure!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}

#[test]
fn the_good_template_is_good() -> Result<()> {
    let (domain, warnings) = domain::load(GOOD, &macros())?;
    ensure!(
        domain.name == "vm-42" && warnings.is_empty(),
        "{warnings:?}"
    );
    Ok(())
}

#[test]
fn each_wrong_template_is_refused_at_its_place() -> Result<()> {
    let mut failures = Vec::new();
    for (piece, wrong, path, word) in CASES {
        ensure!(GOOD.contains(piece), "the template has no {piece}");
        let text = GOOD.replacen(piece, wrong, 1);
        match domain::load(&text, &macros()) {
            Ok(_) => failures.push(format!("accepted: {wrong}")),
            Err(error) => {
                let said = format!("{} {}", error.message, error.hint.unwrap_or_default());
                if error.path != *path || !said.contains(word) {
                    failures.push(format!(
                        "{wrong}\n  told {}: {said}\n  not {path}: {word}",
                        error.path
                    ));
                }
                // The line is that of the piece, for all pieces that are of one line.
                let line = GOOD[..GOOD.find(piece).unwrap_or(0)].lines().count();
                let near = usize::try_from(error.line)?.abs_diff(line) <= 3;
                if !near && *path != "/domain" {
                    failures.push(format!("{wrong}: line {} is far from {line}", error.line));
                }
            }
        }
    }
    ensure!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}

#[test]
fn hostile_documents_are_refused() -> Result<()> {
    let bomb = format!(
        "<!DOCTYPE domain [{}]><domain>&a9;</domain>",
        (1..10)
            .map(|n| format!("<!ENTITY a{n} '{}'>", format!("&a{};", n - 1).repeat(10)))
            .collect::<String>()
    );
    let deep = "<a>".repeat(10 << 20 >> 2);
    let wide = format!("<domain>{}</domain>", "<a/>".repeat(MAX_BYTES / 5));
    let attributes: String = (0..100_000).map(|n| format!(" a{n}='1'")).collect();
    let same = format!("<domain{}/>", " a='1'".repeat(100_000));
    let external = "<!DOCTYPE domain SYSTEM 'file:///etc/passwd'><domain/>".to_owned();
    let many = format!("<domain{attributes}/>");
    let macros = format!(
        "<domain><name>{}</name></domain>",
        "VM_NAME".repeat(MAX_BYTES / 8)
    );
    for text in [bomb, deep, wide, many, same, external, macros] {
        ensure!(
            domain::load(&text, &self::macros()).is_err(),
            "accepted {:.40}",
            text
        );
    }
    Ok(())
}

/// Small changes of a good template, the same ones at every run.
struct Changes(u64);

impl Changes {
    fn number(&mut self, below: usize) -> usize {
        // xorshift64: any sequence will do that is not regular.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % below.max(1) as u64).unwrap_or(0)
    }

    fn apply(&mut self, text: &str) -> String {
        const PIECES: [&str; 12] = [
            "'",
            "<",
            ">",
            "/>",
            "&lt;",
            "&x;",
            "-1",
            "99999999999",
            "<a>",
            " b='1'",
            "\u{1}",
            "é",
        ];
        let mut changed: Vec<char> = text.chars().collect();
        for _ in 0..=self.number(3) {
            let at = self.number(changed.len());
            let end = (at + self.number(20)).min(changed.len());
            match self.number(3) {
                0 => drop(changed.drain(at..end)),
                1 => {
                    let piece: Vec<char> = changed[at..end].to_vec();
                    let to = self.number(changed.len());
                    changed.splice(to..to, piece);
                }
                _ => drop(changed.splice(at..at, PIECES[self.number(PIECES.len())].chars())),
            }
        }
        changed.into_iter().collect()
    }
}

#[test]
fn changed_templates_are_read_or_refused_and_nothing_else() -> Result<()> {
    let mut changes = Changes(0x5eed_f0e5);
    let (mut good, mut bad) = (0, 0);
    for _ in 0..4000 {
        match domain::load(&changes.apply(GOOD), &macros()) {
            Ok((domain, _)) => {
                good += 1;
                let _ = fvm_vmm::qemu::pci::assign(&domain);
            }
            Err(error) => {
                bad += 1;
                ensure!(error.path.starts_with('/') && error.line >= 1, "{error:?}");
            }
        }
    }
    ensure!(good > 10 && bad > 1000, "{good} were read, {bad} refused");
    Ok(())
}
