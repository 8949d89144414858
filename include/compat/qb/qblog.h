/*
 * libqb's log, as far as clients of pmxcfs set it up, for building them without libqb's headers. On
 * pmxcfs's own library both functions do nothing.
 */
#ifndef PMXCFS_COMPAT_QBLOG_H
#define PMXCFS_COMPAT_QBLOG_H

#include <stdint.h>
#include <syslog.h>

#include <qb/qbdefs.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
	QB_LOG_SYSLOG = 0,
	QB_LOG_STDERR = 1,
	QB_LOG_BLACKBOX = 2,
	QB_LOG_STDOUT = 3
};

enum qb_log_conf {
	QB_LOG_CONF_ENABLED = 0,
	QB_LOG_CONF_FACILITY = 1
};

void qb_log_init(const char *name, int32_t facility, uint8_t priority);

/* 0, or a negative errno. */
int32_t qb_log_ctl(int32_t target, enum qb_log_conf conf_type, int32_t arg);

#ifdef __cplusplus
}
#endif

#endif
