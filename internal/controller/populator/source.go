// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package populator

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/controller/shared/filling"
	"github.com/deckhouse/virtualization/internal/controller/shared/importerpod"
	"github.com/deckhouse/virtualization/internal/controller/shared/origin"
	"github.com/deckhouse/virtualization/internal/dvcr"
)

var apiGroup = v1alpha2.SchemeGroupVersion.Group

// retrySecret is the pause before a pull secret is looked for again: the controller
// does not watch the Secrets of the cluster.
const retrySecret = retryRefused

// resolver finds out what a claim is to be filled with.
type resolver struct {
	client.Reader
}

// resolve follows the claim's dataSourceRef. A problem is no error.
func (r resolver) resolve(ctx context.Context, claim *corev1.PersistentVolumeClaim) (Source, error) {
	ref := claim.Spec.DataSourceRef
	if ref.Namespace != nil && *ref.Namespace != claim.Namespace {
		return refused("spec.dataSourceRef.namespace: a source in another namespace is not supported; leave it out"), nil
	}
	switch ref.Kind {
	case v1alpha2.VirtualDiskKind:
		return r.fromDisk(ctx, claim, ref.Name)
	case v1alpha2.VirtualImageKind:
		return r.fromImage(ctx, claim, ref.Name)
	case v1alpha2.ClusterVirtualImageKind:
		return r.fromClusterImage(ctx, ref.Name)
	}
	return refused(fmt.Sprintf("spec.dataSourceRef.kind: %s cannot fill a claim; use VirtualImage or ClusterVirtualImage", ref.Kind)), nil
}

func refused(message string) Source {
	return Source{Problem: &Problem{Reason: v1alpha2.ReasonDatasourceNotSupported, Message: message, Permanent: true}}
}

func pending(reason, format string, args ...any) Source {
	return Source{Problem: &Problem{Reason: reason, Message: fmt.Sprintf(format, args...)}}
}

func (r resolver) fromDisk(ctx context.Context, claim *corev1.PersistentVolumeClaim, name string) (Source, error) {
	disk := &v1alpha2.VirtualDisk{}
	found, err := shared.Get(ctx, r, client.ObjectKey{Namespace: claim.Namespace, Name: name}, disk)
	switch {
	case err != nil:
		return Source{}, err
	case !found || claim.Name != filling.DiskClaimPrefix+string(disk.UID):
		return refused("spec.dataSourceRef: a disk cannot fill another claim; make a VirtualImage from the disk and name that"), nil
	case disk.Spec.DataSource == nil:
		return refused("spec.dataSourceRef: the disk has no data source"), nil
	}
	out, err := r.fromSpec(ctx, diskWords(disk))
	out.DisksOnly = true
	return out, err
}

func (r resolver) fromImage(ctx context.Context, claim *corev1.PersistentVolumeClaim, name string) (Source, error) {
	image := &v1alpha2.VirtualImage{}
	found, err := shared.Get(ctx, r, client.ObjectKey{Namespace: claim.Namespace, Name: name}, image)
	if err != nil {
		return Source{}, err
	}
	if !found {
		return pending(v1alpha2.ReasonImageNotFound, "there is no VirtualImage %s; make it", name), nil
	}
	if claim.Name == filling.ImageClaimPrefix+string(image.UID) {
		return r.fromOwnImage(ctx, image)
	}
	if volume := image.Status.Target.PersistentVolumeClaimName; volume != "" {
		return refused(fmt.Sprintf("VirtualImage %s is kept on a volume: clone that, with spec.dataSource of kind "+
			"PersistentVolumeClaim and name %s, or make a VirtualDisk from the image", name, volume)), nil
	}
	return fromRegistry(image, image.Status.ImageStatus, image.Status.Target.RegistryURL), nil
}

// fromOwnImage fills the claim that the image itself is to be kept on. How large an
// upload is must be known before there is a claim, so it lies in DVCR by then.
func (r resolver) fromOwnImage(ctx context.Context, image *v1alpha2.VirtualImage) (Source, error) {
	if image.Spec.DataSource.Type != v1alpha2.DataSourceUpload {
		return r.fromSpec(ctx, imageWords(image))
	}
	reference := image.Status.Target.RegistryURL
	// A size that cannot be read counts as not known.
	bytes, _ := strconv.ParseInt(image.Status.Size.UnpackedBytes, 10, 64)
	if reference == "" || bytes == 0 {
		return pending(v1alpha2.ReasonWaitForUserUpload, "waiting for the upload of VirtualImage %s", image.Name), nil
	}
	return registrySource(image, v1alpha2.VirtualImageKind, reference, bytes), nil
}

func (r resolver) fromClusterImage(ctx context.Context, name string) (Source, error) {
	image := &v1alpha2.ClusterVirtualImage{}
	found, err := shared.Get(ctx, r, client.ObjectKey{Name: name}, image)
	if err != nil {
		return Source{}, err
	}
	if !found {
		return pending(v1alpha2.ReasonClusterImageNotFound, "there is no ClusterVirtualImage %s; make it", name), nil
	}
	return fromRegistry(image, image.Status.ImageStatus, image.Status.Target.RegistryURL), nil
}

