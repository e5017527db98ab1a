# What REST shows as the commit of this build.
COMMIT_DATE := $(shell git -C $(ROOT) log -1 --format=%cI 2>/dev/null || echo unknown)
CFLAGS_jobmanager_rest_handler_cluster := -DMILLRACE_COMMIT='"$(COMMIT)"' -DMILLRACE_COMMIT_DATE='"$(COMMIT_DATE)"'
