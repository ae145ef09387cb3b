# The main job on a fresh lab host, as a person would type it. Ends with what is left behind, counted.

key=/lab/guests/id_ed25519

step() { printf '\n\033[1m# %s\033[0m\n' "$*"; }
run() {
    printf '$ %s\n' "$*"
    "$@"
}

# Everything that could be left behind, one thing a line: counted from the kernel, the file system and the store.
look() {
    mkdir -p "$1"
    dmsetup info -c --noheadings -o name,uuid > "$1/dm"
    ls /sys/class/net > "$1/taps"
    nft --stateless list ruleset > "$1/nft"
    { pgrep -a '^qemu-system' || true; } > "$1/qemu"
    # The directories of all VMs stay; each VM's own is in them.
    find /run/fvm /var/lib/fvm /etc/fvm /dev/fvm \
        ! -path /run/fvm/vm ! -path /var/lib/fvm/vms ! -path /dev/fvm ! -name 'state.db-*' > "$1/files" 2> /dev/null || true
    find /sys/fs/cgroup/fvm.slice -type d >> "$1/files"
    # Rows by table: what a row says may change (the pool's transaction id), more rows may not be there.
    for table in $(sqlite3 /var/lib/fvm/state.db "SELECT name FROM sqlite_master WHERE type = 'table'"); do
        sqlite3 /var/lib/fvm/state.db "SELECT '$table' FROM $table"
    done > "$1/rows"
}

# left WHAT: how many things are there now that were not there before.
left() {
    sort "$before/$1" > "$before/$1.sorted"
    sort "$after/$1" | comm -13 "$before/$1.sorted" - | wc -l
}

before=$(mktemp -d) after=$(mktemp -d)

step 'This host: a plain Debian, emulated, with KVM and the fvm package'
run uname -nrm
ls -l /dev/kvm
run dpkg-query -W fvm

step 'Set up: storage pool, bridge, NAT, units'
run fvm init --yes --size 8G

step 'A golden image, once'
run fvm image import debian /lab/guests/bios.raw.xz
run fvm image list
look "$before"

step 'VM 42: a snapshot of it, started, reached over ssh'
run fvm create debian 42
run fvm start 42 --wait ssh --timeout 300s
run fvm list
run fvm info 42
run fvm ssh -i "$key" 42 -- uname -a
run fvm ssh -i "$key" 42 -- ip -4 -o address show eth0
address=$(ssh -q -i "$key" -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null root@192.168.22.42 \
    ip -4 -o address show eth0 | tr -s ' ' | cut -d ' ' -f 4)

step 'Stopped and deleted'
run fvm stop 42 --graceful
run fvm delete 42
run fvm list
look "$after"

echo
left_behind="dm $(left dm), taps $(left taps), nft $(left nft), qemu $(left qemu), files $(left files), rows $(left rows)"
echo "VM 42 had the address $address"
echo "left behind: $left_behind"

[ "$address" = 192.168.22.42/24 ] || {
    echo "the address is not the one of VM 42" >&2
    exit 1
}
[ "$left_behind" = 'dm 0, taps 0, nft 0, qemu 0, files 0, rows 0' ] || {
    for kind in dm taps nft qemu files rows; do
        sort "$after/$kind" | comm -13 "$before/$kind.sorted" - | sed "s/^/left behind: $kind: /" >&2
    done
    exit 1
}
