// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package virtualdisk

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/deckhouse/virtualization/internal/controller/shared/filling"
	"github.com/deckhouse/virtualization/internal/importer/report"
)

func TestDecideTheInspection(t *testing.T) {
	found := func(bytes int64) *report.Termination {
		return &report.Termination{Result: &report.Result{Format: "qcow2", VirtualSizeBytes: bytes}}
	}
	failed := func(reason report.Reason) *report.Termination {
		return &report.Termination{Failure: &report.Failure{Reason: reason, Message: "what happened", Permanent: true}}
	}
	waits := func(reason string) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "importer", State: corev1.ContainerState{
				Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: "no route."},
			}}}
		}
	}
	failedOnce := func(state corev1.ContainerState, restarts int32) func(*corev1.Pod) {
		verdict, _ := failed("SourceUnreachable").Marshal()
		return func(p *corev1.Pod) {
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "importer", State: state, RestartCount: restarts,
				LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 1, Message: string(verdict)}}}}
		}
	}
	const looking = "The data source is being looked at: the size of the volume depends on it"
	runAll(t, []expectation{
		{
			name: "begins", observed: observe(web), writes: looks, message: looking,
			phase: "Provisioning", ready: "False/Provisioning", source: sourceIsReady, storage: storageIsReady, progress: "0%",
		},
		{
			name: "runs", observed: observe(web, inspector(nil)), message: looking,
			phase: "Provisioning", ready: "False/Provisioning", source: sourceIsReady, storage: storageIsReady, progress: "0%",
		},
		{
			name: "cannot be started", observed: observe(web, inspector(nil, waits("ErrImagePull"))), message: "ErrImagePull: no route",
			phase: "Pending", ready: "False/ImagePullFailed", source: sourceIsReady, storage: storageIsReady, event: "Warning ProvisioningFailed",
		},
		{
			name: "failed, tries again", event: "Warning ProvisioningFailed",
			observed: observe(web, inspector(nil, failedOnce(corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}}, 1))),
			phase:    "Failed", ready: "False/ProvisioningFailed", source: "False/SourceUnreachable", storage: storageIsReady,
			message: "spec.dataSource.http: what happened. It is tried again by itself",
		},
		{
			name: "failed, runs again", event: "Warning ProvisioningFailed",
			observed: observe(web, inspector(nil, failedOnce(corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}, 1))),
			phase:    "Failed", ready: "False/ProvisioningFailed", source: "False/SourceUnreachable", storage: storageIsReady,
			message: "spec.dataSource.http: what happened. Attempt 2 is running",
		},
		{
			name: "failed without a word", event: "Warning ProvisioningFailed", message: "the importer ended without an explanation",
			observed: observe(web, inspector(nil, func(p *corev1.Pod) {
				p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "importer", State: corev1.ContainerState{
					Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}}}}
			})),
			phase: "Failed", ready: "False/ProvisioningFailed", source: sourceIsReady, storage: storageIsReady,
		},
		{
			name: "is done", observed: observe(web, inspector(found(2<<30))), writes: begins, event: "Normal ProvisioningStarted",
			phase: "Provisioning", ready: "False/Provisioning", source: sourceIsReady, storage: storageIsReady, progress: "0%",
		},
		{
			name: "found an ISO", observed: observe(web, inspector(&report.Termination{Result: &report.Result{CDROM: true}})),
			phase: "Failed", ready: "False/DatasourceIsNotReady", source: "False/DatasourceNotSupported", storage: storageIsReady,
			message: "spec.dataSource: it is an ISO", event: "Warning ProvisioningFailed",
		},
		{
			name: "of another source", observed: observe(web, inspector(found(2<<30), func(p *corev1.Pod) { p.Annotations = nil })), writes: looksNoMore,
			phase: "Provisioning", ready: "False/Provisioning", source: sourceIsReady, storage: storageIsReady, progress: "0%", message: "has changed",
		},
		{
			name: "is being removed", observed: observe(web, inspector(nil, func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{Time: now} })),
			phase: "Provisioning", ready: "False/Provisioning", source: sourceIsReady, storage: storageIsReady, progress: "0%", message: "An earlier look",
			requeue: time.Minute,
		},
		{
			name: "is being removed on a dead node", observed: observe(web, inspector(nil, func(p *corev1.Pod) {
				p.Spec.NodeName, p.DeletionTimestamp = "node-2", &metav1.Time{Time: now.Add(-time.Minute)}
			})),
			phase: "Provisioning", ready: "False/Provisioning", source: sourceIsReady, storage: storageIsReady, progress: "0%",
			message: "Node node-2 does not tell that the importer has ended. Another importer takes over", writes: "delete atOnce",
		},
		{
			name: "refused the format", observed: observe(web, inspector(failed("FormatRefused"))), event: "Warning ProvisioningFailed",
			phase: "Failed", ready: "False/ProvisioningFailedTerminally", source: "False/FormatRefused", storage: storageIsReady,
			message: "spec.dataSource.http: what happened. The disk is made anew when spec.dataSource is changed",
		},
		{
			name: "found nothing", observed: observe(web, inspector(failed("SourceNotFound"))), event: "Warning ProvisioningFailed", requeue: 4 * time.Minute,
			phase: "Failed", ready: "False/ProvisioningFailed", source: "False/SourceNotFound", storage: storageIsReady,
			message: "spec.dataSource.http: what happened. The next attempt begins at 2026-11-22T12:04:00Z",
		},
		{
			name: "found nothing, its pause is over", event: "Warning ProvisioningFailed", writes: looksNoMore,
			observed: observe(web, inspector(failed("SourceNotFound")), func(o *Observed) { o.Now = now.Add(time.Hour) }),
			phase:    "Failed", ready: "False/ProvisioningFailed", source: "False/SourceNotFound", storage: storageIsReady,
		},
		{
			name: "was lost", event: "Warning ProvisioningFailed", writes: looksNoMore, message: "the importer was stopped by its node: Evicted",
			observed: observe(web, inspector(nil, func(p *corev1.Pod) { p.Status.Phase, p.Status.Reason = corev1.PodFailed, "Evicted" })),
			phase:    "Failed", ready: "False/ProvisioningFailed", source: sourceIsReady, storage: storageIsReady,
		},
		{
			name: "is over", observed: observe(web, inspector(found(2<<30)), fill(filling.Running)), writes: looksNoMore,
			phase: "Provisioning", ready: "False/Provisioning", source: sourceIsReady, progress: "0%",
		},
	})
}

