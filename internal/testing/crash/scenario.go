// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"

	"github.com/deckhouse/virtualization/internal/testing/apiserver"
)

const (
	// sideBySide is how many plays go on at once. Most of the time they wait.
	sideBySide = 6
	// patience is how long a play may take to come to its end, on a slow machine that
	// plays several at once.
	patience = 3 * time.Minute
	// calm is how long the program must not write for it to count as done.
	calm = 300 * time.Millisecond
)

// Scenario is something that users do, with all that has to come of it.
type Scenario struct {
	// Scheme knows all kinds.
	Scheme *runtime.Scheme
	// Setup registers the controllers of the program; it is called for each life.
	Setup func(mgr ctrl.Manager, play *Play, outside Outside) error
	// Given does what has to be there before; nothing happens to the program meanwhile.
	Given func(play *Play)
	// Act does what the user does and calls Reach where the end has to be the same.
	Act func(play *Play)
}

// Play is one performance of a scenario.
type Play struct {
	*testing.T
	// Client is the user's.
	Client client.Client
	// Namespace is the user's, Module the platform's own.
	Namespace, Module string
	// Range holds the addresses of the play's machines.
	Range string

	program   *program
	snapshots *snapshots
	// model is what the undisturbed play came to; nil in that one itself.
	model   map[string]map[string]string
	reached map[string]map[string]string
}

// Run plays the scenario undisturbed, and then with every fault.
func Run(t *testing.T, scenario Scenario) {
	t.Helper()
	stage := newStage(t, scenario)
	model := stage.play(t, fault{name: "undisturbed"}, nil)
	if t.Failed() {
		return
	}
	writes := model.program.writesSinceArmed()
	t.Logf("%d writes:\n%s", len(writes), strings.Join(writes, "\n"))
	limit := make(chan struct{}, sideBySide)
	var plays sync.WaitGroup
	for _, f := range faults(writes, *everyDeath) {
		limit <- struct{}{}
		plays.Go(func() {
			defer func() { <-limit }()
			stage.play(t, f, model.reached)
		})
	}
	plays.Wait()
}

// stage is what all plays of a scenario have in common.
type stage struct {
	scenario Scenario
	config   *rest.Config
	mapper   meta.RESTMapper
}

func newStage(t *testing.T, scenario Scenario) *stage {
	t.Helper()
	restConfig := apiserver.Config(t)
	httpClient, err := rest.HTTPClientFor(restConfig)
	if err != nil {
		t.Fatal(err)
	}
	mapper, err := apiutil.NewDynamicRESTMapper(restConfig, httpClient)
	if err != nil {
		t.Fatal(err)
	}
	return &stage{scenario: scenario, config: restConfig, mapper: mapper}
}

// plays counts the plays of the test binary: each has addresses of its own.
var plays struct {
	sync.Mutex
	count int
}

// play performs the scenario once.
func (s *stage) play(t *testing.T, f fault, model map[string]map[string]string) *Play {
	t.Helper()
	var play *Play
	t.Run(f.name, func(t *testing.T) {
		play = s.newPlay(t, f, model)
		play.program.start(t, f)
		if s.scenario.Given != nil {
			s.scenario.Given(play)
			play.waitCalm()
		}
		play.program.arm()
		s.scenario.Act(play)
		play.waitCalm()
		if f.at > 0 && !play.program.wasKilled() {
			// How often a write is tried again is not the same in every play.
			t.Logf("the program had less to write than %d times", f.at)
		}
	})
	return play
}

func (s *stage) newPlay(t *testing.T, f fault, model map[string]map[string]string) *Play {
	t.Helper()
	direct, err := client.New(s.config, client.Options{Scheme: s.scenario.Scheme, Mapper: s.mapper})
	if err != nil {
		t.Fatal(err)
	}
	plays.Lock()
	plays.count++
	number := plays.count
	plays.Unlock()
	addresses := fmt.Sprintf("10.%d.%d.", 100+number/256, number%256)
	p := &Play{
		T: t, Client: direct, Namespace: apiserver.Namespace(t, direct), Range: addresses + "0/24",
		model: model, reached: map[string]map[string]string{},
	}
	p.Module = p.Namespace + "-module"
	p.Create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: p.Module}})
	p.snapshots = &snapshots{client: direct, namespace: p.Namespace, addresses: addresses}
	// This comes after the program's end.
	t.Cleanup(func() {
		if err := p.snapshots.clear(context.Background()); err != nil {
			t.Errorf("clearing the stage: %v", err)
		}
	})
	p.program = &program{
		config: s.config, scheme: s.scenario.Scheme, mapper: s.mapper,
		view:  view{namespace: p.Namespace, lag: f.lag, copies: f.copies},
		setup: func(mgr ctrl.Manager, outside Outside) error { return s.scenario.Setup(mgr, p, outside) },
	}
	return p
}

// Create makes an object.
func (p *Play) Create(object client.Object) {
	p.Helper()
	if err := p.Client.Create(p.Context(), object); err != nil {
		p.Fatalf("creating %T %s: %v", object, object.GetName(), err)
	}
}

// Delete orders that an object goes.
func (p *Play) Delete(object client.Object) {
	p.Helper()
	if err := p.Client.Delete(p.Context(), object); err != nil {
		p.Fatalf("deleting %T %s: %v", object, object.GetName(), err)
	}
}

// Change changes an object as it is on the server, again when somebody was faster.
func (p *Play) Change(object client.Object, change func()) {
	p.Helper()
	p.eventually("the change", func() error {
		if err := p.Client.Get(p.Context(), client.ObjectKeyFromObject(object), object); err != nil {
			return err
		}
		change()
		return p.Client.Update(p.Context(), object)
	})
}

// Address is an address of the play's range.
func (p *Play) Address(number int) string { return p.snapshots.addresses + strconv.Itoa(number) }

// Await waits until check finds nothing wrong.
func (p *Play) Await(point string, check func() error) {
	p.Helper()
	p.eventually(point, check)
}

// Reach waits until check finds nothing wrong and, but in the undisturbed play, until
// everything is as it was there at the same point.
func (p *Play) Reach(point string, check func() error) {
	p.Helper()
	p.eventually(point, check)
	if p.model == nil {
		p.waitCalm()
		p.reached[point] = p.snapshot()
		p.snapshots.keepNames()
		return
	}
	p.eventually(point, func() error {
		if diff := cmp.Diff(p.model[point], p.snapshot()); diff != "" {
			return errors.New("it differs from the undisturbed play (-undisturbed +this):\n" + diff)
		}
		p.snapshots.keepNames()
		return nil
	})
}

func (p *Play) snapshot() map[string]string {
	p.Helper()
	objects, err := p.snapshots.take(p.Context())
	if err != nil {
		p.Fatal(err)
	}
	return objects
}

func (p *Play) eventually(point string, check func() error) {
	p.Helper()
	var err error
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if err = check(); err == nil {
			return
		}
	}
	writes, _ := p.program.writes()
	p.Fatalf("%s was not reached within %s: %v\nwritten:\n%s", point, patience, err, strings.Join(writes, "\n"))
}

// waitCalm waits until the program has nothing more to write.
func (p *Play) waitCalm() {
	p.Helper()
	p.eventually("calm", func() error {
		if _, last := p.program.writes(); time.Since(last) < calm {
			return errors.New("the program goes on writing")
		}
		return nil
	})
}
