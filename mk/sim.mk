# The seeded simulator of the coordinator core (tests/sim). SIM_SEEDS=N, SIM_SEED=FIRST, SIM_ARGS=--verbose
#   make sim            seeds must hold
#   make sim-canaries   injected bugs must be found
SRC_sim   := $(wildcard tests/sim/*.c)
SIM       := $(BUILD)/tests/sim
SIM_SEEDS ?= $(if $(SAN),300,10000)
SIM_SEED  ?= 1
SIM_CANARIES := early-commit no-fence no-kill-wait wrong-restore slot-leak delete-latest lost-delete

.PHONY: sim sim-canaries
$(SIM): $(call objects,$(SRC_sim)) $(call objects,$(call sources,jobmanager/core)) $(COMMON_A)
	$(call link,$^,$(call pkg,$(LIBS_common)) -ldl -lm)
sim: $(SIM)
	@tests/sim/run.sh $(SIM) $(SIM_SEEDS) $(SIM_SEED) $(SIM_ARGS)
sim-canaries: $(SIM)
	@for bug in $(SIM_CANARIES); do \
	    if $(SIM) --seeds 2000 --inject $$bug >$(BUILD)/tests/sim-$$bug.log 2>&1; then \
	        echo "sim: the injected bug $$bug was not found"; exit 1; \
	    else echo "sim: found $$bug: $$(tail -2 $(BUILD)/tests/sim-$$bug.log | head -1)"; fi; \
	done
