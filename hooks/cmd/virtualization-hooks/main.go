// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Command virtualization-hooks holds every hook of the module; addon-operator asks it what there is and runs it.
package main

import (
	"github.com/deckhouse/module-sdk/pkg/app"

	"github.com/deckhouse/virtualization/hooks/addressranges"
	_ "github.com/deckhouse/virtualization/hooks/brokenrelease"
	"github.com/deckhouse/virtualization/hooks/checks"
	_ "github.com/deckhouse/virtualization/hooks/customcertificate"
	_ "github.com/deckhouse/virtualization/hooks/defaultclass"
	_ "github.com/deckhouse/virtualization/hooks/dvcraddress"
	_ "github.com/deckhouse/virtualization/hooks/dvcrsecrets"
	_ "github.com/deckhouse/virtualization/hooks/dvcrstorage"
	_ "github.com/deckhouse/virtualization/hooks/foreignengine"
	_ "github.com/deckhouse/virtualization/hooks/moduleca"
	_ "github.com/deckhouse/virtualization/hooks/removal"
	_ "github.com/deckhouse/virtualization/hooks/requirements"
	_ "github.com/deckhouse/virtualization/hooks/sourcenetworks"
	_ "github.com/deckhouse/virtualization/hooks/tlsapi"
	_ "github.com/deckhouse/virtualization/hooks/tlscontroller"
	_ "github.com/deckhouse/virtualization/hooks/tlsdvcr"
)

func main() {
	app.Run(app.WithSettingsCheck(checks.All(addressranges.Check, checks.Registry, checks.StorageClasses, checks.Certificate)))
}
