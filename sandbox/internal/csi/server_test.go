// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package csi

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

// quiet are options of a driver in a directory of its own.
func quiet(directory string) Options {
	return Options{
		Socket: filepath.Join(directory, "csi.sock"), Root: filepath.Join(directory, "volumes"), Log: slog.New(slog.DiscardHandler),
	}
}

func TestControllerHasNoNodeService(t *testing.T) {
	o := quiet(t.TempDir())
	run(t, o)
	connection := connect(t, o.Socket)
	defer connection.Close()
	if _, err := csi.NewNodeClient(connection).NodeGetInfo(t.Context(), &csi.NodeGetInfoRequest{}); status.Code(err) != codes.Unimplemented {
		t.Errorf("a controller answers for a node: %v", err)
	}
	created, err := csi.NewControllerClient(connection).CreateVolume(t.Context(), &csi.CreateVolumeRequest{
		Name: "pvc-1", VolumeCapabilities: []*csi.VolumeCapability{block()},
	})
	if err != nil || created.GetVolume().GetCapacityBytes() != 1<<20 {
		t.Errorf("%v, %v", created, err)
	}
}

func TestNodeTellsItsName(t *testing.T) {
	o := quiet(t.TempDir())
	o.Node = "node-2"
	run(t, o)
	connection := connect(t, o.Socket)
	defer connection.Close()
	info, err := csi.NewNodeClient(connection).NodeGetInfo(t.Context(), &csi.NodeGetInfoRequest{})
	if err != nil || info.GetNodeId() != "node-2" {
		t.Errorf("%v, %v", info, err)
	}
}

// A killed driver leaves its socket; its successor and its volumes go on.
func TestDriverComesBackAfterACrash(t *testing.T) {
	o := quiet(t.TempDir())
	if err := os.WriteFile(o.Socket, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for n := range 2 {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- Run(ctx, o) }()
		connection := connect(t, o.Socket)
		_, err := csi.NewControllerClient(connection).CreateVolume(t.Context(), &csi.CreateVolumeRequest{
			Name: "pvc-1", VolumeCapabilities: []*csi.VolumeCapability{block()}, CapacityRange: &csi.CapacityRange{RequiredBytes: 4 << 20},
		})
		if err != nil {
			t.Errorf("run %d: %v", n, err)
		}
		connection.Close()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run %d ended with %v", n, err)
		}
	}
	if size, err := (store{root: o.Root}).size("pvc-1"); err != nil || size != 4<<20 {
		t.Errorf("size %d, %v", size, err)
	}
}

func TestKubeletLearnsOfTheDriver(t *testing.T) {
	directory := t.TempDir()
	o := quiet(directory)
	o.Node, o.RegistrationDirectory, o.KubeletSocket = "node-1", directory, "/var/lib/kubelet/plugins/x/csi.sock"
	log := &bytes.Buffer{}
	o.Log = slog.New(slog.NewTextHandler(log, nil))
	run(t, o)
	connect(t, o.Socket).Close()
	connection, err := grpc.NewClient("unix://"+filepath.Join(directory, DriverName+"-reg.sock"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	kubelet := registration.NewRegistrationClient(connection)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	info, err := kubelet.GetInfo(ctx, &registration.InfoRequest{}, grpc.WaitForReady(true))
	if err != nil || info.GetName() != "csi.sandbox.virtualization.deckhouse.io" || info.GetType() != "CSIPlugin" || info.GetEndpoint() != o.KubeletSocket {
		t.Errorf("%v, %v", info, err)
	}
	for _, result := range []*registration.RegistrationStatus{{PluginRegistered: true}, {Error: "no such version"}} {
		if _, err := kubelet.NotifyRegistrationStatus(ctx, result); err != nil {
			t.Error(err)
		}
	}
	if got := log.String(); strings.Count(got, "the kubelet refused the driver") != 1 || !strings.Contains(got, "no such version") {
		t.Errorf("logged %q", got)
	}
}

func TestDriverThatCannotStart(t *testing.T) {
	directory := t.TempDir()
	file := filepath.Join(directory, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		change func(*Options)
		want   string
	}{
		"volumes below a file":         {func(o *Options) { o.Root = filepath.Join(file, "volumes") }, "preparing the directory of volumes"},
		"a socket in no folder":        {func(o *Options) { o.Socket = filepath.Join(directory, "none", "csi.sock") }, "none/csi.sock"},
		"no folder of the kubelet's":   {func(o *Options) { o.RegistrationDirectory = filepath.Join(directory, "none") }, DriverName + "-reg.sock"},
		"a socket where a folder is":   {func(o *Options) { o.Socket = nonEmpty(t) }, "directory not empty"},
		"a folder of volumes unusable": {func(o *Options) { o.Root = file }, "not a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			o := quiet(t.TempDir())
			tt.change(&o)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			if err := Run(ctx, o); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// nonEmpty is a folder with something in it.
func nonEmpty(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestFailuresAreLoggedWithTheirMethod(t *testing.T) {
	log := &bytes.Buffer{}
	intercept := logFailures(slog.New(slog.NewTextHandler(log, nil)))
	for _, failure := range []error{nil, status.Error(codes.Internal, "disk on fire")} {
		got, err := intercept(t.Context(), "request", &grpc.UnaryServerInfo{FullMethod: "/csi.v1.Node/NodeStageVolume"},
			func(_ context.Context, request any) (any, error) { return request, failure })
		if got != "request" || status.Code(err) != status.Code(failure) {
			t.Errorf("%v, %v", got, err)
		}
	}
	if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "NodeStageVolume") || !strings.Contains(got, "disk on fire") {
		t.Errorf("logged %q", got)
	}
}

// The provisioner reads these; one too many makes it call what nobody serves.
func TestWhatTheDriverPromises(t *testing.T) {
	answer, err := controller{}.ControllerGetCapabilities(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	var promised []string
	for _, c := range answer.GetCapabilities() {
		promised = append(promised, c.GetRpc().GetType().String())
	}
	if got := strings.Join(promised, " "); got != "CREATE_DELETE_VOLUME CLONE_VOLUME EXPAND_VOLUME" {
		t.Errorf("the controller promises %s", got)
	}
	c := controller{store: newStore(t)}
	c.make(t, "pvc-1", 1<<20, "")
	xfs := &csi.VolumeCapability{AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{FsType: "xfs"}}}
	for _, tt := range []struct {
		capability *csi.VolumeCapability
		confirmed  bool
	}{{block(), true}, {files(), true}, {xfs, false}} {
		answer, err := c.ValidateVolumeCapabilities(t.Context(), &csi.ValidateVolumeCapabilitiesRequest{
			VolumeId: "pvc-1", VolumeCapabilities: []*csi.VolumeCapability{tt.capability},
		})
		if err != nil || (answer.GetConfirmed() != nil) != tt.confirmed || (answer.GetMessage() == "") != tt.confirmed {
			t.Errorf("%v: %v, %v", tt.capability, answer, err)
		}
	}
}
