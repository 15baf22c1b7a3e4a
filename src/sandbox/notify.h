/*
 * Telling the service manager that our loop turns: the host role keeps the others (watch.h), and
 * systemd keeps the host role (WatchdogSec= in weird.service). sd_notify(3), the one line of it that
 * is needed.
 */
#pragma once

/* A socket connected to the manager; -ENOENT if none wants to hear from us. Takes the request out of
 * the environment: it was meant for us alone. */
int notify_open(void);
void notify_alive(int fd); /* -EBADF or another negative: nobody listens */
