// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/deckhouse/virtualization/sandbox/internal/image"
	"github.com/deckhouse/virtualization/sandbox/internal/kube"
	"github.com/deckhouse/virtualization/sandbox/internal/ports"
	"github.com/deckhouse/virtualization/sandbox/internal/process"
	"github.com/deckhouse/virtualization/sandbox/internal/supervisor"
	"github.com/deckhouse/virtualization/sandbox/internal/topology"
	"github.com/deckhouse/virtualization/sandbox/manifests"
)

const (
	moduleName      = "virtualization"
	moduleNamespace = "d8-virtualization"
	// registryBase is the address below which the module's images are; nothing
	// listens there, since every node has them already.
	registryBase = topology.RegistryHost + "/modules"
	// deckhouse is the process that plays Deckhouse's side.
	deckhouse     = "deckhouse"
	moduleTimeout = 10 * time.Minute
	crdTimeout    = time.Minute
)

var (
	crdResource          = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
	moduleConfigResource = schema.GroupVersionResource{Group: "deckhouse.io", Version: "v1alpha1", Resource: "moduleconfigs"}
	kubeVirtResource     = schema.GroupVersionResource{Group: "kubevirt.io", Version: "v1", Resource: "kubevirts"}
	cdiResource          = schema.GroupVersionResource{Group: "cdi.kubevirt.io", Version: "v1beta1", Resource: "cdis"}
	dvcrResource         = schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}
)

// loadModuleImages builds all of the module's images and brings them into every node.
func loadModuleImages(ctx context.Context, s *session) error { return s.reload(ctx) }

// reload builds the module's images, or those named, and brings them into every
// node; only then is the Deckhouse side told of them, which puts them to use.
func (s *session) reload(ctx context.Context, names ...string) error {
	images, err := s.builder.Images(ctx, names...)
	if err != nil {
		return err
	}
	if err := s.load(ctx, archivesOf(images)); err != nil {
		return err
	}
	return s.builder.Publish(images)
}

// archivesOf lists what holds the images; one archive often holds several.
func archivesOf(images []image.Image) []string {
	var archives []string
	for _, image := range images {
		if !slices.Contains(archives, image.Archive) {
			archives = append(archives, image.Archive)
		}
	}
	return archives
}

// startDeckhouse starts Deckhouse's side of the contract beside the cluster.
func startDeckhouse(ctx context.Context, s *session) error {
	if err := s.giveCertificate(ctx); err != nil {
		return err
	}
	directory, err := s.keepPrograms(ctx, []image.Program{
		{Module: "sandbox/deckhouse", Package: "./cmd/deckhouse-host"},
		{Module: "hooks", Package: "./cmd/virtualization-hooks"},
		moduleRegistry,
	})
	if err != nil {
		return err
	}
	at, err := s.chooseAddresses()
	if err != nil {
		return err
	}
	if err := s.startRegistry(directory, at.Registry); err != nil {
		return err
	}
	// The API server asks whether a ModuleConfig is right, and Prometheus what hooks
	// have found out, from the nodes' network.
	for inside, target := range map[netip.AddrPort]string{topology.Admission(): at.Admission, topology.DeckhouseMetrics(): at.Metrics} {
		err := s.client.EnsureForward(supervisor.ForwardRequest{FromNodes: true, Listen: inside.String(), Target: target})
		if err != nil {
			return err
		}
	}
	return s.runOnHost(process.Spec{
		Name: deckhouse, Argv: append([]string{filepath.Join(directory, "deckhouse-host")}, s.deckhouseFlags(directory, at)...),
		Env: []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + s.state.Path("deckhouse")},
	})
}

// deckhouseFlags tell Deckhouse's side what to run, in which cluster, and where it is
// reached.
func (s *session) deckhouseFlags(directory string, at ports.Addresses) []string {
	return []string{
		"--kubeconfig=" + s.state.Kubeconfig(),
		"--module-dir=" + s.repo,
		"--hook-binary=" + filepath.Join(directory, "virtualization-hooks"),
		"--digests-file=" + filepath.Join(s.state.Images(), "images_digests.json"),
		"--work-dir=" + s.state.Path("deckhouse"),
		"--registry-base=" + registryBase,
		"--cluster-domain=" + topology.ClusterDomain,
		"--cluster-dns=" + topology.DNSService.String(),
		"--pod-subnet=" + topology.PodNetwork.String(),
		"--service-subnet=" + topology.ServiceNetwork.String(),
		"--public-domain=" + topology.PublicDomain,
		"--certificate-secret=" + certificateSecret,
		"--metrics-address=" + at.Metrics,
		"--webhook-listen=" + at.Admission,
		"--webhook-url=https://" + topology.Admission().String(),
	}
}

// chooseAddresses are those on the machine at which Deckhouse's side is reached.
func (s *session) chooseAddresses() (ports.Addresses, error) {
	status, err := s.client.Status()
	if err != nil {
		return ports.Addresses{}, err
	}
	host, _ := status.Box(hostBox)
	served := slices.ContainsFunc(host.Processes, func(p process.Status) bool { return p.Name == deckhouse })
	return ports.Ensure(s.state.Ports(), served)
}

// enableModule writes the ModuleConfig, as an administrator does, and waits until
// all that it brings works. A ModuleConfig that is there stays as it is: somebody
// may have changed its settings.
func enableModule(ctx context.Context, s *session) error {
	client, err := kube.New(s.state.Kubeconfig())
	if err != nil {
		return err
	}
	told := func(err error) { s.report.Note("waiting: %v", err) }
	short, cancel := context.WithTimeout(ctx, crdTimeout)
	defer cancel()
	crd := kube.Object{Resource: crdResource, Name: "moduleconfigs.deckhouse.io"}
	if err := client.WaitForObject(short, crd, told, kube.ConditionTrue("Established")); err != nil {
		return fmt.Errorf("%w; see \"sandbox logs deckhouse\"", err)
	}
	exists, err := client.Exists(ctx, kube.Object{Resource: moduleConfigResource, Name: moduleName})
	if err != nil {
		return err
	}
	if !exists {
		if err := s.apply(ctx, manifests.ModuleConfig); err != nil {
			return err
		}
		s.report.Say("the ModuleConfig %s is written", moduleName)
	}
	return s.waitForModule(ctx, client, told)
}

func (s *session) waitForModule(ctx context.Context, client *kube.Client, told func(error)) error {
	ctx, cancel := context.WithTimeout(ctx, moduleTimeout)
	defer cancel()
	for _, part := range []struct {
		object kube.Object
		check  kube.Check
	}{
		{kube.Object{Resource: cdiResource, Name: "cdi"}, kube.PhaseIs("Deployed")},
		{kube.Object{Resource: kubeVirtResource, Namespace: moduleNamespace, Name: "kubevirt"}, kube.PhaseIs("Deployed")},
		// The registry comes with the second run of the chart, when the address of
		// its Service is known.
		{kube.Object{Resource: dvcrResource, Namespace: moduleNamespace, Name: "dvcr"}, kube.ConditionTrue("Available")},
	} {
		if err := client.WaitForObject(ctx, part.object, told, part.check); err != nil {
			return fmt.Errorf("%w; see \"sandbox logs deckhouse\" and \"sandbox kubectl -n %s get pods\"", err, moduleNamespace)
		}
		s.report.Say("%s %s works", part.object.Resource.Resource, part.object.Name)
	}
	return client.WaitForWorkloads(ctx, moduleNamespace, told)
}
