// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package populator

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/controller/shared/filling"
	"github.com/deckhouse/virtualization/internal/controller/shared/importerpod"
	"github.com/deckhouse/virtualization/internal/dvcr/token"
	"github.com/deckhouse/virtualization/internal/importer/reportserver"
)

// Issuer signs credentials.
type Issuer interface {
	Issue(subject string, access []token.Access, ttl time.Duration) (string, error)
}

// Reports holds the newest report of each importer.
type Reports interface {
	Latest(subject token.Subject) (reportserver.Report, bool)
	Forget(subject token.Subject)
}

// Registry is what the controller does in DVCR itself.
type Registry interface {
	// Delete removes the image; one that is not there is no error.
	Delete(ctx context.Context, reference string) error
}

// Checkpoints keeps for an importer how far its predecessor has come.
type Checkpoints interface {
	Save(ctx context.Context, secret client.ObjectKey, checkpoint []byte) (time.Duration, error)
	Forget(secret client.ObjectKey)
}

// Dependencies are what a reconcile needs besides the API server.
type Dependencies struct {
	Settings        importerpod.Settings
	RegistryAddress string
	Issuer          Issuer
	Registry        Registry
	Reports         Reports
	Clock           clock.PassiveClock
}

// Reconciler fills claims.
type Reconciler struct {
	shared.Executor
	Dependencies
	Checkpoints Checkpoints

	// live reads from the server what the cache may not show yet.
	live  client.Reader
	inner shared.Reconciler[*corev1.PersistentVolumeClaim, Observed]
}

// newReconciler completes a reconciler.
func newReconciler(executor shared.Executor, live client.Reader, dependencies Dependencies) *Reconciler {
	r := &Reconciler{
		Executor: executor, Dependencies: dependencies, live: live,
		Checkpoints: &importerpod.Checkpoints{Client: executor.Client, Clock: dependencies.Clock},
	}
	r.inner = shared.Reconciler[*corev1.PersistentVolumeClaim, Observed]{
		Executor: executor, New: func() *corev1.PersistentVolumeClaim { return &corev1.PersistentVolumeClaim{} },
		Observe: r.observe, Decide: r.plan,
	}
	return r
}

// Reconcile implements reconcile.Reconciler.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	if err := r.sweep(ctx, req.NamespacedName); err != nil {
		return ctrl.Result{}, err
	}
	result, err := r.inner.Reconcile(ctx, req)
	refusal := shared.RefusalOf(err)
	if refusal == nil {
		return result, err
	}
	// The API server does not let us have a child: the same observation is decided
	// about once more, with that known.
	again := shared.Reconciler[*corev1.PersistentVolumeClaim, Observed]{
		Executor: r.Executor, New: r.inner.New, Decide: r.plan,
		Observe: func(ctx context.Context, claim *corev1.PersistentVolumeClaim) (Observed, error) {
			o, err := r.observe(ctx, claim)
			o.Refusal = refusal
			return o, err
		},
	}
	return again.Reconcile(ctx, req)
}

// sweep removes what was made for a claim that is gone. The finalizer sees to that,
// unless somebody took it away.
func (r *Reconciler) sweep(ctx context.Context, key client.ObjectKey) error {
	claim := &corev1.PersistentVolumeClaim{}
	if _, err := shared.Get(ctx, r.Client, key, claim); err != nil {
		return err
	}
	primes, pods := &corev1.PersistentVolumeClaimList{}, &corev1.PodList{}
	for _, list := range []client.ObjectList{primes, pods} {
		err := r.Client.List(ctx, list, client.InNamespace(r.Settings.Namespace), client.MatchingFields{indexTarget: key.String()})
		if err != nil {
			return fmt.Errorf("listing what fills %s: %w", key, err)
		}
	}
	for i := range primes.Items {
		if err := r.sweepOne(ctx, claim, &primes.Items[i], func(d *draft) { d.Prime = &primes.Items[i] }); err != nil {
			return err
		}
	}
	for i := range pods.Items {
		if err := r.sweepOne(ctx, claim, &pods.Items[i], func(d *draft) { d.Pod = &pods.Items[i] }); err != nil {
			return err
		}
	}
	return nil
}

