/* sandbox0's routes: see api/route.h for the columns. */
#include "api/sandbox0/sandbox0.h"

/* clang-format off */
const struct route sandbox0_routes[] = {
	{ HTTP_M_OTHER, "/{*}",			AUTH_USER,  BODY_NONE,   0,		 not_built },
};
/* clang-format on */
const size_t sandbox0_routes_n = ARRAY_SIZE(sandbox0_routes);
