// A disk that stands still: fsync and fdatasync wait while the file that TESTKIT_DISK_STILL names exists.
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

static void wait_for_disk(void) {
    const char *gate = getenv("TESTKIT_DISK_STILL");
    while (gate && access(gate, F_OK) == 0) usleep(1000);
}

int fsync(int file) {
    wait_for_disk();
    return (int)syscall(SYS_fsync, file);
}

int fdatasync(int file) {
    wait_for_disk();
    return (int)syscall(SYS_fdatasync, file);
}
