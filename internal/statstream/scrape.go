package statstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rousehq/rouse/internal/identity"
	"github.com/rousehq/rouse/metrics"
)

// MetricsPort is where Knative's queue-proxy answers scrapes.
const MetricsPort = 9090

// ScraperConfig says how to scrape. The zero value of a field means its default.
type ScraperConfig struct {
	// Sink gets every report. Required.
	Sink Sink
	// Log gets a line when the pods of a revision begin to fail lastingly and when they work again; nil for none.
	Log *slog.Logger
	// HTTP fetches; nil for a client of its own, whose connections are kept.
	HTTP *http.Client
	// Period is how often each pod is scraped. Default 1 s, as Knative does.
	Period time.Duration
	// Timeout bounds one scrape. Default 3 s, as Knative's.
	Timeout time.Duration
	// Workers is how many scrapes run at the same time. Default 64.
	Workers int
}

// Default returns the configuration with every zero field replaced by its default.
func (c ScraperConfig) Default() ScraperConfig {
	if c.Period == 0 {
		c.Period = time.Second
	}
	if c.Timeout == 0 {
		c.Timeout = 3 * time.Second
	}
	if c.Workers == 0 {
		c.Workers = 64
	}
	if c.HTTP == nil {
		c.HTTP = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1, IdleConnTimeout: 30 * time.Second, DisableCompression: true}}
	}
	return c
}

// Validate names every field that is out of range.
func (c ScraperConfig) Validate() error {
	var errs []error
	if c.Sink == nil {
		errs = append(errs, errors.New("statstream: Sink must be set"))
	}
	if c.Period < scrapeSlots*time.Millisecond {
		errs = append(errs, fmt.Errorf("statstream: Period must be at least %s", scrapeSlots*time.Millisecond))
	}
	if c.Timeout <= 0 {
		errs = append(errs, errors.New("statstream: Timeout must be positive"))
	}
	if c.Workers < 1 {
		errs = append(errs, errors.New("statstream: Workers must be at least 1"))
	}
	return errors.Join(errs...)
}

// The shape of scraping.
const (
	scrapeSlots = 20   // parts of a period over which pods are spread
	scrapeMost  = 4096 // bytes of a report; Knative's are at most 336
)

// Scraper fetches the reports of pods that push none: those with Knative's own queue-proxy. All pods are asked, none are
// sampled. A pod whose last scrape is not through, or that finds all workers busy, is left out of a round. Make one with
// [NewScraper]; it is safe for concurrent use.
type Scraper struct {
	cfg  ScraperConfig
	jobs chan *scraped

	mu   sync.Mutex
	revs map[identity.Revision]*group // those with pods; guarded by mu

	fetched, failed, skipped atomic.Uint64
}

// group is the pods of one revision.
type group struct {
	pods []*scraped  // guarded by Scraper.mu
	said time.Time   // when an outage was said last; guarded by Scraper.mu
	out  atomic.Bool // an outage was said, and not its end; written with Scraper.mu held
}

// scraped is one pod.
type scraped struct {
	rev      identity.Revision
	of       *group
	pod      identity.Pod
	addr     netip.AddrPort // where it is asked
	url      string
	slot     uint32
	busy     atomic.Bool
	down     atomic.Bool   // not wanted any more
	failures atomic.Uint32 // in a row
}

// NewScraper checks cfg and returns a scraper without pods.
func NewScraper(cfg ScraperConfig) (*Scraper, error) {
	cfg = cfg.Default()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Scraper{cfg: cfg, jobs: make(chan *scraped, cfg.Workers), revs: make(map[identity.Revision]*group)}, nil
}

