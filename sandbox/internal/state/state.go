// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package state knows where the sandbox keeps things: everything it writes lies
// in one directory, and only the cache in it outlives the cluster.
package state

import (
	"fmt"
	"hash/fnv"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
)

const (
	// EnvVar names the environment variable that moves the state directory.
	EnvVar = "SANDBOX_STATE"
	// DefaultPath is the state directory of a machine's ordinary sandbox.
	DefaultPath = "/var/lib/virtualization-sandbox"

	// APIEnvVar names the environment variable that moves the address at which
	// the machine reaches the API server, so that two sandboxes can run.
	APIEnvVar = "SANDBOX_API"
	// DefaultAPI is that address of a machine's ordinary sandbox.
	DefaultAPI = "127.0.0.1:16443"
	// IngressEnvVar does the same for what the cluster shows to the outside.
	IngressEnvVar = "SANDBOX_INGRESS"
	// DefaultIngress is that address of a machine's ordinary sandbox.
	DefaultIngress = "127.0.0.1:16444"

	cacheName = "cache"
	// The kernel refuses longer addresses of unix sockets; the longest one in
	// the state directory adds this much to its path.
	longestSocketName = len("/run/supervisor.sock")
	longestSocketPath = 107
)

// Dir is a state directory.
type Dir string

// FromEnvironment returns the state directory that the environment asks for.
func FromEnvironment() (Dir, error) {
	path := os.Getenv(EnvVar)
	if path == "" {
		path = DefaultPath
	}
	return New(path)
}

// APIAddress returns where the machine is to reach the API server.
func APIAddress() (string, error) { return loopback(APIEnvVar, DefaultAPI) }

// IngressAddress returns where the machine is to reach what the cluster shows to the outside.
func IngressAddress() (string, error) { return loopback(IngressEnvVar, DefaultIngress) }

// loopback reads an address of this machine from the environment.
func loopback(variable, ordinary string) (string, error) {
	address := os.Getenv(variable)
	if address == "" {
		return ordinary, nil
	}
	parsed, err := netip.ParseAddrPort(address)
	if err != nil || !parsed.Addr().IsLoopback() {
		return "", fmt.Errorf("%s=%q is not an address and port of this machine: write it as %s", variable, address, ordinary)
	}
	return address, nil
}

// New checks that a directory can hold the sandbox's state; it creates nothing.
func New(path string) (Dir, error) {
	if !filepath.IsAbs(path) {
		return "", fmt.Errorf("%s=%q is not an absolute path: name the directory from / on", EnvVar, path)
	}
	path = filepath.Clean(path)
	if path == "/" || filepath.Dir(path) == "/" {
		return "", fmt.Errorf("%s=%q would be emptied by \"down\": name a directory of its own, at least two levels deep", EnvVar, path)
	}
	if len(path)+longestSocketName > longestSocketPath {
		return "", fmt.Errorf("%s=%q is too long for the sockets in it: use at most %d characters",
			EnvVar, path, longestSocketPath-longestSocketName)
	}
	return Dir(path), nil
}

// Path joins names to the state directory.
func (d Dir) Path(names ...string) string {
	return filepath.Join(append([]string{string(d)}, names...)...)
}

// Cache holds what was built or downloaded; it survives "down".
func (d Dir) Cache() string { return d.Path(cacheName) }

// Kubeconfig is the administrator's access from the machine.
func (d Dir) Kubeconfig() string { return d.Path("kubeconfig") }

// PKI holds the cluster's keys and certificates.
func (d Dir) PKI() string { return d.Path("pki") }

// Etcd holds the cluster's objects.
func (d Dir) Etcd() string { return d.Path("etcd") }

// Images holds image archives that every node imports when it starts.
func (d Dir) Images() string { return d.Path("images") }

// Logs holds one directory of logs for each box.
func (d Dir) Logs(box ...string) string { return d.Path(append([]string{"logs"}, box...)...) }

// Node is the directory of a node.
func (d Dir) Node(name string, names ...string) string {
	return d.Path(append([]string{"nodes", name}, names...)...)
}

// Lock is held by a command that changes the sandbox.
func (d Dir) Lock() string { return d.Path("run", "lock") }

// SupervisorPID names the running supervisor and is locked by it.
func (d Dir) SupervisorPID() string { return d.Path("run", "supervisor.pid") }

// SupervisorSocket is where the supervisor takes requests.
func (d Dir) SupervisorSocket() string { return d.Path("run", "supervisor.sock") }

// Ports notes where Deckhouse's side is reached on the machine.
func (d Dir) Ports() string { return d.Path("ports.json") }

// CgroupRestore notes what "down" has to put back in the machine's cgroups.
func (d Dir) CgroupRestore() string { return d.Path("run", "cgroup-restore.json") }

// CgroupName is the cgroup of this sandbox; two state directories never share one.
func (d Dir) CgroupName() string {
	h := fnv.New32a()
	h.Write([]byte(d))
	return fmt.Sprintf("%s-%08x", strings.ReplaceAll(filepath.Base(string(d)), ".", "-"), h.Sum32())
}

// Owns says whether a path lies in the state directory.
func (d Dir) Owns(path string) bool {
	return path == string(d) || strings.HasPrefix(path, string(d)+"/")
}

// RemoveAllButCache empties the state directory. The cache is expensive to
// fill, so it is left unless purge asks for it too.
func (d Dir) RemoveAllButCache(purge bool) error {
	entries, err := os.ReadDir(string(d))
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list state directory: %w", err)
	}
	for _, e := range entries {
		if e.Name() == cacheName && !purge {
			continue
		}
		if err := os.RemoveAll(d.Path(e.Name())); err != nil {
			return fmt.Errorf("remove %s: %w", d.Path(e.Name()), err)
		}
	}
	if purge {
		return os.Remove(string(d))
	}
	return nil
}
