/* The headers in C++, of each dialect, and a function of each kind called from it. */
#include <cstdio>

#include <cfs-ipc-ops.h>
#include <pmxcfs.h>
#include <qb/qbipcc.h>
#include <qb/qblog.h>

#if __cplusplus >= 201103L
static_assert(sizeof(qb_ipc_request_header) == sizeof(pmxcfs_request_header), "request");
static_assert(offsetof(qb_ipc_response_header, error) == offsetof(pmxcfs_response_header, error), "error");
#endif

int main()
{
	pmxcfs_options options = PMXCFS_OPTIONS_INIT;
	pmxcfs_answer answer = PMXCFS_ANSWER_INIT;
	if (pmxcfs_options_init(&options) != 0 || pmxcfs_get_fs_version(NULL, &answer) == 0)
		return 1;
	if (pmxcfs_version_number() != PMXCFS_VERSION_NUMBER)
		return 2;
	pmxcfs_answer_free(&answer);
	std::printf("%s\n", pmxcfs_version());
	return 0;
}
