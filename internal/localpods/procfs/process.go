package procfs

import (
	"bytes"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Process is one line of the process table.
type Process struct {
	PID     int
	PPID    int
	Session int
	// Zombie is true for a process that has ended and was not waited for. It holds no files and runs nothing.
	Zombie bool
	// Start is when the process was made, in clock ticks since boot.
	Start uint64
	// Ticks is the CPU time used, in user mode and in the kernel, in clock ticks; that of children that have ended and
	// were waited for is in it.
	Ticks uint64
	// Resident is the memory held, in pages.
	Resident uint64
}

// Fields of /proc/PID/stat as proc_pid_stat(5) counts them, from the state, which is the third.
const (
	statState    = 3
	statPPID     = 4
	statSession  = 6
	statUser     = 14 // then system, and both again of children
	statStart    = 22
	statResident = 24
)

// Processes returns all processes that this one may see.
func Processes() ([]Process, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	names, err := dir.Readdirnames(-1)
	dir.Close()
	if err != nil {
		return nil, fmt.Errorf("list /proc: %w", err)
	}
	procs := make([]Process, 0, len(names))
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if p, err := Read(pid); err == nil {
			procs = append(procs, p)
		}
	}
	return procs, nil
}

// Read returns one process. It fails when there is none of that number.
//
// The system calls are made directly because every end of a pod reads the whole table: os.ReadFile takes a quarter
// longer, in which it offers the file to the poller and asks for its size.
func Read(pid int) (Process, error) {
	fd, err := unix.Open("/proc/"+strconv.Itoa(pid)+"/stat", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return Process{}, fmt.Errorf("procfs: process %d: %w", pid, err)
	}
	defer func() { _ = unix.Close(fd) }() // it was only read
	var buf [1024]byte                    // 52 numbers and a name of at most 64 bytes, in one read
	n, err := unix.Read(fd, buf[:])
	if err != nil {
		return Process{}, fmt.Errorf("procfs: process %d: %w", pid, err)
	}
	return parseStat(buf[:n])
}

// parseStat decodes /proc/PID/stat. The command in parentheses may hold spaces and parentheses itself, so fields
// count from the last closing one.
func parseStat(b []byte) (Process, error) {
	open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 1 || end < open {
		return Process{}, fmt.Errorf("procfs: stat %q has no command", b)
	}
	f := bytes.Fields(b[end+1:])
	if len(f) <= statResident-statState {
		return Process{}, fmt.Errorf("procfs: stat %q has %d fields after the command, want %d", b, len(f), statResident-statState+1)
	}
	var p Process
	var err error
	if p.PID, err = strconv.Atoi(string(bytes.TrimSpace(b[:open]))); err != nil {
		return Process{}, fmt.Errorf("procfs: stat pid: %w", err)
	}
	if p.PPID, err = strconv.Atoi(string(f[statPPID-statState])); err != nil {
		return Process{}, fmt.Errorf("procfs: stat ppid: %w", err)
	}
	if p.Session, err = strconv.Atoi(string(f[statSession-statState])); err != nil {
		return Process{}, fmt.Errorf("procfs: stat session: %w", err)
	}
	if p.Start, err = strconv.ParseUint(string(f[statStart-statState]), 10, 64); err != nil {
		return Process{}, fmt.Errorf("procfs: stat start time: %w", err)
	}
	if err := p.parseUse(f); err != nil {
		return Process{}, err
	}
	state := f[0][0]
	p.Zombie = state == 'Z' || state == 'X'
	return p, nil
}

// parseUse decodes what the process uses from the fields after its command.
func (p *Process) parseUse(f [][]byte) (err error) {
	for i := range 4 {
		n, err := strconv.ParseUint(string(f[statUser-statState+i]), 10, 64)
		if err != nil {
			return fmt.Errorf("procfs: stat CPU time: %w", err)
		}
		p.Ticks += n
	}
	if p.Resident, err = strconv.ParseUint(string(f[statResident-statState]), 10, 64); err != nil {
		return fmt.Errorf("procfs: stat resident pages: %w", err)
	}
	return nil
}

// Tree returns the members of root's tree: root, every descendant, and every process of the session that root leads,
// which keeps those whose parent has ended.
func Tree(procs []Process, root int) []Process {
	in := map[int]bool{root: true}
	for _, p := range procs {
		if p.Session == root {
			in[p.PID] = true
		}
	}
	for grown := true; grown; { // children may come before their parents
		grown = false
		for _, p := range procs {
			if !in[p.PID] && in[p.PPID] {
				in[p.PID], grown = true, true
			}
		}
	}
	var tree []Process
	for _, p := range procs {
		if in[p.PID] {
			tree = append(tree, p)
		}
	}
	return tree
}

// HasEnv says whether the process was started with the given NAME=value in its environment. It is false for a process
// that this one may not look into.
func HasEnv(pid int, entry string) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	if err != nil {
		return false
	}
	for len(b) > 0 {
		var e []byte
		e, b, _ = bytes.Cut(b, []byte{0})
		if string(e) == entry {
			return true
		}
	}
	return false
}
