/* lab_loops LOOPS TASKS: so many processes start TASKS times /bin/true between them, each one after another. What the
 * array of lab.sh would cost on these cores if there were nothing but processes. */
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

int main(int count, char **words) {
    if (count != 3) {
        fprintf(stderr, "lab_loops LOOPS TASKS\n");
        return 2;
    }
    int loops = atoi(words[1]), tasks = atoi(words[2]), failed = 0, status;
    for (int loop = 0; loop < loops; loop++) {
        pid_t child = fork();
        if (child < 0)
            return perror("fork"), 1;
        if (child > 0)
            continue;
        for (int task = loop; task < tasks; task += loops) {
            pid_t pid;
            char *line[] = {"/bin/true", NULL};
            if (posix_spawn(&pid, line[0], NULL, NULL, line, environ) != 0 || waitpid(pid, &status, 0) != pid || status != 0)
                _exit(1);
        }
        _exit(0);
    }
    while (wait(&status) > 0)
        failed |= status != 0;
    return failed;
}