func TestTheInspectionSetsTheSize(t *testing.T) {
	verdict := &report.Termination{Result: &report.Result{VirtualSizeBytes: 2<<30 + 512}}
	claim := decide(observe(web, inspector(verdict))).Create[0].(*corev1.PersistentVolumeClaim)
	if size := claim.Spec.Resources.Requests.Storage().String(); size != "2049Mi" {
		t.Errorf("size: %s", size)
	}
	if ref := claim.Spec.DataSourceRef; ref.Kind != "VirtualDisk" || ref.Name != "root" {
		t.Errorf("source: %+v", ref)
	}
	pod := decide(observe(web)).Create[0].(*corev1.Pod)
	if pod.Namespace != "d8v-module" || pod.Name != "d8v-inspect-"+testUID || pod.Spec.Containers[0].Args[0] != "inspect" {
		t.Errorf("pod: %s/%s %v", pod.Namespace, pod.Name, pod.Spec.Containers[0].Args)
	}
}

func TestChooseSize(t *testing.T) {
	size := func(text string) *resource.Quantity { return ptr.To(resource.MustParse(text)) }
	const field = "spec.persistentVolumeClaim.size"
	for _, tc := range []struct {
		name    string
		wanted  *resource.Quantity
		content content
		volume  corev1.PersistentVolumeMode
		want    string
		problem string
	}{
		{name: "image on a block device", content: content{Disk: 2 << 30}, volume: "Block", want: "2Gi"},
		{name: "image of an odd size", content: content{Disk: 2<<30 + 1}, volume: "Block", want: "2049Mi"},
		{name: "image on a file system", content: content{Disk: 2 << 30}, volume: "Filesystem", want: "2171Mi"},
		{name: "copy of a volume", content: content{Disk: 2 << 30, Volume: 3 << 30}, volume: "Block", want: "3Gi"},
		{name: "copy of a small volume", content: content{Disk: 2 << 30, Volume: 2 << 30}, volume: "Filesystem", want: "2171Mi"},
		{name: "wanted", wanted: size("10Gi"), content: content{Disk: 2 << 30}, volume: "Filesystem", want: "10Gi"},
		{name: "just enough", wanted: size("2Gi"), content: content{Disk: 2 << 30}, volume: "Block", want: "2Gi"},
		{name: "rounded up to be enough", wanted: size("2147483647"), content: content{Disk: 2 << 30}, volume: "Block", want: "2Gi"},
		{name: "decimal", wanted: size("1G"), volume: "Block", want: "954Mi"},
		{name: "upload", wanted: size("1Gi"), content: content{Upload: true}, volume: "Block", want: "1Gi"},
		{name: "blank without a size", volume: "Block", problem: field + ": a blank disk needs it; set it, for example to 10Gi"},
		{
			name: "upload without a size", content: content{Upload: true}, volume: "Block",
			problem: field + ": the size of an upload is known only when it is over; set it, for example to 10Gi",
		},
		{name: "nothing", wanted: size("0"), volume: "Block", problem: field + ": 0 is not positive; raise it"},
		{
			name: "too small", wanted: size("1Gi"), content: content{Disk: 2 << 30}, volume: "Block",
			problem: field + ": 1Gi is too small: the image unpacks to 2Gi, which makes 2Gi; set at least 2Gi or leave it out",
		},
		{
			name: "too small for the file system", wanted: size("2Gi"), content: content{Disk: 2 << 30}, volume: "Filesystem",
			problem: field + ": 2Gi is too small: the image unpacks to 2Gi and the file system of the volume takes 6 % more, " +
				"which makes 2171Mi; set at least 2171Mi or leave it out",
		},
		{
			name: "too small for the copy", wanted: size("2Gi"), content: content{Disk: 1 << 30, Volume: 3 << 30}, volume: "Block",
			problem: field + ": 2Gi is too small: the volume of the image has 3Gi and is copied as a whole, which makes 3Gi; set at least 3Gi or leave it out",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, problem := chooseSize(tc.wanted, tc.content, tc.volume, 0.06)
			if problem != tc.problem {
				t.Errorf("problem: got %q, want %q", problem, tc.problem)
			}
			if tc.problem == "" && got.String() != tc.want {
				t.Errorf("size: got %s, want %s", got.String(), tc.want)
			}
		})
	}
}

