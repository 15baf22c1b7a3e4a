/* A client's bytes as WebSocket frames: what is taken lies within what came, and masked once more is
 * what it was. */
#include "wire/ws.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *copy = malloc(size + 1);
	size_t at = 0, taken;
	struct ws_frame f;

	if (!copy)
		return 0;
	memcpy(copy, data, size);
	while (ws_next(copy + at, size - at, 4096, &f, &taken) == 1) {
		const uint8_t *mask = (const uint8_t *)f.body.p - 4;

		if (!taken || taken > size - at || f.body.p + f.body.n != copy + at + taken ||
			f.body.n > 4096)
			abort();
		for (size_t i = 0; i < f.body.n; i++)
			if ((uint8_t)(f.body.p[i] ^ (char)mask[i % 4]) !=
				data[(size_t)(f.body.p - copy) + i])
				abort();
		at += taken;
	}
	free(copy);
	return 0;
}
