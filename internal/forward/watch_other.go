//go:build !linux

package forward

// watch is not available: a client that leaves is noticed by the goroutine that reads ahead.
type watch struct{}

func newWatch() *watch        { return &watch{} }
func (w *watch) add(*conn)    {}
func (w *watch) remove(*conn) {}
func (w *watch) close()       {}
