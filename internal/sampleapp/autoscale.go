package sampleapp

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// The most that one request may ask for, so that a slip of the keyboard does not take the machine down.
const (
	mostMillis = 10 * 60 * 1000
	mostPrime  = 50_000_000
	mostBloat  = 4096 // MB
	pageSize   = 4096
)

// autoscale works as the query says, in this order: startup=MS answers no sooner than that long after the start of the
// process, as if it had needed it; bloat=MB allocates and touches memory and holds it for the rest of the request;
// prime=N looks for the largest prime up to N; cpu=MS computes for that long; sleep=MS waits.
func (a *app) autoscale(w http.ResponseWriter, r *http.Request) {
	job, err := parseJob(r.URL.Query())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	began := time.Now()
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if job.startup > 0 {
		pause(r.Context(), time.Until(time.Unix(0, a.exec.Load()).Add(job.startup)))
	}
	memory := bloat(job.bloat)
	if job.prime > 0 {
		fmt.Fprintf(w, "the largest prime up to %d is %d\n", job.prime, largestPrime(job.prime))
	}
	burn(job.cpu)
	pause(r.Context(), job.sleep)
	fmt.Fprintf(w, "%s: held %d MB, took %v\n", a.name, len(memory)>>20, time.Since(began).Round(time.Microsecond))
}

// job is what one request asks for.
type job struct {
	sleep, cpu, startup time.Duration
	prime, bloat        int
}

func parseJob(q url.Values) (job, error) {
	var j job
	var err error
	number := func(name string, most int) int {
		s := q.Get(name)
		if s == "" || err != nil {
			return 0
		}
		n, perr := strconv.Atoi(s)
		if perr != nil || n < 0 || n > most {
			err = fmt.Errorf("%s=%q: want a number from 0 to %d", name, s, most)
			return 0
		}
		return n
	}
	j.sleep = time.Duration(number("sleep", mostMillis)) * time.Millisecond
	j.cpu = time.Duration(number("cpu", mostMillis)) * time.Millisecond
	j.startup = time.Duration(number("startup", mostMillis)) * time.Millisecond
	j.prime = number("prime", mostPrime)
	j.bloat = number("bloat", mostBloat)
	return j, err
}

// bloat returns memory that is really there: every page has been written.
func bloat(mb int) []byte {
	b := make([]byte, mb<<20)
	for i := 0; i < len(b); i += pageSize {
		b[i] = 1
	}
	return b
}

// burn keeps a CPU busy.
func burn(d time.Duration) {
	for until := time.Now().Add(d); time.Now().Before(until); {
		largestPrime(1000)
	}
}

// largestPrime returns the largest prime that is not above n, 0 when there is none. It sieves odd numbers.
func largestPrime(n int) int {
	if n < 2 {
		return 0
	}
	largest := 2
	composite := make([]bool, n/2+1) // index i stands for 2i+1
	for p := 3; p <= n; p += 2 {
		if composite[p/2] {
			continue
		}
		largest = p
		if p > n/p {
			continue
		}
		for m := p * p; m <= n; m += 2 * p {
			composite[m/2] = true
		}
	}
	return largest
}
