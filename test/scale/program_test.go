// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package scale measures what the program costs with very many machines.
package scale

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	goruntime "runtime"
	"runtime/pprof"
	"syscall"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
	virtv1 "kubevirt.io/api/core/v1"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/deckhouse/virtualization/internal/controller"
	"github.com/deckhouse/virtualization/internal/dvcr/dvcrtest"
	"github.com/deckhouse/virtualization/internal/dvcr/token"
	"github.com/deckhouse/virtualization/internal/testing/apiserver"
	"github.com/deckhouse/virtualization/internal/testing/controllers"
	"github.com/deckhouse/virtualization/internal/testing/controllertest"
)

// orderVariable makes the test binary the program that is measured: it names the file
// with the order.
const orderVariable = "SCALE_ORDER"

// order tells the program what to work on. A rest.Config cannot be written as it is.
type order struct {
	Host          string
	CA, Cert, Key []byte
	TokenKey      []byte
	Namespace     string
	Range         string
	// Profile is where the program writes what it did with its processor time, Work
	// where it writes what it did.
	Profile, Work string
}

func TestMain(m *testing.M) {
	klog.SetLogger(logr.Discard())
	ctrl.SetLogger(logr.FromSlogHandler(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})))
	if file := os.Getenv(orderVariable); file != "" {
		if err := runProgram(file); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	apiserver.Main(m)
}

func newScheme() *runtime.Scheme {
	scheme := apiserver.Scheme()
	utilruntime.Must(virtv1.AddToScheme(scheme))
	utilruntime.Must(cdiv1.AddToScheme(scheme))
	return scheme
}

// runProgram is cmd/virtualization-controller without its servers, until a signal.
func runProgram(file string) error {
	raw, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var o order
	if err := json.Unmarshal(raw, &o); err != nil {
		return err
	}
	issuer, err := token.NewIssuer(o.TokenKey, clock.RealClock{})
	if err != nil {
		return err
	}
	restConfig := &rest.Config{
		Host: o.Host, TLSClientConfig: rest.TLSClientConfig{CAData: o.CA, CertData: o.Cert, KeyData: o.Key},
	}
	controller.Limit(restConfig)
	var counted requests
	counted.count(restConfig)
	mgr, err := ctrl.NewManager(restConfig, ctrl.Options{
		Scheme:  newScheme(),
		Metrics: server.Options{BindAddress: "0"},
		Client:  controller.ClientOptions(),
		Cache:   controller.CacheOptions(o.Namespace),
	})
	if err != nil {
		return err
	}
	err = controllers.Setup(mgr, controllers.Options{
		Namespace: o.Namespace, Ranges: []string{o.Range}, Issuer: issuer, Registry: &controllertest.Registry{},
	})
	if err != nil {
		return err
	}
	err = profiled(o.Profile, func() error { return mgr.Start(ctrl.SetupSignalHandler()) })
	// What the manager keeps belongs into the profile.
	goruntime.KeepAlive(mgr)
	if err != nil {
		return err
	}
	return counted.write(o.Work)
}

// profiled runs the program and writes a profile of its processor time, and beside it
// one of what it holds in memory at the end; no name, no profiles.
func profiled(name string, run func() error) error {
	if name == "" {
		return run()
	}
	out, err := os.Create(name)
	if err != nil {
		return err
	}
	defer func() { _ = out.Close() }()
	if err := pprof.StartCPUProfile(out); err != nil {
		return err
	}
	err = run()
	pprof.StopCPUProfile()
	if err != nil {
		return err
	}
	heap, err := os.Create(name + ".heap")
	if err != nil {
		return err
	}
	defer func() { _ = heap.Close() }()
	goruntime.GC()
	return pprof.WriteHeapProfile(heap)
}

// cost is what a life of the program came to.
type cost struct {
	work
	cpu  time.Duration
	peak int64
}

// process is a running program.
type process struct {
	t    testing.TB
	cmd  *exec.Cmd
	work string
}

func startProgram(t testing.TB, o order) *process {
	t.Helper()
	config := apiserver.Config(t)
	o.Host, o.CA, o.Cert, o.Key = config.Host, config.CAData, config.CertData, config.KeyData
	o.TokenKey, _ = dvcrtest.KeysPEM(t)
	directory := t.TempDir()
	o.Work = directory + "/work.json"
	raw, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	file := directory + "/order.json"
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, cmd: exec.CommandContext(t.Context(), os.Args[0]), work: o.Work}
	p.cmd.Env = append(os.Environ(), orderVariable+"="+file)
	p.cmd.Stdout, p.cmd.Stderr = os.Stderr, os.Stderr
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return p
}

// stop ends the program and tells what it cost.
func (p *process) stop() cost {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatal(err)
	}
	if err := p.cmd.Wait(); err != nil {
		p.t.Fatalf("the program: %v", err)
	}
	state := p.cmd.ProcessState
	usage, ok := state.SysUsage().(*syscall.Rusage)
	if !ok {
		p.t.Fatal("this system does not tell what a process has used")
	}
	done, err := readWork(p.work)
	if err != nil {
		p.t.Fatalf("what the program did: %v", err)
	}
	// Linux counts in KiB.
	return cost{work: done, cpu: state.UserTime() + state.SystemTime(), peak: usage.Maxrss << 10}
}
