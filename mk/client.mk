# The version that `flink --version` prints.
CFLAGS_client_cli_cli := -DMILLRACE_COMMIT='"$(COMMIT)"'
