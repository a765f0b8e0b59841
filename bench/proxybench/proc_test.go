//go:build linux

package proxybench

import (
	"os"
	"testing"
)

func TestParseRollup(t *testing.T) {
	const page = `561d1000-7ffe2000 ---p 00000000 00:00 0    [rollup]
Rss:               15416 kB
Pss:                9021 kB
Pss_Dirty:          8000 kB
Shared_Clean:       6400 kB
Private_Clean:       416 kB
Private_Dirty:      8600 kB
Referenced:        15416 kB
Anonymous:          8512 kB
`
	m, err := parseRollup([]byte(page))
	if want := (memory{RSS: 15416 << 10, Anon: 8512 << 10}); err != nil || m != want {
		t.Errorf("parseRollup = %+v, %v, want %+v", m, err, want)
	}
	for _, bad := range []string{"", "Rss: 1 kB\n", "Rss: x kB\n"} {
		if m, err := parseRollup([]byte(bad)); err == nil {
			t.Errorf("parseRollup(%q) = %+v, nil, want an error", bad, m)
		}
	}
}

func TestReadsItself(t *testing.T) {
	if m, err := readMemory(os.Getpid()); err != nil || m.RSS < 1<<20 || m.Anon > m.RSS {
		t.Errorf("readMemory = %+v, %v", m, err)
	}
}

func TestFindMetric(t *testing.T) {
	page := []byte("# TYPE go_memstats_mallocs_total counter\ngo_memstats_mallocs_total 1.5e+06\nother 2\n")
	if v, ok, err := findMetric(page, mallocsMetric); v != 1.5e6 || !ok || err != nil {
		t.Errorf("findMetric = %g, %t, %v", v, ok, err)
	}
	if _, ok, err := findMetric(page, "absent"); ok || err != nil {
		t.Errorf("findMetric(absent) = %t, %v", ok, err)
	}
	if _, ok, err := findMetric([]byte("m x\n"), "m"); ok || err == nil {
		t.Errorf("findMetric of nonsense = %t, %v", ok, err)
	}
}

func TestCheckEffective(t *testing.T) {
	const whole = `{"limit":100,"queue":1000,"timeouts":true,"metrics":true,"forwarded":true,"client_gone":true,"drain_minimum":"5s"}`
	if err := checkEffective([]byte(whole)); err != nil {
		t.Errorf("checkEffective(%s) = %v", whole, err)
	}
	for _, bad := range []string{
		`{}`, `not json`,
		`{"limit":0,"timeouts":true,"metrics":true,"forwarded":true,"client_gone":true,"drain_minimum":"5s"}`,
		`{"limit":1,"metrics":true,"forwarded":true,"client_gone":true,"drain_minimum":"5s"}`,
		`{"limit":1,"timeouts":true,"forwarded":true,"client_gone":true,"drain_minimum":"5s"}`,
		`{"limit":1,"timeouts":true,"metrics":true,"client_gone":true,"drain_minimum":"5s"}`,
		`{"limit":1,"timeouts":true,"metrics":true,"forwarded":true,"drain_minimum":"5s"}`,
		`{"limit":1,"timeouts":true,"metrics":true,"forwarded":true,"client_gone":true,"drain_minimum":"0s"}`,
	} {
		if err := checkEffective([]byte(bad)); err == nil {
			t.Errorf("checkEffective(%s) = nil, want a refusal", bad)
		}
	}
}
