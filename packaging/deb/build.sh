#!/bin/sh
# Makes the .deb: packaging/deb/build.sh BINARY_DIRECTORY OUTPUT_FILE
#
# BINARY_DIRECTORY is where cargo put fvm, fvmd and fvm-netd.
set -eu

cd "$(dirname "$0")/../.."
binaries=$1
output=$2
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
chmod 755 "$stage"

packaging/install.sh "$binaries" "$stage" /usr

# The newest C library symbol that any of the programs asks for.
glibc=$(objdump -T "$stage/usr/bin/fvm" "$stage/usr/sbin/fvmd" "$stage/usr/libexec/fvm/fvm-netd" |
    grep -o 'GLIBC_[0-9][0-9.]*' | sed s/GLIBC_// | sort -uV | tail -n 1)
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)

mkdir "$stage/DEBIAN"
sed -e "s/@VERSION@/$version/" -e "s/@ARCHITECTURE@/$(dpkg --print-architecture)/" -e "s/@GLIBC@/$glibc/" \
    -e "s/@SIZE@/$(du -sk --exclude=DEBIAN "$stage" | cut -f 1)/" packaging/deb/control > "$stage/DEBIAN/control"
install -m 755 packaging/deb/postinst packaging/deb/prerm packaging/deb/postrm "$stage/DEBIAN/"

dpkg-deb --root-owner-group -Zxz -z1 --build "$stage" "$output" > /dev/null
