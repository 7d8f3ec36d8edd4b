// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package controllers gives tests all controllers of the program at once, as
// cmd/virtualization-controller registers them.
package controllers

import (
	"context"

	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/blockdeviceattachment"
	"github.com/deckhouse/virtualization/internal/controller/clustervirtualimage"
	"github.com/deckhouse/virtualization/internal/controller/evacuation"
	"github.com/deckhouse/virtualization/internal/controller/ipaddress"
	"github.com/deckhouse/virtualization/internal/controller/ipaddresslease"
	"github.com/deckhouse/virtualization/internal/controller/operation"
	"github.com/deckhouse/virtualization/internal/controller/populator"
	"github.com/deckhouse/virtualization/internal/controller/shared/filling"
	"github.com/deckhouse/virtualization/internal/controller/shared/imageimport"
	"github.com/deckhouse/virtualization/internal/controller/shared/importerpod"
	"github.com/deckhouse/virtualization/internal/controller/virtualdisk"
	"github.com/deckhouse/virtualization/internal/controller/virtualimage"
	"github.com/deckhouse/virtualization/internal/controller/virtualmachine"
	"github.com/deckhouse/virtualization/internal/controller/virtualmachineclass"
	"github.com/deckhouse/virtualization/internal/dvcr/token"
	"github.com/deckhouse/virtualization/internal/importer/reportserver"
	"github.com/deckhouse/virtualization/internal/ipam"
)

// RegistryAddress is the host of DVCR, which nobody connects to.
const RegistryAddress = "dvcr.example.org"

// Registry stands in for DVCR.
type Registry interface {
	Head(ctx context.Context, reference string) (string, error)
	Delete(ctx context.Context, reference string) error
}

// Options are what differs from test to test.
type Options struct {
	// Namespace is the platform's own.
	Namespace string
	// Ranges are where machines' addresses come from.
	Ranges []string
	// StorageClass is the default of disks and images.
	StorageClass string
	Issuer       *token.Issuer
	Registry     Registry
}

// Setup registers the controllers of all kinds.
func Setup(mgr ctrl.Manager, opts Options) error {
	pool, err := ipam.NewPool(opts.Ranges)
	if err != nil {
		return err
	}
	if err := setupStorage(mgr, opts); err != nil {
		return err
	}
	for _, setup := range []func() error{
		func() error {
			return virtualmachineclass.Setup(mgr, virtualmachineclass.Options{Clock: clock.RealClock{}})
		},
		func() error { return operation.Setup(mgr, operation.Options{}) },
		func() error { return evacuation.Setup(mgr, evacuation.Options{}) },
		func() error { return virtualmachine.Setup(mgr, virtualmachine.Options{Namespace: opts.Namespace}) },
		func() error { return ipaddress.Setup(mgr, ipaddress.Options{Pool: pool}) },
		func() error { return ipaddresslease.Setup(mgr, ipaddresslease.Options{}) },
	} {
		if err := setup(); err != nil {
			return err
		}
	}
	return nil
}

// setupStorage registers the controllers of images and disks and the populator.
func setupStorage(mgr ctrl.Manager, opts Options) error {
	reports := reportserver.New(opts.Issuer.Verifier(), clock.RealClock{})
	images := imageimport.Dependencies{
		Issuer: opts.Issuer, Registry: opts.Registry, Reports: reports, Clock: clock.RealClock{},
		Filler: filling.Volumes{Populated: filling.Populated{Reports: reports}},
		Settings: imageimport.Settings{
			Settings: importerpod.Settings{
				Namespace: opts.Namespace, ImporterImage: "importer", CABundle: []byte("module CA"), ReportURL: "https://controller.example.org/reports",
			},
			RegistryAddress: RegistryAddress, Classes: filling.Classes{Default: opts.StorageClass},
		},
	}
	for _, setup := range []struct {
		kind  string
		setup func(ctrl.Manager, imageimport.Options) error
	}{
		{v1alpha2.VirtualImageKind, virtualimage.Setup}, {v1alpha2.ClusterVirtualImageKind, clustervirtualimage.Setup},
	} {
		options := imageimport.Options{Dependencies: images, Wake: reports.Events(setup.kind), WakeClaims: reports.Events(filling.ClaimKind)}
		if err := setup.setup(mgr, options); err != nil {
			return err
		}
	}
	err := populator.Setup(mgr, populator.Options{Wake: reports.Events(filling.ClaimKind), Dependencies: populator.Dependencies{
		Settings: images.Settings.Settings, RegistryAddress: images.Settings.RegistryAddress,
		Issuer: images.Issuer, Registry: images.Registry, Reports: reports, Clock: images.Clock,
	}})
	if err != nil {
		return err
	}
	if err := blockdeviceattachment.Setup(mgr, blockdeviceattachment.Options{Classes: images.Settings.Classes}); err != nil {
		return err
	}
	return virtualdisk.Setup(mgr, virtualdisk.Options{Wake: reports.Events(filling.ClaimKind), Dependencies: virtualdisk.Dependencies{
		Filler: images.Filler, Issuer: images.Issuer, Clock: images.Clock, Settings: images.Settings.Settings, Classes: images.Settings.Classes,
	}})
}
