/* What the load generators share: dying, the clock, and the figures that they print. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SLOWEST_US = 2000000 };

static long done;                          /* requests that have their answer */
static uint32_t histogram[SLOWEST_US + 1]; /* of them, by microsecond; the last one holds all that took longer */

static void die(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "%s: ", program_invocation_short_name);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    exit(1);
}

static int check(int result, const char *call)
{
    if (result < 0)
        die("%s: %s", call, strerror(errno));
    return result;
}

/* ns */
static int64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static struct sockaddr_in loopback(int port)
{
    return (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

/* One request is done that began and ended then. The clock is read once for all that come together: to ask it for
 * each would cost as much as a server takes for one of many in flight. */
static void record(int64_t began, int64_t ended)
{
    int64_t us = (ended - began) / 1000;
    histogram[us < SLOWEST_US ? us : SLOWEST_US]++;
    done++;
}

static long quantile_us(double q)
{
    if (!done)
        die("no request in the time given");
    long rank = q * (done - 1), seen = 0, us = 0;
    while ((seen += histogram[us]) <= rank)
        us++;
    return us;
}

/* What there is to say of the requests since then, as the members of a JSON object. */
static void report(int64_t began)
{
    printf("\"requests\": %ld, \"seconds\": %.6f, \"p50_us\": %ld, \"p99_us\": %ld", done, (now() - began) / 1e9,
           quantile_us(0.5), quantile_us(0.99));
}
