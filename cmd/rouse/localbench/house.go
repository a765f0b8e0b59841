package localbench

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"os"

	"github.com/rousehq/rouse/cmd/rouse/up"
)

// with runs a `rouse up` for the length of a function.
func with(ctx context.Context, o up.Options, manifests []byte, do func(context.Context, up.Handle) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ready := make(chan up.Handle, 1)
	o.Files, o.Stdin = []string{"-"}, bytes.NewReader(manifests)
	o.Listen, o.Admin, o.Environ, o.Stdout = "127.0.0.1:0", "127.0.0.1:0", os.Environ(), io.Discard
	o.OnReady = func(h up.Handle) { ready <- h }
	ended := make(chan error, 1)
	go func() { ended <- up.Run(ctx, o, nil) }()
	select {
	case h := <-ready:
		err := do(ctx, h)
		cancel()
		return errors.Join(err, <-ended)
	case err := <-ended:
		return cmp.Or(err, errors.New("rouse ended before it listened"))
	}
}
