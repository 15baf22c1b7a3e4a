/*
 * The table of the configuration's keys, for config.c and config_keys.c alone. A key is its place in
 * struct config, its kind, default, limits, what is allowed in words, and a sentence of help.
 */
#pragma once
#include "wire/config.h"

enum kind { TEXT, U32, U16, SWITCH, LEVEL, LISTENS, PORTS, PREFIX, PREFIXES, IPS };

struct key {
	const char *name;
	enum kind kind;
	size_t offset, size;		 /* in struct config */
	const char *def;
	uint32_t min, max;		 /* numbers; prefix lengths */
	uint8_t family;			 /* PREFIX */
	bool plain;			 /* LISTENS: no dialect may be named */
	bool (*ok)(struct str);		 /* TEXT: beyond fitting */
	const char *words[2];		 /* SWITCH: false, true */
	const char *allowed;		 /* for people; numbers and switches make their own */
	const char *help;
};

extern const struct key config_keys[]; /* in the order of the example file */
extern const size_t config_n_keys;
