// The headers in C++, and a function of each kind called from it.
#include <cstdio>

#include <cfs-ipc-ops.h>
#include <pmxcfs.h>
#include <qb/qbipcc.h>
#include <qb/qblog.h>

static_assert(sizeof(qb_ipc_request_header) == sizeof(pmxcfs_request_header), "request");
static_assert(offsetof(qb_ipc_response_header, error) == offsetof(pmxcfs_response_header, error), "error");

int main()
{
	pmxcfs_options options;
	pmxcfs_answer answer = {};
	if (pmxcfs_options_init(&options) != 0 || pmxcfs_get_fs_version(nullptr, &answer) == 0)
		return 1;
	pmxcfs_answer_free(&answer);
	std::printf("%s\n", pmxcfs_version());
	return 0;
}
