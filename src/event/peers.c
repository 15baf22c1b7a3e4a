/* Connections per address: see the header. */
#include <netinet/in.h>
#include <stdlib.h>
#include "event/peers.h"

static struct ip subject_of(const struct sockaddr *from)
{
	struct ip ip = ip_sockaddr(from);

	if (ip.family == 6)
		memset(ip.a + 8, 0, 8);
	return ip;
}

struct peer *peers_join(struct peer **table, const struct sockaddr *from)
{
	struct ip ip = subject_of(from);
	struct peer *p;

	HASH_FIND(hh, *table, &ip, sizeof(ip), p);
	if (!p) {
		p = calloc(1, sizeof(*p));
		if (!p)
			return NULL;
		p->ip = ip;
		turn_line_init(&p->line);
		HASH_ADD(hh, *table, ip, sizeof(p->ip), p);
		if (!table_has(p)) {
			free(p);
			return NULL;
		}
	}
	p->n++;
	return p;
}

void peers_leave(struct peer **table, struct peer *p)
{
	if (!p || --p->n)
		return;
	HASH_DEL(*table, p);
	free(p);
}
