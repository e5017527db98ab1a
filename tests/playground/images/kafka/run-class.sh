#!/bin/sh
# Runs a class of Kafka as its own scripts do: heap and options by environment, tools log to standard error.
log4j=${KAFKA_LOG4J_OPTS:--Dlog4j.configuration=file:/etc/kafka/docker/tools-log4j.properties}
# shellcheck disable=SC2086
exec "${JAVA_HOME:-/usr}/bin/java" ${KAFKA_HEAP_OPTS:--Xmx256m} -XX:+UseSerialGC -XX:TieredStopAtLevel=4 $log4j -cp '/opt/kafka/libs/*' "$@"
