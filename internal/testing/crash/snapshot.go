// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/ipam"
)

// kinds are those whose objects make up the end of a play.
var kinds = slices.Concat(
	versionKinds(v1alpha2.SchemeGroupVersion, "VirtualMachine", "VirtualMachineClass", "VirtualMachineIPAddress", "VirtualMachineIPAddressLease",
		"VirtualDisk", "VirtualImage", "ClusterVirtualImage", "VirtualMachineOperation", "VirtualMachineBlockDeviceAttachment"),
	versionKinds(schema.GroupVersion{Group: "kubevirt.io", Version: "v1"}, "VirtualMachine", "VirtualMachineInstance", "VirtualMachineInstanceMigration"),
	versionKinds(schema.GroupVersion{Version: "v1"}, "Pod", "PersistentVolumeClaim", "PersistentVolume", "Secret", "Service"),
	versionKinds(schema.GroupVersion{Group: "networking.k8s.io", Version: "v1"}, "Ingress"),
)

func versionKinds(version schema.GroupVersion, names ...string) []schema.GroupVersionKind {
	var out []schema.GroupVersionKind
	for _, name := range names {
		out = append(out, version.WithKind(name))
	}
	return out
}

// snapshots takes down what there is in a play, in words that are the same in every
// play: without times, and with the names of what the scenario made in the place of
// what the API server and the play made up.
type snapshots struct {
	client    client.Client
	namespace string
	// addresses is how the addresses of the play begin, with a dot at the end.
	addresses string
	// names are what uids, and names that are made from them, stood for when the last
	// snapshot was taken; kept are those of the points that were reached.
	names, kept map[string]string
}

// take returns each object as text, by kind and name.
func (s *snapshots) take(ctx context.Context) (map[string]string, error) {
	objects := map[string][]byte{}
	s.forgetPassing()
	err := s.each(ctx, func(item *unstructured.Unstructured, raw []byte) error {
		s.learn(item)
		gvk := item.GroupVersionKind()
		objects[gvk.Kind+"."+gvk.Group+" "+item.GetNamespace()+"/"+item.GetName()] = raw
		return nil
	})
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for name, raw := range objects {
		out[s.inWords(name)] = s.inWords(string(raw))
	}
	return out, nil
}

// each calls the function with every object of the play, and with what of it tells of
// the end.
func (s *snapshots) each(ctx context.Context, do func(item *unstructured.Unstructured, raw []byte) error) error {
	for _, kind := range kinds {
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(kind.GroupVersion().WithKind(kind.Kind + "List"))
		if err := s.client.List(ctx, list); meta.IsNoMatchError(err) {
			// Not every scenario has the engine.
			continue
		} else if err != nil {
			return fmt.Errorf("listing %s: %w", kind, err)
		}
		for i := range list.Items {
			raw, err := json.Marshal(strip(&list.Items[i]))
			if err != nil {
				return err
			}
			if !bytes.Contains(raw, []byte(s.namespace)) {
				continue
			}
			if err := do(&list.Items[i], raw); err != nil {
				return err
			}
		}
	}
	return nil
}

// clear removes the play's objects, whoever holds them: each life of the plays to come
// would have to read them. Nobody who deletes namespaces is at work here.
func (s *snapshots) clear(ctx context.Context) error {
	release := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`))
	return s.each(ctx, func(item *unstructured.Unstructured, _ []byte) error {
		if len(item.GetFinalizers()) > 0 {
			if err := s.client.Patch(ctx, item, release); client.IgnoreNotFound(err) != nil {
				return err
			}
		}
		return client.IgnoreNotFound(s.client.Delete(ctx, item, client.GracePeriodSeconds(0)))
	})
}

// keepNames keeps the names of the last snapshot for those to come. Of a snapshot on
// the way they are not kept: it may show what is there only in passing, and which of
// that it shows is not the same in every play.
func (s *snapshots) keepNames() { s.kept = s.names }

func (s *snapshots) forgetPassing() {
	s.names = map[string]string{}
	maps.Copy(s.names, s.kept)
}

// learn remembers what the uid of an object stands for.
func (s *snapshots) learn(object *unstructured.Unstructured) {
	name, uid := object.GetName(), string(object.GetUID())
	s.names[uid] = "<" + object.GetKind() + " " + name + ">"
	if object.GetKind() == v1alpha2.VirtualMachineKind {
		s.names[ipam.ClaimName(name, types.UID(uid))] = "<address of " + name + ">"
	}
}

var (
	timePattern       = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`)
	uidPattern        = regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)
	podPattern        = regexp.MustCompile(`virt-launcher-([a-z0-9.-]+?)-[0-9a-f]{5}\b`)
	evacuationPattern = regexp.MustCompile(`evacuation-([a-z0-9.-]+?)-[0-9a-f]{8}\b`)
	// What is made from a uid, such as the serial number of a disk.
	hashPattern = regexp.MustCompile(`\b([0-9a-f]{2}(:[0-9a-f]{2}){5}|[0-9a-f]{16}|[0-9a-f]{32})\b`)
)

func (s *snapshots) inWords(text string) string {
	// A name that stands for a uid may itself be made from another one.
	for range 3 {
		for _, made := range slices.Sorted(maps.Keys(s.names)) {
			text = strings.ReplaceAll(text, made, s.names[made])
		}
	}
	text = strings.ReplaceAll(text, s.namespace, "<namespace>")
	text = strings.ReplaceAll(text, s.addresses, "<range>.")
	text = strings.ReplaceAll(text, strings.ReplaceAll(s.addresses, ".", "-"), "<range>-")
	text = timePattern.ReplaceAllString(text, "<time>")
	text = podPattern.ReplaceAllString(text, "<pod of $1>")
	text = evacuationPattern.ReplaceAllString(text, "<evacuation of $1>")
	text = uidPattern.ReplaceAllString(text, "<uid>")
	return hashPattern.ReplaceAllString(text, "<hash>")
}

// strip takes out what tells of the way and not of the end.
func strip(object *unstructured.Unstructured) map[string]any {
	out := object.DeepCopy().Object
	generation := object.GetGeneration()
	for _, path := range [][]string{
		{"metadata", "resourceVersion"}, {"metadata", "managedFields"}, {"metadata", "generation"}, {"metadata", "creationTimestamp"},
		{"metadata", "annotations", shared.AnnotationAppliedHash}, {"status", "stats"},
	} {
		unstructured.RemoveNestedField(out, path...)
	}
	if object.GetKind() == "Secret" {
		// Tokens are signed anew each time.
		hide(out["data"])
	}
	relate(out["status"], generation)
	return out
}

func hide(data any) {
	if values, ok := data.(map[string]any); ok {
		for key := range values {
			values[key] = "<hidden>"
		}
	}
}

// relate tells of observed generations only whether they are the newest: how often a
// spec was written is of no interest.
func relate(value any, generation int64) {
	switch typed := value.(type) {
	case map[string]any:
		for key, item := range typed {
			if observed, ok := item.(int64); ok && key == "observedGeneration" {
				typed[key] = "newest"
				if observed != generation {
					typed[key] = fmt.Sprintf("%d behind", generation-observed)
				}
				continue
			}
			relate(item, generation)
		}
	case []any:
		for _, item := range typed {
			relate(item, generation)
		}
	}
}
