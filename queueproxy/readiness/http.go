package readiness

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

const (
	agent        = "kube-probe/1"
	maxAnswer    = 10 << 10 // of a body, as kubelet reads
	maxRedirects = 10
)

type dialer = func(ctx context.Context, network, addr string) (net.Conn, error)

// transports make one connection per probe, so that the answer is about the application of this moment.
func transports(dial dialer) (h1, h2c http.RoundTripper) {
	var clear http.Protocols
	clear.SetUnencryptedHTTP2(true)
	return &http.Transport{
			DialContext: dial, DisableKeepAlives: true, DisableCompression: true,
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // as kubelet does: the probe asks whether it is ready, not who it is
		}, &http.Transport{
			DialContext: dial, DisableKeepAlives: true, DisableCompression: true, Protocols: &clear,
		}
}

// http tries an HTTP probe: over HTTP/2 first when that is to be found out, with a part of the time.
func (p *Prober) http(ctx context.Context, i int, timeout time.Duration) error {
	pr, h1 := &p.cfg.Probes[i], &p.speaksH1[i]
	if p.cfg.DetectHTTP2 && pr.Scheme == "http" && !h1.Load() {
		try, cancel := context.WithTimeout(ctx, timeout/2)
		err := get(try, p.h2c, pr)
		cancel()
		var answered statusError
		if err == nil || errors.As(err, &answered) || errors.Is(err, syscall.ECONNREFUSED) {
			return err
		}
	}
	err := get(ctx, p.h1, pr)
	h1.Store(err == nil)
	return err
}

// statusError is an answer that says not ready.
type statusError int

func (s statusError) Error() string {
	return fmt.Sprintf("answered %d, want 200 to 399", int(s))
}

// get succeeds on 200 to 399. Redirects to the same host are followed, as kubelet does; one that leads elsewhere is an
// answer.
func get(ctx context.Context, over http.RoundTripper, pr *Probe) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, pr.Scheme+"://"+pr.Address+pr.Path, nil)
	if err != nil {
		return fmt.Errorf("httpGet %s: %w", pr.Path, err)
	}
	req.Header.Set("Accept", "*/*")
	req.Header.Set("User-Agent", agent)
	for _, h := range pr.Headers {
		switch {
		case strings.EqualFold(h.Name, "Host"):
			req.Host = h.Value
		case strings.EqualFold(h.Name, "User-Agent"), strings.EqualFold(h.Name, "Accept"):
			req.Header.Set(h.Name, h.Value)
		default:
			req.Header.Add(h.Name, h.Value)
		}
	}
	client := http.Client{Transport: over, CheckRedirect: sameHost}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("httpGet %s: %w", pr.Path, err)
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxAnswer)) // the status is the answer
	if resp.StatusCode < 200 || resp.StatusCode > 399 {
		return fmt.Errorf("httpGet %s: %w", pr.Path, statusError(resp.StatusCode))
	}
	return nil
}

func sameHost(next *http.Request, via []*http.Request) error {
	if next.URL.Hostname() != via[0].URL.Hostname() {
		return http.ErrUseLastResponse
	}
	if len(via) >= maxRedirects {
		return fmt.Errorf("redirected %d times", maxRedirects)
	}
	return nil
}

// serving is grpc.health.v1.HealthCheckResponse.SERVING.
const serving = 1

// grpc asks grpc.health.v1.Health/Check over HTTP/2 in clear text. One unary call of a message with one field needs no
// gRPC library, which would cost the sidecar several megabytes.
func (p *Prober) grpc(ctx context.Context, pr *Probe) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+pr.Address+"/grpc.health.v1.Health/Check", bytes.NewReader(healthRequest(pr.Service)))
	if err != nil {
		return fmt.Errorf("grpc health check: %w", err)
	}
	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("Te", "trailers")
	req.Header.Set("User-Agent", agent)
	resp, err := p.h2c.RoundTrip(req)
	if err != nil {
		return fmt.Errorf("grpc health check: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("grpc health check: %w", err)
	}
	status := resp.Trailer.Get("Grpc-Status")
	if status == "" {
		status = resp.Header.Get("Grpc-Status") // an answer without a message
	}
	if resp.StatusCode != http.StatusOK || status != "0" {
		return fmt.Errorf("grpc health check of %q: HTTP status %d, grpc-status %q, want 200 and 0", pr.Service, resp.StatusCode, status)
	}
	if got, ok := healthStatus(body); !ok || got != serving {
		return fmt.Errorf("grpc health check of %q: status %d, want 1 (SERVING)", pr.Service, got)
	}
	return nil
}

// healthRequest is a framed HealthCheckRequest: flag, length, and the service as field 1.
func healthRequest(service string) []byte {
	var m []byte
	if service != "" {
		m = protowire.AppendTag(m, 1, protowire.BytesType)
		m = protowire.AppendString(m, service)
	}
	n := len(m)
	return append([]byte{0, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}, m...)
}

// healthStatus reads field 1 of a framed HealthCheckResponse; absent is 0, UNKNOWN. It is false for bytes that are no
// such message.
func healthStatus(b []byte) (status uint64, ok bool) {
	if len(b) < 5 || b[0] != 0 {
		return 0, false // no message, or a compressed one that was not asked for
	}
	n := int(b[1])<<24 | int(b[2])<<16 | int(b[3])<<8 | int(b[4])
	if n != len(b)-5 {
		return 0, false
	}
	for m := b[5:]; len(m) > 0; {
		num, typ, size := protowire.ConsumeTag(m)
		if size < 0 {
			return 0, false
		}
		m = m[size:]
		if num == 1 && typ == protowire.VarintType {
			v, size := protowire.ConsumeVarint(m)
			if size < 0 {
				return 0, false
			}
			status, m = v, m[size:]
			continue
		}
		if size = protowire.ConsumeFieldValue(num, typ, m); size < 0 {
			return 0, false
		}
		m = m[size:]
	}
	return status, true
}
