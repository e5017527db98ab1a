/* The files of checkpoints and savepoints as the jobmanager handles them: metadata is written, directories are deleted,
 * and savepoints are read for a start, all on pool threads; results come back on the loop. Thread: the loop. */
#ifndef MILLRACE_JOBMANAGER_CHECKPOINT_FILES_H
#define MILLRACE_JOBMANAGER_CHECKPOINT_FILES_H

#include "jobmanager/jobmanager.h"

/* ACTION_WRITE_METADATA: takes directory, metadata and copies from the action; feeds EVENT_METADATA_WRITTEN later. */
void checkpoint_files_write(struct jobmanager *jobmanager, struct action *action);
/* ACTION_DELETE_DIRECTORY: with a trigger id, its operation gets the result; else failures are logged. */
void checkpoint_files_delete(struct jobmanager *jobmanager, struct action *action);
/* Reads the metadata behind a user's path. done gets the metadata (taken) and its directory (borrowed), or an error
 * (taken) and NULLs. */
void checkpoint_files_read(struct jobmanager *jobmanager, const char *path,
                           void (*done)(json_t *metadata, const char *directory, struct error *err, void *argument), void *argument);
/* Looks whether path is a savepoint and asks the core to delete it; the operation gets the result. */
void checkpoint_files_dispose(struct jobmanager *jobmanager, struct id trigger_id, const char *path);

#endif
