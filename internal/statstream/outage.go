package statstream

import (
	"fmt"
	"time"
)

// A pod that is about to end fails a scrape or two. What goes on for longer is said: once for a revision, however many
// pods it has, and while it has any not again before sayAgain has passed, however often it comes and goes.
const (
	lastingFailures = 5 // scrapes of one pod in a row
	sayAgain        = time.Minute
)

// note keeps what became of a scrape. Only one goroutine at a time does so for a pod.
func (s *Scraper) note(p *scraped, err error) {
	switch {
	case s.cfg.Log == nil || p.down.Load():
	case err != nil:
		if p.failures.Add(1) >= lastingFailures && !p.of.out.Load() && s.begin(p) {
			s.cfg.Log.Warn("load reports of a pod can't be fetched", "revision", p.rev.String(), "address", p.addr.String(), "error", err,
				"remedy", fmt.Sprintf("if the pod is well, a NetworkPolicy keeps control away: it must admit control's namespace, rouse-system, to the stats port %d", p.addr.Port()))
		}
	default:
		p.failures.Store(0)
		if p.of.out.Load() && s.end(p.of) {
			s.cfg.Log.Info("load reports are fetched again", "revision", p.rev.String(), "address", p.addr.String())
		}
	}
}

// begin says whether an outage of a pod's revision begins that is to be said.
func (s *Scraper) begin(p *scraped) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if p.down.Load() || p.of.out.Load() || !p.of.said.IsZero() && now.Sub(p.of.said) < sayAgain {
		return false
	}
	p.of.said = now
	p.of.out.Store(true)
	return true
}

// end says whether an outage is over: none of the pods fails any more.
func (s *Scraper) end(g *group) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range g.pods {
		if p.failures.Load() >= lastingFailures {
			return false
		}
	}
	return g.out.Swap(false)
}
