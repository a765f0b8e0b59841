//go:build !linux

package early

// Take has nothing to give here.
func Take(uint16) (socket int, ok bool) { return 0, false }
