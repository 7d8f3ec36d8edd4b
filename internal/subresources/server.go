// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package subresources

import (
	"context"
	"fmt"
	"net"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/registry/rest"
	genericapiserver "k8s.io/apiserver/pkg/server"
	genericfilters "k8s.io/apiserver/pkg/server/filters"
	genericoptions "k8s.io/apiserver/pkg/server/options"
	"k8s.io/apiserver/pkg/util/compatibility"
	restclient "k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/subresources/names"
)

// GroupVersion is the group and version that this server serves.
var GroupVersion = schema.GroupVersion{Group: names.Group, Version: names.Version}

// Options are what the server needs to know to start.
type Options struct {
	// SecurePort is the TCP port of the HTTPS listener.
	SecurePort int
	// CertFile and KeyFile are PEM files; they are read again when they change.
	CertFile string
	KeyFile  string
	// Listener replaces the listener on SecurePort, for tests.
	Listener net.Listener
	// InsecureDelegation switches delegated authentication and authorization off,
	// for tests without a kube-apiserver.
	InsecureDelegation bool
}

// Run serves until ctx ends. Config reaches kube-apiserver with the identity of
// this server.
func Run(ctx context.Context, options Options, config *restclient.Config) error {
	server, err := New(options, config)
	if err != nil {
		return err
	}
	return server.PrepareRun().RunWithContext(ctx)
}

// New makes the server without starting it.
func New(options Options, config *restclient.Config) (*genericapiserver.GenericAPIServer, error) {
	scheme := newScheme()
	codecs := serializer.NewCodecFactory(scheme)
	serverConfig, err := newConfig(options, scheme, codecs)
	if err != nil {
		return nil, err
	}
	server, err := serverConfig.Complete().New("virtualization-api", genericapiserver.NewEmptyDelegate())
	if err != nil {
		return nil, fmt.Errorf("preparing the API server: %w", err)
	}
	storage, err := newStorage(config)
	if err != nil {
		return nil, err
	}
	group := genericapiserver.NewDefaultAPIGroupInfo(GroupVersion.Group, scheme, metav1.ParameterCodec, codecs)
	group.VersionedResourcesStorageMap = map[string]map[string]rest.Storage{GroupVersion.Version: storage}
	if err := server.InstallAPIGroup(&group); err != nil {
		return nil, fmt.Errorf("installing %s: %w", GroupVersion, err)
	}
	return server, nil
}

// newScheme registers the machine type under this server's own group. The
// internal version is the same type: there is nothing to convert.
func newScheme() *runtime.Scheme {
	scheme := runtime.NewScheme()
	for _, gv := range []schema.GroupVersion{GroupVersion, {Group: GroupVersion.Group, Version: runtime.APIVersionInternal}} {
		scheme.AddKnownTypes(gv, &v1alpha2.VirtualMachine{}, &v1alpha2.VirtualMachineList{})
	}
	metav1.AddToGroupVersion(scheme, GroupVersion)
	// The kinds of every API server (Status, ListOptions, ...).
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	scheme.AddUnversionedTypes(schema.GroupVersion{Version: "v1"},
		&metav1.Status{}, &metav1.APIVersions{}, &metav1.APIGroupList{}, &metav1.APIGroup{}, &metav1.APIResourceList{})
	return scheme
}

func newConfig(options Options, scheme *runtime.Scheme, codecs serializer.CodecFactory) (*genericapiserver.RecommendedConfig, error) {
	config := genericapiserver.NewRecommendedConfig(codecs)
	config.EffectiveVersion = compatibility.DefaultBuildEffectiveVersion()
	setOpenAPI(config, scheme)
	// Streams live as long as somebody looks at them.
	config.LongRunningFunc = genericfilters.BasicLongRunningRequestCheck(
		sets.NewString("watch"), sets.NewString("console", "vnc", "portforward"))

	serving := genericoptions.NewSecureServingOptions().WithLoopback()
	serving.BindPort = options.SecurePort
	serving.Listener = options.Listener
	serving.ServerCert.CertKey = genericoptions.CertKey{CertFile: options.CertFile, KeyFile: options.KeyFile}
	if err := serving.ApplyTo(&config.SecureServing, &config.LoopbackClientConfig); err != nil {
		return nil, fmt.Errorf("preparing HTTPS with --tls-cert-file=%s --tls-private-key-file=%s: %w", options.CertFile, options.KeyFile, err)
	}
	if options.InsecureDelegation {
		return config, nil
	}
	if err := genericoptions.NewDelegatingAuthenticationOptions().ApplyTo(&config.Authentication, config.SecureServing, config.OpenAPIConfig); err != nil {
		return nil, fmt.Errorf("preparing authentication: %w", err)
	}
	if err := genericoptions.NewDelegatingAuthorizationOptions().ApplyTo(&config.Authorization); err != nil {
		return nil, fmt.Errorf("preparing authorization: %w", err)
	}
	return config, nil
}

// newStorage makes the resource and its streams.
func newStorage(config *restclient.Config) (map[string]rest.Storage, error) {
	clientScheme := runtime.NewScheme()
	if err := v1alpha2.AddToScheme(clientScheme); err != nil {
		return nil, err
	}
	machines, err := client.NewWithWatch(config, client.Options{Scheme: clientScheme, Mapper: machineMapper()})
	if err != nil {
		return nil, fmt.Errorf("preparing the client of kube-apiserver: %w", err)
	}
	relay := relay{pingInterval: 25 * time.Second, pongTimeout: 60 * time.Second}
	storage := map[string]rest.Storage{"virtualmachines": &machineStorage{client: machines}}
	for _, name := range []string{"console", "vnc", "portforward"} {
		storage["virtualmachines/"+name] = &streamStorage{name: name, machines: machines, dial: dialKubeVirt(config), relay: relay}
	}
	return storage, nil
}

// machineMapper knows the one kind that is read, so that starting does not depend
// on discovery.
func machineMapper() meta.RESTMapper {
	mapper := meta.NewDefaultRESTMapper([]schema.GroupVersion{v1alpha2.SchemeGroupVersion})
	mapper.Add(v1alpha2.SchemeGroupVersion.WithKind("VirtualMachine"), meta.RESTScopeNamespace)
	return mapper
}
