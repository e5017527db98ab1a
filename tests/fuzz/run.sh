#!/bin/bash
# Runs each fuzz target under libFuzzer.   tests/fuzz/run.sh BUILD SECONDS
set -u
build=$1
seconds=$2
failed=0
libs=$(pkg-config --libs check rdkafka libmicrohttpd gnutls libcurl libcrypto libuv jansson libxxhash nettle yaml-0.1 liblz4)
mkdir -p "$build/bin"
for object in "$build"/obj/tests/fuzz/fuzz_*.o; do
    name=$(basename "$object" .o)
    # shellcheck disable=SC2086
    clang -fsanitize=fuzzer,address,undefined -rdynamic -o "$build/bin/$name" "$object" -Wl,--start-group "$build"/lib/lib*.a -Wl,--end-group \
        $libs -ldl -lm -lpthread || exit 1
    mkdir -p "build/fuzz-corpus/$name" "build/fuzz-crashes"
    echo "$name: $seconds s"
    if ! "$build/bin/$name" -max_total_time="$seconds" -rss_limit_mb=2048 -timeout=10 -artifact_prefix="$PWD/build/fuzz-crashes/$name-" \
        -print_final_stats=0 "$PWD/build/fuzz-corpus/$name" "$PWD/tests/fuzz/corpus/${name#fuzz_}" >"$build/$name.log" 2>&1; then
        echo "FAILED $name"
        tail -30 "$build/$name.log"
        failed=1
    fi
done
exit "$failed"
