// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package shared

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/record"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
)

// AnnotationAppliedHash is on every applied child and holds the digest of what
// was applied. Together with a comparison of the fields it tells whether a write
// is needed: the digest notices fields that we no longer set, the comparison
// notices fields that somebody else changed.
const AnnotationAppliedHash = "virtualization.deckhouse.io/applied-hash"

// Executor carries plans out.
type Executor struct {
	Client   client.Client
	Recorder record.EventRecorder

	verified *verified
}

// NewExecutor makes the executor of a controller, whose events bear the name.
func NewExecutor(mgr ctrl.Manager, name string) Executor {
	return Executor{Client: mgr.GetClient(), Recorder: mgr.GetEventRecorderFor(name), verified: newVerified()}
}

// Execute writes the plan for object. Object must be a copy that the caller owns;
// its metadata is updated by the writes.
func Execute[T client.Object](ctx context.Context, e Executor, object T, plan Plan[T]) (ctrl.Result, error) {
	if plan.Finalizer == FinalizerAdd {
		if err := e.changeFinalizer(ctx, object, plan.FinalizerName, controllerutil.AddFinalizer); err != nil {
			return ctrl.Result{}, err
		}
	}
	if err := e.writeChildren(ctx, plan.Delete, plan.Apply, plan.Create); err != nil {
		return ctrl.Result{}, err
	}
	actionErr := runActions(ctx, plan.Actions)
	// The status is written even when an action failed: it is what tells the user
	// what is being waited for.
	if err := e.patchStatus(ctx, object, plan.Status); err != nil {
		return ctrl.Result{}, errors.Join(actionErr, err)
	}
	for _, event := range plan.Events {
		e.Recorder.Event(object, event.Type, event.Reason, event.Message)
	}
	if actionErr != nil {
		return ctrl.Result{}, actionErr
	}
	if plan.Finalizer == FinalizerRemove {
		if err := e.changeFinalizer(ctx, object, plan.FinalizerName, controllerutil.RemoveFinalizer); err != nil {
			return ctrl.Result{}, client.IgnoreNotFound(err)
		}
	}
	return ctrl.Result{RequeueAfter: plan.RequeueAfter}, nil
}

func runActions(ctx context.Context, actions []Action) error {
	for _, action := range actions {
		if err := action.Run(ctx); err != nil {
			return fmt.Errorf("%s: %w", action.Name, err)
		}
	}
	return nil
}

// changeFinalizer patches only the finalizers, guarded by the resource version:
// the list is replaced as a whole, so a write from an old cache could drop the
// finalizer of somebody else.
func (e Executor) changeFinalizer(ctx context.Context, object client.Object, name string, change func(client.Object, string) bool) error {
	before := object.DeepCopyObject().(client.Object)
	if !change(object, name) {
		return nil
	}
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	if err := e.Client.Patch(ctx, object, patch, client.FieldOwner(FieldManager)); err != nil {
		return fmt.Errorf("changing finalizer %s: %w", name, err)
	}
	return nil
}

func (e Executor) writeChildren(ctx context.Context, remove []client.Object, apply []Child, create []client.Object) error {
	for _, child := range remove {
		if err := e.delete(ctx, child); err != nil {
			return err
		}
	}
	for _, child := range apply {
		if err := e.apply(ctx, child); err != nil {
			return err
		}
	}
	for _, child := range create {
		// A namesake is either ours, made by a reconcile that the cache does not
		// show yet, or foreign; the next observation tells which.
		err := e.Client.Create(ctx, child, client.FieldOwner(FieldManager))
		if err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("creating %s: %w", describe(child), err)
		}
	}
	return nil
}

func (e Executor) delete(ctx context.Context, child client.Object) error {
	hurried, hurries := child.(atOnce)
	if child.GetDeletionTimestamp() != nil && !hurries {
		return nil
	}
	policy := metav1.DeletePropagationBackground
	if marked, ok := child.(orphan); ok {
		child, policy = marked.Object, metav1.DeletePropagationOrphan
	}
	opts := []client.DeleteOption{client.PropagationPolicy(policy)}
	if hurries {
		child = hurried.Object
		opts = append(opts, client.GracePeriodSeconds(0))
	}
	if uid := child.GetUID(); uid != "" {
		opts = append(opts, client.Preconditions{UID: &uid})
	}
	err := e.Client.Delete(ctx, child, opts...)
	// A conflict means that a namesake with another uid is there: not ours.
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return fmt.Errorf("deleting %s: %w", describe(child), err)
	}
	return nil
}