// Put replaces the pods that are scraped for a revision; none ends it. Port is where they answer, [MetricsPort] for
// Knative's; 0 takes each pod's own address.
func (s *Scraper) Put(rev identity.Revision, pods []identity.Pod, port uint16) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.revs[rev]
	if g == nil {
		g = &group{}
	}
	old := make(map[string]*scraped)
	for _, p := range g.pods {
		p.down.Store(true)
		old[p.pod.UID] = p
	}
	if g.pods = nil; len(pods) == 0 {
		delete(s.revs, rev)
		return
	}
	s.revs[rev] = g
	for _, pod := range pods {
		at := pod.Addr
		if port != 0 {
			at = netip.AddrPortFrom(pod.Addr.Addr(), port)
		}
		p := old[pod.UID]
		if p == nil || p.pod != pod {
			p = &scraped{rev: rev, of: g, pod: pod, addr: at, url: "http://" + at.String() + "/metrics", slot: spread(pod.UID)}
		}
		p.down.Store(false)
		g.pods = append(g.pods, p)
	}
}

// spread gives a pod its part of the period (FNV-1a).
func spread(uid string) uint32 {
	h := uint32(2166136261)
	for i := range len(uid) {
		h = (h ^ uint32(uid[i])) * 16777619
	}
	return h % scrapeSlots
}

// ScraperCounts is what a scraper has done so far.
type ScraperCounts struct {
	Fetched uint64
	Failed  uint64
	Skipped uint64 // left out of a round
}

// Counts returns what the scraper has done so far.
func (s *Scraper) Counts() ScraperCounts {
	return ScraperCounts{Fetched: s.fetched.Load(), Failed: s.failed.Load(), Skipped: s.skipped.Load()}
}

// Run scrapes until ctx ends, and returns nil once all scrapes have ended.
func (s *Scraper) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer s.cfg.HTTP.CloseIdleConnections()
	defer wg.Wait()
	for range s.cfg.Workers {
		wg.Go(func() { s.work(ctx) })
	}
	tick := time.NewTicker(s.cfg.Period / scrapeSlots)
	defer tick.Stop()
	for slot := uint32(0); ; slot = (slot + 1) % scrapeSlots {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		for _, p := range s.due(slot) {
			s.hand(p)
		}
	}
}

func (s *Scraper) due(slot uint32) []*scraped {
	s.mu.Lock()
	defer s.mu.Unlock()
	var due []*scraped
	for _, g := range s.revs {
		for _, p := range g.pods {
			if p.slot == slot {
				due = append(due, p)
			}
		}
	}
	return due
}

func (s *Scraper) hand(p *scraped) {
	if p.busy.Swap(true) {
		s.skipped.Add(1)
		return
	}
	select {
	case s.jobs <- p:
	default:
		p.busy.Store(false)
		s.skipped.Add(1)
	}
}

func (s *Scraper) work(ctx context.Context) {
	var dec metrics.Decoder
	for {
		select {
		case <-ctx.Done():
			return
		case p := <-s.jobs:
			m, err := s.fetch(ctx, &dec, p)
			if err != nil && ctx.Err() != nil {
				return // it was cut off
			}
			s.note(p, err)
			p.busy.Store(false)
			switch {
			case err != nil:
				s.failed.Add(1)
			case !p.down.Load():
				s.fetched.Add(1)
				s.cfg.Sink.Report(m)
			}
		}
	}
}

// fetch asks one pod. Its report is put under the pod's UID, under which the endpoints know it.
func (s *Scraper) fetch(ctx context.Context, dec *metrics.Decoder, p *scraped) (metrics.Message, error) {
	m := metrics.Message{Namespace: p.rev.Namespace, Name: p.rev.Name}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url, nil)
	if err != nil {
		return m, err
	}
	resp, err := s.cfg.HTTP.Do(req)
	if err != nil {
		return m, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return m, fmt.Errorf("statstream: scrape %s: status %d", p.url, resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, scrapeMost+1))
	if err != nil {
		return m, err
	}
	if len(body) > scrapeMost {
		return m, fmt.Errorf("statstream: scrape %s: more than %d bytes", p.url, scrapeMost)
	}
	if err := dec.Stat(body, &m.Stat); err != nil {
		return m, err
	}
	if !sane(&m.Stat) {
		return m, fmt.Errorf("statstream: scrape %s: impossible figures", p.url)
	}
	m.Stat.PodName = p.pod.UID
	return m, nil
}