// fromRegistry reads an image in DVCR. Its reference holds its uid, so that an image
// that is made anew is another order.
func fromRegistry(image client.Object, status v1alpha2.ImageStatus, reference string) Source {
	kind, reason := v1alpha2.ClusterVirtualImageKind, v1alpha2.ReasonClusterImageNotReady
	if image.GetNamespace() != "" {
		kind, reason = v1alpha2.VirtualImageKind, v1alpha2.ReasonImageNotReady
	}
	bytes, err := strconv.ParseInt(status.Size.UnpackedBytes, 10, 64)
	ready := meta.IsStatusConditionTrue(status.Conditions, v1alpha2.ConditionReady)
	if !ready || err != nil || reference == "" || image.GetDeletionTimestamp() != nil {
		message := fmt.Sprintf("waiting for %s %s to be ready", kind, image.GetName())
		if condition := meta.FindStatusCondition(status.Conditions, v1alpha2.ConditionReady); !ready && condition != nil && condition.Message != "" {
			message += ": " + condition.Message
		}
		return pending(reason, "%s", message)
	}
	return registrySource(image, kind, reference, bytes)
}

func registrySource(image client.Object, kind, reference string, bytes int64) Source {
	dvcrSource := &importerpod.DVCR{Reference: reference}
	return Source{
		Source: importerpod.Source{DVCR: dvcrSource}, Hash: filling.HashOf(dvcrSource), Bytes: bytes,
		Repository: dvcr.Repository(kind, image.GetNamespace(), image.GetName()),
	}
}

// fromSpec reads a data source of a spec.
func (r resolver) fromSpec(ctx context.Context, words origin.Words) (Source, error) {
	if words.Type == v1alpha2.DataSourceObjectRef {
		return refused("spec.dataSourceRef: name the image that spec.dataSource.objectRef names"), nil
	}
	facts, err := origin.Observe(ctx, r, nil, words)
	if err != nil {
		return Source{}, err
	}
	found, trouble := origin.Resolve(words, facts, origin.Object{})
	if trouble == nil {
		return Source{Source: found.Source, Hash: filling.HashOf(words)}, nil
	}
	problem := &Problem{Reason: trouble.Reason, Message: trouble.Message, Permanent: trouble.Permanent}
	if words.ContainerImage != nil {
		problem.Retry = retrySecret
	}
	return Source{Problem: problem}, nil
}

// diskWords are the data source of a disk.
func diskWords(disk *v1alpha2.VirtualDisk) origin.Words {
	source := disk.Spec.DataSource
	return origin.Words{
		Type: source.Type, HTTP: source.HTTP, ContainerImage: containerImage(disk.Namespace, source.ContainerImage), Upload: source.Upload,
	}
}

// imageWords are the data source of an image.
func imageWords(image *v1alpha2.VirtualImage) origin.Words {
	source := image.Spec.DataSource
	return origin.Words{
		Type: source.Type, HTTP: source.HTTP, ContainerImage: containerImage(image.Namespace, source.ContainerImage), Upload: source.Upload,
	}
}

func containerImage(namespace string, source *v1alpha2.ContainerImageSource) *origin.ContainerImage {
	if source == nil {
		return nil
	}
	out := &origin.ContainerImage{Image: string(source.Image), CABundle: source.CABundle}
	if secret := source.ImagePullSecret; secret != nil && secret.Name != "" {
		out.Secret = types.NamespacedName{Namespace: namespace, Name: secret.Name}
	}
	return out
}

// mayUpload tells of the claims whose source may be an upload: what a disk's or an
// image's own claim is filled with. Of one that is gone nobody knows.
func mayUpload(claim *corev1.PersistentVolumeClaim) bool {
	return claim.Spec.DataSourceRef == nil || stagingKind(claim) != ""
}

// stagingKind is the kind whose repository is used for what has to be staged; empty
// for claims that are only ever filled from DVCR.
func stagingKind(claim *corev1.PersistentVolumeClaim) string {
	switch kind := claim.Spec.DataSourceRef.Kind; {
	case kind == v1alpha2.VirtualDiskKind:
		return dvcr.KindVirtualDisk
	case kind == v1alpha2.VirtualImageKind && strings.HasPrefix(claim.Name, filling.ImageClaimPrefix):
		return dvcr.KindVirtualImage
	}
	return ""
}

// stageOf is where an image is put on its way to the claim. The tag is the claim's
// uid, so that it is nobody else's.
func stageOf(claim *corev1.PersistentVolumeClaim, address string) stage {
	kind := stagingKind(claim)
	if kind == "" {
		return stage{}
	}
	name := claim.Spec.DataSourceRef.Name
	return stage{
		Repository: dvcr.Repository(kind, claim.Namespace, name),
		Reference:  dvcr.Reference(address, kind, claim.Namespace, name, string(claim.UID)),
	}
}
