# make bench-json: the JSON decoder alone.
.PHONY: bench-json
bench-json: $(BUILD)/bench/bench_json
	@$(BUILD)/bench/bench_json
# The decoder's hot path is one inlined function.
CFLAGS_taskmanager_formats_json_decoder := -O3
