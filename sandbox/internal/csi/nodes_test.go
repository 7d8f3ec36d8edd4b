// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package csi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/mount-utils"
	"k8s.io/utils/exec"
)

const mebibyte = 1 << 20

// twoNodes are two nodes of one machine over the same volumes, as in the sandbox.
func twoNodes(t *testing.T) (controller, [2]node) {
	t.Helper()
	volumes := store{root: t.TempDir()}
	executor := exec.New()
	mounter := mount.NewSafeFormatAndMount(mount.New(""), executor)
	one := func(name string) node {
		return node{store: volumes, name: name, mounter: mounter, resizer: mount.NewResizeFs(executor)}
	}
	return controller{store: volumes}, [2]node{one("node-1"), one("node-2")}
}

func block() *csi.VolumeCapability {
	return &csi.VolumeCapability{AccessType: &csi.VolumeCapability_Block{Block: &csi.VolumeCapability_BlockVolume{}}}
}

func files() *csi.VolumeCapability {
	return &csi.VolumeCapability{AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{}}}
}

func (c controller) make(t *testing.T, name string, size int64, source string) {
	t.Helper()
	request := &csi.CreateVolumeRequest{
		Name: name, VolumeCapabilities: []*csi.VolumeCapability{block()}, CapacityRange: &csi.CapacityRange{RequiredBytes: size},
	}
	if source != "" {
		request.VolumeContentSource = &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Volume{
			Volume: &csi.VolumeContentSource_VolumeSource{VolumeId: source},
		}}
	}
	if _, err := c.CreateVolume(context.Background(), request); err != nil {
		t.Fatal(err)
	}
}

func (n node) stage(t *testing.T, volume string, capability *csi.VolumeCapability) string {
	t.Helper()
	path := filepath.Join(n.store.root, "..", n.name+"-"+volume)
	request := &csi.NodeStageVolumeRequest{VolumeId: volume, StagingTargetPath: path, VolumeCapability: capability}
	if _, err := n.NodeStageVolume(context.Background(), request); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.unstage(t, volume, path) })
	return path
}

func (n node) unstage(t *testing.T, volume, path string) {
	t.Helper()
	request := &csi.NodeUnstageVolumeRequest{VolumeId: volume, StagingTargetPath: path}
	if _, err := n.NodeUnstageVolume(context.Background(), request); err != nil {
		t.Error(err)
	}
}

func (n node) publish(t *testing.T, staging string, capability *csi.VolumeCapability, readOnly bool) string {
	t.Helper()
	const volume = "pvc-1"
	target := filepath.Join(t.TempDir(), "pods", n.name, "target")
	request := &csi.NodePublishVolumeRequest{
		VolumeId: volume, StagingTargetPath: staging, TargetPath: target, VolumeCapability: capability, Readonly: readOnly,
	}
	for range 2 { // the kubelet may ask again
		if _, err := n.NodePublishVolume(context.Background(), request); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		request := &csi.NodeUnpublishVolumeRequest{VolumeId: volume, TargetPath: target}
		if _, err := n.NodeUnpublishVolume(context.Background(), request); err != nil {
			t.Error(err)
		}
	})
	return target
}

// wantCode checks the status of an answer and that it names what is wrong.
func wantCode(t *testing.T, err error, code codes.Code, words string) {
	t.Helper()
	if status.Code(err) != code || !strings.Contains(status.Convert(err).Message(), words) {
		t.Errorf("got %v, want %s with %q", err, code, words)
	}
}

// A machine that moves between nodes has its volume on both for a while.
func TestVolumeOnTwoNodes(t *testing.T) {
	c, nodes := twoNodes(t)
	c.make(t, "pvc-1", 4*mebibyte, "")
	first := nodes[0].stage(t, "pvc-1", block())
	second := nodes[1].stage(t, "pvc-1", block())
	from := nodes[0].publish(t, first, block(), false)
	to := nodes[1].publish(t, second, block(), false)

	if err := os.WriteFile(from, []byte("written on node-1"), 0); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(to)
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 17)
	_, err = file.ReadAt(got, 0)
	if err != nil || string(got) != "written on node-1" {
		t.Errorf("node-2 reads %q, %v", got, err)
	}
	_ = file.Close()

	_, err = c.DeleteVolume(context.Background(), &csi.DeleteVolumeRequest{VolumeId: "pvc-1"})
	wantCode(t, err, codes.FailedPrecondition, "pvc-1 is attached on [node-1 node-2]")
	nodes[0].unstage(t, "pvc-1", first)
	if device, err := findLoop(c.store.data("pvc-1")); err != nil || device == "" {
		t.Errorf("node-2 lost its device: %q, %v", device, err)
	}
	_, err = c.DeleteVolume(context.Background(), &csi.DeleteVolumeRequest{VolumeId: "pvc-1"})
	wantCode(t, err, codes.FailedPrecondition, "pvc-1 is attached on [node-2]")
}

