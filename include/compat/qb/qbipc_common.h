/* What begins libqb's messages, for building clients of pmxcfs without libqb's headers. */
#ifndef PMXCFS_COMPAT_QBIPC_COMMON_H
#define PMXCFS_COMPAT_QBIPC_COMMON_H

#include <stdint.h>

/* Each value takes 8 bytes. */
#define PMXCFS_COMPAT_WIDE __attribute__((aligned(8)))

struct qb_ipc_request_header {
	int32_t id PMXCFS_COMPAT_WIDE;
	int32_t size PMXCFS_COMPAT_WIDE;
} PMXCFS_COMPAT_WIDE;

struct qb_ipc_response_header {
	int32_t id PMXCFS_COMPAT_WIDE;
	int32_t size PMXCFS_COMPAT_WIDE;
	int32_t error PMXCFS_COMPAT_WIDE;
} PMXCFS_COMPAT_WIDE;

#undef PMXCFS_COMPAT_WIDE

/* The first number that a program may give a request. */
#define QB_IPC_MSG_USER_START 0

#endif
