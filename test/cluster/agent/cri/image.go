package cri

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const (
	// hostImage has no program of its own: the container's command finds the node's.
	hostImage = "host"
	// imageDir is where an image's program lies in its container; `ko` puts it there, too.
	imageDir = "/ko-app"
	// imageUser runs what doesn't name a user, as in distroless images ("nonroot").
	imageUser = 65532
)

// imageName shortens registry/NAME:tag@digest to NAME.
func imageName(ref string) string {
	name, _, _ := strings.Cut(path.Base(ref), "@")
	name, _, _ = strings.Cut(name, ":")
	return name
}

// program returns the binary behind an image; "" is the host image.
func (r *Runtime) program(ref string) (string, error) {
	name := imageName(ref)
	if name == hostImage {
		return "", nil
	}
	file := filepath.Join(r.cfg.Images, name)
	if st, err := os.Stat(file); err != nil || !st.Mode().IsRegular() {
		return "", fmt.Errorf("image %s: no binary %s; build it there, or use an image called %q and a command of the node's", ref, file, hostImage)
	}
	return file, nil
}

// ImageStatus tells kubelet that a local binary needs no pulling.
func (r *Runtime) ImageStatus(_ context.Context, spec *runtimeapi.ImageSpec, _ bool) (*runtimeapi.ImageStatusResponse, error) {
	file, err := r.program(spec.GetImage())
	if err != nil {
		return &runtimeapi.ImageStatusResponse{}, nil // absent: kubelet pulls, and shows PullImage's error in the pod's status
	}
	return &runtimeapi.ImageStatusResponse{Image: image(spec.GetImage(), file)}, nil
}

func image(ref, file string) *runtimeapi.Image {
	img := &runtimeapi.Image{Id: "local/" + imageName(ref), RepoTags: []string{ref}, Uid: &runtimeapi.Int64Value{Value: imageUser}}
	if st, err := os.Stat(file); err == nil {
		img.Size = uint64(st.Size())
	}
	return img
}

// PullImage succeeds when the binary is there by now.
func (r *Runtime) PullImage(_ context.Context, spec *runtimeapi.ImageSpec, _ *runtimeapi.AuthConfig, _ *runtimeapi.PodSandboxConfig) (string, error) {
	if _, err := r.program(spec.GetImage()); err != nil {
		return "", err
	}
	return "local/" + imageName(spec.GetImage()), nil
}

// ListImages lists nothing, so that kubelet's garbage collection finds nothing.
func (r *Runtime) ListImages(context.Context, *runtimeapi.ImageFilter) ([]*runtimeapi.Image, error) {
	return nil, nil
}

// RemoveImage refuses: the binaries are not ours.
func (r *Runtime) RemoveImage(context.Context, *runtimeapi.ImageSpec) error {
	return errors.New("images are local binaries and are not removed")
}

// ImageFsInfo describes the file system that the images lie on.
func (r *Runtime) ImageFsInfo(context.Context) (*runtimeapi.ImageFsInfoResponse, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(r.cfg.State, &st); err != nil {
		return nil, err
	}
	usage := []*runtimeapi.FilesystemUsage{{
		Timestamp:  time.Now().UnixNano(),
		FsId:       &runtimeapi.FilesystemIdentifier{Mountpoint: r.cfg.State},
		UsedBytes:  &runtimeapi.UInt64Value{Value: (st.Blocks - st.Bfree) * uint64(st.Bsize)},
		InodesUsed: &runtimeapi.UInt64Value{Value: st.Files - st.Ffree},
	}}
	return &runtimeapi.ImageFsInfoResponse{ImageFilesystems: usage, ContainerFilesystems: usage}, nil
}
