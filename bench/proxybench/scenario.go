//go:build linux

package proxybench

import (
	"fmt"
	"slices"

	"github.com/rousehq/rouse/bench/load"
)

// scenario is one shape of load.
type scenario struct {
	Name    string
	Text    string // for people
	request []byte
	conns   int
	rate    int // 0: closed loop
}

func scenarios() []scenario {
	small := load.Get("/")
	return []scenario{
		{"c1", "GET 100 B, 1 connection", small, 1, 0},
		{"c64", "GET 100 B, 64 connections", small, 64, 0},
		{"c512", "GET 100 B, 512 connections", small, 512, 0},
		{"post1k", "POST 1 KiB, 64 connections", load.Post("/", 1<<10), 64, 0},
		{"get64k", "GET 64 KiB, 64 connections", load.Get("/64k"), 64, 0},
		{"sleep10ms", "backend sleeps 10 ms, 256 connections", load.Get("/sleep"), 256, 0},
		{"open6000", "6,000/s open loop, 64 connections", small, 64, 6000},
	}
}

// chosenScenarios are those that names lists, or all.
func chosenScenarios(names []string) ([]scenario, error) {
	all := scenarios()
	for _, n := range names {
		if !slices.ContainsFunc(all, func(s scenario) bool { return s.Name == n }) {
			return nil, fmt.Errorf("--scenarios: there is no %q", n)
		}
	}
	if len(names) == 0 {
		return all, nil
	}
	return slices.DeleteFunc(all, func(s scenario) bool { return !slices.Contains(names, s.Name) }), nil
}
