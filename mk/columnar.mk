# Loops over columns are worth the compiler's vectoriser.
CFLAGS_common_columnar_batch := -O3
CFLAGS_common_columnar_batch_hash := -O3
