// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package manifests holds what the sandbox installs in its cluster.
package manifests

import "embed"

// Files are the manifests by file name.
//
//go:embed *.yaml
var Files embed.FS

// ModuleConfig enables the module; it is applied once Deckhouse's side runs.
//
//go:embed module/moduleconfig.yaml
var ModuleConfig []byte
