// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package csi

import (
	"context"
	"errors"
	"fmt"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// DriverName is the provisioner of the sandbox's storage classes.
const DriverName = "csi.sandbox.virtualization.deckhouse.io"

// identity tells who the driver is.
type identity struct {
	csi.UnimplementedIdentityServer
}

// GetPluginInfo implements csi.IdentityServer.
func (identity) GetPluginInfo(context.Context, *csi.GetPluginInfoRequest) (*csi.GetPluginInfoResponse, error) {
	return &csi.GetPluginInfoResponse{Name: DriverName, VendorVersion: "1"}, nil
}

// GetPluginCapabilities implements csi.IdentityServer.
func (identity) GetPluginCapabilities(context.Context, *csi.GetPluginCapabilitiesRequest) (*csi.GetPluginCapabilitiesResponse, error) {
	return &csi.GetPluginCapabilitiesResponse{Capabilities: []*csi.PluginCapability{
		{Type: &csi.PluginCapability_Service_{Service: &csi.PluginCapability_Service{Type: csi.PluginCapability_Service_CONTROLLER_SERVICE}}},
		{Type: &csi.PluginCapability_VolumeExpansion_{VolumeExpansion: &csi.PluginCapability_VolumeExpansion{Type: csi.PluginCapability_VolumeExpansion_ONLINE}}},
	}}, nil
}

// Probe implements csi.IdentityServer.
func (identity) Probe(context.Context, *csi.ProbeRequest) (*csi.ProbeResponse, error) {
	return &csi.ProbeResponse{}, nil
}

// controller makes, grows and deletes volumes.
type controller struct {
	csi.UnimplementedControllerServer
	store store
}

// ControllerGetCapabilities implements csi.ControllerServer.
func (controller) ControllerGetCapabilities(context.Context, *csi.ControllerGetCapabilitiesRequest) (*csi.ControllerGetCapabilitiesResponse, error) {
	response := &csi.ControllerGetCapabilitiesResponse{}
	for _, capability := range []csi.ControllerServiceCapability_RPC_Type{
		csi.ControllerServiceCapability_RPC_CREATE_DELETE_VOLUME,
		csi.ControllerServiceCapability_RPC_CLONE_VOLUME,
		csi.ControllerServiceCapability_RPC_EXPAND_VOLUME,
	} {
		response.Capabilities = append(response.Capabilities, &csi.ControllerServiceCapability{
			Type: &csi.ControllerServiceCapability_Rpc{Rpc: &csi.ControllerServiceCapability_RPC{Type: capability}},
		})
	}
	return response, nil
}

// CreateVolume implements csi.ControllerServer. The volume's id is its name.
func (c controller) CreateVolume(_ context.Context, request *csi.CreateVolumeRequest) (*csi.CreateVolumeResponse, error) {
	if request.GetName() == "" {
		return nil, status.Error(codes.InvalidArgument, "the request has no name")
	}
	if err := checkCapabilities(request.GetVolumeCapabilities()); err != nil {
		return nil, err
	}
	size, err := roundUp(request.GetCapacityRange().GetRequiredBytes(), request.GetCapacityRange().GetLimitBytes())
	if err != nil {
		return nil, status.Error(codes.OutOfRange, err.Error())
	}
	if request.GetVolumeContentSource().GetSnapshot() != nil {
		return nil, status.Error(codes.InvalidArgument, "volumes cannot be made from snapshots, only from volumes")
	}
	source := request.GetVolumeContentSource().GetVolume().GetVolumeId()
	if err := c.store.create(request.GetName(), source, size); err != nil {
		return nil, toStatus(err)
	}
	return &csi.CreateVolumeResponse{Volume: &csi.Volume{
		VolumeId: request.GetName(), CapacityBytes: size, ContentSource: request.GetVolumeContentSource(),
	}}, nil
}

// DeleteVolume implements csi.ControllerServer.
func (c controller) DeleteVolume(_ context.Context, request *csi.DeleteVolumeRequest) (*csi.DeleteVolumeResponse, error) {
	if request.GetVolumeId() == "" {
		return nil, status.Error(codes.InvalidArgument, "the request has no volume id")
	}
	if !validName.MatchString(request.GetVolumeId()) {
		return &csi.DeleteVolumeResponse{}, nil // never was one of ours
	}
	if err := c.store.remove(request.GetVolumeId()); err != nil {
		return nil, status.Error(codes.FailedPrecondition, err.Error())
	}
	return &csi.DeleteVolumeResponse{}, nil
}

// ValidateVolumeCapabilities implements csi.ControllerServer.
func (c controller) ValidateVolumeCapabilities(_ context.Context, request *csi.ValidateVolumeCapabilitiesRequest) (*csi.ValidateVolumeCapabilitiesResponse, error) {
	if request.GetVolumeId() == "" || len(request.GetVolumeCapabilities()) == 0 {
		return nil, status.Error(codes.InvalidArgument, "the request needs a volume id and capabilities")
	}
	if _, err := c.store.size(request.GetVolumeId()); err != nil {
		return nil, toStatus(err)
	}
	if err := checkCapabilities(request.GetVolumeCapabilities()); err != nil {
		//nolint:nilerr // the call succeeds: "no" is its answer
		return &csi.ValidateVolumeCapabilitiesResponse{Message: err.Error()}, nil
	}
	return &csi.ValidateVolumeCapabilitiesResponse{
		Confirmed: &csi.ValidateVolumeCapabilitiesResponse_Confirmed{VolumeCapabilities: request.GetVolumeCapabilities()},
	}, nil
}

// ControllerExpandVolume implements csi.ControllerServer.
func (c controller) ControllerExpandVolume(_ context.Context, request *csi.ControllerExpandVolumeRequest) (*csi.ControllerExpandVolumeResponse, error) {
	if request.GetVolumeId() == "" || request.GetCapacityRange() == nil {
		return nil, status.Error(codes.InvalidArgument, "the request needs a volume id and a capacity")
	}
	size, err := roundUp(request.GetCapacityRange().GetRequiredBytes(), request.GetCapacityRange().GetLimitBytes())
	if err != nil {
		return nil, status.Error(codes.OutOfRange, err.Error())
	}
	grown, attached, err := c.store.grow(request.GetVolumeId(), size)
	if err != nil {
		return nil, toStatus(err)
	}
	// A volume that is not attached gets a device of the right size, and its file
	// system grown, when it is.
	return &csi.ControllerExpandVolumeResponse{CapacityBytes: grown, NodeExpansionRequired: attached}, nil
}

// checkCapabilities accepts Block and Filesystem in every access mode.
func checkCapabilities(capabilities []*csi.VolumeCapability) error {
	if len(capabilities) == 0 {
		return status.Error(codes.InvalidArgument, "the request has no volume capability")
	}
	for _, capability := range capabilities {
		if capability.GetBlock() == nil && capability.GetMount() == nil {
			return status.Error(codes.InvalidArgument, "a volume is either a block device or a file system")
		}
		if fsType := capability.GetMount().GetFsType(); fsType != "" && fsType != fileSystem {
			return status.Error(codes.InvalidArgument, fmt.Sprintf("file system %q: only %s is made", fsType, fileSystem))
		}
	}
	return nil
}

func toStatus(err error) error {
	switch {
	case errors.Is(err, errNotFound):
		return status.Error(codes.NotFound, err.Error())
	case errors.Is(err, errWrongSize):
		return status.Error(codes.AlreadyExists, err.Error())
	case errors.Is(err, errInvalidName):
		return status.Error(codes.InvalidArgument, err.Error())
	case errors.Is(err, errSourceLarger):
		return status.Error(codes.OutOfRange, err.Error())
	default:
		return status.Error(codes.Internal, err.Error())
	}
}