func (e Executor) apply(ctx context.Context, child Child) error {
	uid, found, known := e.verified.findingOf(child)
	if known && e.verified.has(uid, found) {
		return nil
	}
	want, err := e.toUnstructured(child.Want)
	if err != nil {
		return err
	}
	hash, err := contentHash(want)
	if err != nil {
		return fmt.Errorf("hashing %s: %w", describe(child.Want), err)
	}
	if done, err := e.isApplied(child, want, hash); err != nil || done {
		if done && known {
			e.verified.note(uid, found)
		}
		return err
	}
	annotations := want.GetAnnotations()
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[AnnotationAppliedHash] = hash
	want.SetAnnotations(annotations)
	err = e.Client.Apply(ctx, client.ApplyConfigurationFromUnstructured(want),
		client.FieldOwner(FieldManager), client.ForceOwnership)
	if err != nil {
		return fmt.Errorf("applying %s: %w", describe(child.Want), err)
	}
	return nil
}

// isApplied tells whether the observed child already is what is wanted.
func (e Executor) isApplied(child Child, want *unstructured.Unstructured, hash string) (bool, error) {
	if isNil(child.Have) || child.Have.GetAnnotations()[AnnotationAppliedHash] != hash {
		return false, nil
	}
	have, err := e.toUnstructured(child.Have)
	if err != nil {
		return false, err
	}
	return isSubset(want.Object, have.Object), nil
}

// toUnstructured drops what the server fills in, so that only wanted fields are
// applied.
func (e Executor) toUnstructured(object client.Object) (*unstructured.Unstructured, error) {
	gvk, err := apiutil.GVKForObject(object, e.Client.Scheme())
	if err != nil {
		return nil, fmt.Errorf("finding the kind of %T: %w", object, err)
	}
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
	if err != nil {
		return nil, fmt.Errorf("converting %s: %w", describe(object), err)
	}
	out := &unstructured.Unstructured{Object: content}
	out.SetGroupVersionKind(gvk)
	unstructured.RemoveNestedField(out.Object, "status")
	dropNulls(out.Object)
	return out, nil
}

// dropNulls removes the creationTimestamp: null that every embedded ObjectMeta
// brings along: applying it would claim a field that is nobody's to set.
func dropNulls(value any) {
	switch typed := value.(type) {
	case map[string]any:
		for key, item := range typed {
			if item == nil {
				delete(typed, key)
				continue
			}
			dropNulls(item)
		}
	case []any:
		for _, item := range typed {
			dropNulls(item)
		}
	}
}

// isSubset tells whether every field of want has the same value in have. Lists
// must have the same length: an element that the server added would otherwise
// be taken for ours.
func isSubset(want, have any) bool {
	switch typed := want.(type) {
	case map[string]any:
		other, ok := have.(map[string]any)
		// An empty map, such as resources: {}, is left out by some encoders.
		if !ok {
			return have == nil && len(typed) == 0
		}
		for key, item := range typed {
			if !isSubset(item, other[key]) {
				return false
			}
		}
		return true
	case []any:
		other, ok := have.([]any)
		if !ok || len(typed) != len(other) {
			return false
		}
		for i := range typed {
			if !isSubset(typed[i], other[i]) {
				return false
			}
		}
		return true
	default:
		return want == have
	}
}

func contentHash(object *unstructured.Unstructured) (string, error) {
	// encoding/json sorts map keys, so equal contents give equal bytes.
	raw, err := json.Marshal(object.Object)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:8]), nil
}

func (e Executor) patchStatus(ctx context.Context, object, want client.Object) error {
	if isNil(want) || equality.Semantic.DeepEqual(statusOf(object), statusOf(want)) {
		return nil
	}
	base := object.DeepCopyObject().(client.Object)
	patched := want.DeepCopyObject().(client.Object)
	// Only the status may differ: the metadata of the object moved on when its
	// finalizer was written.
	patched.SetResourceVersion(base.GetResourceVersion())
	patched.SetFinalizers(base.GetFinalizers())
	patched.SetManagedFields(base.GetManagedFields())
	patch := client.MergeFromWithOptions(base, client.MergeFromWithOptimisticLock{})
	err := e.Client.Status().Patch(ctx, patched, patch, client.FieldOwner(FieldManager))
	if apierrors.IsNotFound(err) {
		// Deleted since it was observed: there is no status to write any more.
		return nil
	}
	if err != nil {
		return fmt.Errorf("patching status: %w", err)
	}
	object.SetResourceVersion(patched.GetResourceVersion())
	return nil
}

// statusOf returns the Status field of a kind. Kinds are structs of ours, so one
// without the field is a mistake in the program.
func statusOf(object client.Object) any {
	return reflect.ValueOf(object).Elem().FieldByName("Status").Interface()
}

func isNil(object client.Object) bool {
	if object == nil {
		return true
	}
	value := reflect.ValueOf(object)
	return value.Kind() == reflect.Pointer && value.IsNil()
}

func describe(object client.Object) string {
	return fmt.Sprintf("%T %s", object, client.ObjectKeyFromObject(object))
}
