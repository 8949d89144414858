/*
 * Compiled against the header of each release and run on the library of today, where it must still
 * work. Uses only names of 0.1.0.
 */
#include <pmxcfs.h>

#include "../check.h"

enum { PATIENCE_MS = 20000, FILL = 0xa5 };

/* Options with memory behind them that the library must not touch. */
struct guarded {
	pmxcfs_options options;
	unsigned char guard[256];
};

static void init_stays_inside(void)
{
	struct guarded memory;
	size_t i;
	memset(&memory, FILL, sizeof memory);
	CHECK_IS(pmxcfs_options_init(&memory.options), 0);
	CHECK_IS(memory.options.size, sizeof(pmxcfs_options));
	CHECK_IS(strcmp(memory.options.service, PMXCFS_SERVICE), 0);
	CHECK_IS(strcmp(memory.options.restart_flag, PMXCFS_RESTART_FLAG), 0);
	CHECK_IS(memory.options.message_max, PMXCFS_MESSAGE_MAX);
	CHECK_IS(memory.options.connect_timeout_ms, 10000);
	CHECK_IS(memory.options.timeout_ms, PMXCFS_NO_LIMIT);
	CHECK_IS(memory.options.restart_timeout_ms, 10000);
	CHECK_IS(memory.options.resend, 1);
	for (i = 0; i < sizeof memory.guard; i++)
		CHECK_IS(memory.guard[i], FILL);
}

/* As a header of later versions has them. */
struct longer {
	pmxcfs_options options;
	uint64_t later[8];
};

static void longer_options_connect(const char *service)
{
	struct longer memory;
	pmxcfs_client *client = NULL;
	memset(&memory, 0, sizeof memory);
	CHECK_IS(pmxcfs_options_init(&memory.options), 0);
	memory.options.size = sizeof memory;
	memory.options.service = service;
	memory.options.restart_flag = NULL;
	CHECK_IS(pmxcfs_connect(&memory.options, &client), 0);
	pmxcfs_disconnect(client);
	memory.later[7] = 1;
	CHECK_IS(pmxcfs_connect(&memory.options, &client), -E2BIG);
	CHECK(client == NULL);
	memory.later[7] = 0;
	memory.options.size = sizeof memory.options - 1;
	CHECK_IS(pmxcfs_connect(&memory.options, &client), -EINVAL);
	memory.options.size = 1 << 20;
	CHECK_IS(pmxcfs_connect(&memory.options, &client), -EINVAL);
}

static void requests(const char *service)
{
	pmxcfs_options options;
	pmxcfs_client *client = NULL;
	pmxcfs_answer answer = {0};
	CHECK_IS(pmxcfs_options_init(&options), 0);
	options.service = service;
	options.restart_flag = NULL;
	options.timeout_ms = PATIENCE_MS;
	CHECK_IS(pmxcfs_connect(&options, &client), 0);
	CHECK(pmxcfs_fd(client) >= 0);
	CHECK_IS(pmxcfs_message_max(client), PMXCFS_MESSAGE_MAX);
	CHECK_IS(pmxcfs_get_fs_version(client, &answer), 0);
	CHECK(answer.data && strstr(answer.data, "starttime"));
	CHECK_IS(pmxcfs_get_config(client, "nowhere.cfg", &answer), -ENOENT);
	CHECK_IS(answer.error, -ENOENT);
	CHECK(pmxcfs_error_text()[0] != '\0');
	CHECK_IS(pmxcfs_set_timeout(client, PMXCFS_NO_LIMIT), 0);
	CHECK_IS(pmxcfs_request(client, 1, NULL, 0, PATIENCE_MS, &answer), 0);
	CHECK_IS(answer.id, 1);
	pmxcfs_answer_free(&answer);
	CHECK(answer.memory == NULL && answer.capacity == 0);
	pmxcfs_disconnect(client);
}

int main(int argc, char **argv)
{
	CHECK_IS(argc, 2);
	init_stays_inside();
	longer_options_connect(argv[1]);
	requests(argv[1]);
	printf("%s on %s\n", PMXCFS_VERSION, pmxcfs_version());
	return 0;
}
