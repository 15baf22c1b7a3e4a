/* "config" of a claim and of an update: what it says, checked as far as it can be without a
 * sandbox. Texts and JSON borrow from the body. */
#pragma once
#include "api/sandbox0/sandbox0.h"

struct sandbox0_config {
	json_t *env_vars, *resources, *network, *services, *exposed_ports, *webhook;
	char *published; /* of services or exposed_ports, as the row has it; NULL: not said */
	int64_t ttl, hard_ttl; /* seconds; 0: never */
	bool auto_resume;
	bool has_env_vars, has_network, has_ttl, has_hard_ttl, has_auto_resume;
	uint32_t mem_mib; /* 0: not said */
};
void config_done(struct sandbox0_config *c);
/* json NULL or null: nothing is said. Errors name config.<member>. On failure nothing is kept. */
int config_decode(const json_t *json, struct sandbox0_config *ret, struct err *err);
/* Lengths of time against each other. */
int config_check_times(int64_t ttl, int64_t hard_ttl, struct err *err);
/* "512Mi", as config.resources.memory and the view of a sandbox have it. */
void config_memory_text(uint32_t mib, char ret[static 16]);
