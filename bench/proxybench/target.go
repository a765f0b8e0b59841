//go:build linux

package proxybench

import (
	"context"
	"net/netip"
	"time"
)

// proxied makes a contest a [target]. Where arenas are not isolated, contenders want the same ports, and each runs
// during its own turns only.
type proxied struct{ *contest }

func (p proxied) row() Row {
	m := p.memory
	return Row{Contender: p.Name, Version: p.Version, Binary: p.Hash, RSS: m.rss, PerParked: m.perParked, PerIdle: m.perIdle, AllocsPer: m.allocs, StreamedAllocsPer: m.streamed}
}

func (p proxied) dial(addr netip.AddrPort) (int, error) { return p.arena.dial(addr) }

func (p proxied) begin(ctx context.Context) error {
	if p.proxy != nil {
		return nil
	}
	return p.up(ctx)
}

func (p proxied) end() {
	if !p.arena.isolated {
		p.down()
	}
}

func (p proxied) cpu() (time.Duration, error) { return p.spent() }
