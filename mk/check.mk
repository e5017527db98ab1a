# make check: everything that must be green. Its parts, each a target of its own:
#   check-style  layers, banned calls, dead code, tables (mk/tidy.mk)
#   check-unit   unit and property tests                check-sim    the coordinator through seeded failures
#   check-fuzz   corpora through the fuzz targets       check-san    unit tests under the sanitizers
#   check-docs   docs/ is what the tables say (mk/docs.mk)
#   check-e2e    real processes, real Kafka, kills      check-san-e2e  the same, some of it under the sanitizers
.PHONY: check check-unit check-sim check-fuzz check-san check-e2e check-san-e2e check-programs
check: deps-check
	@$(MAKE) --no-print-directory check-style check-unit check-docs check-sim check-fuzz check-san check-e2e check-san-e2e
	@echo "make check: all parts passed"

# Programs that tests load as jobs: tests/programs/null_pointer.c becomes $(BUILD)/tests/programs/null_pointer.so
SRC_programs := $(wildcard tests/programs/*.c)
TEST_PROGRAMS := $(foreach s,$(SRC_programs),$(BUILD)/tests/programs/$(basename $(notdir $(s))).so)
$(BUILD)/tests/programs/%.so: tests/programs/%.c client/api/millrace/function.h client/api/millrace/record.h | $(LIBMILLRACE)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -fPIC -shared -o $@ $< -L$(LIB) -lmillrace -Wl,-rpath,'$$ORIGIN/../../lib'
check-programs: $(TEST_PROGRAMS)

check-unit:
	$(Q)$(BUILD_ALL) all unit check-programs
	@BUILD=$(BUILD) tests/run_unit.sh $(UNIT)

# Sanitized builds go to folders of their own; one make each, so that the flags are those of SAN=.
check-san:
	@$(MAKE) --no-print-directory SAN=address,undefined check-unit
	@$(MAKE) --no-print-directory SAN=thread check-unit

# The seeds, and the proof that the simulator can fail: bugs that are put in on purpose (mk/sim.mk).
check-sim:
	@$(MAKE) --no-print-directory sim sim-canaries

SRC_fuzz := $(wildcard tests/fuzz/fuzz_*.c)
FUZZ := $(foreach s,$(SRC_fuzz),$(BUILD)/fuzz/$(basename $(notdir $(s))))
# Replays the corpora through the same entry points that libFuzzer drives (make fuzz runs the fuzzers themselves).
$(foreach s,$(SRC_fuzz),$(eval $(call test_program,fuzz,$(s),$(BUILD)/obj/tests/fuzz/replay.o)))
.PHONY: fuzz-replay fuzz
fuzz-replay:
	$(Q)$(BUILD_ALL) $(FUZZ)
	@tests/fuzz/replay.sh $(BUILD)/fuzz
check-fuzz:
	@$(MAKE) --no-print-directory SAN=address,undefined fuzz-replay
# FUZZ_SECONDS a target, with clang's libFuzzer; new inputs go to build/fuzz-corpus.
fuzz: deps-deep
	@$(MAKE) --no-print-directory BUILD=build/fuzz-clang CC=clang OPT="-O1 -fsanitize=fuzzer-no-link,address,undefined" fuzz-run
fuzz-run: $(call objects,$(SRC_fuzz)) $(LIB)/libsupport.a $(LIB)/libjobmanager.a $(LIB)/libagent.a $(LIB)/librunner.a $(LIB)/libclient.a $(COMMON_A)
	@tests/fuzz/run.sh $(BUILD) $(or $(FUZZ_SECONDS),30)

check-e2e:
	$(Q)$(BUILD_ALL) all check-programs $(BUILD)/tests/test_kafka $(BUILD)/tests/test_kafka_transaction
	@BUILD=$(BUILD) MILLRACE_TEST_CACHE=$(abspath build/test-cache) python3 -m tests.e2e.run $(addprefix -k ,$(K)) \
	    $(addprefix -j ,$(or $(PARALLEL),$(if $(SAN),$(CPUS)))) $(addprefix --seed ,$(SEED))
# A part under the sanitizers, which are slow: the kills; .ci/run takes all of the click count's tests (SAN_K=click_count).
check-san-e2e:
	@KILLS=2 $(MAKE) --no-print-directory SAN=address,undefined K=$(or $(SAN_K),click_count_kills) check-e2e
	@KILLS=1 $(MAKE) --no-print-directory SAN=thread K=click_count_kills check-e2e
