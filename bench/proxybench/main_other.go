//go:build !linux

package proxybench

import (
	"context"
	"errors"
	"io"
)

// Main refuses: CPU time per request, network namespaces and pinning need Linux.
func Main(context.Context, []string, io.Writer, io.Writer) error {
	return errors.New("the proxy benchmark measures with /proc and network namespaces, and runs on Linux only")
}
