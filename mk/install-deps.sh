#!/bin/sh
# Installs the Debian packages that Millrace needs, and says so. Nothing happens when they are there.
#   mk/install-deps.sh build    to build and run
#   mk/install-deps.sh check    also to test: a Java runtime and Maven for a real Kafka broker, Prometheus to scrape us
#   mk/install-deps.sh tools    for make check-web and make check-flink-tools: a browser without a screen, a Java compiler
#   mk/install-deps.sh playground   for make check-playground: Docker, docker-compose, and what its images are made from
#   mk/install-deps.sh deep     also for make fuzz and make tidy-deep: clang and its tools, cppcheck
set -eu

build="gcc libc6-dev make pkg-config git libuv1-dev librdkafka-dev libjansson-dev libmicrohttpd-dev libgnutls28-dev libcurl4-openssl-dev libssl-dev
       libxxhash-dev nettle-dev libyaml-dev liblz4-dev libmimalloc-dev"
check="check python3 openjdk-17-jre-headless maven kcat curl openssl prometheus"
tools="chromium chromium-driver fonts-dejavu-core openjdk-17-jdk-headless"
deep="clang libclang-rt-14-dev clang-tidy cppcheck"
playground="python3 docker.io docker-compose debootstrap iptables iproute2 openjdk-17-jre-headless maven kcat curl"

case "${1:-build}" in
build) wanted="$build" ;;
check) wanted="$build $check" ;;
playground) wanted="$playground" ;;
tools) wanted="$build $check $tools" ;;
deep) wanted="$build $check $deep" ;;
*) echo "usage: $0 build|check|tools|playground|deep" >&2; exit 2 ;;
esac

if ! command -v dpkg-query >/dev/null 2>&1; then
    echo "This is not Debian: install the equivalents of these packages yourself: $wanted" | tr -s ' \n' ' ' >&2
    echo >&2
    exit 0
fi

missing=""
for package in $wanted; do
    if ! dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q '^install ok installed'; then
        missing="$missing $package"
    fi
done
# Any Java 17 or later does; do not install a second one.
if command -v java >/dev/null 2>&1; then
    missing=$(echo "$missing" | sed 's/ openjdk-17-jre-headless//')
fi
if command -v javac >/dev/null 2>&1; then
    missing=$(echo "$missing" | sed 's/ openjdk-17-jdk-headless//')
fi
if command -v mvn >/dev/null 2>&1; then
    missing=$(echo "$missing" | sed 's/ maven//')
fi
# Likewise Docker from its own packages.
if command -v dockerd >/dev/null 2>&1; then
    missing=$(echo "$missing" | sed 's/ docker\.io//')
fi
if command -v docker-compose >/dev/null 2>&1; then
    missing=$(echo "$missing" | sed 's/ docker-compose//')
fi
[ -n "$missing" ] || exit 0

as_root=""
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null 2>&1; then
        echo "These packages are missing and there is no sudo to install them with:$missing" >&2
        echo "Install them as root: apt-get install$missing" >&2
        exit 1
    fi
    as_root=sudo
fi
echo "Installing with apt-get:$missing"
$as_root apt-get update -qq
# shellcheck disable=SC2086
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
echo "Installed."