func TestSpeedAndUploadAreShown(t *testing.T) {
	moving := fill(filling.Running, func(f *filling.Filling) {
		f.Percent, f.Speed = 10, &filling.Speed{Current: 90 << 20, Average: 85<<20 + 200<<10}
	})
	o := observe(web, sized("2Gi"), moving)
	status := decide(o).Status
	if speed := status.Status.DownloadSpeed; speed.Avg != "85.2Mi/s" || speed.Current != "90Mi/s" || speed.CurrentBytes != "94371840" {
		t.Errorf("speed: %+v", speed)
	}
	// A write for every report would tell nobody anything.
	o.Disk, o.Filling.Speed = status, &filling.Speed{Current: 5, Average: 5}
	if speed := decide(o).Status.Status.DownloadSpeed; speed.Current != "90Mi/s" {
		t.Errorf("speed: %+v", speed)
	}
	o.Filling.Percent = 11
	if speed := decide(o).Status.Status.DownloadSpeed; speed.Current != "5/s" {
		t.Errorf("speed: %+v", speed)
	}
	o.Filling.Upload = &filling.Upload{InCluster: "http://in/upload/t", External: "https://out/upload/t"}
	if got := decide(o).Status.Status; got.ImageUploadURLs.External != "https://out/upload/t" || got.UploadCommand != "curl -T FILE https://out/upload/t" {
		t.Errorf("upload: %+v, %s", got.ImageUploadURLs, got.UploadCommand)
	}
	done := observe(web, sized("2Gi"), fill(filling.Done), claim("2Gi", "2Gi"))
	done.Disk.Status.ImageUploadURLs = status.Status.ImageUploadURLs
	if got := decide(done).Status.Status; got.ImageUploadURLs != nil || got.UploadCommand != "" {
		t.Errorf("upload: %+v", got.ImageUploadURLs)
	}
	done.Claim.Annotations = map[string]string{"cdi.kubevirt.io/cloneType": "snapshot"}
	const message = "The disk can be used; its volume was copied: made from a snapshot by the storage (snapshot)"
	if got := conditionMessage(decide(done).Status.Status.Conditions, "Ready"); got != message {
		t.Errorf("message: %q", got)
	}
}
