package agent

import (
	"context"
	"syscall"
	"time"

	info "github.com/google/cadvisor/info/v1"
	infov2 "github.com/google/cadvisor/info/v2"
	"k8s.io/kubernetes/pkg/kubelet/cadvisor"
)

// machine stands in for cadvisor, which would walk all cgroups of the machine once a second. It knows the node's size and nothing of its
// load: nothing is evicted here.
type machine struct {
	cpus   int
	memory uint64
	dir    string
}

var _ cadvisor.Interface = machine{}

func (m machine) Start() error { return nil }

func (m machine) MachineInfo() (*info.MachineInfo, error) {
	return &info.MachineInfo{NumCores: m.cpus, NumPhysicalCores: m.cpus, NumSockets: 1, MemoryCapacity: m.memory, MachineID: "rouse", SystemUUID: "rouse", BootID: "rouse"}, nil
}

func (m machine) VersionInfo() (*info.VersionInfo, error) {
	return &info.VersionInfo{KernelVersion: "", ContainerOsVersion: "none"}, nil
}

func (m machine) ContainerInfoV2(string, infov2.RequestOptions) (map[string]infov2.ContainerInfo, error) {
	return nil, nil
}

func (m machine) GetRequestedContainersInfo(string, infov2.RequestOptions) (map[string]*info.ContainerInfo, error) {
	return nil, nil
}

func (m machine) ImagesFsInfo(context.Context) (infov2.FsInfo, error)    { return m.fs() }
func (m machine) ContainerFsInfo(context.Context) (infov2.FsInfo, error) { return m.fs() }
func (m machine) RootFsInfo() (infov2.FsInfo, error)                     { return m.fs() }
func (m machine) GetDirFsInfo(string) (infov2.FsInfo, error)             { return m.fs() }

func (m machine) fs() (infov2.FsInfo, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(m.dir, &st); err != nil {
		return infov2.FsInfo{}, err
	}
	size := uint64(st.Bsize)
	return infov2.FsInfo{Timestamp: time.Now(), Mountpoint: m.dir, Capacity: st.Blocks * size, Available: st.Bavail * size, Usage: (st.Blocks - st.Bfree) * size,
		Inodes: &st.Files, InodesFree: &st.Ffree}, nil
}
