// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package removal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	virtv1 "kubevirt.io/api/core/v1"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

const (
	// controllerName is the Deployment of our controllers, and the value of their label app.
	controllerName = "virtualization-controller"
	// moduleName is that of the ModuleConfig.
	moduleName = "virtualization"
	// defaultInterval is how often the cluster is looked at. A removal takes a minute and there is one of them, so
	// watches would be more to get wrong for nothing.
	defaultInterval = 2 * time.Second
)

// Remover removes the engine.
type Remover struct {
	Client client.Client
	Logger *slog.Logger
	// Namespace is the module's.
	Namespace string
	// Timeout is for all stages together.
	Timeout time.Duration
	// Interval is how often the cluster is looked at; two seconds unless set.
	Interval time.Duration

	// enabled is what the ModuleConfig said when the removal began; nil before. A module can be removed for another
	// reason than that, for example when the cluster lacks what it requires: then it is true all the time.
	enabled *bool
}

// ErrRevoked is the end of a removal that nobody wants any more.
var ErrRevoked = errors.New("the module has been enabled again: the removal ends here, and what it has stopped comes back with the module")

// NewScheme knows the kinds that are read and deleted.
func NewScheme() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		corev1.AddToScheme, appsv1.AddToScheme, autoscalingv1.AddToScheme, virtv1.AddToScheme, cdiv1.AddToScheme,
		v1alpha2.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	return scheme, nil
}

// Run removes the engine and returns when it is gone. The error of a removal that takes longer than the timeout names
// all that is still there. It may be interrupted anywhere and run again.
func (r *Remover) Run(ctx context.Context) error {
	limited, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	var plan Plan
	var failure error
	err := wait.PollUntilContextCancel(limited, r.interval(), true, func(ctx context.Context) (bool, error) {
		next, err := r.step(ctx, plan)
		if next.Stage != "" {
			plan = next
		}
		// What is forbidden stays so; everything else may be better in a moment.
		if failure = err; err != nil && !apierrors.IsForbidden(err) {
			r.Logger.Warn("asking the API server again", slog.Any("error", err))
			// The last failure is told in the end.
			return false, nil
		}
		return plan.Stage == StageDone || plan.Stage == StageRevoked, err
	})
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("the removal was interrupted while %s", plan.Stage)
	case errors.Is(err, context.DeadlineExceeded):
		return errors.Join(plan.unfinished(r.Timeout), failure)
	case plan.Stage == StageRevoked:
		return ErrRevoked
	}
	return err
}

func (r *Remover) interval() time.Duration {
	if r.Interval > 0 {
		return r.Interval
	}
	return defaultInterval
}

// step looks at the cluster once and does what comes next.
func (r *Remover) step(ctx context.Context, last Plan) (Plan, error) {
	observed, err := r.observe(ctx)
	if err != nil {
		return Plan{}, err
	}
	if r.enabled == nil {
		r.enabled = &observed.Enabled
	}
	observed.Revoked = observed.Enabled && !*r.enabled
	if observed.Foreign != "" {
		r.Logger.Warn("leaving everything as it is: this KubeVirt is not the module's", slog.String("kubevirt", observed.Foreign))
	}
	plan := Decide(observed)
	if plan.Stage != last.Stage || len(plan.Remaining) != len(last.Remaining) {
		r.Logger.Info(string(plan.Stage), slog.Any("remaining", plan.Remaining))
	}
	return plan, r.apply(ctx, plan)
}

func (r *Remover) apply(ctx context.Context, plan Plan) error {
	var problems []error
	if plan.StopController {
		problems = append(problems, r.stopController(ctx))
	}
	for _, memory := range plan.Keep {
		problems = append(problems, r.keep(ctx, memory))
	}
	for _, object := range plan.Delete {
		// Another one of the same name may have come meanwhile, which has been seen by nobody.
		uid := object.GetUID()
		err := r.Client.Delete(ctx, object, client.Preconditions{UID: &uid}, client.PropagationPolicy(metav1.DeletePropagationBackground))
		if client.IgnoreNotFound(err) != nil && !apierrors.IsConflict(err) {
			problems = append(problems, fmt.Errorf("deleting %s: %w", client.ObjectKeyFromObject(object), err))
		}
	}
	return errors.Join(problems...)
}

func (r *Remover) stopController(ctx context.Context) error {
	deployment := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: r.Namespace, Name: controllerName}}
	none := &autoscalingv1.Scale{ObjectMeta: metav1.ObjectMeta{Namespace: r.Namespace, Name: controllerName}}
	if err := r.Client.SubResource("scale").Update(ctx, deployment, client.WithSubResourceBody(none)); err != nil {
		return fmt.Errorf("stopping %s: %w", controllerName, err)
	}
	return nil
}

// keep makes the user's machine another owner of a volume: what has two goes with the last of them.
func (r *Remover) keep(ctx context.Context, memory Memory) error {
	kept := memory.Claim.DeepCopy()
	kept.OwnerReferences = append(kept.OwnerReferences, memory.Owner)
	err := r.Client.Patch(ctx, kept, client.MergeFromWithOptions(memory.Claim, client.MergeFromWithOptimisticLock{}))
	if client.IgnoreNotFound(err) != nil && !apierrors.IsConflict(err) {
		return fmt.Errorf("keeping the volume %s/%s: %w", kept.Namespace, kept.Name, err)
	}
	return nil
}
