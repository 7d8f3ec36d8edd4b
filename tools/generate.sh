#!/bin/sh
# Copyright The Virtualization Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Writes everything that follows from the Go types in api/: their deepcopy functions, crds/*.yaml and the Russian
# twins crds/doc-ru-*.yaml. Running it twice changes nothing; `make verify` relies on that.
set -eu

tools=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$tools")
generated=$(mktemp -d)
trap 'rm -rf "$generated"' EXIT

cd "$tools"
# The generator reads the packages of the module it is started in, so it is built here and started in api/.
controller_gen=$(go tool -n controller-gen)
go build -o "$generated/crds" ./crds

cd "$root/api"
"$controller_gen" "object:headerFile=$tools/header.go.txt" paths=./...
"$controller_gen" crd paths=./... "output:crd:dir=$generated/raw"

"$generated/crds" -from "$generated/raw" -russian "$tools/crds/russian" -to "$root/crds"
