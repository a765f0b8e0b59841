//go:build !linux

package parked

import (
	"context"
	"errors"
	"io"
)

// Main refuses: the memory of a process is read from /proc.
func Main(context.Context, []string, io.Writer, io.Writer) error {
	return errors.New("the benchmark of parked requests reads /proc, and runs on Linux only")
}
