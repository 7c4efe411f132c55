/* The limit that a farm on one machine is measured against: posix_spawn and waitpid, no more.
 *
 *   spawn_loop FOLDER COUNT AT_ONCE SHELL COMMAND
 *
 * Runs `SHELL -c COMMAND` COUNT times, AT_ONCE at a time, each with an output file of its own in
 * FOLDER, and prints the seconds it took. Fails when one of them fails.
 */
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>

extern char **environ;

static void start(const char *folder, long number, char **argv)
{
    char path[4096];
    pid_t pid;
    posix_spawn_file_actions_t files;

    snprintf(path, sizeof path, "%s/%ld.out", folder, number);
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&files, 1, path, O_WRONLY | O_CREAT | O_APPEND, 0600);
    posix_spawn_file_actions_adddup2(&files, 1, 2);
    if (posix_spawn(&pid, argv[0], &files, NULL, argv, environ) != 0) {
        perror("posix_spawn");
        exit(1);
    }
    posix_spawn_file_actions_destroy(&files);
}

int main(int argc, char **arguments)
{
    if (argc != 6) {
        fprintf(stderr, "usage: spawn_loop FOLDER COUNT AT_ONCE SHELL COMMAND\n");
        return 2;
    }
    long count = atol(arguments[2]), at_once = atol(arguments[3]), started = 0, ended = 0;
    char *argv[] = {arguments[4], "-c", arguments[5], NULL};
    struct timespec before, after;

    clock_gettime(CLOCK_MONOTONIC, &before);
    while (ended < count) {
        while (started < count && started - ended < at_once)
            start(arguments[1], started++, argv);
        int status;
        if (waitpid(-1, &status, 0) < 0 || status != 0) {
            fprintf(stderr, "a command failed\n");
            return 1;
        }
        ended++;
    }
    clock_gettime(CLOCK_MONOTONIC, &after);
    printf("%.9f\n", (after.tv_sec - before.tv_sec) + (after.tv_nsec - before.tv_nsec) / 1e9);
    return 0;
}
