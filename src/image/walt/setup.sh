#!/bin/sh
# Puts the boot files of the model qemu-arm-64 into an image of WalT. The Containerfile runs it in the image.
# ROOT is the image's root instead of / (for tests).
set -eu

ROOT=${ROOT:-}
here=$(dirname "$0")
boot=$ROOT/boot/qemu-arm-64

refuse() {
  echo "walt: this image cannot run in the virtual machine: $1" >&2
  exit 1
}

# (/bin/walt-init is put in by the WalT server when it serves the image, as all its scripts. They need busybox.)
[ -e "$ROOT/bin/busybox" ] || refuse "it has no /bin/busybox, which WalT's scripts need"
# The newest of Debian's kernels for arm64. Those of Raspberry Pi boards have other names and no virtio.
version=$(for file in "$ROOT"/boot/vmlinuz-*-arm64; do
  [ -f "$file" ] && echo "${file##*/vmlinuz-}"
done | sort -V | tail -n 1)
[ -n "$version" ] || refuse "it has no /boot/vmlinuz-…-arm64; install Debian's package linux-image-arm64 in it first"
grep -q '^CONFIG_VIRTIO_NET=[my]' "$ROOT/boot/config-$version" || refuse "its kernel $version has no virtio"

# How WalT's initramfs mounts the root: since 2025 by the script `walt`, before by `netroot`.
how=
for name in walt netroot; do
  for folder in "$ROOT/etc/initramfs-tools/scripts" "$ROOT/usr/share/initramfs-tools/scripts"; do
    if [ -z "$how" ] && [ -e "$folder/$name" ]; then how=$name; fi
  done
done
[ -n "$how" ] || refuse "its initramfs-tools have neither the script walt nor netroot, by which WalT mounts the root"

# An initramfs of its own for the virtual machine, as it is loaded at each boot: the network card, the root by NFS, and what
# WalT's scripts may mount. With the drivers of all boards it would be three times as large.
conf=$(mktemp -d)
trap 'rm -rf "$conf"' EXIT
cp -R "$ROOT/etc/initramfs-tools/." "$conf"
mkdir -p "$conf/conf.d" "$boot"
echo MODULES=list >"$conf/conf.d/zz-walt-vpn"
for module in virtio_pci virtio_net virtio-rng af_packet nfs nfsv3 nfsv4 overlay nbd loop squashfs ext4; do
  echo "$module" >>"$conf/modules"
done
${MKINITRAMFS:-mkinitramfs} -d "$conf" -o "$boot/initrd" "$version"

# iPXE unpacks it. On a slow line that saves most of the time.
gzip -9nc "$ROOT/boot/vmlinuz-$version" >"$boot/kernel"
sed "s/@boot@/boot=$how rootfstype=$how/" "$here/start.ipxe" >"$boot/start.ipxe"
chmod 644 "$boot/kernel" "$boot/initrd" "$boot/start.ipxe"
echo "walt: qemu-arm-64 boots the kernel $version, with boot=$how"
