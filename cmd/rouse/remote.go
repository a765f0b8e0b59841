package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/rousehq/rouse/cmd/rouse/up"
	"github.com/rousehq/rouse/internal/cmdline"
)

// dataDir is where `rouse up` keeps its history and its socket unless told otherwise.
func dataDir() string {
	if dir, err := os.UserCacheDir(); err == nil {
		return filepath.Join(dir, "rouse", "up")
	}
	return filepath.Join(os.TempDir(), "rouse-"+strconv.Itoa(os.Getuid()))
}

// remote talks to a running `rouse up` over its private socket.
type remote struct{ dir string }

func (r *remote) flag(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().StringVar(&r.dir, "data", dataDir(), "data folder of the running 'rouse up'")
	return cmd
}

// call sends one request and hands the answer to take.
func (r *remote) call(ctx context.Context, method, path string, body io.Reader, take func(io.Reader) error) error {
	var dialer net.Dialer
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", filepath.Join(r.dir, up.SocketName))
		},
	}}
	req, err := http.NewRequestWithContext(ctx, method, "http://rouse"+path, body)
	if err != nil {
		return err
	}
	res, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("no `rouse up` answers in %s: is it running, with this --data? %w", r.dir, err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		text, err := io.ReadAll(res.Body)
		return errors.Join(errors.New(string(bytes.TrimSpace(text))), err)
	}
	return take(res.Body)
}

func newApply() *cobra.Command {
	var r remote
	var files []string
	cmd := &cobra.Command{
		Use: "apply -f FILE", Short: "Change the services of a running `rouse up`", Args: filesByFlag,
		RunE: func(cmd *cobra.Command, _ []string) error {
			sources, err := opened(cmd, files)
			if err != nil {
				return err
			}
			if len(sources) == 0 {
				return cmdline.Misusef("no manifest: give one with -f FILE")
			}
			var all []error
			for _, s := range sources {
				path := "/apply?" + url.Values{"name": {s.Name}}.Encode()
				all = append(all, r.call(cmd.Context(), http.MethodPost, path, bytes.NewReader(s.Data), func(body io.Reader) error {
					return showApplied(cmd, body)
				}))
			}
			return errors.Join(all...)
		},
	}
	cmd.Flags().StringArrayVarP(&files, "file", "f", nil, "manifest: a file, a directory (its own *.yaml, *.yml and *.json), or - for standard input (repeatable)")
	return r.flag(cmd)
}

func showApplied(cmd *cobra.Command, body io.Reader) error {
	var a up.Applied
	if err := json.NewDecoder(body).Decode(&a); err != nil {
		return err
	}
	for _, w := range a.Warnings {
		fmt.Fprintln(cmd.ErrOrStderr(), w)
	}
	for _, c := range a.Changes {
		fmt.Fprintf(cmd.OutOrStdout(), "%s: revision %s %s\n", c.Service, c.Revision, c.What)
	}
	if a.Error != "" {
		return errors.New(a.Error)
	}
	return nil
}

func newStatus() *cobra.Command {
	var r remote
	var asJSON, watch bool
	cmd := &cobra.Command{
		Use: "status", Short: "Services of a running `rouse up`: traffic, processes, requests; or, with -n or -A, workloads in a cluster", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if watch {
				return cmdline.Misusef("--watch is for a cluster: choose one, such as with --namespace")
			}
			if other, err := asksJSON(cmd); err != nil {
				return err
			} else if other {
				asJSON = true
			}
			return r.call(cmd.Context(), http.MethodGet, "/status", nil, func(body io.Reader) error {
				if asJSON {
					_, err := io.Copy(cmd.OutOrStdout(), body)
					return err
				}
				return showStatus(cmd.OutOrStdout(), body)
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, as -o json does")
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "cluster: go on and print what has changed")
	outputFlag(cmd)
	return inBoth(r.flag(cmd), "watch", "output")
}

func showStatus(w io.Writer, body io.Reader) error {
	var all []up.Status
	if err := json.NewDecoder(body).Decode(&all); err != nil {
		return err
	}
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "SERVICE\tREVISION\tTRAFFIC\tTAGS\tREADY\tSTARTING\tDRAINING\tIN FLIGHT\tPARKED\tPROBLEM")
	for _, s := range all {
		fmt.Fprintf(t, "%s\t%s\t%d%%\t%s\t%d\t%d\t%d\t%d\t%d\t%s\n",
			s.Service, s.Revision, s.Percent, s.Tags, s.Ready, s.Starting, s.Draining, s.InFlight, s.Parked, s.Problem)
	}
	return t.Flush()
}

func newLogs() *cobra.Command {
	var r remote
	var lines int
	cmd := &cobra.Command{
		Use: "logs SERVICE", Short: "What the processes of a service wrote last", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			q := url.Values{"service": {args[0]}, "lines": {strconv.Itoa(lines)}}
			return r.call(cmd.Context(), http.MethodGet, "/logs?"+q.Encode(), nil, func(body io.Reader) error {
				_, err := io.Copy(cmd.OutOrStdout(), body)
				return err
			})
		},
	}
	cmd.Flags().IntVarP(&lines, "lines", "n", 100, "how many lines")
	return r.flag(cmd)
}

func newStop() *cobra.Command {
	var r remote
	return r.flag(&cobra.Command{
		Use: "stop", Short: "Stop a running `rouse up`: requests in flight finish", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return r.call(cmd.Context(), http.MethodPost, "/stop", nil, func(body io.Reader) error {
				_, err := io.Copy(cmd.OutOrStdout(), body)
				return err
			})
		},
	})
}
