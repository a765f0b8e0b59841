package procfs

import (
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const table = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0000000000000000 100 0 0 10 0
   1: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4712 1 0000000000000000 100 0 0 10 0
   2: 0100007F:1F90 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 4713 1 0000000000000000 20 4 30 10 -1
   3: garbage that is never read
`

func TestReadListeners(t *testing.T) {
	got, err := readListeners(strings.NewReader(table))
	if err != nil {
		t.Fatal(err)
	}
	want := []Listener{{netip.MustParseAddrPort("127.0.0.1:8080"), 4711}, {netip.MustParseAddrPort("0.0.0.0:22"), 4712}}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.AddrPort{})); diff != "" {
		t.Errorf("readListeners (-want +got):\n%s", diff)
	}
	for in, want := range map[string]string{
		"heading\n  0: 0A\n":                    "fields",
		"h\n0: XX:1F90 0:0 0A 0 0 0 0 0 4711\n": "hexadecimal",
		"h\n0: 00:1F90 0:0 0A 0 0 0 0 0 4711\n": "hexadecimal",
		"h\n0: 0100007F:FFFFF 0 0A 0 0 0 0 0 1": "port",
		"h\n0: 0100007F:0001 0 0A 0 0 0 0 0 -1": "inode",
	} {
		if _, err := readListeners(strings.NewReader(in)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("readListeners(%q) = %v, want an error about %s", in, err, want)
		}
	}
}

func TestParseAddr(t *testing.T) {
	for in, want := range map[string]string{
		"0100007F:0001":                         "127.0.0.1:1",
		"00000000000000000000000000000000:1F90": "[::]:8080",
		"00000000000000000000000001000000:1F90": "[::1]:8080",
		"0000000000000000FFFF00000100007F:1F90": "127.0.0.1:8080",
		"B80D0120000000000000000001000000:FFFF": "[2001:db8::1]:65535",
	} {
		if got, err := parseAddr(in); err != nil || got.String() != want {
			t.Errorf("parseAddr(%s) = %v, %v, want %s", in, got, err, want)
		}
	}
}

func FuzzParseSocket(f *testing.F) {
	for line := range strings.Lines(table) {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		l, listening, err := parseSocket([]byte(line))
		if listening && (err != nil || !l.Addr.IsValid()) {
			t.Errorf("parseSocket(%q) = %+v, %v: listening without an address", line, l, err)
		}
	})
}

func TestParseStat(t *testing.T) {
	const rest = " S 7 8 9 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 123456 0 99"
	got, err := parseStat([]byte("42 (a ) b (c)" + rest + "\n"))
	if want := (Process{PID: 42, PPID: 7, Session: 9, Start: 123456, Ticks: 5 + 6 + 7 + 8, Resident: 99}); err != nil || got != want {
		t.Errorf("parseStat = %+v, %v, want %+v", got, err, want)
	}
	if got, err := parseStat([]byte("42 (x) Z" + rest[2:])); err != nil || !got.Zombie {
		t.Errorf("parseStat of a zombie = %+v, %v", got, err)
	}
	for _, in := range []string{"", "42", "42 (x", "42 (x) S 1", "a (x)" + rest, ") (" + rest, "42 (x)" + rest[:len(rest)-2] + "x", "42 (x)" + strings.Replace(rest, " 5 6 ", " 5 x ", 1)} {
		if got, err := parseStat([]byte(in)); err == nil {
			t.Errorf("parseStat(%q) = %+v, want an error", in, got)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add("42 (a ) b (c) S 7 8 9 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 123456 0 0\n")
	f.Fuzz(func(_ *testing.T, s string) { _, _ = parseStat([]byte(s)) })
}

func TestTree(t *testing.T) {
	procs := []Process{
		{PID: 9, PPID: 8, Session: 8},  // grandchild in a session of its own, listed before its parent
		{PID: 8, PPID: 5, Session: 8},  // child that made a session
		{PID: 5, PPID: 1, Session: 5},  // the root
		{PID: 6, PPID: 1, Session: 5},  // orphan that stayed in the session
		{PID: 7, PPID: 6, Session: 7},  // child of the orphan
		{PID: 10, PPID: 1, Session: 8}, // left the parent and the session: not to be seen from here
		{PID: 11, PPID: 1, Session: 1},
	}
	var got []int
	for _, p := range Tree(procs, 5) {
		got = append(got, p.PID)
	}
	slices.Sort(got)
	if want := []int{5, 6, 7, 8, 9}; !slices.Equal(got, want) {
		t.Errorf("Tree = %v, want %v", got, want)
	}
}

func TestOwnListenerIsFound(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	addr := ln.Addr().(*net.TCPAddr).AddrPort()
	all, err := Listeners()
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(all, func(l Listener) bool { return l.Addr == addr })
	if i < 0 {
		t.Fatalf("Listeners() = %v, want %v in it", all, addr)
	}
	found := false
	Sockets(os.Getpid(), func(inode uint64) bool { found = inode == all[i].Inode; return !found })
	if !found {
		t.Errorf("Sockets(self) has no inode %d", all[i].Inode)
	}
	self, err := Read(os.Getpid())
	if err != nil || self.PPID != os.Getppid() {
		t.Errorf("Read(self) = %+v, %v, want parent %d", self, err, os.Getppid())
	}
	Sockets(-1, func(uint64) bool { t.Error("process -1 has a socket"); return false })
	if HasEnv(-1, "A=1") {
		t.Error("process -1 has an environment")
	}
}
