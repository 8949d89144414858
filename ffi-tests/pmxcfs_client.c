/*
 * Every function of libpmxcfs, as C programs use it. Driven by tests/capi; each command ends with 0 if
 * all was as it should be, and is run under valgrind and with sanitizers as well.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cfs-ipc-ops.h>
#include <pmxcfs.h>

#include "check.h"

enum { LINE_MAX_LEN = 1 << 20, PATIENCE_MS = 20000 };

static pmxcfs_options options_for(const char *service)
{
	pmxcfs_options options;
	CHECK_IS(pmxcfs_options_init(&options), 0);
	options.service = service;
	options.restart_flag = NULL;
	options.timeout_ms = PATIENCE_MS;
	return options;
}

/* The initializer and the function set the same values. */
static void defaults(void)
{
	pmxcfs_options constant = PMXCFS_OPTIONS_INIT, written;
	CHECK_IS(pmxcfs_options_init(&written), 0);
	CHECK_IS(constant.size, written.size);
	CHECK_IS(strcmp(constant.service, written.service), 0);
	CHECK_IS(constant.message_max, written.message_max);
	CHECK_IS(constant.connect_timeout_ms, written.connect_timeout_ms);
	CHECK_IS(constant.timeout_ms, written.timeout_ms);
	CHECK_IS(strcmp(constant.restart_flag, written.restart_flag), 0);
	CHECK_IS(constant.restart_timeout_ms, written.restart_timeout_ms);
	CHECK_IS(constant.resend, written.resend);
	CHECK_IS(pmxcfs_version_number(), PMXCFS_VERSION_NUMBER);
}

static pmxcfs_client *connect_to(const char *service)
{
	pmxcfs_options options = options_for(service);
	pmxcfs_client *client = NULL;
	int result = pmxcfs_connect(&options, &client);
	if (result != 0)
		fprintf(stderr, "connect: %s\n", pmxcfs_error_text());
	CHECK_IS(result, 0);
	return client;
}

static int is_text(const pmxcfs_answer *answer, const char *text)
{
	/* There is always a NUL behind the data. */
	return answer->data && answer->len == strlen(text) && strcmp(answer->data, text) == 0;
}

static int has_text(const pmxcfs_answer *answer, const char *text)
{
	return answer->data && strstr(answer->data, text);
}

static int open_files(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int count = 0;
	CHECK(dir);
	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}

