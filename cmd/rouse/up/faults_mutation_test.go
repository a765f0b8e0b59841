package up

import (
	"testing"
	"time"
)

// mutation switches off what the promise rests on. The suite that does not notice proves nothing.
type mutation struct {
	name   string
	apply  func(*Options)
	caught []siege // these must see it
}

func mutations() []mutation {
	noDrain := func(o *Options) {
		o.Grace = time.Nanosecond
		o.Environ = append(o.Environ, "ROUSE_DRAIN_MINIMUM=1ns", "ROUSE_DRAIN_MAXIMUM=1ns")
	}
	noRetry := func(o *Options) { o.tries = 1 }
	return []mutation{
		{"no drain", noDrain, []siege{
			{disaster: stopPod, mode: "none"}, {disaster: stopPod, mode: "inprocess"}, {disaster: stopPod, mode: "process"},
			{disaster: stopProxy, mode: "process"},
		}},
		{"no retry", noRetry, []siege{
			{disaster: killPod, mode: "none"}, {disaster: killPod, mode: "inprocess"}, {disaster: killPod, mode: "process"},
			{disaster: killProxy, mode: "process"},
		}},
	}
}

// mutationRounds bounds how long a mutation may go unnoticed.
const mutationRounds = 200

// TestFaultSuiteNoticesMutations runs the suite with drain and with retries switched off: it must fail.
func TestFaultSuiteNoticesMutations(t *testing.T) {
	t.Parallel()
	for _, m := range mutations() {
		for _, s := range m.caught {
			s.most, s.change = mutationRounds, m.apply
			s.outlook = func(sofar []outcome) bool { return len(violations(s.disaster, sofar, nil)) > 0 }
			t.Run(m.name+", "+s.String(), func(t *testing.T) {
				t.Parallel()
				all, ledger := s.lay(t)
				found := violations(s.disaster, all, ledger)
				if len(found) == 0 {
					t.Errorf("%d requests over %d rounds, and nothing was noticed", len(all), s.most)
					return
				}
				t.Logf("noticed %d times, first: %s", len(found), found[0])
			})
		}
	}
}