func TestVolumeGrowsOnline(t *testing.T) {
	c, nodes := twoNodes(t)
	c.make(t, "pvc-1", 4*mebibyte, "")
	grow := func(size int64) *csi.ControllerExpandVolumeResponse {
		t.Helper()
		response, err := c.ControllerExpandVolume(context.Background(), &csi.ControllerExpandVolumeRequest{
			VolumeId: "pvc-1", CapacityRange: &csi.CapacityRange{RequiredBytes: size},
		})
		if err != nil {
			t.Fatal(err)
		}
		return response
	}
	if got := grow(5 * mebibyte); got.GetNodeExpansionRequired() {
		t.Error("a volume that is nowhere attached asks a node to act")
	}
	staging := nodes[0].stage(t, "pvc-1", block())
	target := nodes[0].publish(t, staging, block(), false)
	if got := grow(8 * mebibyte); !got.GetNodeExpansionRequired() || got.GetCapacityBytes() != 8*mebibyte {
		t.Errorf("got %v", got)
	}
	response, err := nodes[0].NodeExpandVolume(context.Background(), &csi.NodeExpandVolumeRequest{VolumeId: "pvc-1", VolumePath: target})
	if err != nil || response.GetCapacityBytes() != 8*mebibyte {
		t.Fatalf("got %v, %v", response, err)
	}
	device, err := os.Open(target)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = device.Close() }()
	if end, err := device.Seek(0, 2); err != nil || end != 8*mebibyte {
		t.Errorf("whoever has it open sees %d bytes, %v", end, err)
	}
	if got := grow(6 * mebibyte); got.GetCapacityBytes() != 8*mebibyte {
		t.Errorf("a volume shrank to %d", got.GetCapacityBytes())
	}
}

// A clone brings the content, and lives on without its source.
func TestCloneOfAFileSystem(t *testing.T) {
	c, nodes := twoNodes(t)
	c.make(t, "source", 16*mebibyte, "")
	staging := nodes[0].stage(t, "source", files())
	if err := os.WriteFile(filepath.Join(staging, "hello"), bytes.Repeat([]byte("x"), 5000), 0o600); err != nil {
		t.Fatal(err)
	}
	nodes[0].unstage(t, "source", staging)
	c.make(t, "clone", 16*mebibyte, "source")
	cloned := nodes[1].stage(t, "clone", files())
	content, err := os.ReadFile(filepath.Join(cloned, "hello"))
	if err != nil || len(content) != 5000 {
		t.Errorf("%d bytes, %v", len(content), err)
	}
	if err := os.WriteFile(filepath.Join(cloned, "hello"), []byte("changed"), 0o600); err != nil {
		t.Fatal(err)
	}
	stats, err := nodes[1].NodeGetVolumeStats(context.Background(), &csi.NodeGetVolumeStatsRequest{VolumeId: "clone", VolumePath: cloned})
	if err != nil || stats.GetUsage()[0].GetTotal() < 8*mebibyte || stats.GetUsage()[1].GetUsed() < 1 {
		t.Errorf("stats %v, %v", stats, err)
	}
	again := nodes[0].stage(t, "source", files())
	if content, err := os.ReadFile(filepath.Join(again, "hello")); err != nil || len(content) != 5000 {
		t.Errorf("the source changed with its clone: %d bytes, %v", len(content), err)
	}
	_, err = c.CreateVolume(context.Background(), &csi.CreateVolumeRequest{
		Name: "small", VolumeCapabilities: []*csi.VolumeCapability{files()}, CapacityRange: &csi.CapacityRange{RequiredBytes: mebibyte},
		VolumeContentSource: &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Volume{Volume: &csi.VolumeContentSource_VolumeSource{VolumeId: "source"}}},
	})
	wantCode(t, err, codes.OutOfRange, "smaller than its source")
}

func TestReadOnlyMount(t *testing.T) {
	c, nodes := twoNodes(t)
	c.make(t, "pvc-1", 16*mebibyte, "")
	staging := nodes[0].stage(t, "pvc-1", files())
	target := nodes[0].publish(t, staging, files(), true)
	if err := os.WriteFile(filepath.Join(target, "x"), nil, 0o600); err == nil {
		t.Error("a pod wrote to a volume that it has for reading")
	}
}