static long now_ms(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

/* replay SERVICE: a request for each line "NUMBER HEXBODY"; prints errno and data */
static void replay(const char *service)
{
	static char line[2 * LINE_MAX_LEN];
	static unsigned char body[LINE_MAX_LEN];
	pmxcfs_client *client = connect_to(service);
	pmxcfs_answer answer = {0};
	while (fgets(line, sizeof line, stdin)) {
		char *hex;
		int id = (int)strtol(line, &hex, 10);
		size_t len = parse_hex(hex + 1, body, sizeof body);
		int result = pmxcfs_request(client, id, body, len, PATIENCE_MS, &answer);
		CHECK_IS(result, answer.error);
		CHECK_IS(answer.id, id);
		print_answer(-result, answer.data, answer.len);
	}
	pmxcfs_answer_free(&answer);
	pmxcfs_disconnect(client);
}

static void status_calls(pmxcfs_client *client, pmxcfs_answer *answer)
{
	char large[PMXCFS_STATUS_MAX + 1] = {0}, name[PMXCFS_NAME_SIZE + 1] = {0};
	memset(name, 'a', PMXCFS_NAME_SIZE);
	CHECK_IS(pmxcfs_set_status(client, "kv/c", "value", 5), 0);
	CHECK_IS(pmxcfs_get_status(client, "kv/c", NULL, answer), 0);
	CHECK(is_text(answer, "value"));
	CHECK_IS(pmxcfs_get_status(client, "kv/c", "n1", answer), 0);
	CHECK(is_text(answer, "value"));
	CHECK_IS(pmxcfs_get_status(client, "kv/c", "elsewhere", answer), -ENOENT);
	CHECK_IS(answer->error, -ENOENT);
	CHECK(strstr(pmxcfs_error_text(), "No such file"));
	CHECK_IS(pmxcfs_set_status(client, "kv/c", NULL, 0), 0);
	CHECK_IS(pmxcfs_get_status(client, "kv/c", "", answer), -ENOENT);
	CHECK_IS(pmxcfs_set_status(client, "kv/c", large, sizeof large), -EFBIG);
	CHECK_IS(pmxcfs_set_status(client, "kv/c", large, sizeof large - 1), 0);
	CHECK_IS(pmxcfs_get_status(client, "kv/c", NULL, answer), 0);
	CHECK_IS(answer->len, PMXCFS_STATUS_MAX);
	CHECK_IS(pmxcfs_set_status(client, name, "", 0), -ENAMETOOLONG);
	CHECK_IS(pmxcfs_get_status(client, "kv/c", name, answer), -ENAMETOOLONG);
	CHECK(!answer->data);
}

static void log_calls(pmxcfs_client *client, pmxcfs_answer *answer)
{
	char name[PMXCFS_LOG_IDENT_MAX + 2] = {0};
	memset(name, 'i', sizeof name - 1);
	CHECK_IS(pmxcfs_log_cluster_msg(client, 6, "root@pam", "c", "a message from C"), 0);
	CHECK_IS(pmxcfs_get_cluster_log(client, 0, NULL, answer), 0);
	CHECK(has_text(answer, "a message from C"));
	CHECK_IS(pmxcfs_get_cluster_log(client, 1, "root@pam", answer), 0);
	CHECK(has_text(answer, "a message from C"));
	CHECK_IS(pmxcfs_get_cluster_log(client, 5, "nobody", answer), 0);
	CHECK(!has_text(answer, "a message from C"));
	CHECK_IS(pmxcfs_log_cluster_msg(client, 6, name, "c", "m"), -ENAMETOOLONG);
	CHECK_IS(pmxcfs_log_cluster_msg(client, 6, "i", name, "m"), -ENAMETOOLONG);
	name[PMXCFS_LOG_IDENT_MAX] = 0;
	CHECK_IS(pmxcfs_log_cluster_msg(client, 6, name, name, "m"), 0);
}

static void guest_calls(pmxcfs_client *client, pmxcfs_answer *answer)
{
	const char *names[256] = {"name", "memory"};
	CHECK_IS(pmxcfs_get_guest_config_property(client, 100, "name", answer), 0);
	CHECK(has_text(answer, "{\"100\":{\"name\":\"a\"}}") || has_text(answer, "\"name\""));
	CHECK_IS(pmxcfs_get_guest_config_property(client, 0, "memory", answer), 0);
	CHECK(has_text(answer, "\"100\"") && has_text(answer, "\"101\""));
	CHECK_IS(pmxcfs_get_guest_config_property(client, 999, "name", answer), -ENOENT);
	CHECK_IS(pmxcfs_get_guest_config_property(client, 99, "name", answer), -EINVAL);
	CHECK_IS(pmxcfs_get_guest_config_properties(client, 100, names, 2, answer), 0);
	CHECK(has_text(answer, "\"name\"") && has_text(answer, "\"memory\""));
	CHECK_IS(pmxcfs_get_guest_config_properties(client, 100, names, 0, answer), -EINVAL);
	CHECK_IS(pmxcfs_get_guest_config_properties(client, 100, names, 3, answer), -EINVAL);
	for (int i = 0; i < 256; i++)
		names[i] = "lock";
	CHECK_IS(pmxcfs_get_guest_config_properties(client, 100, names, 255, answer), 0);
	CHECK_IS(pmxcfs_get_guest_config_properties(client, 100, names, 256, answer), -EINVAL);
	names[0] = "Name";
	CHECK_IS(pmxcfs_get_guest_config_properties(client, 100, names, 1, answer), -EINVAL);
}

/* typed SERVICE: each kind of request, on the node that the recordings begin with */
static void typed(const char *service)
{
	pmxcfs_client *client = connect_to(service);
	pmxcfs_answer answer = {0};
	defaults();
	CHECK_IS(pmxcfs_message_max(client), PMXCFS_MESSAGE_MAX);
	CHECK_IS(pmxcfs_get_fs_version(client, &answer), 0);
	CHECK(has_text(&answer, "\"starttime\"") && answer.id == CFS_IPC_GET_FS_VERSION);
	CHECK_IS(pmxcfs_get_cluster_info(client, &answer), 0);
	CHECK(has_text(&answer, "\"n1\""));
	CHECK_IS(pmxcfs_get_guest_list(client, &answer), 0);
	CHECK(has_text(&answer, "\"102\""));
	CHECK_IS(pmxcfs_get_rrd_dump(client, &answer), 0);
	CHECK(has_text(&answer, "pve-node-9.0/n1:") && answer.data[answer.len - 1] == 0);
	CHECK_IS(pmxcfs_get_config(client, "/storage.cfg", &answer), 0);
	CHECK(is_text(&answer, "abchello\n"));
	CHECK_IS(pmxcfs_get_config(client, "empty.cfg", &answer), 0);
	CHECK(is_text(&answer, ""));
	CHECK_IS(pmxcfs_get_config(client, "nodes", &answer), -ENOENT);
	CHECK_IS(pmxcfs_verify_token(client, "root@pam!t0 aaa"), 0);
	CHECK_IS(pmxcfs_verify_token(client, "root@pam!t0 aab"), -ENOENT);
	CHECK_IS(pmxcfs_verify_token(client, ""), -EINVAL);
	status_calls(client, &answer);
	log_calls(client, &answer);
	guest_calls(client, &answer);
	CHECK_IS(pmxcfs_request(client, 99, NULL, 0, -1, &answer), -ECHRNG);
	static char body[PMXCFS_MESSAGE_MAX];
	CHECK_IS(pmxcfs_request(client, 1, body, sizeof body, -1, &answer), -EMSGSIZE);
	CHECK_IS(pmxcfs_request(client, 1, body, SIZE_MAX, -1, &answer), -EMSGSIZE);
	CHECK_IS(pmxcfs_get_fs_version(client, &answer), 0);
	pmxcfs_answer_free(&answer);
	CHECK(!answer.memory && !answer.data);
	pmxcfs_disconnect(client);
}

/* nulls SERVICE: NULL in each place where it is not allowed, and where it is */
static void nulls(const char *service)
{
	pmxcfs_client *client = connect_to(service);
	pmxcfs_answer answer = {0};
	const char *names[2] = {"name", NULL};
	CHECK_IS(pmxcfs_options_init(NULL), -EINVAL);
	CHECK_IS(pmxcfs_connect(NULL, NULL), -EINVAL);
	pmxcfs_disconnect(NULL);
	pmxcfs_answer_free(NULL);
	CHECK_IS(pmxcfs_fd(NULL), -EINVAL);
	CHECK_IS(pmxcfs_message_max(NULL), -EINVAL);
	CHECK_IS(pmxcfs_set_timeout(NULL, 1), -EINVAL);
	CHECK_IS(pmxcfs_request(NULL, 1, NULL, 0, 1, &answer), -EINVAL);
	CHECK_IS(pmxcfs_request(client, 1, NULL, 1, 1, &answer), -EINVAL);
	CHECK(strstr(pmxcfs_error_text(), "body is NULL"));
	CHECK_IS(pmxcfs_request(client, 1, NULL, 0, 1, NULL), -EINVAL);
	CHECK_IS(pmxcfs_get_fs_version(NULL, &answer), -EINVAL);
	CHECK_IS(pmxcfs_get_fs_version(client, NULL), -EINVAL);
	CHECK_IS(pmxcfs_get_cluster_info(NULL, NULL), -EINVAL);
	CHECK_IS(pmxcfs_get_guest_list(NULL, NULL), -EINVAL);
	CHECK_IS(pmxcfs_get_rrd_dump(NULL, NULL), -EINVAL);
	CHECK_IS(pmxcfs_set_status(client, NULL, "", 0), -EINVAL);
	CHECK_IS(pmxcfs_set_status(client, "kv/c", NULL, 1), -EINVAL);
	CHECK_IS(pmxcfs_get_status(client, NULL, NULL, &answer), -EINVAL);
	CHECK_IS(pmxcfs_get_config(client, NULL, &answer), -EINVAL);
	CHECK_IS(pmxcfs_log_cluster_msg(client, 6, NULL, "", ""), -EINVAL);
	CHECK_IS(pmxcfs_log_cluster_msg(client, 6, "", NULL, ""), -EINVAL);
	CHECK_IS(pmxcfs_log_cluster_msg(client, 6, "", "", NULL), -EINVAL);
	CHECK_IS(pmxcfs_log_cluster_msg(client, 8, "", "", ""), -EINVAL);
	CHECK(strstr(pmxcfs_error_text(), "0 to 7"));
	CHECK_IS(pmxcfs_verify_token(client, "x"), -ENOENT);
	CHECK_IS(pmxcfs_verify_token(client, ""), -EINVAL);
	CHECK_IS(pmxcfs_get_cluster_log(NULL, 0, NULL, &answer), -EINVAL);
	CHECK_IS(pmxcfs_get_guest_config_property(client, 0, NULL, &answer), -EINVAL);
	CHECK_IS(pmxcfs_get_guest_config_properties(client, 0, NULL, 1, &answer), -EINVAL);
	CHECK_IS(pmxcfs_get_guest_config_properties(client, 0, names, 2, &answer), -EINVAL);
	CHECK_IS(pmxcfs_verify_token(client, NULL), -EINVAL);
	CHECK_IS(pmxcfs_send_fd(-1, 0, "", 1), -EBADF);
	CHECK_IS(pmxcfs_send_fd(0, -1, "", 1), -EBADF);
	CHECK_IS(pmxcfs_send_fd(0, 0, NULL, 1), -EINVAL);
	pmxcfs_options options = options_for(service);
	pmxcfs_client *other = client;
	options.size = 1;
	CHECK_IS(pmxcfs_connect(&options, &other), -EINVAL);
	CHECK(!other);
	options = options_for(NULL);
	CHECK_IS(pmxcfs_connect(&options, &other), -EINVAL);
	CHECK_IS(pmxcfs_get_fs_version(client, &answer), 0);
	CHECK(strcmp(pmxcfs_version(), PMXCFS_VERSION) == 0);
	pmxcfs_answer_free(&answer);
	pmxcfs_disconnect(client);
}

static void wait_for(pid_t child)
{
	int status;
	CHECK_IS(waitpid(child, &status, 0), child);
	CHECK_IS(status, 0);
}

/* fork SERVICE: a child goes on with its parent's client, ends it, and the parent does not notice */
static void forks(const char *service)
{
	pmxcfs_client *client = connect_to(service), *unused = connect_to(service);
	pmxcfs_answer answer = {0};
	int fd = pmxcfs_fd(client);
	CHECK(fd >= 0);
	CHECK_IS(pmxcfs_set_status(client, "kv/f", "parent", 6), 0);
	for (int round = 0; round < 3; round++) {
		pid_t child = fork();
		CHECK(child >= 0);
		if (child == 0) {
			CHECK_IS(pmxcfs_fd(client), -ENOTCONN);
			for (int i = 0; i < 50; i++) {
				CHECK_IS(pmxcfs_get_status(client, "kv/f", NULL, &answer), 0);
				CHECK(is_text(&answer, "parent"));
			}
			pmxcfs_answer_free(&answer);
			pmxcfs_disconnect(client);
			pmxcfs_disconnect(unused);
			exit(0);
		}
		for (int i = 0; i < 50; i++)
			CHECK_IS(pmxcfs_get_fs_version(client, &answer), 0);
		wait_for(child);
		CHECK_IS(pmxcfs_get_fs_version(client, &answer), 0);
		CHECK_IS(pmxcfs_get_fs_version(unused, &answer), 0);
		CHECK_IS(pmxcfs_fd(client), fd);
	}
	pmxcfs_answer_free(&answer);
	pmxcfs_disconnect(client);
	pmxcfs_disconnect(unused);
}

static void *thread_main(void *client)
{
	pmxcfs_answer answer = {0};
	for (int i = 0; i < 100; i++) {
		CHECK_IS(pmxcfs_get_config(client, "storage.cfg", &answer), 0);
		CHECK(is_text(&answer, "abchello\n"));
		CHECK_IS(pmxcfs_get_config(client, "missing", &answer), -ENOENT);
		CHECK(strstr(pmxcfs_error_text(), "No such file"));
	}
	pmxcfs_answer_free(&answer);
	return NULL;
}

/* threads SERVICE: eight threads with one client */
static void threads(const char *service)
{
	pmxcfs_client *client = connect_to(service);
	pthread_t thread[8];
	for (int i = 0; i < 8; i++)
		CHECK_IS(pthread_create(&thread[i], NULL, thread_main, client), 0);
	for (int i = 0; i < 8; i++)
		CHECK_IS(pthread_join(thread[i], NULL), 0);
	CHECK(pmxcfs_error_text()[0] == 0);
	pmxcfs_disconnect(client);
}

/* connects SERVICE COUNT: leaves no descriptor open */
static void connects(const char *service, int count)
{
	pmxcfs_options options = options_for(service);
	pmxcfs_client *client;
	pmxcfs_answer answer = {0};
	int before = open_files();
	for (int i = 0; i < count; i++) {
		CHECK_IS(pmxcfs_connect(&options, &client), 0);
		if (i % 100 == 0)
			CHECK_IS(pmxcfs_get_fs_version(client, &answer), 0);
		pmxcfs_disconnect(client);
	}
	CHECK_IS(open_files(), before);
	pmxcfs_answer_free(&answer);
}

/* requests SERVICE COUNT: with sizes that make the rings wrap */
static void requests(const char *service, int count)
{
	static char value[PMXCFS_STATUS_MAX];
	char name[32];
	pmxcfs_client *client = connect_to(service);
	pmxcfs_answer answer = {0};
	snprintf(name, sizeof name, "kv/%d", (int)getpid());
	for (int i = 0; i < count; i++) {
		size_t len = 1 + (size_t)i * 7919 % sizeof value;
		memset(value, i, len);
		CHECK_IS(pmxcfs_set_status(client, name, value, len), 0);
		CHECK_IS(pmxcfs_get_status(client, name, NULL, &answer), 0);
		CHECK_IS(answer.len, len);
		CHECK_IS(memcmp(answer.data, value, len), 0);
	}
	CHECK_IS(pmxcfs_set_status(client, name, NULL, 0), 0);
	pmxcfs_answer_free(&answer);
	pmxcfs_disconnect(client);
}

/* long SERVICE COUNT: requests (1 echoes) and answers (5 is one of that length) of all lengths there may be,
 * also in a child */
static void longs(const char *service, int count)
{
	static unsigned char body[PMXCFS_MESSAGE_MAX];
	const size_t most = sizeof body - sizeof(pmxcfs_response_header);
	const size_t lengths[] = {0, 1, 5000, 30000, 70000, 300000, most - 1, most};
	pmxcfs_client *client = connect_to(service);
	pmxcfs_answer answer = {0};
	pid_t child = fork();
	CHECK(child >= 0);
	for (int i = 0; i < count; i++) {
		for (size_t j = 0; j < sizeof lengths / sizeof *lengths; j++) {
			uint32_t len = (uint32_t)lengths[j];
			memset(body, i + 1, len);
			CHECK_IS(pmxcfs_request(client, 1, body, len, PATIENCE_MS, &answer), 0);
			CHECK(answer.len == len && memcmp(answer.data, body, len) == 0);
			CHECK_IS(pmxcfs_request(client, 5, &len, sizeof len, PATIENCE_MS, &answer), 0);
			CHECK(answer.len == len && strspn(answer.data, "x") == len);
		}
	}
	/* Longer than was agreed on: the connection stays as it is. */
	uint32_t len = (uint32_t)most + 1;
	int fd = pmxcfs_fd(client);
	CHECK_IS(pmxcfs_request(client, 5, &len, sizeof len, PATIENCE_MS, &answer), -ENOBUFS);
	CHECK_IS(pmxcfs_request(client, 1, body, sizeof body, PATIENCE_MS, &answer), -EMSGSIZE);
	CHECK_IS(pmxcfs_request(client, 1, "x", 1, PATIENCE_MS, &answer), 0);
	CHECK_IS(pmxcfs_fd(client), fd);
	pmxcfs_answer_free(&answer);
	pmxcfs_disconnect(client);
	if (child == 0)
		exit(0);
	wait_for(child);
}

/* fds: over a pair of sockets, a stream and datagrams, blocking and full */
static void fds(void)
{
	const int types[2] = {SOCK_STREAM, SOCK_DGRAM | SOCK_NONBLOCK};
	for (int i = 0; i < 2; i++) {
		int pair[2], through[2];
		CHECK_IS(socketpair(AF_UNIX, types[i], 0, pair), 0);
		CHECK_IS(pipe(through), 0);
		CHECK_IS(pmxcfs_send_fd(pair[0], through[1], "hello", 5), 5);
		char data[16];
		union {
			struct cmsghdr header;
			char bytes[CMSG_SPACE(sizeof(int))];
		} control;
		struct iovec part = {data, sizeof data};
		struct msghdr message = {0};
		message.msg_iov = &part;
		message.msg_iovlen = 1;
		message.msg_control = &control;
		message.msg_controllen = sizeof control;
		CHECK_IS(recvmsg(pair[1], &message, 0), 5);
		CHECK_IS(memcmp(data, "hello", 5), 0);
		struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
		CHECK(rights && rights->cmsg_type == SCM_RIGHTS);
		int received;
		memcpy(&received, CMSG_DATA(rights), sizeof received);
		CHECK_IS(write(received, "x", 1), 1);
		CHECK_IS(read(through[0], data, sizeof data), 1);
		close(received);
		close(pair[1]);
		CHECK(pmxcfs_send_fd(pair[0], through[1], "hello", 5) < 0);
		close(pair[0]);
		CHECK_IS(pmxcfs_send_fd(pair[0], through[1], "hello", 5), -EBADF);
		close(through[0]);
		close(through[1]);
	}
}

/* ask SERVICE TIMEOUT: connects and sends a request, each with that limit; prints both results and how
 * long it took */
static void ask(const char *service, int timeout_ms)
{
	pmxcfs_options options = options_for(service);
	pmxcfs_client *client;
	pmxcfs_answer answer = {0};
	options.connect_timeout_ms = timeout_ms;
	options.resend = 0;
	long before = now_ms();
	int connected = pmxcfs_connect(&options, &client), result = 0;
	if (connected == 0)
		result = pmxcfs_request(client, 1, "body", 4, timeout_ms, &answer);
	printf("%d %d %ld\n", connected, result, now_ms() - before);
	pmxcfs_answer_free(&answer);
	pmxcfs_disconnect(client);
}

/* hold SERVICE FLAG RESEND: for each line, a request with a limit of that many ms; prints the result */
static void hold(const char *service, const char *flag, int resend)
{
	char line[100];
	pmxcfs_options options = options_for(service);
	pmxcfs_client *client = NULL;
	pmxcfs_answer answer = {0};
	options.restart_flag = flag;
	options.restart_timeout_ms = 500;
	options.resend = (uint32_t)resend;
	printf("connected %d\n", pmxcfs_connect(&options, &client));
	fflush(stdout);
	while (fgets(line, sizeof line, stdin)) {
		int id = 0, timeout_ms = 0;
		CHECK_IS(sscanf(line, "%d %d", &id, &timeout_ms), 2);
		printf("result %d\n", pmxcfs_request(client, id, NULL, 0, timeout_ms, &answer));
		fflush(stdout);
	}
	pmxcfs_answer_free(&answer);
	pmxcfs_disconnect(client);
}

int main(int argc, char **argv)
{
	const char *command = argc > 1 ? argv[1] : "";
	const char *service = argc > 2 ? argv[2] : "";
	if (strcmp(command, "replay") == 0)
		replay(service);
	else if (strcmp(command, "typed") == 0)
		typed(service);
	else if (strcmp(command, "nulls") == 0)
		nulls(service);
	else if (strcmp(command, "fork") == 0)
		forks(service);
	else if (strcmp(command, "threads") == 0)
		threads(service);
	else if (strcmp(command, "connects") == 0 && argc == 4)
		connects(service, atoi(argv[3]));
	else if (strcmp(command, "requests") == 0 && argc == 4)
		requests(service, atoi(argv[3]));
	else if (strcmp(command, "long") == 0 && argc == 4)
		longs(service, atoi(argv[3]));
	else if (strcmp(command, "fds") == 0)
		fds();
	else if (strcmp(command, "ask") == 0 && argc == 4)
		ask(service, atoi(argv[3]));
	else if (strcmp(command, "hold") == 0 && argc == 5)
		hold(service, argv[3], atoi(argv[4]));
	else {
		fprintf(stderr, "usage: see the comments at each command\n");
		return 2;
	}
	return 0;
}
