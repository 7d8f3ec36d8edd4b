// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package csi

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
	"k8s.io/mount-utils"
	"k8s.io/utils/exec"
)

// Options say where the driver works.
type Options struct {
	// Socket is the Unix socket of the CSI services.
	Socket string
	// Root is the directory with the volumes, shared by all nodes.
	Root string
	// Node is the name of the node; empty means that only the controller service,
	// which needs none, is of use.
	Node string
	// RegistrationDirectory, when set, is where the kubelet looks for plugins, and
	// KubeletSocket is the path at which the kubelet reaches Socket.
	RegistrationDirectory string
	KubeletSocket         string
	Log                   *slog.Logger
}

// Run serves until ctx ends.
func Run(ctx context.Context, o Options) error {
	if err := os.MkdirAll(o.Root, 0o700); err != nil {
		return fmt.Errorf("preparing the directory of volumes: %w", err)
	}
	server := grpc.NewServer(grpc.UnaryInterceptor(logFailures(o.Log)))
	volumes := store{root: o.Root}
	csi.RegisterIdentityServer(server, identity{})
	csi.RegisterControllerServer(server, controller{store: volumes})
	if o.Node != "" {
		executor := exec.New()
		mounter := mount.NewSafeFormatAndMount(mount.New(""), executor)
		csi.RegisterNodeServer(server, node{store: volumes, name: o.Node, mounter: mounter, resizer: mount.NewResizeFs(executor)})
	}
	failed := make(chan error, 2)
	stop, err := serve(server, o.Socket, failed)
	if err != nil {
		return err
	}
	defer stop()
	if o.RegistrationDirectory != "" {
		kubelet := grpc.NewServer()
		registration.RegisterRegistrationServer(kubelet, registrar{socket: o.KubeletSocket, log: o.Log})
		stop, err := serve(kubelet, filepath.Join(o.RegistrationDirectory, DriverName+"-reg.sock"), failed)
		if err != nil {
			return err
		}
		defer stop()
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		return err
	}
}

// serve listens on a socket; one that a dead process left is replaced.
func serve(server *grpc.Server, socket string, failed chan<- error) (stop func(), err error) {
	if err := os.Remove(socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return nil, err
	}
	go func() {
		if err := server.Serve(listener); err != nil {
			failed <- fmt.Errorf("serving %s: %w", socket, err)
		}
	}()
	return server.GracefulStop, nil
}

func logFailures(log *slog.Logger) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		response, err := handler(ctx, request)
		if err != nil {
			log.Error("a call failed", "method", info.FullMethod, "error", err)
		}
		return response, err
	}
}

// registrar makes the driver known to the kubelet.
type registrar struct {
	registration.UnimplementedRegistrationServer
	socket string
	log    *slog.Logger
}

// GetInfo implements the kubelet's plugin registration.
func (r registrar) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	return &registration.PluginInfo{
		Type: registration.CSIPlugin, Name: DriverName, Endpoint: r.socket, SupportedVersions: []string{"1.0.0"},
	}, nil
}

// NotifyRegistrationStatus implements the kubelet's plugin registration.
func (r registrar) NotifyRegistrationStatus(_ context.Context, result *registration.RegistrationStatus) (*registration.RegistrationStatusResponse, error) {
	if !result.PluginRegistered {
		r.log.Error("the kubelet refused the driver", "error", result.Error)
	}
	return &registration.RegistrationStatusResponse{}, nil
}
