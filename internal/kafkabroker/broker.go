// Package kafkabroker is a Kafka broker inside the process, for `bootstrapServers: [embedded]`, for tests and benches.
//
// It is franz-go's kfake behind a TCP port on loopback: the protocol is spoken over the wire, groups and transactions
// included. With a data directory records, topics and commits outlive the process, also one that was killed; writes
// rely on the operating system's page cache unless Sync is set, so they do not outlive the machine.
//
// It does not replicate (a replication factor above one is taken as one), throttle, or serve other machines.
//
// A [Broker] is safe for concurrent use.
package kafkabroker

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/twmb/franz-go/pkg/kfake"
)

// Config of a Broker. The zero value keeps nothing and listens on a free port.
type Config struct {
	// DataDir keeps records; empty keeps them in memory.
	DataDir string
	// Sync writes each batch through to the disk.
	Sync bool
	// Port on 127.0.0.1; 0 takes a free one.
	Port int
	// Brokers is how many addresses the cluster has; 0 means 1. Only with Port 0.
	Brokers int
	// Partitions of topics that come to be without being asked for; 0 means 4.
	Partitions int
	// Topics to create at the start, with their number of partitions. Those that exist stay as they are.
	Topics map[string]int
}

// Broker is a running cluster. Close ends it.
type Broker struct {
	cluster *kfake.Cluster
	once    sync.Once
}

// Start brings the cluster up; when it returns, its ports are open.
func Start(cfg Config) (*Broker, error) {
	if cfg.Port != 0 && cfg.Brokers > 1 {
		return nil, errors.New("embedded broker: a fixed port allows one broker only")
	}
	opts := []kfake.Opt{
		kfake.NumBrokers(max(1, cfg.Brokers)), kfake.AllowAutoTopicCreation(), kfake.GroupMinSessionTimeout(1),
		kfake.BrokerConfigs(map[string]string{"group.consumer.heartbeat.interval.ms": "500"}),
	}
	if cfg.Port != 0 {
		opts = append(opts, kfake.Ports(cfg.Port))
	}
	partitions := cfg.Partitions
	if partitions <= 0 {
		partitions = 4
	}
	opts = append(opts, kfake.DefaultNumPartitions(partitions))
	for topic, n := range cfg.Topics {
		opts = append(opts, kfake.SeedTopics(int32(n), topic))
	}
	if cfg.DataDir != "" {
		opts = append(opts, kfake.DataDir(cfg.DataDir))
	}
	if cfg.Sync {
		opts = append(opts, kfake.SyncWrites())
	}
	c, err := kfake.NewCluster(opts...)
	if err != nil {
		return nil, fmt.Errorf("embedded broker: %w", err)
	}
	return &Broker{cluster: c}, nil
}

// Bootstrap is the list of addresses for clients.
func (b *Broker) Bootstrap() []string { return b.cluster.ListenAddrs() }

// String is Bootstrap as clients take it: joined by commas.
func (b *Broker) String() string { return strings.Join(b.Bootstrap(), ",") }

// Cluster gives access to faults and inspection, for tests.
func (b *Broker) Cluster() *kfake.Cluster { return b.cluster }

// Close ends the cluster and writes what is open. It is safe to call twice.
func (b *Broker) Close() { b.once.Do(b.cluster.Close) }