// sweepOne removes the prime or the importer, unless it is for the claim that is there.
func (r *Reconciler) sweepOne(ctx context.Context, there *corev1.PersistentVolumeClaim, object client.Object, put func(*draft)) error {
	subject, _ := importerpod.Owner(object)
	if subject.UID == string(there.UID) {
		return nil
	}
	// The cache of claims may be behind that of pods, which would cost a claim all
	// that was written so far.
	now := &corev1.PersistentVolumeClaim{}
	if _, err := shared.Get(ctx, r.live, client.ObjectKey{Namespace: subject.Namespace, Name: subject.Name}, now); err != nil || subject.UID == string(now.UID) {
		return err
	}
	gone := &corev1.PersistentVolumeClaim{}
	gone.Namespace, gone.Name, gone.UID = subject.Namespace, subject.Name, types.UID(subject.UID)
	d := newDraft(Observed{Claim: gone, Settings: r.Settings})
	put(d)
	d.removeImporter()
	if d.Prime != nil {
		d.removePrime()
	}
	_, err := shared.Execute(ctx, r.Executor, gone, shared.Plan[*corev1.PersistentVolumeClaim]{Delete: d.out.Delete})
	return err
}

func (r *Reconciler) observe(ctx context.Context, claim *corev1.PersistentVolumeClaim) (Observed, error) {
	o := Observed{
		Claim: claim, Now: r.Clock.Now(), Overhead: filling.DefaultOverhead,
		Settings: r.Settings.Frozen(), RegistryAddress: r.RegistryAddress,
	}
	if err := r.observeChildren(ctx, &o); err != nil {
		return o, err
	}
	if latest, known := r.Reports.Latest(filling.SubjectOf(claim)); known {
		o.Report = &latest
	}
	if claim.DeletionTimestamp != nil || claim.Spec.VolumeName != "" {
		return o, nil
	}
	var err error
	if o.Source, err = (resolver{r.Client}).resolve(ctx, claim); err != nil {
		return o, err
	}
	if err := r.observeClass(ctx, &o); err != nil {
		return o, err
	}
	if err := r.observeUpload(ctx, &o); err != nil {
		return o, err
	}
	if o.Tolerations, err = filling.Tolerations(ctx, r.Client, claim); err != nil {
		return o, err
	}
	o.Credential, err = r.credential(claim, o.Source, o.Now)
	return o, err
}

func (r *Reconciler) observeChildren(ctx context.Context, o *Observed) error {
	prime, pod := &corev1.PersistentVolumeClaim{}, &corev1.Pod{}
	found, err := shared.Get(ctx, r.Client, client.ObjectKey{Namespace: r.Settings.Namespace, Name: primeName(o.Claim.UID)}, prime)
	if err != nil {
		return err
	}
	if found {
		o.Prime = prime
	}
	key := client.ObjectKey{Namespace: r.Settings.Namespace, Name: importerName(o.Claim.UID)}
	found, err = shared.Get(ctx, r.Client, key, pod)
	if err == nil && !found && looksGone(o.Claim) {
		// The cache of claims may be ahead of that of Pods: an importer that was started
		// a moment ago would be started, and counted, once more.
		found, err = shared.Get(ctx, r.live, key, pod)
	}
	if err != nil {
		return err
	}
	if found && importerpod.IsFor(pod, filling.SubjectOf(o.Claim)) {
		o.Pod = pod
	}
	if o.Volume, err = r.observeVolume(ctx, o); err != nil || !looksForeign(o) {
		return err
	}
	// The cache of claims may be ahead of that of volumes: a volume that was handed
	// over a moment ago would be taken for somebody else's.
	now := &corev1.PersistentVolume{}
	if found, err = shared.Get(ctx, r.live, client.ObjectKey{Name: o.Claim.Spec.VolumeName}, now); found {
		o.Volume = now
	}
	return err
}

// looksGone tells that an importer that is not there should be there.
func looksGone(claim *corev1.PersistentVolumeClaim) bool {
	return claim.DeletionTimestamp == nil && claim.Spec.VolumeName == "" &&
		filling.ParsePopulation(claim).State == filling.PopulationRunning
}

// looksForeign tells that the claim is bound to a volume that does not say that it was
// filled for it.
func looksForeign(o *Observed) bool {
	return o.Claim.DeletionTimestamp == nil && o.Claim.Spec.VolumeName != "" && o.Claim.Status.Phase == corev1.ClaimBound &&
		(o.Volume == nil || o.Volume.Annotations[annotationPopulated] != string(o.Claim.UID))
}

