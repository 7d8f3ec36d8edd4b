// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

// Package e2e tests the module in a running cluster, through nothing but its API:
// the objects that users write and the client that they use. KUBECONFIG names the
// cluster; it must have the guests of the sandbox at guestsURL.
//
// Tests that leave the module's components and everybody else's importers alone run
// side by side, after the others.
package e2e

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime"
	virtv1 "kubevirt.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/go-logr/logr"
)

const (
	// guestsURL is where the sandbox serves disk images, good and bad ones.
	guestsURL = "http://guests.sandbox.svc.cluster.local/"
	// moduleNamespace is where the module's own workloads are.
	moduleNamespace = "d8-virtualization"
)

var (
	kube client.WithWatch
	// d8v is the path of the client under test.
	d8v string
)

func TestMain(m *testing.M) {
	flag.Parse()
	log.SetLogger(logr.Discard())
	directory, err := os.MkdirTemp("", "virtualization-e2e-")
	if err == nil {
		err = prepare(directory)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "preparing the end-to-end tests:", err)
		os.Exit(1)
	}
	ctx, stop := context.WithCancel(context.Background())
	if err := watchers.start(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "beginning to watch the cluster:", err)
		os.Exit(1)
	}
	code := m.Run()
	// What belongs to no test: faults of our programs, and of objects on their way out.
	for _, found := range watchers.take("") {
		fmt.Fprintln(os.Stderr, "forbidden:", found)
		code = 1
	}
	stop()
	_ = os.RemoveAll(directory)
	os.Exit(code)
}

func prepare(directory string) error {
	if os.Getenv("KUBECONFIG") == "" {
		return fmt.Errorf("KUBECONFIG is not set: run these tests by 'make e2e' on a running sandbox ('make up')")
	}
	config, err := ctrl.GetConfig()
	if err != nil {
		return err
	}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		corev1.AddToScheme, appsv1.AddToScheme, batchv1.AddToScheme, admissionregistrationv1.AddToScheme, apiextensionsv1.AddToScheme,
		policyv1.AddToScheme, networkingv1.AddToScheme, rbacv1.AddToScheme, coordinationv1.AddToScheme, v1alpha2.AddToScheme, virtv1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			return err
		}
	}
	if kube, err = client.NewWithWatch(config, client.Options{Scheme: scheme}); err != nil {
		return err
	}
	d8v = filepath.Join(directory, "d8v")
	build := exec.Command("go", "build", "-o", d8v, "../../cmd/d8v")
	build.Stderr = os.Stderr
	return build.Run()
}

// deadline bounds one test; guests run under emulation on two cores.
func deadline(t *testing.T, limit time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	return ctx
}
