#!/bin/bash
# Copyright The Virtualization Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Makes tiny.qcow2. Runs inside the root with the tools:
#   assemble.sh SOURCE PACKAGES OUT
# SOURCE is the folder of this script, PACKAGES a tar with the kernel package and
# busybox-static, OUT gets the disk. Nothing is mounted and no device is used.
set -euo pipefail
source=$1 packages=$2 out=$3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

kernel=$work/kernel
mkdir "$kernel"
tar --extract --file "$packages" --directory "$kernel" --wildcards './boot/vmlinuz-*' ./usr/lib/modules ./usr/bin/busybox \
	./usr/lib/shim/shimx64.efi.signed ./usr/lib/systemd/boot/efi/systemd-bootx64.efi.signed
ln -s usr/lib "$kernel/lib"
version=$(basename "$kernel"/usr/lib/modules/*)

# What KubeVirt may put a disk, a network card, a power button or a cloud-init
# volume behind, and the file system of the firmware's variables.
modules="virtio_blk virtio_net virtio_scsi sd_mod sr_mod ahci isofs button evdev virtio_balloon virtio-rng efivarfs"

echo "making the initramfs for kernel $version"
root=$work/root
mkdir -p "$root"/{bin,dev,etc/acpi/PWRF,modules,mnt,proc,run,sys,tmp,var/log,var/run,www}
install -m 755 "$kernel/usr/bin/busybox" "$root/bin/busybox"
install -m 755 "$source/init" "$root/init"
install -m 755 "$source/cloud_init" "$source/dhcp-event" "$root/bin/"
install -m 755 "$source/poweroff-event" "$root/etc/acpi/PWRF/00000080"
depmod --basedir "$kernel" "$version"
for module in $modules; do
	modprobe --dirname "$kernel" --set-version "$version" --show-depends "$module"
done | while read -r action path _; do
	[ "$action" = insmod ] || continue
	name=$(basename "$path" .xz)
	[ ! -e "$root/modules/$name" ] || continue
	# insmod of busybox reads no compressed modules.
	xz --decompress --stdout "$path" > "$root/modules/$name"
	# With a BIOS there is nothing for it to show: init loads it where there is.
	[ "$name" = efivarfs.ko ] || echo "$name" >> "$root/modules/order"
done
find "$root" -exec touch --no-dereference --date=@0 {} +
(cd "$root" && find . | LC_ALL=C sort | cpio --quiet --create --format=newc --owner=0:0 --reproducible) | zstd -19 --quiet > "$work/initrd"

echo "making the disk"
cp "$kernel"/boot/vmlinuz-* "$work/vmlinuz"
cp "$source/syslinux.cfg" "$work/syslinux.cfg"
disk=$work/disk.raw
size=$((48 * 1024 * 1024)) start=$((1024 * 1024))
truncate --size="$size" "$disk"
printf 'label: dos\nlabel-id: 0x766d7467\nstart=%d, type=6, bootable\n' $((start / 512)) | sfdisk --quiet "$disk"
mkfs.fat -F 16 -i 76697274 -n TINY --offset $((start / 512)) "$disk" $(((size - start) / 1024)) > /dev/null
mcopy -i "$disk@@$start" "$work/vmlinuz" "$work/initrd" "$work/syslinux.cfg" ::
# Every firmware finds this path without being told, and with secure boot each of
# the three is signed: shim by Microsoft, the loader and the kernel by Debian. Shim
# looks for the next one under GRUB's name.
mmd -i "$disk@@$start" ::EFI ::EFI/BOOT ::loader ::loader/entries
mcopy -i "$disk@@$start" "$kernel/usr/lib/shim/shimx64.efi.signed" ::EFI/BOOT/BOOTX64.EFI
mcopy -i "$disk@@$start" "$kernel/usr/lib/systemd/boot/efi/systemd-bootx64.efi.signed" ::EFI/BOOT/grubx64.efi
mcopy -i "$disk@@$start" "$source/efi-loader.conf" ::loader/loader.conf
mcopy -i "$disk@@$start" "$source/efi-entry.conf" ::loader/entries/tiny.conf
syslinux --install --offset "$start" "$disk"
dd if=/usr/lib/syslinux/mbr/mbr.bin of="$disk" conv=notrunc status=none
qemu-img convert -f raw -O qcow2 -c "$disk" "$out/tiny.qcow2"
