#!/bin/sh
# Runs a program as root on a real kernel with device-mapper: User Mode Linux, in two seconds, without
# any privilege or feature of the machine itself beyond being able to make the root directory.
#
#   tests/assets/uml.sh PROGRAM [ARGUMENT…]       its output and exit status
#
# Needs: user-mode-linux, mmdebstrap (to make the root directory, once) and, for that, root or subuids.
# FVM_UML_DIR   where the root directory is kept (default: target/uml)
# FVM_UML_LIMIT seconds until the machine is stopped (default: 900)
# FVM_UML_WITH  a directory of more programs, which are found in the PATH
set -eu

[ $# -ge 1 ] || { sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 2; }
test_binary=$(readlink -f "$1")
shift

top=$(cd "$(dirname "$0")/../.." && pwd)
work=${FVM_UML_DIR:-$top/target/uml}
limit=${FVM_UML_LIMIT:-900}
packages=busybox,dmsetup,e2fsprogs,iproute2,kmod,nftables,openssh-client,python3,sqlite3,thin-provisioning-tools,util-linux

linux=$(command -v linux.uml) || { echo "uml.sh: user-mode-linux is not installed" >&2; exit 77; }
version=$("$linux" --version)
modules=/usr/lib/uml/modules/$version

# The root directory, made once for this kernel and these packages.
# Of this machine's own release, so that what was built here runs there.
suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
key=$(printf '%s\n' "$version" "$suite" "$packages" 6 | sha256sum | cut -c1-16)
root=$work/root-$key
mkdir -p "$work"
exec 9>"$work/lock"
flock 9
if [ ! -e "$root/.complete" ]; then
    echo "uml.sh: making $root" >&2
    rm -rf "$root"
    mmdebstrap --quiet --variant=minbase --include="$packages" \
        --customize-hook='mkdir -p "$1/lib/modules" "$1/scratch" "$1/var/lib/fvm" "$1/etc/fvm" "$1/usr/share/fvm"' \
        --customize-hook="copy-in $modules /lib/modules" \
        --customize-hook="chroot \"\$1\" depmod $version" \
        "$suite" "$root" >&2
    # mmdebstrap empties it at its end.
    echo 0123456789abcdef0123456789abcdef >"$root/etc/machine-id"
    # The first thing to run there: makes this run's directory visible and goes on in it. The kernel hands
    # `host=` on in the environment.
    cat >"$root/first" <<'FIRST'
#!/bin/sh
mount -t proc proc /proc
mount -t tmpfs run /run
mkdir /run/host
mount -t hostfs -o "$host" host /run/host
exec /run/host/init
FIRST
    chmod +x "$root/first"
    touch "$root/.complete"
fi

exec 9>&-

# Everything of this run lies in a directory of its own, seen by the machine as /run/host.
run=$(mktemp -d "$work/run-XXXXXX")
uml=
stop() {
    [ -z "$uml" ] || kill "$uml" 2>/dev/null || true
    rm -rf "$run"
}
trap stop EXIT INT TERM
cp "$test_binary" "$run/test"
[ -z "${FVM_UML_WITH:-}" ] || cp -r "$FVM_UML_WITH" "$run/with"
for argument in "$@"; do
    printf '%s\n' "$argument" >>"$run/arguments"
done
truncate -s 8G "$run/scratch.img"
cat >"$run/init" <<'INIT'
#!/bin/sh
export PYTHONPATH=/run/host/with PATH=/run/host/with:/usr/sbin:/usr/bin:/sbin:/bin TMPDIR=/scratch HOME=/root
mount -t sysfs sysfs /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
ln -s /proc/self/fd /dev/fd
ln -s /proc/self/fd/0 /dev/stdin
modprobe -a loop dm-mod dm-thin-pool dm-flakey dm-log-writes dm-snapshot ext4 tun bridge nf_tables
mkfs.ext4 -q /dev/ubda && mount /dev/ubda /scratch || exit 1
set --
if [ -e /run/host/arguments ]; then
    while IFS= read -r argument; do set -- "$@" "$argument"; done </run/host/arguments
fi
cd /scratch
FVM_TEST_HOST=1 RUST_BACKTRACE=${RUST_BACKTRACE:-0} /run/host/test "$@" >/run/host/output 2>&1
status=$?
dmsetup ls >/run/host/devices 2>&1
losetup -l >/run/host/loops 2>&1
dmesg >/run/host/dmesg
echo "$status" >/run/host/status
busybox poweroff -f
INIT
chmod +x "$run/init"
: >"$run/output"

timeout -k 5 "$limit" "$linux" mem=1536M rootfstype=hostfs rootflags="$root" ro \
    ubda="$run/scratch.img" con=null con0=null,fd:1 quiet \
    host="$run" init=/first \
    >"$run/console" 2>&1 </dev/null &
uml=$!
tail -n +1 -f --pid="$uml" "$run/output" &
tail=$!
wait "$uml" || true
uml=
wait "$tail" || true

if [ ! -e "$run/status" ]; then
    echo "uml.sh: the machine ended without a result; its last words:" >&2
    tail -n 40 "$run/console" >&2
    exit 70
fi
exit "$(cat "$run/status")"
