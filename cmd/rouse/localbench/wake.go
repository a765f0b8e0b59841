package localbench

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"time"

	"github.com/rousehq/rouse/internal/sampleapp"
)

// wake sends one request to a sleeping service and measures it. The clock starts when the connection stands, so that
// the client's own connect is not counted, and ends with the first byte of the response.
func wake(ctx context.Context, client *http.Client, addr, host string) (Sample, error) {
	var sent, first time.Time
	trace := &httptrace.ClientTrace{
		GotConn:              func(httptrace.GotConnInfo) { sent = time.Now() },
		GotFirstResponseByte: func() { first = time.Now() },
	}
	req, err := http.NewRequestWithContext(httptrace.WithClientTrace(ctx, trace), http.MethodGet, "http://"+addr+"/", nil)
	if err != nil {
		return Sample{}, err
	}
	req.Host = host
	res, err := client.Do(req)
	if err != nil {
		return Sample{}, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return Sample{}, err
	}
	if res.StatusCode != http.StatusOK {
		return Sample{}, fmt.Errorf("%s answered %s: %s", host, res.Status, body)
	}
	app, err := startUp(res.Header)
	if err != nil {
		return Sample{}, fmt.Errorf("%s: %w", host, err)
	}
	total := first.Sub(sent)
	return Sample{TotalMS: ms(total), AppMS: ms(app), OverheadMS: ms(total - app)}, nil
}

// startUp is how long the application took from exec to listen, by its own clock.
func startUp(h http.Header) (time.Duration, error) {
	exec, err := strconv.ParseInt(h.Get(sampleapp.HeaderExec), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("header %s: %w", sampleapp.HeaderExec, err)
	}
	listen, err := strconv.ParseInt(h.Get(sampleapp.HeaderListen), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("header %s: %w", sampleapp.HeaderListen, err)
	}
	return time.Duration(listen - exec), nil
}
