/* What the test programs have in common: a fact that does not hold ends them with its place. */
#ifndef CHECK_H
#define CHECK_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static inline void check_failed(const char *file, int line, const char *fact, long value)
{
	fprintf(stderr, "%s:%d: %s, but it is %ld (errno %d)\n", file, line, fact, value, errno);
	exit(1);
}

/* That an expression has a value. */
#define CHECK_IS(expression, expected)                                                  \
	do {                                                                            \
		long check_value = (long)(expression);                                  \
		if (check_value != (long)(expected))                                    \
			check_failed(__FILE__, __LINE__, #expression " is " #expected,  \
				     check_value);                                      \
	} while (0)

#define CHECK(fact) CHECK_IS(!!(fact), 1)

static inline int hex_digit(char c)
{
	const char *digits = "0123456789abcdef";
	const char *at = c ? strchr(digits, c) : NULL;
	return at ? (int)(at - digits) : -1;
}

/* The values of two hexadecimal digits at a time, as long as there are any; how many. */
static inline size_t parse_hex(const char *hex, unsigned char *bytes, size_t room)
{
	size_t len = 0;
	for (; len < room && hex_digit(hex[0]) >= 0 && hex_digit(hex[1]) >= 0; hex += 2)
		bytes[len++] = (unsigned char)(hex_digit(hex[0]) * 16 + hex_digit(hex[1]));
	return len;
}

/* An errno and data as a line. */
static inline void print_answer(int error, const char *data, size_t len)
{
	printf("%d ", error);
	for (size_t i = 0; i < len; i++)
		printf("%02x", (unsigned char)data[i]);
	printf("\n");
	fflush(stdout);
}

#endif
