// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package importerpod

import (
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/dvcr/token"
)

const (
	// ContainerName is the only container's.
	ContainerName = "importer"
	// UploadPort is where an importer that waits for an upload listens.
	UploadPort = 8080

	// AnnotationHash is on the Pod and tells which order it carries out.
	AnnotationHash = "virtualization.deckhouse.io/source-hash"
	// AnnotationOwner is on the Pod and names whom it works for, as a token's subject.
	AnnotationOwner = "virtualization.deckhouse.io/import-for"
	// AnnotationAuthorities is on the Pod and tells which authorities of the module its
	// Secret holds, as a digest.
	AnnotationAuthorities = "virtualization.deckhouse.io/authorities"
	// labelUpload is what a Service finds its importer by.
	labelUpload = "virtualization.deckhouse.io/upload"
	// labelIgnoreQuota keeps the platform's helpers out of a project's quota.
	labelIgnoreQuota = "resource-quota-overrides.deckhouse.io/ignore"

	secretVolume = "importer"
	stateVolume  = "state"
	tmpVolume    = "tmp"
	sourceVolume = "source"
	targetVolume = "target"

	// runAs is the user and group of all restricted workloads of the module.
	runAs = 64535
	// runAsGuest is the user and group of the guest's process, which has to be able
	// to open the file that an importer leaves on a volume.
	runAsGuest = 107
	// graceSeconds is enough for the importer to leave a checkpoint.
	graceSeconds = 10
)

// Pod is the importer of the order.
func Pod(o Order) *corev1.Pod {
	meta := o.meta()
	meta.Labels[labelIgnoreQuota] = "true"
	meta.Annotations = map[string]string{
		AnnotationHash:               o.Hash,
		AnnotationOwner:              o.Subject.String(),
		AnnotationAuthorities:        o.Settings.authorities(),
		shared.AnnotationTokenExpiry: shared.FormatTokenExpiry(o.Credential.ExpiresAt),
	}
	if upload := o.Source.Upload; upload != nil {
		meta.Labels[labelUpload] = upload.Name
		meta.Annotations[AnnotationUploadExpiry] = formatTime(upload.ExpiresAt)
	}
	pod := &corev1.Pod{
		ObjectMeta: meta,
		Spec: corev1.PodSpec{
			RestartPolicy:                 corev1.RestartPolicyOnFailure,
			AutomountServiceAccountToken:  ptr.To(false),
			EnableServiceLinks:            ptr.To(false),
			TerminationGracePeriodSeconds: ptr.To(int64(graceSeconds)),
			SecurityContext:               o.podSecurity(),
			Tolerations:                   o.tolerations(),
			Containers:                    []corev1.Container{o.container()},
			Volumes:                       o.volumes(),
		},
	}
	if o.Settings.PullSecret != "" && o.Namespace == o.Settings.Namespace {
		pod.Spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: o.Settings.PullSecret}}
	}
	return pod
}

// Owner tells whom the Pod works for.
func Owner(pod metav1.Object) (token.Subject, bool) {
	subject, err := token.ParseSubject(pod.GetAnnotations()[AnnotationOwner])
	return subject, err == nil
}

// IsFor tells whether the Pod works for the subject. A Pod that an earlier version
// made says so by its owner only.
func IsFor(pod metav1.Object, subject token.Subject) bool {
	if owner, ok := Owner(pod); ok {
		return owner == subject
	}
	owner := metav1.GetControllerOf(pod)
	return owner != nil && string(owner.UID) == subject.UID
}

// Outdated tells that the Pod's Secret does not hold the authorities of today: they are
// being replaced, and whoever the Pod talks to will show a certificate of the next one.
// The Secret is written anew, and then the Pod's Renewal, which also makes kubelet look
// at the Secret at once.
func Outdated(pod metav1.Object, settings Settings) bool {
	return pod.GetAnnotations()[AnnotationAuthorities] != settings.authorities()
}

// Renewal is the part of the Pod that changes when its Secret is written anew, with a
// token that ends at the time given.
func Renewal(pod metav1.Object, settings Settings, expiresAt time.Time) *metav1.PartialObjectMetadata {
	out := shared.CoreMetadata("Pod")
	// The uid keeps a Pod that is gone by now from being made anew out of this.
	out.SetNamespace(pod.GetNamespace())
	out.SetName(pod.GetName())
	out.SetUID(pod.GetUID())
	out.SetAnnotations(map[string]string{
		AnnotationAuthorities:        settings.authorities(),
		shared.AnnotationTokenExpiry: shared.FormatTokenExpiry(expiresAt),
	})
	return out
}

func (o Order) meta() metav1.ObjectMeta {
	labels := shared.ChildLabels()
	labels["app"] = ContainerName
	maps.Copy(labels, o.Labels)
	return metav1.ObjectMeta{Namespace: o.Namespace, Name: o.Name, Labels: labels, OwnerReferences: o.Owners}
}

