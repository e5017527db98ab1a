# make bench-engine: the engine alone, without Kafka (BENCH_ENGINE_ARGS="--rows 50000000 --parallelism 1").
# The program itself is built by the rule for tests/bench (mk/bench.mk).
.PHONY: bench-engine
bench-engine: $(BUILD)/bench/bench_engine
	$(BUILD)/bench/bench_engine --json $(BUILD)/bench/engine.json $(BENCH_ENGINE_ARGS)
