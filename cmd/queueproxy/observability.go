package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/rousehq/rouse/queueproxy"
	"github.com/rousehq/rouse/queueproxy/requestlog"
)

// observabilityConfig is what Knative's newer generation encodes of its ConfigMap config-observability. Metrics and
// tracing have no effect: see [ignored].
type observabilityConfig struct {
	EnableRequestLog      bool   `json:"enableRequestLog"`
	RequestLogTemplate    string `json:"requestLogTemplate"`
	EnableProbeRequestLog bool   `json:"enableProbeRequestLog"`
	Runtime               struct {
		Profiling string `json:"profiling"`
	}
}

// observability reads OBSERVABILITY_CONFIG over the older generation's variables, and checks the level of the log.
func (s *settings) observability(refuse func(key, value, allowed string)) {
	if s.Observability != "" {
		var o observabilityConfig
		if err := json.Unmarshal([]byte(s.Observability), &o); err != nil {
			refuse("OBSERVABILITY_CONFIG", s.Observability, "config-observability in JSON: "+err.Error())
		}
		s.RequestLog = s.RequestLog || o.EnableRequestLog
		s.ProbeRequestLog = s.ProbeRequestLog || o.EnableProbeRequestLog
		s.Profiling = s.Profiling || o.Runtime.Profiling == "enabled"
		if o.RequestLogTemplate != "" {
			s.RequestLogTemplate = o.RequestLogTemplate
		}
	}
	if _, err := s.logLevel(); err != nil {
		refuse("SERVING_LOGGING_LEVEL", s.LoggingLevel, "debug, info, warn, error, dpanic, panic or fatal")
	}
}

// requestLogged says whether there is a request log: without a template there is nothing to write.
func (s *settings) requestLogged() bool { return s.RequestLog && s.RequestLogTemplate != "" }

// openRequestLog returns nil without a request log, and with one whose template cannot be used: Knative's check of its
// ConfigMap lets more pass than ours, and no pod may fail to start over a log.
func (s *settings) openRequestLog(w io.Writer, log *slog.Logger) queueproxy.RequestLog {
	if !s.requestLogged() {
		return nil
	}
	l, err := s.requestLog(w)
	if err != nil {
		log.Error("no request log: its template cannot be used; requests are served all the same",
			"setting", "SERVING_REQUEST_LOG_TEMPLATE, or requestLogTemplate of OBSERVABILITY_CONFIG", "error", err.Error())
		s.RequestLog = false // as /config says
		return nil
	}
	return l
}

func (s *settings) requestLog(w io.Writer) (*requestlog.Log, error) {
	rev := requestlog.Revision{
		Name: s.Revision, Namespace: s.Namespace, Service: s.Service, Configuration: s.Configuration, PodName: s.Pod, PodIP: s.PodIP,
	}
	return requestlog.New(s.RequestLogTemplate, rev, s.ProbeRequestLog, w)
}

// logLevel is SERVING_LOGGING_LEVEL, or else the level of SERVING_LOGGING_CONFIG, or else info. The rest of the latter
// describes the encoder of another logging library, and says nothing to ours.
func (s *settings) logLevel() (slog.Level, error) {
	name := s.LoggingLevel
	if name == "" {
		var zap struct {
			Level string `json:"level"`
		}
		if json.Unmarshal([]byte(s.LoggingConfig), &zap) == nil { // what is no JSON has no level
			name = zap.Level
		}
	}
	switch strings.ToLower(name) {
	case "debug":
		return slog.LevelDebug, nil
	case "", "info":
		return slog.LevelInfo, nil
	case "warn", "warning":
		return slog.LevelWarn, nil
	case "error", "dpanic", "panic", "fatal":
		return slog.LevelError, nil
	}
	return 0, fmt.Errorf("unknown level %q", name)
}
