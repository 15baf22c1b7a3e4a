/*
 * Configuration text. What is accepted can be printed and reads back to the same; what is refused
 * is complained about.
 */
#include "wire/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	auto_buf struct buf complaints = BUF_MAX(1 << 20), once = BUF_MAX(1 << 20),
			    twice = BUF_MAX(1 << 20);
	struct config c, back;
	int r;

	config_defaults(&c);
	r = config_read(&c, "fuzz", str_n(data, size), &complaints);
	if ((r < 0) != (complaints.n > 0 || buf_failed(&complaints)))
		abort();
	config_print(&c, size % 2, &once);
	config_defaults(&back);
	if (config_read(&back, "printed", buf_str(&once), &complaints) < 0)
		abort();
	config_print(&back, size % 2, &twice);
	if (!str_eq(buf_str(&once), buf_str(&twice)))
		abort();
	config_finish(&c, &complaints);
	return 0;
}
