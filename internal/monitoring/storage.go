// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package monitoring

import (
	"context"

	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

const (
	helpProgress = "How much of the work is done while it is being made, from 0 to 1."
	helpSpeed    = "How fast the source is or was fetched; current only while it is."
	helpInUse    = "1 if something uses it, else 0."
)

var (
	diskCommon = newCommon(v1alpha2.VirtualDiskKind, "virtualdisk", namespaced)
	diskInfo   = newMetric("virtualdisk_info",
		"What a VirtualDisk is. The source is the type of its data source, Blank if it has none. The value is 1.",
		namespaced, labelUID, "storage_class", "persistentvolumeclaim", "source")
	diskCapacity = newMetric("virtualdisk_capacity_bytes", "Size of a VirtualDisk that the guest sees.", namespaced)
	diskInUse    = newMetric("virtualdisk_status_in_use", helpInUse, namespaced)
	diskProgress = newMetric("virtualdisk_progress_ratio", helpProgress, namespaced)
	diskSpeed    = newMetric("virtualdisk_download_speed_bytes_per_second", helpSpeed, namespaced, "speed")
	diskCreation = newMetric("virtualdisk_creation_duration_seconds",
		"How long the steps of the creation took: WaitingForDependencies, WaitingForFirstConsumer, DVCRProvisioning, TotalProvisioning.", namespaced, "step")
	diskLabels = newMetric("virtualdisk_labels", "The labels of a VirtualDisk, each as label_NAME. The value is 1.", namespaced, labelUID)
)

func disks(ctx context.Context, reader client.Reader, out sink) error {
	var list v1alpha2.VirtualDiskList
	return each(ctx, reader, &list, &list.Items, func(vd *v1alpha2.VirtualDisk) { disk(out, vd) })
}

func disk(out sink, vd *v1alpha2.VirtualDisk) {
	name := known(vd.Namespace, vd.Name)
	diskCommon.put(out, vd, string(vd.Status.Phase), vd.Status.Conditions)
	source := "Blank"
	if vd.Spec.DataSource != nil {
		source = string(vd.Spec.DataSource.Type)
	}
	out.put(diskInfo, 1, append(name, string(vd.UID), vd.Status.StorageClassName, vd.Status.Target.PersistentVolumeClaimName, source)...)
	out.putText(diskCapacity, quantity, vd.Status.Capacity, name...)
	out.put(diskInUse, number(meta.IsStatusConditionTrue(vd.Status.Conditions, v1alpha2.ConditionInUse)), name...)
	putProgress(out, diskProgress, vd.Status.Progress, name)
	putSpeed(out, diskSpeed, vd.Status.DownloadSpeed, name)
	took := vd.Status.Stats.CreationDuration
	out.putDuration(diskCreation, took.WaitingForDependencies, append(name, "WaitingForDependencies")...)
	out.putDuration(diskCreation, took.WaitingForFirstConsumer, append(name, "WaitingForFirstConsumer")...)
	out.putDuration(diskCreation, took.DVCRProvisioning, append(name, "DVCRProvisioning")...)
	out.putDuration(diskCreation, took.TotalProvisioning, append(name, "TotalProvisioning")...)
	putLabels(out, diskLabels, vd.Labels, vd.Namespace, vd.Name, string(vd.UID))
}

// putProgress leaves out what is done: most objects are, and their phase says so.
func putProgress(out sink, metric *Metric, text string, labels []string) {
	if value, ok := percent(text); ok && value < 100 {
		out.put(metric, value/100, labels...)
	}
}

func putSpeed(out sink, metric *Metric, speed *v1alpha2.DownloadSpeed, labels []string) {
	if speed == nil {
		return
	}
	out.putText(metric, digits, speed.AvgBytes, append(labels, "average")...)
	out.putText(metric, digits, speed.CurrentBytes, append(labels, "current")...)
}

// imageMetrics are those of both kinds of images.
type imageMetrics struct {
	*common
	info, stored, unpacked, inUse, progress, speed *Metric
}

func newImageMetrics(kind, resource string, object []string) imageMetrics {
	return imageMetrics{
		common: newCommon(kind, resource, object),
		info: newMetric(resource+"_info", "What a "+kind+" is. The source is the type of its data source. The value is 1.",
			object, labelUID, "storage", "format", "source"),
		stored:   newMetric(resource+"_stored_bytes", "Space that a "+kind+" takes in the storage.", object),
		unpacked: newMetric(resource+"_unpacked_bytes", "Size of the disk that a guest sees of a "+kind+".", object),
		inUse:    newMetric(resource+"_status_in_use", helpInUse, object),
		progress: newMetric(resource+"_progress_ratio", helpProgress, object),
		speed:    newMetric(resource+"_download_speed_bytes_per_second", helpSpeed, object, "speed"),
	}
}

var (
	imagesOfProjects = newImageMetrics(v1alpha2.VirtualImageKind, "virtualimage", namespaced)
	imagesOfCluster  = newImageMetrics(v1alpha2.ClusterVirtualImageKind, "clustervirtualimage", clusterwide)
	imageUsedIn      = newMetric("clustervirtualimage_used_in_namespaces", "In how many namespaces a ClusterVirtualImage is used.", clusterwide)
)

func images(ctx context.Context, reader client.Reader, out sink) error {
	var list v1alpha2.VirtualImageList
	return each(ctx, reader, &list, &list.Items, func(vi *v1alpha2.VirtualImage) {
		imagesOfProjects.image(out, vi, string(vi.Status.Phase), &vi.Status.ImageStatus, string(vi.Spec.Storage), string(vi.Spec.DataSource.Type))
	})
}

func clusterImages(ctx context.Context, reader client.Reader, out sink) error {
	var list v1alpha2.ClusterVirtualImageList
	return each(ctx, reader, &list, &list.Items, func(cvi *v1alpha2.ClusterVirtualImage) {
		imagesOfCluster.image(out, cvi, string(cvi.Status.Phase), &cvi.Status.ImageStatus,
			string(v1alpha2.StorageContainerRegistry), string(cvi.Spec.DataSource.Type))
		out.put(imageUsedIn, float64(len(cvi.Status.UsedInNamespaces)), cvi.Name)
	})
}

func (m *imageMetrics) image(out sink, object client.Object, phase string, status *v1alpha2.ImageStatus, storage, source string) {
	name := m.labels(object)
	m.put(out, object, phase, status.Conditions)
	out.put(m.info, 1, append(name, string(object.GetUID()), storage, status.Format, source)...)
	out.putText(m.stored, digits, status.Size.StoredBytes, name...)
	out.putText(m.unpacked, digits, status.Size.UnpackedBytes, name...)
	out.put(m.inUse, number(meta.IsStatusConditionTrue(status.Conditions, v1alpha2.ConditionInUse)), name...)
	putProgress(out, m.progress, status.Progress, name)
	putSpeed(out, m.speed, status.DownloadSpeed, name)
}
