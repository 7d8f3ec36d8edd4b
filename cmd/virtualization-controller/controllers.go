// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
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
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/deckhouse/virtualization/internal/controller"
	"github.com/deckhouse/virtualization/internal/controller/shared/filling"
	"github.com/deckhouse/virtualization/internal/controller/shared/importerpod"
	"github.com/deckhouse/virtualization/internal/dvcr"
	"github.com/deckhouse/virtualization/internal/dvcr/token"
	"github.com/deckhouse/virtualization/internal/importer/reportserver"
	"github.com/deckhouse/virtualization/internal/ipam"
	"github.com/deckhouse/virtualization/internal/trust"
	"github.com/deckhouse/virtualization/internal/webhook"
)

// addControllers registers the controllers of all kinds, the webhooks, and the server
// of importers' reports.
func addControllers(mgr ctrl.Manager, o options) error {
	settings, err := controllerOptions(o)
	if err != nil {
		return err
	}
	settings.Reports.Await(mgr.Elected())
	mgr.GetWebhookServer().Register(reportserver.Path, settings.Reports)
	if err := controller.Setup(mgr, settings); err != nil {
		return err
	}
	return webhook.Setup(mgr, webhook.Options{Pool: settings.Pool})
}

// controllerOptions reads the files that flags name: the key that signs registry
// tokens and the module's certificate authority.
func controllerOptions(o options) (controller.Options, error) {
	key, err := os.ReadFile(o.tokenKeyFile)
	if err != nil {
		return controller.Options{}, fmt.Errorf("--dvcr-token-key-file: %w", err)
	}
	issuer, err := token.NewIssuer(key, clock.RealClock{})
	if err != nil {
		return controller.Options{}, fmt.Errorf("--dvcr-token-key-file=%s: %w", o.tokenKeyFile, err)
	}
	authorities, err := trust.Open(o.caFile)
	if err != nil {
		return controller.Options{}, fmt.Errorf("--ca-file: %w", err)
	}
	pool, err := ipam.NewPool(o.ranges)
	if err != nil {
		return controller.Options{}, fmt.Errorf("--virtual-machine-cidrs: %w", err)
	}
	return controller.Options{
		Importers: o.importers(authorities.PEM), RegistryAddress: o.dvcrAddress,
		Registry: &dvcr.Client{Issuer: issuer, CAFile: o.caFile}, Issuer: issuer,
		Reports:       reportserver.New(issuer.Verifier(), clock.RealClock{}),
		DiskClasses:   filling.Classes{Default: o.defaultDiskClass, Allowed: o.allowedDiskClasses},
		ImageClasses:  filling.Classes{Default: o.defaultImageClass, Allowed: o.allowedImageClasses},
		LauncherImage: o.launcherImage, Emulated: o.emulated, Pool: pool, Metrics: metrics.Registry,
	}, nil
}

// importers are the settings of all pods that move bytes.
func (o *options) importers(authorities trust.Source) importerpod.Settings {
	return importerpod.Settings{
		Namespace: o.namespace, ImporterImage: o.importerImage, PullSecret: o.pullSecret, CABundle: authorities, ReportURL: o.reportURL,
		RefuseNetworks: o.refusedNetworks, Uploads: o.uploads, LogArgs: o.importerLogs,
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
