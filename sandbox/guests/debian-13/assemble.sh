#!/bin/bash
# Copyright The Virtualization Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Makes debian-13.qcow2. Runs inside the root with the tools:
#   assemble.sh SOURCE ROOT OUT
# SOURCE is the folder of this script, ROOT holds the guest's root file system,
# OUT gets the disk. Nothing is mounted and no device is used.
set -euo pipefail
source=$1 root=$2 out=$3
work=$(mktemp -d --tmpdir="$out")
trap 'rm -rf "$work"' EXIT

mebibyte=$((1024 * 1024))
boot_start=1 boot_size=63
root_start=$((boot_start + boot_size)) root_size=1984
disk=$work/disk.raw

echo "laying out the disk"
# The root comes last, so that it can grow when the disk does.
truncate --size=$(((root_start + root_size + 1) * mebibyte)) "$disk"
printf 'label: dos\nlabel-id: 0x64656231\nstart=%dMiB, size=%dMiB, type=c, bootable\nstart=%dMiB, size=%dMiB, type=83\n' \
	$boot_start $boot_size $root_start $root_size | sfdisk --quiet "$disk"

echo "making the boot partition"
mkfs.fat -F 16 -i 64656231 -n BOOT --offset $((boot_start * mebibyte / 512)) "$disk" $((boot_size * 1024)) > /dev/null
cp "$root"/boot/vmlinuz-* "$work/vmlinuz"
cp "$root"/boot/initrd.img-* "$work/initrd"
mcopy -i "$disk@@${boot_start}M" "$work/vmlinuz" "$work/initrd" "$source/syslinux.cfg" ::
syslinux --install --offset $((boot_start * mebibyte)) "$disk"
dd if=/usr/lib/syslinux/mbr/mbr.bin of="$disk" conv=notrunc status=none

echo "making the root partition"
# Without a lazily made inode table the first boot would write it all.
mke2fs -q -t ext4 -L root -d "$root" -E "offset=$((root_start * mebibyte)),lazy_itable_init=1,nodiscard" \
	-O ^metadata_csum_seed "$disk" "${root_size}M"

echo "compressing"
qemu-img convert -f raw -O qcow2 -c -m 4 -W "$disk" "$out/debian-13.qcow2"
