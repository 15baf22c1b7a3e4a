/*
 * Lifting one defence, for tests alone. An attack that fails proves little until the same attempt
 * succeeds without the defence that is said to stop it. A build with WEIR_LIFT (the test driver's
 * own copy of this room) has a word of bits; in the product LIFTED() is the constant 0.
 */
#pragma once

enum lift {
	LIFT_SECCOMP = 1 << 0,	/* no system call filter */
	LIFT_CAPS = 1 << 1,	/* all capabilities of the user namespace */
	LIFT_MASKS = 1 << 2,	/* nothing hidden or read-only in /proc and /sys */
	LIFT_FDS = 1 << 3,	/* descriptors of the host role stay open */
	LIFT_SEALS = 1 << 4,	/* the agent runs from a writable file */
	LIFT_USERNS = 1 << 5,	/* root inside is root outside */
	LIFT_LINKS = 1 << 6,	/* mount targets follow the image's symbolic links */
	LIFT_NODEV = 1 << 7,	/* device nodes of the image work */
	LIFT_CORE = 1 << 8,	/* core dumps as the host has them */
	LIFT_OWNER = 1 << 9,	/* the user namespace is the host's root's */
};

#ifdef WEIR_LIFT
extern unsigned int lifted;
#define LIFTED(bit) (lifted & (bit))
#else
#define LIFTED(bit) 0
#endif
