#!/bin/bash
# Copyright The Virtualization Authors.
# SPDX-License-Identifier: Apache-2.0
#
# KubeVirt starts virtqemud and talks to its sockets. Debian builds libvirt's one
# daemon for everything instead, so that one is started under the other's name
# and its sockets are found under theirs. The configuration of both is the same.
set -eu

mkdir -p /run/libvirt
for kind in sock sock-ro admin-sock; do
	ln -sfn "libvirt-$kind" "/run/libvirt/virtqemud-$kind"
done
exec -a virtqemud /usr/libexec/libvirt/virtqemud "$@"
