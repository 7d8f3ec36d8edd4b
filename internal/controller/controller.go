// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package controller puts the controllers of all kinds together: it is the one place
// that lists them, for the program and for the tests that want all of them at once.
package controller

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/utils/clock"
	virtv1 "kubevirt.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/blockdeviceattachment"
	"github.com/deckhouse/virtualization/internal/controller/clustervirtualimage"
	"github.com/deckhouse/virtualization/internal/controller/convergence"
	"github.com/deckhouse/virtualization/internal/controller/evacuation"
	"github.com/deckhouse/virtualization/internal/controller/ipaddress"
	"github.com/deckhouse/virtualization/internal/controller/ipaddresslease"
	"github.com/deckhouse/virtualization/internal/controller/operation"
	"github.com/deckhouse/virtualization/internal/controller/populator"
	"github.com/deckhouse/virtualization/internal/controller/shared/filling"
	"github.com/deckhouse/virtualization/internal/controller/shared/imageimport"
	"github.com/deckhouse/virtualization/internal/controller/shared/importerpod"
	"github.com/deckhouse/virtualization/internal/controller/shared/operations"
	"github.com/deckhouse/virtualization/internal/controller/shared/writers"
	"github.com/deckhouse/virtualization/internal/controller/virtualdisk"
	"github.com/deckhouse/virtualization/internal/controller/virtualimage"
	"github.com/deckhouse/virtualization/internal/controller/virtualmachine"
	"github.com/deckhouse/virtualization/internal/controller/virtualmachineclass"
	"github.com/deckhouse/virtualization/internal/importer/reportserver"
	"github.com/deckhouse/virtualization/internal/ipam"
	"github.com/deckhouse/virtualization/internal/monitoring"
)

// Options configure the controllers.
type Options struct {
	// Importers are the settings of all pods that move bytes. Their namespace is the
	// platform's own.
	Importers importerpod.Settings
	// RegistryAddress is the host, with a port if it is not 443, of DVCR.
	RegistryAddress string
	Registry        imageimport.Registry
	Issuer          imageimport.Issuer
	// Reports are what importers tell.
	Reports *reportserver.Server
	// DiskClasses and ImageClasses are the storage classes of disks, and of images on
	// volumes.
	DiskClasses, ImageClasses filling.Classes
	// LauncherImage is the image that this release runs guests in.
	LauncherImage string
	// Emulated tells that guests run without the help of the nodes' processors.
	Emulated bool
	// Pool is where machines' addresses come from.
	Pool ipam.Pool
	// Metrics takes what controllers tell beside their objects; nil leaves it out.
	Metrics prometheus.Registerer
	// TakeBack lets a guest stay that was told to leave its node; the engine's own way
	// unless a test sets it.
	TakeBack func(ctx context.Context, guest *virtv1.VirtualMachineInstance) error
	// Clock is the real one unless a test sets it.
	Clock clock.PassiveClock
}

// Setup registers the controllers of all kinds with the manager.
func Setup(mgr ctrl.Manager, opts Options) error {
	if opts.Clock == nil {
		opts.Clock = clock.RealClock{}
	}
	for _, setup := range []func(ctrl.Manager, Options) error{setupStorage, setupMachines, setupAddresses, setupMetrics} {
		if err := setup(mgr, opts); err != nil {
			return err
		}
	}
	return nil
}

// setupStorage registers the controllers of images and disks, and the one that fills
// volumes for them.
func setupStorage(mgr ctrl.Manager, opts Options) error {
	images := imageimport.Dependencies{
		Issuer: opts.Issuer, Registry: opts.Registry, Reports: opts.Reports, Clock: opts.Clock,
		Filler:   filling.Volumes{Populated: filling.Populated{Reports: opts.Reports}},
		Settings: imageimport.Settings{Settings: opts.Importers, RegistryAddress: opts.RegistryAddress, Classes: opts.ImageClasses},
	}
	// Each controller hears of every report: a channel is never shared.
	wakeClaims := func() <-chan event.GenericEvent { return opts.Reports.Events(filling.ClaimKind) }
	ofKind := func(kind string) imageimport.Options {
		return imageimport.Options{Dependencies: images, Wake: opts.Reports.Events(kind), WakeClaims: wakeClaims()}
	}
	if err := virtualimage.Setup(mgr, ofKind(v1alpha2.VirtualImageKind)); err != nil {
		return err
	}
	if err := clustervirtualimage.Setup(mgr, ofKind(v1alpha2.ClusterVirtualImageKind)); err != nil {
		return err
	}
	err := populator.Setup(mgr, populator.Options{Wake: wakeClaims(), Dependencies: populator.Dependencies{
		Settings: opts.Importers, RegistryAddress: opts.RegistryAddress,
		Issuer: opts.Issuer, Registry: opts.Registry, Reports: opts.Reports, Clock: opts.Clock,
	}})
	if err != nil {
		return err
	}
	return virtualdisk.Setup(mgr, virtualdisk.Options{Wake: wakeClaims(), Dependencies: virtualdisk.Dependencies{
		Filler: images.Filler, Issuer: opts.Issuer, Clock: opts.Clock, Settings: opts.Importers, Classes: opts.DiskClasses,
	}})
}

// setupMachines registers the controllers of machines and of what is done to them.
func setupMachines(mgr ctrl.Manager, opts Options) error {
	err := virtualmachineclass.Setup(mgr, virtualmachineclass.Options{Clock: opts.Clock, Emulated: opts.Emulated})
	if err != nil {
		return err
	}
	disks, err := writers.New(mgr)
	if err != nil {
		return err
	}
	if err := operations.Index(mgr.GetFieldIndexer()); err != nil {
		return err
	}
	err = virtualmachine.Setup(mgr, virtualmachine.Options{
		Namespace: opts.Importers.Namespace, LauncherImage: opts.LauncherImage, Writers: disks, Clock: opts.Clock,
	})
	if err != nil {
		return err
	}
	if err := operation.Setup(mgr, operation.Options{Writers: disks, Clock: opts.Clock}); err != nil {
		return err
	}
	// Copies of images that are attached are on volumes, as those images are.
	err = blockdeviceattachment.Setup(mgr, blockdeviceattachment.Options{Classes: opts.ImageClasses, Clock: opts.Clock})
	if err != nil {
		return err
	}
	if err := convergence.Setup(mgr); err != nil {
		return err
	}
	return evacuation.Setup(mgr, evacuation.Options{TakeBack: opts.TakeBack, Clock: opts.Clock})
}

// setupAddresses registers the controllers of machines' addresses.
func setupAddresses(mgr ctrl.Manager, opts Options) error {
	if err := ipaddress.Setup(mgr, ipaddress.Options{Pool: opts.Pool, Clock: opts.Clock, Metrics: opts.Metrics}); err != nil {
		return err
	}
	return ipaddresslease.Setup(mgr, ipaddresslease.Options{Clock: opts.Clock})
}

// setupMetrics tells about all objects while the manager leads.
func setupMetrics(mgr ctrl.Manager, opts Options) error {
	if opts.Metrics == nil {
		return nil
	}
	return mgr.Add(&monitoring.Leading{
		Collector: &monitoring.Collector{Reader: mgr.GetCache(), Emulated: opts.Emulated}, Registry: opts.Metrics,
	})
}
