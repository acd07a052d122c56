/* What an MPI library asks of whoever started it by PMI-1, without the library: init, one put, a barrier, eight gets,
 * finalize. It says nothing where all goes well, so that the time it takes is the launcher's own share; with a number
 * for an argument, it takes that many rounds of put, barrier and gets; with `nothing`, it ends at once.
 *
 * The far rank whose value it wants is (rank + 1, 2, 4, 8 ...) modulo the size, as in a dissemination.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int channel;

static void die(const char *what, const char *line) {
    fprintf(stderr, "null_pmi: %s: %s\n", what, line);
    exit(1);
}

/* One request, one answer, each a line; the answer has to start like this. */
static const char *ask(const char *request, const char *answer) {
    static char line[4096];
    size_t used = 0, length = strlen(request);
    for (size_t sent = 0; sent < length;) {
        ssize_t more = write(channel, request + sent, length - sent);
        if (more <= 0) die("cannot send", request);
        sent += (size_t)more;
    }
    while (used == 0 || line[used - 1] != '\n') {
        ssize_t more = used < sizeof line - 1 ? read(channel, line + used, sizeof line - 1 - used) : 0;
        if (more <= 0) die("no answer to", request);
        used += (size_t)more;
    }
    line[used - 1] = 0;
    if (strncmp(line, answer, strlen(answer)) != 0) die(request, line);
    return line;
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "nothing") == 0) return 0;
    const char *fd = getenv("PMI_FD"), *own = getenv("PMI_RANK"), *all = getenv("PMI_SIZE");
    if (!fd || !own || !all) die("not started by PMI-1", "PMI_FD, PMI_RANK or PMI_SIZE is missing");
    channel = atoi(fd);
    int rank = atoi(own), size = atoi(all), rounds = argc > 1 ? atoi(argv[1]) : 1;
    char name[256] = "", request[1024], wanted[256];

    ask("cmd=init pmi_version=1 pmi_subversion=1\n", "cmd=response_to_init");
    ask("cmd=get_maxes\n", "cmd=maxes");
    const char *line = ask("cmd=get_my_kvsname\n", "cmd=my_kvsname");
    const char *word = strstr(line, " kvsname=");
    if (!word || sscanf(word, " kvsname=%255s", name) != 1) die("no name", line);
    for (int round = 0; round < rounds; round++) {
        snprintf(request, sizeof request, "cmd=put kvsname=%s key=k%d-%d value=value-of-%d-in-%d\n", name, round, rank, rank, round);
        ask(request, "cmd=put_result rc=0");
        ask("cmd=barrier_in\n", "cmd=barrier_out");
        for (int i = 0; i < 8; i++) {
            int other = (rank + (1 << i)) % size;
            snprintf(request, sizeof request, "cmd=get kvsname=%s key=k%d-%d\n", name, round, other);
            snprintf(wanted, sizeof wanted, "value=value-of-%d-in-%d", other, round);
            line = ask(request, "cmd=get_result");
            if (!strstr(line, wanted)) die("wrong value", line);
        }
    }
    ask("cmd=finalize\n", "cmd=finalize_ack");
    return 0;
}
