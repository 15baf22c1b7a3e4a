/* OpenSandbox's routes: see api/route.h for the columns. */
#include "api/opensandbox/opensandbox.h"

/* clang-format off */
const struct route opensandbox_routes[] = {
	{ HTTP_M_OTHER, "/{*}",			AUTH_USER,  BODY_NONE,   0,		 not_built },
};
/* clang-format on */
const size_t opensandbox_routes_n = ARRAY_SIZE(opensandbox_routes);
