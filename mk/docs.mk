# make docs: the reference pages in docs/ from the tables and from the programs' help. make check-docs: are the committed ones current?
.PHONY: docs check-docs
docs:
	$(Q)$(BUILD_ALL) programs
	@python3 docs/generate.py $(BUILD)/bin
check-docs:
	$(Q)$(BUILD_ALL) programs
	@python3 docs/generate.py $(BUILD)/bin --check && echo "1 passed, 0 failed"
