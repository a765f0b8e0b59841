#!/bin/sh
# Runs a command against real Apache Kafka: run.sh BROKERS [COMMAND...]; without one, the dispatcher's tests. The command
# finds the brokers in ROUSE_KAFKA_BOOTSTRAP, and those that want a login in ROUSE_KAFKA_LOGIN.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
brokers=${1:-1}
[ $# -eq 0 ] || shift
cd "$root"
[ $# -gt 0 ] || set -- go test -count=1 -timeout 10m ./kafkadispatch
dir=$(mktemp -d)
trap '"$root/test/kafka/cluster.sh" down "$dir"; rm -rf "$dir"' EXIT
trap 'exit 1' INT TERM
ROUSE_KAFKA_BOOTSTRAP=$("$root/test/kafka/cluster.sh" up "$brokers" "$dir")
ROUSE_KAFKA_LOGIN=$("$root/test/kafka/cluster.sh" login "$brokers")
export ROUSE_KAFKA_BOOTSTRAP ROUSE_KAFKA_LOGIN
echo "Apache Kafka at $ROUSE_KAFKA_BOOTSTRAP"
"$@"
