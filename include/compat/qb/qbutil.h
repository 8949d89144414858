/* Nothing of libqb's helpers is offered; clients of pmxcfs include this header without need. */
#ifndef PMXCFS_COMPAT_QBUTIL_H
#define PMXCFS_COMPAT_QBUTIL_H

#include <qb/qbdefs.h>

#endif
