//go:build !linux

package forward

const rawIO = false

func (s *sock) tryRead(uintptr) bool  { return true }
func (s *sock) tryWrite(uintptr) bool { return true }
func (s *sock) tryPeek(uintptr) bool  { return true }
func (s *sock) acked() (int64, bool)  { return 0, false }
