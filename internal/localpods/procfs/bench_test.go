package procfs

import (
	"os"
	"testing"
)

func BenchmarkListeners(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Listeners(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkProcesses(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Processes(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSockets(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		Sockets(os.Getpid(), func(uint64) bool { return true })
	}
}
