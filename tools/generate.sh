#!/bin/sh
# Copyright The Virtualization Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Writes everything that follows from the Go types in api/: their deepcopy functions, crds/*.yaml and the Russian
# twins crds/doc-ru-*.yaml; the reference pages docs/reference; the table of rights in the guides; the Grafana dashboards
# of the descriptions in tools/dashboards; and what follows from the pinned KubeVirt and CDI. Running it twice changes nothing; `make verify` relies on that.
set -eu

tools=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$tools")
generated=$(mktemp -d)
trap 'rm -rf "$generated"' EXIT

cd "$tools"
# The generator reads the packages of the module it is started in, so it is built here and started in api/.
controller_gen=$(go tool -n controller-gen)
go build -o "$generated/" ./crds ./reference ./dashboards

cd "$root/api"
"$controller_gen" "object:headerFile=$tools/header.go.txt" paths=./...
"$controller_gen" crd paths=./... "output:crd:dir=$generated/raw"

"$generated/crds" -from "$generated/raw" -words "$tools/crds" -to "$root/crds"
"$generated/reference" -crds "$root/crds" -api "$root/api/v1alpha2" -words "$tools/reference/words" -to "$root/docs/reference"

"$generated/dashboards" -from "$tools/dashboards/sources" -to "$root/monitoring/grafana-dashboards/main"

go -C "$root" run ./test/rbac/generate "$root/docs"

# The engine's own CRDs and its operators' rights come from the commands of the pinned KubeVirt and CDI. Where these are
# not built yet, building them takes root and some minutes; `make up` uses the same builds.
go -C "$root/sandbox" run ./cmd/engine-manifests "$root"
