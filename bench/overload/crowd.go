package overload

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"sync"
	"time"
)

// Outcomes of a request. Any other is a fault by name.
const (
	served  = "200"
	refused = "503"
	gaveUp  = "gave up"
)

// crowd sends requests at even distances, whatever becomes of them, and counts outcomes.
type crowd struct {
	addr   string
	rate   int
	client *http.Client

	mu       sync.Mutex
	sent     int            // guarded by mu
	outcomes map[string]int // guarded by mu
}

func newCrowd(addr string, o *options) *crowd {
	transport := &http.Transport{MaxIdleConnsPerHost: o.rate, IdleConnTimeout: 10 * time.Second}
	return &crowd{addr: addr, rate: o.rate, client: &http.Client{Transport: transport, Timeout: o.giveUp}, outcomes: map[string]int{}}
}

// run sends until ctx ends and returns when every request has its outcome. Clients give up, so that there are never
// more at once than come in that time.
func (c *crowd) run(ctx context.Context) {
	defer c.client.CloseIdleConnections()
	var flying sync.WaitGroup
	defer flying.Wait()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	began := time.Now()
	for n := 0; ; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		for due := int(time.Since(began).Seconds() * float64(c.rate)); n < due; n++ {
			c.count(&c.sent, "")
			flying.Go(func() { c.count(nil, c.one()) })
		}
	}
}

func (c *crowd) count(sent *int, outcome string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if sent != nil {
		*sent++
		return
	}
	c.outcomes[outcome]++
}

// one is the outcome of one request.
func (c *crowd) one() string {
	req, err := http.NewRequest(http.MethodGet, "http://"+c.addr+"/?sleep=500", nil)
	if err != nil {
		return err.Error()
	}
	req.Host = host
	res, err := c.client.Do(req)
	if err != nil {
		return failure(err)
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		return failure(err)
	}
	if res.StatusCode == http.StatusServiceUnavailable && res.Header.Get("Retry-After") == "" {
		return "503 without Retry-After"
	}
	return fmt.Sprint(res.StatusCode)
}

func failure(err error) string {
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return gaveUp
	}
	return err.Error()
}

// counts returns what was sent and what became of it so far.
func (c *crowd) counts() (sent int, outcomes map[string]int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sent, maps.Clone(c.outcomes)
}
