#!/bin/sh
# Apache Kafka in KRaft mode on loopback, from Maven Central, without containers. Needs Java 17 and mvn.
#   cluster.sh up N DIR      start N brokers (1 or 3) with their data under DIR; prints bootstrap addresses
#   cluster.sh stop I DIR    kill broker I hard;  cluster.sh start I DIR  start it again
#   cluster.sh down DIR      end all brokers
#   cluster.sh login N       print user:password@addresses of the listeners, 50 ports above, that want PLAIN or SCRAM
# ROUSE_KAFKA_LIBS names a folder with the libraries already in it; ROUSE_KAFKA_PORT is the port below the first broker's.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cmd=$1
id=aaaaaaaaaaaaaaaaaaaaaw
user=rouse password=open-sesame # of the listeners that want a login; for nobody but tests
port=${ROUSE_KAFKA_PORT:-29090}

libs() {
	libs=${ROUSE_KAFKA_LIBS:-$1/libs}
	[ -d "$libs" ] || mvn -q -B -f "$here/pom.xml" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$libs" >&2
}

props() { # I N DIR
	voters= ; v=1
	while [ $v -le "$2" ]; do voters=${voters:+$voters,}$v@127.0.0.1:$((port + 100 + v)); v=$((v + 1)); done
	replicas=$2
	cat >"$3/$1.properties" <<EOF
process.roles=broker,controller
node.id=$1
controller.quorum.voters=$voters
listeners=PLAINTEXT://127.0.0.1:$((port + $1)),LOGIN://127.0.0.1:$((port + 50 + $1)),CONTROLLER://127.0.0.1:$((port + 100 + $1))
advertised.listeners=PLAINTEXT://127.0.0.1:$((port + $1)),LOGIN://127.0.0.1:$((port + 50 + $1))
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,LOGIN:SASL_PLAINTEXT
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256
listener.name.login.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_$user="$password";
listener.name.login.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
log.dirs=$3/data$1
num.partitions=4
default.replication.factor=$replicas
min.insync.replicas=$((replicas / 2 + 1))
offsets.topic.replication.factor=$replicas
offsets.topic.num.partitions=8
transaction.state.log.replication.factor=$replicas
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
auto.create.topics.enable=true
EOF
}

java_broker() { # I DIR
	nohup java -Xmx256m -Xms128m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Dorg.apache.logging.log4j.level=INFO -cp "$libs/*" kafka.Kafka "$2/$1.properties" >"$2/$1.log" 2>&1 &
	echo $! >"$2/$1.pid"
}

await() { # I DIR
	waited=0
	until grep -qs "Kafka Server started" "$2/$1.log"; do
		waited=$((waited + 1))
		if [ $waited -gt 600 ] || ! kill -0 "$(cat "$2/$1.pid")" 2>/dev/null; then echo "broker $1 did not start; see $2/$1.log" >&2; exit 1; fi
		sleep 0.2
	done
}

case $cmd in
up)
	n=$2; dir=$3; mkdir -p "$dir"; libs "$dir"; i=1
	while [ $i -le "$n" ]; do
		props $i "$n" "$dir"
		java -cp "$libs/*" kafka.tools.StorageTool format -t $id -c "$dir/$i.properties" --ignore-formatted \
			--add-scram "SCRAM-SHA-256=[name=$user,password=$password]" >/dev/null 2>"$dir/format.log"
		i=$((i + 1))
	done
	i=1; addrs=
	while [ $i -le "$n" ]; do java_broker $i "$dir"; addrs=${addrs:+$addrs,}127.0.0.1:$((port + i)); i=$((i + 1)); done
	i=1
	while [ $i -le "$n" ]; do await $i "$dir"; i=$((i + 1)); done
	echo "$addrs"
	;;
stop) kill -9 "$(cat "$3/$2.pid")"; rm "$3/$2.pid" ;;
start) dir=$3; libs "$dir"; java_broker "$2" "$dir"; await "$2" "$dir" ;;
login)
	i=1; addrs=
	while [ $i -le "$2" ]; do addrs=${addrs:+$addrs,}127.0.0.1:$((port + 50 + i)); i=$((i + 1)); done
	echo "$user:$password@$addrs"
	;;
down)
	for f in "$2"/*.pid; do
		[ -e "$f" ] || continue
		kill "$(cat "$f")" 2>/dev/null || true
	done
	for f in "$2"/*.pid; do # a broker that still writes must not meet whoever takes its folder or its port next
		[ -e "$f" ] || continue
		waited=0
		while kill -0 "$(cat "$f")" 2>/dev/null; do
			waited=$((waited + 1))
			[ $waited -lt 50 ] || kill -9 "$(cat "$f")" 2>/dev/null || true
			[ $waited -lt 100 ] || break
			sleep 0.1
		done
		rm "$f"
	done
	;;
*) sed -n '2,8s/^# //p' "$0"; exit 2 ;;
esac
