#!/bin/sh
# Puts a build of fvm into place: packaging/install.sh BINARY_DIRECTORY [DESTDIR [PREFIX]]
#
# With a DESTDIR it only copies (for packagers); without one it also makes the group and the user, and starts the
# sockets, so that `fvm init` is the next thing to type.
set -eu

cd "$(dirname "$0")/.."
binaries=$1
root=${2:-}
prefix=${3:-/usr}

for program in fvm fvmd fvm-netd; do
    [ -x "$binaries/$program" ] || {
        echo "$binaries/$program is missing; run: cargo build --release --workspace" >&2
        exit 1
    }
done

install -D -m 755 "$binaries/fvm" "$root$prefix/bin/fvm"
install -D -m 755 "$binaries/fvmd" "$root$prefix/sbin/fvmd"
install -D -m 755 "$binaries/fvm-netd" "$root$prefix/libexec/fvm/fvm-netd"
install -d "$root/usr/share/fvm/templates"
for template in templates/*.xml; do
    [ ! -e "$template" ] || install -m 644 "$template" "$root/usr/share/fvm/templates/"
done
# Manual pages and completion scripts, by the program that they are of.
share=$root$prefix/share
"$binaries/fvm" generate "$share"
gzip -9nf "$share"/man/man1/fvm*.1
case $prefix in
/usr) ;;
*) # zsh looks here for what is not of a distribution.
    mkdir -p "$share/zsh/site-functions"
    mv "$share/zsh/vendor-completions/_fvm" "$share/zsh/site-functions/"
    rmdir "$share/zsh/vendor-completions" ;;
esac
# systemd looks for units of another prefix than /usr in /etc.
case $prefix in
/usr) units=/usr/lib/systemd/system ;;
*) units=/etc/systemd/system ;;
esac
install -d "$root$units"
for unit in packaging/systemd/*; do
    sed -e "s|=/usr/sbin/|=$prefix/sbin/|" -e "s|=/usr/libexec/|=$prefix/libexec/|" "$unit" > "$root$units/${unit##*/}"
    chmod 644 "$root$units/${unit##*/}"
done
install -D -m 644 packaging/sysusers.d/fvm.conf "$root/usr/lib/sysusers.d/fvm.conf"
install -D -m 644 packaging/modules-load.d/fvm.conf "$root/usr/lib/modules-load.d/fvm.conf"
for document in README.md CHANGELOG.md LICENSE-MIT LICENSE-APACHE; do
    [ ! -e "$document" ] || install -D -m 644 "$document" "$root$prefix/share/doc/fvm/$document"
done
[ ! -e LICENSE-MIT ] || cat LICENSE-MIT LICENSE-APACHE > "$root$prefix/share/doc/fvm/copyright"

if [ -z "$root" ]; then
    systemd-sysusers fvm.conf
    systemctl daemon-reload
    systemctl restart systemd-modules-load.service || true
    systemctl enable --quiet --now fvmd.socket fvm-netd.socket
    # A fast-vm that is there stays what it is.
    for name in fast-vm fast-vm-image; do
        [ -e "$prefix/bin/$name" ] || [ -L "$prefix/bin/$name" ] || ln -s fvm "$prefix/bin/$name"
    done
    echo "fvm is installed; next: fvm init" >&2
fi
