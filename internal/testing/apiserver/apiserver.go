// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package apiserver gives tests a real etcd and kube-apiserver that know the resources of crds/. One pair is started
// for each test binary, when the first test asks for it, and stopped by Main:
//
//	func TestMain(m *testing.M) { apiserver.Main(m) }
//
//	func TestSomething(t *testing.T) {
//		c := apiserver.Client(t)
//		namespace := apiserver.Namespace(t, c)
//		...
//	}
//
// Nothing but the API server runs: there is no garbage collector, no scheduler and no namespace controller, so tests
// use a namespace of their own instead of cleaning up.
package apiserver

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiruntime "k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// assetsVariable names the directory with the binaries etcd and kube-apiserver.
const assetsVariable = "KUBEBUILDER_ASSETS"

var shared struct {
	once        sync.Once
	environment *envtest.Environment
	config      *rest.Config
	err         error
}

// Main runs the tests of a binary and stops the servers afterwards.
func Main(m *testing.M) {
	code := m.Run()
	if shared.environment != nil {
		if err := shared.environment.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, "apiserver: stop:", err)
		}
	}
	os.Exit(code)
}

// Config returns the address and the credentials of an administrator. It starts the servers when they do not run yet
// and fails the test when they cannot be started.
func Config(t testing.TB) *rest.Config {
	t.Helper()
	shared.once.Do(func() { shared.environment, shared.config, shared.err = start() })
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return rest.CopyConfig(shared.config)
}

// Client returns a client that reads and writes without a cache and knows the kinds of Kubernetes and of the platform.
func Client(t testing.TB) client.Client {
	t.Helper()
	c, err := client.New(Config(t), client.Options{Scheme: Scheme()})
	if err != nil {
		t.Fatalf("client of the test's API server: %v", err)
	}
	return c
}

// Scheme knows the kinds of Kubernetes and of the platform.
func Scheme() *apiruntime.Scheme {
	scheme := apiruntime.NewScheme()
	utilruntime.Must(clientgoscheme.AddToScheme(scheme))
	utilruntime.Must(v1alpha2.AddToScheme(scheme))
	return scheme
}

// Namespace makes a namespace for one test and returns its name.
func Namespace(t testing.TB, c client.Client) string {
	t.Helper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-"}}
	if err := c.Create(t.Context(), namespace); err != nil {
		t.Fatalf("namespace of the test: %v", err)
	}
	return namespace.Name
}

func start() (*envtest.Environment, *rest.Config, error) {
	assets := os.Getenv(assetsVariable)
	if assets == "" {
		return nil, nil, errors.New(assetsVariable +
			" is not set, so there is no API server to test against: run `make test`, which builds one and sets it")
	}
	files, err := resourceFiles()
	if err != nil {
		return nil, nil, err
	}
	environment := &envtest.Environment{
		BinaryAssetsDirectory: assets,
		CRDInstallOptions:     envtest.CRDInstallOptions{Paths: files, ErrorIfPathMissing: true},
	}
	config, err := environment.Start()
	if err != nil {
		// Start leaves a half-started pair behind.
		_ = environment.Stop()
		return nil, nil, fmt.Errorf("start etcd and kube-apiserver from %s=%s: %w", assetsVariable, assets, err)
	}
	return environment, config, nil
}

// Install adds resources of others, such as those of the engine, and waits until they are served. Installing one twice
// does no harm.
func Install(t testing.TB, resources ...*apiextensionsv1.CustomResourceDefinition) {
	t.Helper()
	if _, err := envtest.InstallCRDs(Config(t), envtest.CRDInstallOptions{CRDs: resources}); err != nil {
		t.Fatalf("install resources into the test's API server: %v", err)
	}
}

// resourceFiles lists the CRDs without their Russian twins, which lie in the same directory.
func resourceFiles() ([]string, error) {
	dir, err := resourceDirectory()
	if err != nil {
		return nil, err
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(files, func(file string) bool {
		return strings.HasPrefix(filepath.Base(file), "doc-ru-")
	}), nil
}

// resourceDirectory looks for crds/ beside and above the package under test, which is where `go test` starts it. The
// place of this source file would not do: a build with -trimpath does not know it.
func resourceDirectory() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for start := dir; ; dir = filepath.Dir(dir) {
		candidate := filepath.Join(dir, "crds")
		if _, err := os.Stat(filepath.Join(candidate, "virtualmachines.yaml")); err == nil {
			return candidate, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("no directory crds/ with virtualmachines.yaml in or above %s: run `make generate`", start)
		}
	}
}
