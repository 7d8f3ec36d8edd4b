#!/bin/sh
# Copyright The Virtualization Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Turns a fresh Debian root into one that boots fast as a guest. Called by
# mmdebstrap with the root as the only argument; the folder "files" beside this
# script is laid over the root first.
set -eu
root=$1
here=$(dirname "$0")
cp -r "$here/files/." "$root/"

inside() { chroot "$root" "$@"; }

# Every guest is somebody else: what must be unique is made at its first boot.
rm -f "$root"/etc/ssh/ssh_host_* "$root/etc/machine-id" "$root/var/lib/dbus/machine-id"
: > "$root/etc/machine-id"
echo guest > "$root/etc/hostname"
printf '127.0.0.1 localhost\n::1 localhost ip6-localhost\n' > "$root/etc/hosts"

inside systemctl --quiet enable systemd-networkd systemd-resolved ssh qemu-guest-agent
# Work that a short-lived guest never needs but would pay for at every boot.
inside systemctl --quiet mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer \
	e2scrub_reap.service fstrim.timer systemd-pcrphase.service systemd-pcrphase-sysinit.service \
	systemd-network-generator.service systemd-journal-catalog-update.service systemd-hibernate-clear.service systemd-pstore.service \
	dev-hugepages.mount dev-mqueue.mount sys-kernel-debug.mount sys-kernel-tracing.mount sys-fs-fuse-connections.mount \
	proc-sys-fs-binfmt_misc.automount modprobe@configfs.service modprobe@drm.service modprobe@efi_pstore.service \
	modprobe@fuse.service systemd-binfmt.service getty@tty1.service cloud-init-hotplugd.socket
mkdir -p "$root/etc/systemd/system-generators"
for generator in systemd-ssh-generator systemd-gpt-auto-generator systemd-hibernate-resume-generator; do
	ln -s /dev/null "$root/etc/systemd/system-generators/$generator"
done
ln -sf ../run/systemd/resolve/stub-resolv.conf "$root/etc/resolv.conf"

inside update-initramfs -u
# The boot loader reads these two from its own partition, where no package
# manager would refresh them.
inside apt-mark --quiet hold linux-image-cloud-amd64 > /dev/null

# systemd would rebuild its caches at the first boot because /usr is newer than
# what it remembers; everything is up to date.
touch "$root/etc/.updated" "$root/var/.updated"
# /tmp of the root stays: mmdebstrap keeps the configuration there that tells its
# apt to work in the root. Without it apt's clean-up would empty the machine's own
# package lists. What apt left in the root is removed by mmdebstrap itself.
rm -rf "$root"/var/log/* "$root"/boot/*.old
