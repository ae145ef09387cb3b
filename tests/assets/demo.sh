# The main job on a fresh lab host, as a person would type it. What is left behind is counted after it.

key=/lab/guests/id_ed25519

step() { printf '\n\033[1m# %s\033[0m\n' "$*"; }
run() {
    printf '$ %s\n' "$*"
    "$@"
}

step 'This host: a plain Debian, emulated, with KVM and the fvm package'
run uname -nrm
ls -l /dev/kvm
run dpkg-query -W fvm

step 'Set up: storage pool, bridge, NAT, units'
run fvm init --yes --size 8G

step 'A golden image, once'
run fvm image import debian /lab/guests/bios.raw.xz
run fvm image list

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

echo
echo "VM 42 had the address $address"
[ "$address" = 192.168.22.42/24 ] || {
    echo "the address is not the one of VM 42" >&2
    exit 1
}
