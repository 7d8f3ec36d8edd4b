// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package subresources

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
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
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/audit"
	"github.com/deckhouse/virtualization/internal/subresources/names"
	"github.com/deckhouse/virtualization/internal/subresources/session"
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
	// Kubeconfig leads to the kube-apiserver that vouches for users; empty: the one of
	// the cluster that this program runs in.
	Kubeconfig string
	// Namespace of the module, where sessions are written down.
	Namespace string
	// Audit takes a line for each stream and order; nil for none.
	Audit io.Writer
	// InsecureDelegation switches delegated authentication and authorization off,
	// for tests without a kube-apiserver.
	InsecureDelegation bool
}

// patience of the streams' legs. Load balancers cut connections that are silent for a
// minute.
var patience = relay{pingInterval: 25 * time.Second, pongTimeout: 60 * time.Second, stallTimeout: 5 * time.Minute}

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
	draining, drain := context.WithCancel(context.Background())
	storage, book, err := newStorage(draining, options, config)
	if err != nil {
		drain()
		return nil, err
	}
	if err := addHooks(server, book, drain); err != nil {
		drain()
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

	if options.Audit != nil {
		config.AuditBackend = audit.NewBackend(options.Audit)
		config.AuditPolicyRuleEvaluator = audit.Streams(GroupVersion.Group)
	}

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
	authentication, authorization := genericoptions.NewDelegatingAuthenticationOptions(), genericoptions.NewDelegatingAuthorizationOptions()
	authentication.RemoteKubeConfigFile, authorization.RemoteKubeConfigFile = options.Kubeconfig, options.Kubeconfig
	if err := authentication.ApplyTo(&config.Authentication, config.SecureServing, config.OpenAPIConfig); err != nil {
		return nil, fmt.Errorf("preparing authentication: %w", err)
	}
	if err := authorization.ApplyTo(&config.Authorization); err != nil {
		return nil, fmt.Errorf("preparing authorization: %w", err)
	}
	return config, nil
}

// addHooks ties what outlives a request to the life of the server.
func addHooks(server *genericapiserver.GenericAPIServer, book *session.Book, drain context.CancelFunc) error {
	// A server that goes tells its clients, which connect again, to another replica.
	err := server.AddPreShutdownHook("end-streams", func() error { drain(); return nil })
	if err != nil {
		return err
	}
	return server.AddPostStartHook("sweep-sessions", func(hook genericapiserver.PostStartHookContext) error {
		go func() {
			// Sessions of a server that died just now have to expire first.
			timer := book.Clock.NewTimer(session.Duration)
			defer timer.Stop()
			select {
			case <-hook.Done():
			case <-timer.C():
				if err := book.Sweep(hook); err != nil {
					klog.FromContext(hook).Info("sessions that ended with their server were left", "error", err)
				}
			}
		}()
		return nil
	})
}

// newStorage makes the resource, its streams and its orders.
func newStorage(draining context.Context, options Options, config *restclient.Config) (map[string]rest.Storage, *session.Book, error) {
	clientScheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{v1alpha2.AddToScheme, coordinationv1.AddToScheme, corev1.AddToScheme} {
		if err := add(clientScheme); err != nil {
			return nil, nil, err
		}
	}
	kube, err := client.NewWithWatch(config, client.Options{Scheme: clientScheme, Mapper: kindMapper()})
	if err != nil {
		return nil, nil, fmt.Errorf("preparing the client of kube-apiserver: %w", err)
	}
	put, err := putKubeVirt(config)
	if err != nil {
		return nil, nil, err
	}
	book := &session.Book{Client: kube, Namespace: options.Namespace, Clock: clock.RealClock{}}
	storage := map[string]rest.Storage{"virtualmachines": &machineStorage{client: kube}}
	metrics := served()
	for name, sessions := range map[string]*session.Book{"console": book, "vnc": book, "portforward": nil} {
		metrics.expect(name)
		storage["virtualmachines/"+name] = &streamStorage{
			name: name, machines: kube, dial: dialKubeVirt(config), relay: patience, sessions: sessions, draining: draining, metrics: metrics,
		}
	}
	for _, action := range actions(kube, put) {
		action.machines = kube
		storage["virtualmachines/"+action.name] = &action
	}
	return storage, book, nil
}

// actions are the orders that a machine takes. Those of the guest are KubeVirt's.
func actions(kube client.Client, put putter) []actionStorage {
	return []actionStorage{
		{name: "freeze", do: newFreeze(put), code: http.StatusAccepted},
		{name: "unfreeze", do: newUnfreeze(put), code: http.StatusAccepted},
		{name: "cancelevacuation", do: newCancelEvacuation(put), code: http.StatusOK},
		{name: "addvolume", do: volumes{kube}.add, code: http.StatusAccepted},
		{name: "removevolume", do: volumes{kube}.remove, code: http.StatusAccepted},
	}
}

// kindMapper knows the kinds that are read and written, so that starting does not
// depend on discovery.
func kindMapper() meta.RESTMapper {
	mapper := meta.NewDefaultRESTMapper(nil)
	for _, kind := range []string{
		v1alpha2.VirtualMachineKind, v1alpha2.VirtualMachineBlockDeviceAttachmentKind, v1alpha2.VirtualDiskKind, v1alpha2.VirtualImageKind,
	} {
		mapper.Add(v1alpha2.SchemeGroupVersion.WithKind(kind), meta.RESTScopeNamespace)
	}
	mapper.Add(v1alpha2.SchemeGroupVersion.WithKind(v1alpha2.ClusterVirtualImageKind), meta.RESTScopeRoot)
	mapper.Add(coordinationv1.SchemeGroupVersion.WithKind("Lease"), meta.RESTScopeNamespace)
	mapper.Add(corev1.SchemeGroupVersion.WithKind("Event"), meta.RESTScopeNamespace)
	return mapper
}
