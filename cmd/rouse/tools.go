package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rousehq/rouse/bench/controlbench"
	"github.com/rousehq/rouse/bench/dispatch"
	"github.com/rousehq/rouse/bench/overload"
	"github.com/rousehq/rouse/bench/parked"
	"github.com/rousehq/rouse/bench/proxybench"
	"github.com/rousehq/rouse/cmd/rouse/localbench"
	"github.com/rousehq/rouse/control/simulate"
	"github.com/rousehq/rouse/internal/manifest"
	"github.com/rousehq/rouse/kafkadispatch/cli"
)

// newKafka are the commands that talk to brokers. Each reads its own flags.
func newKafka() []*cobra.Command {
	command := func(use, short string, main func(cmd *cobra.Command, args []string) error) *cobra.Command {
		return &cobra.Command{Use: use, Short: short, DisableFlagParsing: true, RunE: main}
	}
	return []*cobra.Command{
		command("produce [FLAGS] TOPIC", "Write the lines of standard input to a topic", func(cmd *cobra.Command, args []string) error {
			return cli.Produce(cmd.Context(), args, cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		}),
		command("consume [FLAGS] TOPIC", "Print a topic", func(cmd *cobra.Command, args []string) error {
			return cli.Consume(cmd.Context(), args, cmd.OutOrStdout(), cmd.ErrOrStderr())
		}),
		command("lag -group GROUP TOPIC", "How far a consumer group is behind", func(cmd *cobra.Command, args []string) error {
			return cli.Lag(cmd.Context(), args, cmd.OutOrStdout(), cmd.ErrOrStderr())
		}),
		command("replay-dead-letters -sink URL TOPIC", "Send dead letters again", func(cmd *cobra.Command, args []string) error {
			return cli.ReplayDeadLetters(cmd.Context(), args, cmd.OutOrStdout(), cmd.ErrOrStderr())
		}),
	}
}

// newBench groups the benchmarks. Each reads its own flags, so that it can also be run by itself.
func newBench() *cobra.Command {
	bench := &cobra.Command{Use: "bench", Short: "Measure Rouse, and its rivals beside it"}
	add := func(name, short string, main func(cmd *cobra.Command, args []string) error) {
		bench.AddCommand(&cobra.Command{Use: name, Short: short, DisableFlagParsing: true, RunE: main})
	}
	add("coldstart", "Overhead of waking a sleeping service, beyond its own start", func(cmd *cobra.Command, args []string) error {
		self, err := os.Executable()
		if err != nil {
			return err
		}
		return localbench.ColdStart(cmd.Context(), self, args, cmd.OutOrStdout(), cmd.ErrOrStderr())
	})
	add("burst", "Processes that a burst starts, by Knative's rule and by the drain-aware one", func(cmd *cobra.Command, args []string) error {
		self, err := os.Executable()
		if err != nil {
			return err
		}
		return localbench.Burst(cmd.Context(), self, args, cmd.OutOrStdout(), cmd.ErrOrStderr())
	})
	add("proxy", "CPU, latency and memory of the queue-proxy beside Knative's, HAProxy and nginx", func(cmd *cobra.Command, args []string) error {
		return proxybench.Main(cmd.Context(), args, cmd.OutOrStdout(), cmd.ErrOrStderr())
	})
	add("parked", "Memory that a parked request costs the activator", func(cmd *cobra.Command, args []string) error {
		return parked.Main(cmd.Context(), args, cmd.OutOrStdout(), cmd.ErrOrStderr())
	})
	add("overload", "Memory, queue and answers under far more load than a service can do", func(cmd *cobra.Command, args []string) error {
		self, err := os.Executable()
		if err != nil {
			return err
		}
		return overload.Main(cmd.Context(), self, args, cmd.OutOrStdout(), cmd.ErrOrStderr())
	})
	add("control", "CPU, memory and lateness of the control loop beside Knative's autoscaler", func(cmd *cobra.Command, args []string) error {
		return controlbench.BenchMain(cmd.Context(), args, cmd.OutOrStdout(), cmd.ErrOrStderr())
	})
	add("dispatch", "Rates and CPU of Kafka dispatch, beside a bare consumer loop", func(cmd *cobra.Command, args []string) error {
		return dispatch.Main(cmd.Context(), args, cmd.OutOrStdout(), cmd.ErrOrStderr())
	})
	return bench
}

func newSimulate() *cobra.Command {
	return &cobra.Command{
		Use: "simulate", Short: "What a load would do to a configuration, in virtual time", DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			return simulate.Main(cmd.Context(), args, misspellings, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
}

// misspellings judges a manifest for `rouse simulate`, which runs nothing of it.
func misspellings(stderr io.Writer, path string, text []byte) error {
	_, err := judged(stderr, manifest.Source{Name: path, Data: text}, "", false)
	return err
}

func newExplain() *cobra.Command {
	var admin string
	cmd := &cobra.Command{
		Use: "explain [SERVICE]", Short: "Why a service of a running `rouse up`, or with -n a workload in a cluster, has as many pods as it has", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			asJSON, err := asksJSON(cmd)
			if err != nil {
				return err
			}
			q := url.Values{}
			if !asJSON {
				q.Set("format", "text")
			}
			if len(args) == 1 {
				q.Set("service", args[0])
			}
			return fetch(cmd, "http://"+admin+"/explain?"+q.Encode())
		},
	}
	cmd.Flags().StringVar(&admin, "admin", "127.0.0.1:8081", "admin address of the running 'rouse up'")
	outputFlag(cmd)
	return inBoth(cmd, "output")
}

// fetch prints what an admin address answers.
func fetch(cmd *cobra.Command, target string) error {
	req, err := http.NewRequestWithContext(cmd.Context(), http.MethodGet, target, nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("is `rouse up` running, and is --admin its address? %w", err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(res.Body, 1<<10)) // the status says enough without
		return fmt.Errorf("%s (%s); without a name `rouse explain` shows all services", strings.TrimSpace(string(text)), res.Status)
	}
	_, err = io.Copy(cmd.OutOrStdout(), res.Body)
	return err
}
