/* Every header, twice, in any order: each brings what it needs. */
#include <qb/qblog.h>
#include <pmxcfs.h>
#include <qb/qbipcc.h>
#include <cfs-ipc-ops.h>
#include <qb/qbutil.h>
#include <qb/qbdefs.h>
#include <qb/qbipc_common.h>

#include <cfs-ipc-ops.h>
#include <pmxcfs.h>
#include <qb/qbipcc.h>
#include <qb/qblog.h>

#if defined(__STDC_VERSION__) && __STDC_VERSION__ >= 201112L
_Static_assert(sizeof(struct qb_ipc_request_header) == sizeof(pmxcfs_request_header), "request");
_Static_assert(sizeof(struct qb_ipc_response_header) == sizeof(pmxcfs_response_header), "response");
_Static_assert(CFS_IPC_GET_GUEST_CONFIG_PROPERTIES == 13, "numbers");
_Static_assert(QB_TRUE && !QB_FALSE && QB_LOG_SYSLOG == 0 && QB_LOG_CONF_ENABLED == 0, "log");
#endif

int main(void)
{
	return 0;
}
