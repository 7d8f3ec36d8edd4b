// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package csi

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/mount-utils"
)

// fileSystem is the only one that the node makes.
const fileSystem = "ext4"

// node attaches volumes on one node.
type node struct {
	csi.UnimplementedNodeServer
	store   store
	name    string
	mounter *mount.SafeFormatAndMount
	resizer *mount.ResizeFs
}

// NodeGetInfo implements csi.NodeServer.
func (n node) NodeGetInfo(context.Context, *csi.NodeGetInfoRequest) (*csi.NodeGetInfoResponse, error) {
	return &csi.NodeGetInfoResponse{NodeId: n.name}, nil
}

// NodeGetCapabilities implements csi.NodeServer.
func (n node) NodeGetCapabilities(context.Context, *csi.NodeGetCapabilitiesRequest) (*csi.NodeGetCapabilitiesResponse, error) {
	response := &csi.NodeGetCapabilitiesResponse{}
	for _, capability := range []csi.NodeServiceCapability_RPC_Type{
		csi.NodeServiceCapability_RPC_STAGE_UNSTAGE_VOLUME,
		csi.NodeServiceCapability_RPC_EXPAND_VOLUME,
		csi.NodeServiceCapability_RPC_GET_VOLUME_STATS,
	} {
		response.Capabilities = append(response.Capabilities, &csi.NodeServiceCapability{
			Type: &csi.NodeServiceCapability_Rpc{Rpc: &csi.NodeServiceCapability_RPC{Type: capability}},
		})
	}
	return response, nil
}

// NodeStageVolume implements csi.NodeServer: it attaches the loop device and, for a
// file system, makes it when the volume is empty and mounts it.
func (n node) NodeStageVolume(_ context.Context, request *csi.NodeStageVolumeRequest) (*csi.NodeStageVolumeResponse, error) {
	volume, target := request.GetVolumeId(), request.GetStagingTargetPath()
	if volume == "" || target == "" {
		return nil, status.Error(codes.InvalidArgument, "the request needs a volume id and a staging path")
	}
	if err := checkCapabilities([]*csi.VolumeCapability{request.GetVolumeCapability()}); err != nil {
		return nil, err
	}
	unlock, err := n.store.lock(volume)
	if err != nil {
		return nil, toStatus(err)
	}
	defer unlock()
	if _, err := n.store.size(volume); err != nil {
		return nil, toStatus(err)
	}
	// The mark comes first: a crash leaves a volume that looks attached, which
	// unstaging clears, rather than a device that nobody detaches.
	if err := os.WriteFile(filepath.Join(n.store.staged(volume), n.name), nil, 0o600); err != nil {
		return nil, toStatus(err)
	}
	device, err := attachLoop(n.store.data(volume))
	if err != nil {
		return nil, toStatus(err)
	}
	if request.GetVolumeCapability().GetBlock() != nil {
		return &csi.NodeStageVolumeResponse{}, nil
	}
	if err := n.mountFileSystem(device, target, request.GetVolumeCapability().GetMount().GetMountFlags()); err != nil {
		return nil, toStatus(err)
	}
	return &csi.NodeStageVolumeResponse{}, nil
}

func (n node) mountFileSystem(device, target string, flags []string) error {
	mounted, err := n.isMountPoint(target)
	if err != nil || mounted {
		return err
	}
	if err := os.MkdirAll(target, 0o750); err != nil {
		return err
	}
	if err := n.mounter.FormatAndMount(device, target, fileSystem, flags); err != nil {
		return err
	}
	// A clone that was made larger than its source brings a smaller file system.
	if _, err := n.resizer.Resize(device, target); err != nil {
		return fmt.Errorf("growing the file system: %w", err)
	}
	return nil
}

