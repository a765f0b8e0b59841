package cri

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// maxLine is where a long line is cut into parts, as containerd does.
const maxLine = 16 << 10

// logFile writes the interface's log format, which kubelet reads for `kubectl logs`: time, stream, F (full line) or P (part), text.
type logFile struct {
	path string

	mu sync.Mutex // guards what follows
	f  *os.File
	// streams are flushed when the log is closed.
	streams []*logStream
}

// open creates the file and returns writers for both streams.
func (l *logFile) open() (stdout, stderr *logStream, err error) {
	if err := os.MkdirAll(filepath.Dir(l.path), 0o755); err != nil {
		return nil, nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.create(); err != nil {
		return nil, nil, err
	}
	stdout, stderr = &logStream{log: l, name: "stdout"}, &logStream{log: l, name: "stderr"}
	l.streams = []*logStream{stdout, stderr}
	return stdout, stderr, nil
}

func (l *logFile) create() (err error) {
	l.f, err = os.OpenFile(l.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	return err
}

// reopen starts a new file after a rotation; a log that is closed stays so.
func (l *logFile) reopen() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f == nil {
		return nil
	}
	return errors.Join(l.f.Close(), l.create())
}

func (l *logFile) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f == nil {
		return nil
	}
	var errs []error
	for _, s := range l.streams {
		if len(s.rest) > 0 {
			errs = append(errs, l.write(s.name, "P", s.rest))
		}
	}
	errs = append(errs, l.f.Close())
	l.f = nil
	return errors.Join(errs...)
}

func (l *logFile) remove() error {
	if err := os.Remove(l.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// write needs l.mu.
func (l *logFile) write(stream, tag string, text []byte) error {
	_, err := fmt.Fprintf(l.f, "%s %s %s %s\n", time.Now().Format(time.RFC3339Nano), stream, tag, text)
	return err
}

// logStream cuts what one stream writes into lines.
type logStream struct {
	log  *logFile
	name string
	rest []byte // guarded by log.mu; the beginning of a line, at most maxLine long
}

// Write never fails on account of the log: the program must not feel a full disk as a broken pipe.
func (s *logStream) Write(p []byte) (int, error) {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	n := len(p)
	for len(p) > 0 && s.log.f != nil {
		line, after, whole := bytes.Cut(p, []byte{'\n'})
		tag := "F"
		if room := maxLine - len(s.rest); len(line) > room {
			line, after, whole, tag = line[:room], p[room:], true, "P"
		}
		if s.rest = append(s.rest, line...); whole {
			_ = s.log.write(s.name, tag, s.rest)
			s.rest = s.rest[:0]
		}
		p = after
	}
	return n, nil
}
