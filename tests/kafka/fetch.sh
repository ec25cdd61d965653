#!/bin/sh
# Fetches the jars of the test broker by Maven, once, into ${DETECTOR_KAFKA_JARS:-<repository>/.cache/kafka}.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
jars=${DETECTOR_KAFKA_JARS:-$here/../../.cache/kafka}
stamp=$jars/.complete

if [ -f "$stamp" ] && cmp -s "$here/pom.xml" "$stamp"; then
    exit 0
fi
command -v mvn >/dev/null || { echo "fetch.sh: Maven is not installed; the tests that need a broker will be skipped" >&2; exit 3; }
mkdir -p "$jars"
rm -f "$stamp" "$jars"/*.jar
mvn -B -q -f "$here/pom.xml" dependency:copy-dependencies -DincludeScope=runtime "-DoutputDirectory=$(cd "$jars" && pwd)"
cp "$here/pom.xml" "$stamp"
