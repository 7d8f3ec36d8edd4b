// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sort"
	"sync"
	"time"

	"github.com/deckhouse/virtualization/sandbox/internal/cluster"
	"github.com/deckhouse/virtualization/sandbox/internal/kube"
	"github.com/deckhouse/virtualization/sandbox/internal/topology"
	"github.com/deckhouse/virtualization/sandbox/manifests"
)

// loadClusterImages brings the images that the sandbox itself runs, and those
// that were left for it in the state directory, into every node.
func loadClusterImages(ctx context.Context, s *session) error {
	images, err := s.builder.SandboxImages(ctx)
	if err != nil {
		return err
	}
	archives := map[string]bool{}
	for _, i := range images {
		archives[i.Archive] = true
	}
	left, err := filepath.Glob(filepath.Join(s.state.Images(), "*.tar"))
	if err != nil {
		return err
	}
	for _, path := range left {
		archives[path] = true
	}
	list := make([]string, 0, len(archives))
	for path := range archives {
		list = append(list, path)
	}
	sort.Strings(list)
	return s.load(ctx, list)
}

// load brings image archives into every node, all nodes at once.
func (s *session) load(ctx context.Context, archives []string) error {
	status, err := s.client.Status()
	if err != nil {
		return err
	}
	shells := nodeShells(status)
	if len(shells) == 0 {
		return errors.New("no node runs: type \"sandbox up\"")
	}
	nodes := sortedNames(shells)
	failures := make([]error, len(nodes))
	var all sync.WaitGroup
	for i, name := range nodes {
		all.Go(func() { failures[i] = s.loadInto(ctx, name, shells[name], archives) })
	}
	all.Wait()
	return errors.Join(failures...)
}

// loadInto brings image archives into one node.
func (s *session) loadInto(ctx context.Context, name string, shell cluster.NodeShell, archives []string) error {
	for i, archive := range archives {
		// Archives of different images often have the same file name.
		short := filepath.Join(filepath.Base(filepath.Dir(archive)), filepath.Base(archive))
		s.report.Note("%s into %s, %d of %d", short, name, i+1, len(archives))
		loaded, err := cluster.LoadImages(ctx, shell, archive)
		if err != nil {
			return fmt.Errorf("load images into %s: %w", name, err)
		}
		if loaded {
			s.report.Say("%s loaded into %s", short, name)
		}
	}
	return nil
}

func sortedNames[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for n := range m {
		names = append(names, n)
	}
	sort.Strings(names)
	return names
}

// installServices installs what every cluster has, and waits for its DNS and its ingress.
func installServices(ctx context.Context, s *session) error {
	entries, err := fs.ReadDir(manifests.Files, ".")
	if err != nil {
		return err
	}
	for _, e := range entries {
		data, err := manifests.Files.ReadFile(e.Name())
		if err != nil {
			return err
		}
		if err := s.apply(ctx, data); err != nil {
			return fmt.Errorf("install %s: %w", e.Name(), err)
		}
	}
	if err := s.waitForDNS(ctx); err != nil {
		return err
	}
	return s.waitForIngress(ctx)
}

// apply brings objects into the cluster; what is there already is changed only
// where it differs.
func (s *session) apply(ctx context.Context, manifest []byte) error {
	cmd := s.kubectl(ctx, "apply", "--server-side", "--force-conflicts", "--field-manager=sandbox", "--filename=-")
	cmd.Stdin = bytes.NewReader(manifest)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

// waitForDNS asks for a name on every node: this takes the pod, the Service and
// the way between nodes to work.
func (s *session) waitForDNS(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, clusterTimeout)
	defer cancel()
	client, err := kube.New(s.state.Kubeconfig())
	if err != nil {
		return err
	}
	s.report.Note("waiting for the DNS, see \"sandbox kubectl -n kube-system get pods\"")
	if err := client.WaitForDeployment(ctx, "kube-system", "coredns"); err != nil {
		return err
	}
	status, err := s.client.Status()
	if err != nil {
		return err
	}
	name := "kubernetes.default.svc." + topology.ClusterDomain
	for node, shell := range nodeShells(status) {
		if err := retry(ctx, func() error {
			_, err := shell.Output(ctx, nil, "busybox", "nslookup", name, topology.DNSService.String())
			return err
		}); err != nil {
			return fmt.Errorf("%s cannot look up %s: %w", node, name, err)
		}
	}
	return nil
}

// retry tries until it works or the time is up, and returns the last failure.
func retry(ctx context.Context, try func() error) error {
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(500 * time.Millisecond):
		}
	}
}