// NodeUnstageVolume implements csi.NodeServer. The device goes with the last node.
func (n node) NodeUnstageVolume(_ context.Context, request *csi.NodeUnstageVolumeRequest) (*csi.NodeUnstageVolumeResponse, error) {
	volume, target := request.GetVolumeId(), request.GetStagingTargetPath()
	if volume == "" || target == "" {
		return nil, status.Error(codes.InvalidArgument, "the request needs a volume id and a staging path")
	}
	unlock, err := n.store.lock(volume)
	if err != nil {
		return nil, toStatus(err)
	}
	defer unlock()
	if err := mount.CleanupMountPoint(target, n.mounter, true); err != nil {
		return nil, toStatus(err)
	}
	if err := os.Remove(filepath.Join(n.store.staged(volume), n.name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, toStatus(err)
	}
	others, err := n.store.stagedOn(volume)
	if err != nil {
		return nil, toStatus(err)
	}
	if _, err := n.store.size(volume); err == nil && len(others) == 0 {
		if err := detachLoop(n.store.data(volume)); err != nil {
			return nil, toStatus(err)
		}
	}
	return &csi.NodeUnstageVolumeResponse{}, nil
}

// NodePublishVolume implements csi.NodeServer: it binds the device or the mounted
// file system to where the pod looks.
func (n node) NodePublishVolume(_ context.Context, request *csi.NodePublishVolumeRequest) (*csi.NodePublishVolumeResponse, error) {
	volume, target := request.GetVolumeId(), request.GetTargetPath()
	if volume == "" || target == "" || request.GetStagingTargetPath() == "" {
		return nil, status.Error(codes.InvalidArgument, "the request needs a volume id, a staging path and a target path")
	}
	if err := checkCapabilities([]*csi.VolumeCapability{request.GetVolumeCapability()}); err != nil {
		return nil, err
	}
	if _, err := n.store.size(volume); err != nil {
		return nil, toStatus(err)
	}
	mounted, err := n.isMountPoint(target)
	if err != nil {
		return nil, toStatus(err)
	}
	if mounted {
		return &csi.NodePublishVolumeResponse{}, nil
	}
	source := request.GetStagingTargetPath()
	if request.GetVolumeCapability().GetBlock() != nil {
		if source, err = findLoop(n.store.data(volume)); err == nil && source == "" {
			err = fmt.Errorf("volume %s is not attached on %s", volume, n.name)
		}
	}
	if err == nil {
		err = n.bind(source, target, request.GetReadonly(), request.GetVolumeCapability().GetBlock() != nil)
	}
	if err != nil {
		return nil, toStatus(err)
	}
	return &csi.NodePublishVolumeResponse{}, nil
}

func (n node) bind(source, target string, readOnly, device bool) error {
	if err := os.MkdirAll(filepath.Dir(target), 0o750); err != nil {
		return err
	}
	if device {
		file, err := os.OpenFile(target, os.O_CREATE|os.O_RDONLY, 0o660)
		if err != nil {
			return err
		}
		_ = file.Close()
	} else if err := os.MkdirAll(target, 0o750); err != nil {
		return err
	}
	options := []string{"bind"}
	if readOnly {
		options = append(options, "ro")
	}
	return n.mounter.Mount(source, target, "", options)
}

// NodeUnpublishVolume implements csi.NodeServer.
func (n node) NodeUnpublishVolume(_ context.Context, request *csi.NodeUnpublishVolumeRequest) (*csi.NodeUnpublishVolumeResponse, error) {
	if request.GetVolumeId() == "" || request.GetTargetPath() == "" {
		return nil, status.Error(codes.InvalidArgument, "the request needs a volume id and a target path")
	}
	if err := mount.CleanupMountPoint(request.GetTargetPath(), n.mounter, true); err != nil {
		return nil, toStatus(err)
	}
	return &csi.NodeUnpublishVolumeResponse{}, nil
}

// NodeExpandVolume implements csi.NodeServer. The guest, or whoever holds the
// device open, sees the new size at once.
func (n node) NodeExpandVolume(_ context.Context, request *csi.NodeExpandVolumeRequest) (*csi.NodeExpandVolumeResponse, error) {
	volume, path := request.GetVolumeId(), request.GetVolumePath()
	if volume == "" || path == "" {
		return nil, status.Error(codes.InvalidArgument, "the request needs a volume id and a path")
	}
	size, err := n.store.size(volume)
	if err != nil {
		return nil, toStatus(err)
	}
	device, err := findLoop(n.store.data(volume))
	if err != nil {
		return nil, toStatus(err)
	}
	if device == "" {
		return nil, status.Error(codes.NotFound, fmt.Sprintf("volume %s is not attached on %s", volume, n.name))
	}
	if err := growLoop(device); err != nil {
		return nil, toStatus(err)
	}
	if info, err := os.Stat(path); err == nil && info.IsDir() && request.GetVolumeCapability().GetBlock() == nil {
		if _, err := n.resizer.Resize(device, path); err != nil {
			return nil, toStatus(err)
		}
	}
	return &csi.NodeExpandVolumeResponse{CapacityBytes: size}, nil
}

// NodeGetVolumeStats implements csi.NodeServer.
func (n node) NodeGetVolumeStats(_ context.Context, request *csi.NodeGetVolumeStatsRequest) (*csi.NodeGetVolumeStatsResponse, error) {
	if request.GetVolumeId() == "" || request.GetVolumePath() == "" {
		return nil, status.Error(codes.InvalidArgument, "the request needs a volume id and a path")
	}
	size, err := n.store.size(request.GetVolumeId())
	if err != nil {
		return nil, toStatus(err)
	}
	info, err := os.Stat(request.GetVolumePath())
	if err != nil {
		return nil, status.Error(codes.NotFound, err.Error())
	}
	if !info.IsDir() {
		return &csi.NodeGetVolumeStatsResponse{Usage: []*csi.VolumeUsage{{Unit: csi.VolumeUsage_BYTES, Total: size}}}, nil
	}
	var stat unix.Statfs_t
	if err := unix.Statfs(request.GetVolumePath(), &stat); err != nil {
		return nil, toStatus(err)
	}
	blocks := func(n uint64) int64 { return int64(n) * stat.Bsize }
	return &csi.NodeGetVolumeStatsResponse{Usage: []*csi.VolumeUsage{
		{Unit: csi.VolumeUsage_BYTES, Total: blocks(stat.Blocks), Available: blocks(stat.Bavail), Used: blocks(stat.Blocks - stat.Bfree)},
		{Unit: csi.VolumeUsage_INODES, Total: int64(stat.Files), Available: int64(stat.Ffree), Used: int64(stat.Files - stat.Ffree)},
	}}, nil
}

func (n node) isMountPoint(path string) (bool, error) {
	mounted, err := n.mounter.IsMountPoint(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return mounted, err
}
