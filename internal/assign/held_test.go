package assign

import (
	"slices"
	"testing"
	"testing/synctest"

	"github.com/rousehq/rouse/internal/config"
	"github.com/rousehq/rouse/internal/endpoint"
)

// TestHeldPodsAreNotTold: a pod that only its source can judge comes to activators when it is ready, and goes when it is held
// again; it has no slots meanwhile.
func TestHeldPodsAreNotTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, 1)
		defer b.close()
		settings := Settings{ContainerConcurrency: 1}
		settings.Dispatching.Probe.By = config.ProbeQueue
		b.srv.PutRevision(Revision{ID: b.id, Settings: settings})
		_, told, _ := b.activator("one")
		held, asked := ep("p", endpoint.Starting), ep("q", endpoint.Starting)
		held.Held = true
		for _, step := range []struct {
			what  string
			pods  []endpoint.Endpoint
			want  []string
			slots int // in p
		}{
			{"it starts", []endpoint.Endpoint{held}, nil, 0},
			{"beside one that is asked", []endpoint.Endpoint{held, asked}, []string{"q starting"}, 0},
			{"it is ready", []endpoint.Endpoint{ep("p", endpoint.Ready)}, []string{"p ready"}, 1},
			{"it is held again", []endpoint.Endpoint{held}, nil, 0},
			{"it is ready again", []endpoint.Endpoint{ep("p", endpoint.Ready)}, []string{"p ready"}, 1},
		} {
			b.srv.Endpoints(snapshot(b.id, 1, step.pods...))
			slots := b.slots(told)
			if !told.is(func() bool { return slices.Equal(told.pods[b.id], step.want) })() || slots != step.slots {
				t.Errorf("%s: the activator knows %v and has %d slots, want %v and %d", step.what, told.pods[b.id], slots, step.want, step.slots)
			}
		}
	})
}