// The driver died between the mark and the device: the node's next attempt, or its
// giving up, must both work.
func TestCrashWhileStaging(t *testing.T) {
	c, nodes := twoNodes(t)
	c.make(t, "pvc-1", 4*mebibyte, "")
	mark := filepath.Join(c.store.staged("pvc-1"), "node-1")
	if err := os.WriteFile(mark, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	nodes[0].unstage(t, "pvc-1", filepath.Join(t.TempDir(), "never-was"))
	if _, err := c.DeleteVolume(context.Background(), &csi.DeleteVolumeRequest{VolumeId: "pvc-1"}); err != nil {
		t.Errorf("the mark of the dead stays: %v", err)
	}
}

// The controller died in the middle of a clone: what it left is no volume.
func TestCrashWhileCreating(t *testing.T) {
	c, _ := twoNodes(t)
	if err := os.MkdirAll(c.store.staged("pvc-1"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(c.store.data("pvc-1")+".part", bytes.Repeat([]byte("old"), 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := c.store.size("pvc-1"); !errors.Is(err, errNotFound) {
		t.Errorf("half a volume counts: %v", err)
	}
	c.make(t, "pvc-1", mebibyte, "")
	content, err := os.ReadFile(c.store.data("pvc-1"))
	if err != nil || len(content) != mebibyte || bytes.Contains(content, []byte("old")) {
		t.Errorf("%d bytes, %v", len(content), err)
	}
}

func TestRefusedRequests(t *testing.T) {
	c, nodes := twoNodes(t)
	ctx := context.Background()
	c.make(t, "pvc-1", 4*mebibyte, "")
	xfs := &csi.VolumeCapability{AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{FsType: "xfs"}}}
	snapshot := &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Snapshot{Snapshot: &csi.VolumeContentSource_SnapshotSource{SnapshotId: "s"}}}
	create := func(r *csi.CreateVolumeRequest) func() error {
		return func() error { _, err := c.CreateVolume(ctx, r); return err }
	}
	for name, tc := range map[string]struct {
		call  func() error
		code  codes.Code
		words string
	}{
		"no name":       {create(&csi.CreateVolumeRequest{}), codes.InvalidArgument, "no name"},
		"no capability": {create(&csi.CreateVolumeRequest{Name: "a"}), codes.InvalidArgument, "no volume capability"},
		"neither block nor files": {
			create(&csi.CreateVolumeRequest{Name: "a", VolumeCapabilities: []*csi.VolumeCapability{{}}}), codes.InvalidArgument, "either a block device or a file system",
		},
		"another file system": {create(&csi.CreateVolumeRequest{Name: "a", VolumeCapabilities: []*csi.VolumeCapability{xfs}}), codes.InvalidArgument, `"xfs"`},
		"a snapshot": {
			create(&csi.CreateVolumeRequest{Name: "a", VolumeCapabilities: []*csi.VolumeCapability{block()}, VolumeContentSource: snapshot}), codes.InvalidArgument, "snapshots",
		},
		"a path as the name": {
			create(&csi.CreateVolumeRequest{Name: "../pvc-1", VolumeCapabilities: []*csi.VolumeCapability{block()}}), codes.InvalidArgument, "letters, digits",
		},
		"the same name, another size": {
			create(&csi.CreateVolumeRequest{
				Name: "pvc-1", VolumeCapabilities: []*csi.VolumeCapability{block()}, CapacityRange: &csi.CapacityRange{RequiredBytes: 5 * mebibyte},
			}), codes.AlreadyExists, "another size",
		},
		"no size fits": {
			create(&csi.CreateVolumeRequest{
				Name: "a", VolumeCapabilities: []*csi.VolumeCapability{block()}, CapacityRange: &csi.CapacityRange{RequiredBytes: mebibyte + 1, LimitBytes: mebibyte + 2},
			}), codes.OutOfRange, "multiples of 1048576",
		},
		"publishing what is not attached": {func() error {
			_, err := nodes[0].NodePublishVolume(ctx, &csi.NodePublishVolumeRequest{
				VolumeId: "pvc-1", StagingTargetPath: "/none", TargetPath: filepath.Join(c.store.root, "x"), VolumeCapability: block(),
			})
			return err
		}, codes.Internal, "pvc-1 is not attached on node-1"},
		"growing what is not attached": {func() error {
			_, err := nodes[0].NodeExpandVolume(ctx, &csi.NodeExpandVolumeRequest{VolumeId: "pvc-1", VolumePath: "/none"})
			return err
		}, codes.NotFound, "not attached on node-1"},
		"growing what is not there": {func() error {
			_, err := c.ControllerExpandVolume(ctx, &csi.ControllerExpandVolumeRequest{VolumeId: "none", CapacityRange: &csi.CapacityRange{RequiredBytes: 1}})
			return err
		}, codes.NotFound, "there is no such volume"},
	} {
		t.Run(name, func(t *testing.T) { wantCode(t, tc.call(), tc.code, tc.words) })
	}
	// What never was one of ours is gone.
	if _, err := c.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: "../pvc-1"}); err != nil {
		t.Error(err)
	}
	if size, err := c.store.size("pvc-1"); err != nil || size != 4*mebibyte {
		t.Errorf("the volume is not what it was: %d, %v", size, err)
	}
}

func TestToStatus(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want codes.Code
	}{
		{errNotFound, codes.NotFound}, {errWrongSize, codes.AlreadyExists}, {errInvalidName, codes.InvalidArgument},
		{errSourceLarger, codes.OutOfRange}, {errors.New("disk on fire"), codes.Internal},
	} {
		if got := toStatus(fmt.Errorf("pvc-1: %w", tc.err)); status.Code(got) != tc.want {
			t.Errorf("%v became %v", tc.err, got)
		}
	}
}