// observeVolume finds the volume by either end of the bond: during the handover the
// claim does not know it yet.
func (r *Reconciler) observeVolume(ctx context.Context, o *Observed) (*corev1.PersistentVolume, error) {
	volumes := &corev1.PersistentVolumeList{}
	if err := r.Client.List(ctx, volumes, client.MatchingFields{indexVolumeClaim: string(o.Claim.UID)}); err != nil {
		return nil, fmt.Errorf("listing the volumes of the claim: %w", err)
	}
	for i := range volumes.Items {
		if name := o.Claim.Spec.VolumeName; name == "" || name == volumes.Items[i].Name {
			return volumes.Items[i].DeepCopy(), nil
		}
	}
	name := o.Claim.Spec.VolumeName
	if name == "" && o.Prime != nil {
		name = o.Prime.Spec.VolumeName
	}
	if name == "" {
		return nil, nil
	}
	volume := &corev1.PersistentVolume{}
	found, err := shared.Get(ctx, r.Client, client.ObjectKey{Name: name}, volume)
	if err != nil || !found {
		return nil, err
	}
	return volume, nil
}

func (r *Reconciler) observeClass(ctx context.Context, o *Observed) error {
	name := ptr.Deref(o.Claim.Spec.StorageClassName, "")
	if name == "" {
		return nil
	}
	class := &storagev1.StorageClass{}
	found, err := shared.Get(ctx, r.Client, client.ObjectKey{Name: name}, class)
	if err != nil || !found {
		return err
	}
	o.Class = class
	o.Overhead, err = filling.Overhead(ctx, r.Client, name)
	return err
}

// observeUpload keeps the address of an upload that is open: it was told to the user.
func (r *Reconciler) observeUpload(ctx context.Context, o *Observed) error {
	if o.Source.Upload == nil {
		return nil
	}
	secret := &corev1.Secret{}
	key := client.ObjectKey{Namespace: r.Settings.Namespace, Name: importerName(o.Claim.UID)}
	found, err := shared.Get(ctx, r.Client, key, secret)
	if err != nil {
		return err
	}
	if found {
		o.Upload = importerpod.UploadOf(secret, o.Claim.UID)
	}
	if o.Pod == nil && (o.Upload == nil || !o.Now.Before(o.Upload.ExpiresAt)) {
		o.Upload = ptr.To(importerpod.NewUpload(o.Claim.UID, o.Now))
	}
	return r.observeWayIn(ctx, o)
}

// observeWayIn looks at what leads to the upload, so that it is written only when it
// has to change.
func (r *Reconciler) observeWayIn(ctx context.Context, o *Observed) error {
	key := client.ObjectKey{Namespace: r.Settings.Namespace, Name: importerpod.UploadName(o.Claim.UID)}
	service, ingress := &corev1.Service{}, &networkingv1.Ingress{}
	found, err := shared.Get(ctx, r.Client, key, service)
	if err != nil {
		return err
	}
	if found {
		o.Service = service
	}
	if found, err = shared.Get(ctx, r.Client, key, ingress); found {
		o.Ingress = ingress
	}
	return err
}

// credential makes a token for one fill: it reads the source, and uses the claim's
// own place for what has to be staged.
func (r *Reconciler) credential(claim *corev1.PersistentVolumeClaim, source Source, now time.Time) (importerpod.Credential, error) {
	if source.Problem != nil {
		return importerpod.Credential{}, nil
	}
	var access []token.Access
	if source.Repository != "" {
		access = append(access, token.Repository(source.Repository, token.ActionPull))
	} else if place := stageOf(claim, r.RegistryAddress); place.Repository != "" {
		access = append(access, token.Repository(place.Repository, token.ActionPull, token.ActionPush, token.ActionDelete))
	}
	signed, err := r.Issuer.Issue(filling.SubjectOf(claim).String(), access, CredentialTTL)
	if err != nil {
		return importerpod.Credential{}, fmt.Errorf("issuing the importer's token: %w", err)
	}
	return importerpod.Credential{Token: signed, ExpiresAt: now.Add(CredentialTTL)}, nil
}
