// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/x509"
	"fmt"
	"os"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/utils/clock"
	kubevirtv1 "kubevirt.io/api/core/v1"
	cdiv1beta1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
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
	"github.com/deckhouse/virtualization/internal/dvcr"
	"github.com/deckhouse/virtualization/internal/dvcr/token"
	"github.com/deckhouse/virtualization/internal/importer/reportserver"
	"github.com/deckhouse/virtualization/internal/ipam"
	"github.com/deckhouse/virtualization/internal/webhook"
)

// addControllers registers one controller a kind, and what they share.
func addControllers(mgr ctrl.Manager, o options) error {
	images, err := newImageOptions(o)
	if err != nil {
		return err
	}
	reports := reportserver.New(images.verifier, clock.RealClock{})
	mgr.GetWebhookServer().Register(reportserver.Path, reports)

	pool, err := ipam.NewPool(o.ranges)
	if err != nil {
		return fmt.Errorf("--virtual-machine-cidrs: %w", err)
	}
	images.dependencies.Reports = reports
	images.dependencies.Filler = filling.Volumes{Populated: filling.Populated{Reports: reports}}
	forKind := func(kind string) imageimport.Options {
		return imageimport.Options{
			Dependencies: images.dependencies, Wake: reports.Events(kind), WakeClaims: reports.Events(filling.ClaimKind),
		}
	}
	setups := []func() error{
		func() error { return virtualimage.Setup(mgr, forKind(v1alpha2.VirtualImageKind)) },
		func() error { return clustervirtualimage.Setup(mgr, forKind(v1alpha2.ClusterVirtualImageKind)) },
		func() error { return populator.Setup(mgr, populatorOptions(images.dependencies, reports)) },
		func() error { return virtualdisk.Setup(mgr, diskOptions(images.dependencies, o, reports)) },
		func() error {
			return virtualmachineclass.Setup(mgr, virtualmachineclass.Options{Clock: clock.RealClock{}, Emulated: o.emulated})
		},
		func() error {
			return virtualmachine.Setup(mgr, virtualmachine.Options{Namespace: o.namespace, LauncherImage: o.launcherImage})
		},
		func() error { return operation.Setup(mgr, operation.Options{}) },
		func() error {
			return blockdeviceattachment.Setup(mgr, blockdeviceattachment.Options{Classes: images.dependencies.Settings.Classes})
		},
		func() error { return evacuation.Setup(mgr, evacuation.Options{}) },
		func() error { return ipaddress.Setup(mgr, ipaddress.Options{Pool: pool}) },
		func() error { return ipaddresslease.Setup(mgr, ipaddresslease.Options{}) },
		func() error { return webhook.Setup(mgr, webhook.Options{Pool: pool}) },
	}
	for _, setup := range setups {
		if err := setup(); err != nil {
			return err
		}
	}
	return nil
}

// diskOptions are what disks share with images, and the storage classes for them.
func diskOptions(images imageimport.Dependencies, o options, reports *reportserver.Server) virtualdisk.Options {
	return virtualdisk.Options{
		Dependencies: virtualdisk.Dependencies{
			Filler: images.Filler, Issuer: images.Issuer, Clock: images.Clock, Settings: images.Settings.Settings,
			Classes: filling.Classes{Default: o.defaultDiskClass, Allowed: o.allowedDiskClasses},
		},
		Wake: reports.Events(filling.ClaimKind),
	}
}

// populatorOptions are what the populator shares with images.
func populatorOptions(images imageimport.Dependencies, reports *reportserver.Server) populator.Options {
	return populator.Options{
		Dependencies: populator.Dependencies{
			Settings: images.Settings.Settings, RegistryAddress: images.Settings.RegistryAddress,
			Issuer: images.Issuer, Registry: images.Registry, Reports: reports, Clock: images.Clock,
		},
		Wake: reports.Events(filling.ClaimKind),
	}
}

type imageOptions struct {
	dependencies imageimport.Dependencies
	verifier     *token.Verifier
}

// newImageOptions reads the key that signs registry tokens and the module's
// certificate authority.
func newImageOptions(o options) (imageOptions, error) {
	key, err := os.ReadFile(o.tokenKeyFile)
	if err != nil {
		return imageOptions{}, fmt.Errorf("--dvcr-token-key-file: %w", err)
	}
	issuer, err := token.NewIssuer(key, clock.RealClock{})
	if err != nil {
		return imageOptions{}, fmt.Errorf("--dvcr-token-key-file=%s: %w", o.tokenKeyFile, err)
	}
	ca, err := os.ReadFile(o.caFile)
	if err != nil {
		return imageOptions{}, fmt.Errorf("--ca-file: %w", err)
	}
	if !x509.NewCertPool().AppendCertsFromPEM(ca) {
		return imageOptions{}, fmt.Errorf("--ca-file=%s holds no PEM certificate", o.caFile)
	}
	return imageOptions{
		verifier: issuer.Verifier(),
		dependencies: imageimport.Dependencies{
			Issuer: issuer, Clock: clock.RealClock{},
			Registry: &dvcr.Client{Issuer: issuer, CAFile: o.caFile},
			Settings: imageimport.Settings{
				Settings:        o.importers(ca),
				RegistryAddress: o.dvcrAddress,
				Classes:         filling.Classes{Default: o.defaultImageClass, Allowed: o.allowedImageClasses},
			},
		},
	}, nil
}

// importers are the settings of all pods that move bytes.
func (o *options) importers(ca []byte) importerpod.Settings {
	return importerpod.Settings{
		Namespace: o.namespace, ImporterImage: o.importerImage, PullSecret: o.pullSecret, CABundle: ca, ReportURL: o.reportURL,
		RefuseNetworks: o.refusedNetworks, Uploads: o.uploads,
	}
}

// engineKinds are served only once KubeVirt's and CDI's operators have installed
// them, which takes a minute in a new cluster.
var engineKinds = []schema.GroupVersionKind{
	kubevirtv1.VirtualMachineGroupVersionKind,
	kubevirtv1.VirtualMachineInstanceGroupVersionKind,
	kubevirtv1.VirtualMachineInstanceMigrationGroupVersionKind,
	cdiv1beta1.SchemeGroupVersion.WithKind("DataVolume"),
	cdiv1beta1.SchemeGroupVersion.WithKind("StorageProfile"),
	cdiv1beta1.SchemeGroupVersion.WithKind("CDIConfig"),
}

// waitForEngine returns when all of the engine's kinds are served. Without it the
// controllers would give up and the pod restart again and again.
func waitForEngine(ctx context.Context, mapper meta.RESTMapper) error {
	log := ctrl.Log.WithName("engine")
	for _, kind := range engineKinds {
		err := wait.PollUntilContextCancel(ctx, 2*time.Second, true, func(context.Context) (bool, error) {
			_, err := mapper.RESTMapping(kind.GroupKind(), kind.Version)
			if meta.IsNoMatchError(err) {
				log.Info("waiting for a kind of the engine", "kind", kind.String())
				return false, nil
			}
			return err == nil, err
		})
		if err != nil {
			return fmt.Errorf("waiting for %s: %w", kind, err)
		}
	}
	return nil
}
