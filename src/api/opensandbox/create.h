/* POST /v1/sandboxes: section 2.4 of the contract. */
#pragma once
#include "api/api.h"
#include "wire/json.h"

/* What a create body says, checked as far as it can be without store and host. Texts borrow from
 * the JSON; what is owned is freed by opensandbox_ask_done(). */
struct opensandbox_ask {
	struct str snapshot, image, user, password;
	json_t *image_v, *auth_v, *entrypoint, *limits, *requests, *env, *metadata, *network_v,
		*extensions, *volumes, *platform, *credential;
	int64_t timeout;
	bool timeout_seen, secure;
	/* made of them */
	json_t *envs;	 /* owned: env without what is null, and without the next */
	struct str execd_token; /* GUARD_EXECD_ENV: never among them */
	json_t *network; /* owned: canonical */
	struct str runtime;
	uint32_t cpu_milli, mem_mib, disk_mib;
};
/* *ret_code: the contract's name for the error. */
int opensandbox_ask(const struct api *a, const json_t *body, struct opensandbox_ask *ret,
	const char **ret_code, struct err *err);
void opensandbox_ask_done(void *ask);
