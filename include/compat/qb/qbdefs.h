/* libqb's truth values, for building clients of pmxcfs without libqb's headers. */
#ifndef PMXCFS_COMPAT_QBDEFS_H
#define PMXCFS_COMPAT_QBDEFS_H

#define QB_FALSE 0
#define QB_TRUE (!QB_FALSE)

#endif