// podSecurity is restricted. The node gives a block device to the container's user.
func (o Order) podSecurity() *corev1.PodSecurityContext {
	user := int64(runAs)
	if o.Source.Volume != nil || o.Target.Volume != nil {
		user = runAsGuest
	}
	return &corev1.PodSecurityContext{
		RunAsNonRoot: ptr.To(true), RunAsUser: ptr.To(user), RunAsGroup: ptr.To(user), FSGroup: ptr.To(user),
		// Changing the owner of each file is pointless where there is only one.
		FSGroupChangePolicy: ptr.To(corev1.FSGroupChangeOnRootMismatch),
		SeccompProfile:      &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
}

// tolerations lead an importer to volumes that can only be used on nodes which the platform keeps for somebody, such as
// machines. It stays away from them without a volume.
func (o Order) tolerations() []corev1.Toleration {
	if o.Source.Volume == nil && o.Target.Volume == nil {
		return nil
	}
	out := []corev1.Toleration{
		{Key: "dedicated.deckhouse.io", Operator: corev1.TolerationOpExists},
		{Key: "dedicated", Operator: corev1.TolerationOpExists},
	}
	for _, volume := range []*Volume{o.Source.Volume, o.Target.Volume} {
		if volume != nil {
			out = append(out, volume.Tolerations...)
		}
	}
	return out
}

func (o Order) container() corev1.Container {
	container := corev1.Container{
		Name:                     ContainerName,
		Image:                    o.Settings.ImporterImage,
		ImagePullPolicy:          corev1.PullIfNotPresent,
		Args:                     o.args(),
		TerminationMessagePolicy: corev1.TerminationMessageReadFile,
		// Buffers are used again and again and hardly leave garbage: without a limit of its own the collector would let it
		// grow up to as much once more, beyond the container's. The rest is qemu-img's.
		Env: []corev1.EnvVar{{Name: "GOMEMLIMIT", Value: "384MiB"}},
		// The importer streams: what it needs does not grow with the image.
		Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{
				corev1.ResourceCPU: resource.MustParse("100m"), corev1.ResourceMemory: resource.MustParse("64Mi"),
			},
			Limits: corev1.ResourceList{
				corev1.ResourceCPU: resource.MustParse("2"), corev1.ResourceMemory: resource.MustParse("512Mi"),
			},
		},
		SecurityContext: &corev1.SecurityContext{
			AllowPrivilegeEscalation: ptr.To(false),
			ReadOnlyRootFilesystem:   ptr.To(true),
			Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		},
		VolumeMounts: []corev1.VolumeMount{
			{Name: secretVolume, MountPath: secretPath, ReadOnly: true},
			{Name: stateVolume, MountPath: statePath},
			{Name: tmpVolume, MountPath: tmpPath},
		},
	}
	attach(&container, sourceVolume, o.Source.Volume, true)
	attach(&container, targetVolume, o.Target.Volume, false)
	if o.Source.Upload != nil {
		container.Ports = []corev1.ContainerPort{{Name: uploadPortName, ContainerPort: UploadPort, Protocol: corev1.ProtocolTCP}}
		container.ReadinessProbe = &corev1.Probe{
			ProbeHandler:  corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromString(uploadPortName)}},
			PeriodSeconds: 1,
		}
	}
	return container
}

// attach gives the container the claim under the path that args tells it.
func attach(container *corev1.Container, name string, volume *Volume, readOnly bool) {
	switch {
	case volume == nil:
	case volume.Block:
		container.VolumeDevices = append(container.VolumeDevices, corev1.VolumeDevice{Name: name, DevicePath: volume.path(name)})
	default:
		container.VolumeMounts = append(container.VolumeMounts,
			corev1.VolumeMount{Name: name, MountPath: volume.path(name), ReadOnly: readOnly})
	}
}

func (v *Volume) path(name string) string {
	if v.Block {
		return "/dev/" + name
	}
	return "/" + name
}

func (o Order) volumes() []corev1.Volume {
	out := []corev1.Volume{
		{Name: secretVolume, VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{
			SecretName: o.Name, DefaultMode: ptr.To(int32(0o440)),
		}}},
		emptyDir(stateVolume), emptyDir(tmpVolume),
	}
	if v := o.Source.Volume; v != nil {
		out = append(out, claim(sourceVolume, v.ClaimName))
	}
	if v := o.Target.Volume; v != nil {
		out = append(out, claim(targetVolume, v.ClaimName))
	}
	return out
}

// emptyDir is small: the importer keeps a checkpoint there and a socket, no data.
func emptyDir(name string) corev1.Volume {
	return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{
		EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: ptr.To(resource.MustParse("16Mi"))},
	}}
}

func claim(name, claimName string) corev1.Volume {
	return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{
		PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claimName},
	}}
}

func formatTime(at time.Time) string { return at.UTC().Format(time.RFC3339) }
