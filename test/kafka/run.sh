#!/bin/sh
# Runs the dispatcher's tests against real Apache Kafka: one broker, or as many as the first argument says.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
dir=${ROUSE_KAFKA_DIR:-$(mktemp -d)}
trap '"$root/test/kafka/cluster.sh" down "$dir"' EXIT INT TERM
ROUSE_KAFKA_BOOTSTRAP=$("$root/test/kafka/cluster.sh" up "${1:-1}" "$dir")
export ROUSE_KAFKA_BOOTSTRAP
cd "$root"
go test -count=1 -timeout 10m ./kafkadispatch
