/* What a Chirp server on this machine costs at least: processes that pass lines on and do no more.
 *
 *   chirp_floor
 *
 * Listens on loopback and prints two ports. Behind the first one is a process that answers by
 * itself, as a starter does when it needs nobody; behind the second one a relay, which passes what
 * it gets to a third process and that one's answers back, as a starter and its shadow do. Answers
 * are always the same, of the form that a client expects. Every socket blocks, and each serves one
 * client after the other. Ends when standard input does.
 */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CHUNK 65536
#define STAT "2049 1234567 33188 1 1000 1000 0 1024 4096 8 1700000000 1700000000 1700000000\n"

static void check(int result, const char *what)
{
    if (result < 0) {
        perror(what);
        exit(1);
    }
}

static int open_listener(struct sockaddr_in *address)
{
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    socklen_t size = sizeof *address;

    memset(address, 0, sizeof *address);
    address->sin_family = AF_INET;
    address->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    check(bind(listener, (struct sockaddr *)address, sizeof *address), "bind");
    check(listen(listener, 64), "listen");
    check(getsockname(listener, (struct sockaddr *)address, &size), "getsockname");
    return listener;
}

static void send_at_once(int peer)
{
    int on = 1;
    setsockopt(peer, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

static int starts(const char *line, const char *word)
{
    return strncmp(line, word, strlen(word)) == 0;
}

/* Answers the requests in a chunk, which a client sends whole; returns the length of the answers. */
static size_t answer(char *request, char *end, char *out)
{
    char *start = out;
    long size;

    while (request < end) {
        char *line = request, *newline = memchr(request, '\n', end - request);
        request = newline == NULL ? end : newline + 1;
        if (starts(line, "stat ") || starts(line, "open "))
            out += sprintf(out, "0\n" STAT);
        else if (starts(line, "get_job_attr"))
            out += sprintf(out, "2\n24");
        else if (sscanf(line, "read %*d %ld", &size) == 1 && size < 4096) {
            out += sprintf(out, "%ld\n", size);
            memset(out, 'x', size);
            out += size;
        } else if (sscanf(line, "write %*d %ld", &size) == 1) {
            out += sprintf(out, "%ld\n", size);
            request += size;
        } else
            out += sprintf(out, "0\n");
    }
    return out - start;
}

static void serve(int client)
{
    static char in[CHUNK + 1], out[4 * CHUNK];
    ssize_t got;

    while ((got = read(client, in, CHUNK)) > 0) {
        in[got] = 0;
        size_t size = answer(in, in + got, out);
        check(write(client, out, size), "write");
    }
}

static struct sockaddr_in behind;

static void relay(int client)
{
    static char bytes[CHUNK];
    int server = socket(AF_INET, SOCK_STREAM, 0);
    ssize_t got;

    check(connect(server, (struct sockaddr *)&behind, sizeof behind), "connect");
    send_at_once(server);
    while ((got = read(client, bytes, CHUNK)) > 0) {
        check(write(server, bytes, got), "write");
        got = read(server, bytes, CHUNK);
        check(write(client, bytes, got), "write");
    }
    close(server);
}

static pid_t serve_in_process(int listener, void (*treat)(int))
{
    pid_t pid = fork();
    check(pid, "fork");
    if (pid > 0)
        return pid;
    for (;;) {
        int client = accept(listener, NULL, NULL);
        check(client, "accept");
        send_at_once(client);
        treat(client);
        close(client);
    }
}

int main(void)
{
    struct sockaddr_in alone, relayed;
    pid_t processes[3];
    char byte;

    signal(SIGPIPE, SIG_IGN);
    processes[0] = serve_in_process(open_listener(&behind), serve);
    processes[1] = serve_in_process(open_listener(&relayed), relay);
    processes[2] = serve_in_process(open_listener(&alone), serve);
    printf("%d %d\n", ntohs(alone.sin_port), ntohs(relayed.sin_port));
    fflush(stdout);
    while (read(0, &byte, 1) > 0)
        ;
    for (int i = 0; i < 3; i++)
        kill(processes[i], SIGTERM);
    return 0;
}
