/*
 * What every file of Weir includes first: the C string and memory headers, a
 * few macros, ownership helpers, and then a ban on the calls that lose lengths.
 *
 * Ownership follows three lifetimes. A *scope* owns through auto_free and
 * auto_fd and hands over with take_ptr() and take_fd(). A *request* owns an
 * arena and drops it whole. An *object* is made by x_new() and ended by
 * x_free(), which accepts NULL.
 */
#pragma once

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/param.h> /* before its MIN and MAX go: libuv's headers include it as well */
#include <unistd.h>

#define ARRAY_SIZE(a)	 (sizeof(a) / sizeof((a)[0]))
#define _cleanup_(f)	 __attribute__((cleanup(f)))
#define _printf_(f, a)	 __attribute__((format(printf, f, a)))
#define _warn_unused_	 __attribute__((warn_unused_result))
#define _noreturn_	 __attribute__((noreturn))
#define _unused_	 __attribute__((unused))
#define container_of(ptr, type, member)                                                            \
	((type *)((char *)(ptr) - offsetof(type, member)))

/* The smaller and the larger of two. Unlike those of <sys/param.h> they evaluate each side once, so that
 * it may be a call; types stay as they are, so one of the other sign is warned of. */
#undef MIN
#undef MAX
#define MIN(a, b) BASE_ONCE(a, b, <, __COUNTER__) /* names of their own: they nest */
#define MAX(a, b) BASE_ONCE(a, b, >, __COUNTER__)
#define BASE_ONCE(a, b, op, n)	BASE_ONCE_(a, b, op, n)
#define BASE_ONCE_(a, b, op, n) BASE_PICK(a, b, op, left_##n, right_##n)
#define BASE_PICK(a, b, op, left, right)                                                           \
	({                                                                                         \
		typeof(a) left = (a);                                                              \
		typeof(b) right = (b);                                                             \
		left op right ? left : right;                                                      \
	})

static inline void auto_free_done(void *p)
{
	free(*(void **)p);
}
#define auto_free _cleanup_(auto_free_done)

/* Hand the value over: the variable no longer owns it. */
#define take_ptr(p)                                                                                \
	({                                                                                         \
		typeof(p) taken_ = (p);                                                            \
		(p) = NULL;                                                                        \
		taken_;                                                                            \
	})
#define take_fd(fd)                                                                                \
	({                                                                                         \
		int taken_ = (fd);                                                                 \
		(fd) = -EBADF;                                                                     \
		taken_;                                                                            \
	})

/* Close unless negative, keep errno, return -EBADF for `fd = fd_close(fd)`. */
int fd_close(int fd);
static inline void auto_fd_done(int *fd)
{
	fd_close(*fd);
}
#define auto_fd _cleanup_(auto_fd_done)

/* Calls that forget a length or a failure. Use base/str.h and base/buf.h. */
#undef sprintf /* clang's fortified headers make macros of these two */
#undef vsprintf
#pragma GCC poison strcpy strcat sprintf vsprintf strtok atoi atol atoll gets strncpy strncat
