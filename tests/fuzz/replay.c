/*
 * Stands in for libFuzzer's main(): feeds every file named on the command line, or found in a
 * directory named there, to the target once. So each finding stays a test.
 */
#include <dirent.h>
#include <fcntl.h>
#include "base/fd.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay_file(const char *path)
{
	struct buf content = BUF_MAX(16u << 20);
	int r = file_read(AT_FDCWD, path, &content);

	if (r < 0) {
		fprintf(stderr, "%s: %s\n", path, strerror(-r));
		return 1;
	}
	/* An exact copy, so that a read past the end is seen by the sanitizer. */
	uint8_t *exact = malloc(content.n ? content.n : 1);

	if (!exact)
		return 1;
	if (content.n)
		memcpy(exact, content.p, content.n);
	LLVMFuzzerTestOneInput(exact, content.n);
	free(exact);
	buf_done(&content);
	return 0;
}

int main(int argc, char **argv)
{
	unsigned int files = 0, failed = 0;

	for (int i = 1; i < argc; i++) {
		DIR *dir = opendir(argv[i]);
		struct dirent *e;

		if (!dir) {
			files++;
			failed += (unsigned int)replay_file(argv[i]);
			continue;
		}
		while ((e = readdir(dir))) {
			char path[4096];

			if (e->d_name[0] == '.')
				continue;
			snprintf(path, sizeof(path), "%s/%s", argv[i], e->d_name);
			files++;
			failed += (unsigned int)replay_file(path);
		}
		closedir(dir);
	}
	printf("%u inputs replayed, %u failed\n", files, failed);
	return failed || !files;
}
