#!/usr/bin/env bash
# Copyright The Virtualization Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Builds d8v for the systems that people work on: an archive for each, with the licences of
# what it is linked to, and the checksums of all.
#
#   tools/client.sh FOLDER [OS-ARCHITECTURE...]
set -euo pipefail

out=$(mkdir -p "$1" && cd "$1" && pwd)
shift
cd "$(dirname "$0")/.."
systems=("$@")
[ $# -gt 0 ] || systems=(linux-amd64 linux-arm64 darwin-amd64 darwin-arm64 windows-amd64)
version=$(sed -n 's/^version: "\(.*\)"$/\1/p' release.yaml)
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
rm -f "$out"/d8v-*

for system in "${systems[@]}"; do
  program=d8v
  [[ $system != windows-* ]] || program=d8v.exe
  folder=$stage/$system
  GOOS=${system%-*} GOARCH=${system#*-} CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o "$folder/$program" ./cmd/d8v
  go -C tools/sbom run . -program "$folder/$program" "$folder"
  cp LICENSE "$folder/"
  # Without times and owners the same sources give the same archive.
  tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -C "$folder" -c . | gzip -n > "$out/d8v-$version-$system.tar.gz"
done
cd "$out"
sha256sum d8v-*.tar.gz > "d8v-$version.sha256"
