// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package controllers gives tests all controllers of the program at once, with the
// settings that tests do not care about.
package controllers

import (
	"context"

	"k8s.io/utils/clock"
	virtv1 "kubevirt.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/deckhouse/virtualization/internal/controller"
	"github.com/deckhouse/virtualization/internal/controller/shared/filling"
	"github.com/deckhouse/virtualization/internal/controller/shared/imageimport"
	"github.com/deckhouse/virtualization/internal/controller/shared/importerpod"
	"github.com/deckhouse/virtualization/internal/dvcr/token"
	"github.com/deckhouse/virtualization/internal/importer/reportserver"
	"github.com/deckhouse/virtualization/internal/ipam"
	"github.com/deckhouse/virtualization/internal/trust"
)

// RegistryAddress is the host of DVCR, which nobody connects to.
const RegistryAddress = "dvcr.example.org"

// Options are what differs from test to test.
type Options struct {
	// Namespace is the platform's own.
	Namespace string
	// Ranges are where machines' addresses come from.
	Ranges []string
	// StorageClass is the default of disks and images.
	StorageClass string
	Issuer       *token.Issuer
	Registry     imageimport.Registry
	// TakeBack lets a guest stay that was told to leave its node.
	TakeBack func(ctx context.Context, guest *virtv1.VirtualMachineInstance) error
}

// Setup registers the controllers of all kinds.
func Setup(mgr ctrl.Manager, opts Options) error {
	pool, err := ipam.NewPool(opts.Ranges)
	if err != nil {
		return err
	}
	classes := filling.Classes{Default: opts.StorageClass}
	return controller.Setup(mgr, controller.Options{
		Importers: importerpod.Settings{
			Namespace: opts.Namespace, ImporterImage: "importer", CABundle: trust.Static([]byte("module CA")), ReportURL: "https://controller.example.org/reports",
		},
		RegistryAddress: RegistryAddress, Registry: opts.Registry, Issuer: opts.Issuer,
		Reports:     reportserver.New(opts.Issuer.Verifier(), clock.RealClock{}),
		DiskClasses: classes, ImageClasses: classes, Pool: pool, TakeBack: opts.TakeBack,
	})
}
