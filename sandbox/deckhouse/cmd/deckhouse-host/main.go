// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Command deckhouse-host plays Deckhouse for one module: it reads ModuleConfigs
// and runs the module's hooks and Helm chart with addon-operator.
package main

import (
	_ "github.com/deckhouse/deckhouse/pkg/log"
	_ "github.com/flant/addon-operator/pkg/addon-operator"
	_ "k8s.io/client-go/dynamic/dynamicinformer"
)

func main() {}
