/*
 * The first process of every container that the runner starts (PID 1).
 *
 * It reads a task from standard input, starts its command, reaps what the command left behind,
 * and reports how it ended together with /output/result.json, which lies on a tmpfs that is gone
 * with the container. A warm container's next task then finds nothing of the one before: no
 * process, no file, no System V object.
 *
 * When standard input ends, the runner is gone or wants the container gone: everything is killed.
 * So no container outlives its runner, not even one killed with -9.
 *
 * Static, and without memory allocation while a task runs: the container may be at its memory
 * limit when the report is due. init/protocol.py is the other side.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MARK = 16, MAX_TASK = 4 << 20, CHUNK = 64 << 10, MAX_DEPTH = 4096 };
enum kind { ENDED = 0, NOT_STARTED = 1, IS_ROOT = 2, NOT_WRITABLE = 3 };
enum flag { OUT_OF_MEMORY = 1, NOT_CLEAN = 2, RESULT_TOO_LARGE = 4, RESULT_UNREADABLE = 8 };

static const char *const WRITABLE[] = {"/output", "/tmp", "/dev/shm", "/dev/mqueue", NULL};
static const char RESULT[] = "/output/result.json";

struct task {
	unsigned char mark[MARK];
	int once;
	uint32_t result_limit;
	char **argv;
	char **env;
	uint32_t env_count;
};

static unsigned char *message; /* the task as it was read; argv and env point into it */
static char chunk[CHUNK];
static void *reserve; /* given back before the report is written, for what the kernel needs */
static const size_t RESERVE = 512 << 10;

static void kill_everything(void)
{
	/* kill(-1) spares the caller; orphans become our children, so wait() finds all of them. */
	for (;;) {
		kill(-1, SIGKILL);
		if (waitpid(-1, NULL, 0) < 0 && errno == ECHILD)
			return;
	}
}

static void leave(int code)
{
	kill_everything();
	_exit(code);
}

/* Read n bytes of standard input, or end: the runner is gone. */
static void read_all(void *to, size_t n)
{
	char *at = to;
	while (n > 0) {
		ssize_t got = read(0, at, n);
		if (got > 0) {
			at += got;
			n -= (size_t)got;
		} else if (got == 0 || (errno != EINTR && errno != EAGAIN)) {
			leave(0);
		}
	}
}

static void write_all(int fd, const void *from, size_t n)
{
	const char *at = from;
	while (n > 0) {
		ssize_t put = write(fd, at, n);
		if (put > 0) {
			at += put;
			n -= (size_t)put;
		} else if (put < 0 && errno == EAGAIN) {
			struct pollfd wait = {.fd = fd, .events = POLLOUT};
			poll(&wait, 1, 1000);
		} else if (put < 0 && errno != EINTR) {
			leave(0);
		}
	}
}

static uint32_t number_at(const unsigned char **at, const unsigned char *end)
{
	uint32_t value;
	if (end - *at < 4)
		leave(70);
	memcpy(&value, *at, 4);
	*at += 4;
	return value;
}

/* A list of NUL-terminated strings, each after its length (which counts the NUL). */
static char **strings_at(const unsigned char **at, const unsigned char *end, uint32_t *count)
{
	*count = number_at(at, end);
	if (*count > MAX_TASK / 5)
		leave(70);
	char **list = calloc(*count + 1, sizeof *list);
	if (list == NULL)
		leave(71);
	for (uint32_t i = 0; i < *count; i++) {
		uint32_t length = number_at(at, end);
		if (length == 0 || length > (size_t)(end - *at) || (*at)[length - 1] != '\0')
			leave(70);
		list[i] = (char *)*at;
		*at += length;
	}
	return list;
}

static void read_task(struct task *task)
{
	uint32_t size, argc;
	read_all(&size, sizeof size);
	if (size < MARK + 5 || size > MAX_TASK)
		leave(70);
	message = malloc(size);
	if (message == NULL)
		leave(71);
	read_all(message, size);
	const unsigned char *at = message, *end = message + size;
	memcpy(task->mark, at, MARK);
	at += MARK;
	task->once = *at++;
	task->result_limit = number_at(&at, end);
	task->argv = strings_at(&at, end, &argc);
	task->env = strings_at(&at, end, &task->env_count);
	if (argc == 0)
		leave(70);
}

static void forget_task(struct task *task)
{
	free(task->argv);
	free(task->env);
	free(message);
}

/* How often the kernel killed a process of this cgroup for memory; version 2, then version 1. */
static long count_oom_kills(void)
{
	static const char *const files[] = {"/sys/fs/cgroup/memory.events",
					    "/sys/fs/cgroup/memory/memory.oom_control", NULL};
	for (int i = 0; files[i] != NULL; i++) {
		int fd = open(files[i], O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			continue;
		ssize_t n = read(fd, chunk, sizeof chunk - 1);
		close(fd);
		if (n <= 0)
			continue;
		chunk[n] = '\0';
		const char *found = strstr(chunk, "oom_kill ");
		if (found != NULL)
			return strtol(found + strlen("oom_kill "), NULL, 10);
	}
	return 0;
}

static void run_command(const struct task *task, int failure)
{
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	setsid();
	/* The kernel then takes the task for memory before it takes us. */
	prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	if (fd >= 0) {
		(void)!write(fd, "1000", 4);
		close(fd);
	}
	fd = open("/dev/null", O_RDONLY);
	if (fd >= 0)
		dup2(fd, 0);
	if (fd > 2)
		close(fd);
	for (uint32_t i = 0; i < task->env_count; i++)
		putenv(task->env[i]);
	execvp(task->argv[0], task->argv);
	int32_t why = errno;
	(void)!write(failure, &why, sizeof why);
	_exit(127);
}

/* Whether the other end of standard input is closed; data that waits there does not matter. */
static int runner_is_gone(struct pollfd *watched)
{
	return (watched[0].revents & (POLLHUP | POLLERR | POLLNVAL)) != 0;
}

/* The exit code as a shell gives it, or an errno with NOT_STARTED. */
static enum kind run_task(const struct task *task, int children, int32_t *status)
{
	int failure[2];
	if (pipe2(failure, O_CLOEXEC) < 0) {
		*status = errno;
		return NOT_STARTED;
	}
	pid_t child = fork();
	if (child == 0)
		run_command(task, failure[1]);
	*status = errno;
	close(failure[1]);
	if (child < 0) {
		close(failure[0]);
		return NOT_STARTED;
	}
	int32_t why;
	ssize_t n;
	do
		n = read(failure[0], &why, sizeof why);
	while (n < 0 && errno == EINTR);
	close(failure[0]);
	struct pollfd watched[2] = {{.fd = 0}, {.fd = children, .events = POLLIN}};
	for (;;) {
		int how;
		pid_t ended;
		while ((ended = waitpid(-1, &how, WNOHANG)) > 0) {
			if (ended != child)
				continue;
			*status = WIFSIGNALED(how) ? 128 + WTERMSIG(how) : WEXITSTATUS(how);
			if (n != sizeof why)
				return ENDED;
			*status = why;
			return NOT_STARTED;
		}
		poll(watched, 2, -1);
		if (runner_is_gone(watched))
			leave(0);
		struct signalfd_siginfo signal;
		while (read(children, &signal, sizeof signal) > 0)
			;
	}
}

/* Empty a folder, whatever modes the task gave to what is in it; follows no link. */
static int empty(int folder, int depth)
{
	DIR *entries = fdopendir(folder);
	if (entries == NULL) {
		close(folder);
		return -1;
	}
	int clean = depth < MAX_DEPTH ? 0 : -1;
	struct dirent *entry;
	while (clean == 0 && (entry = readdir(entries)) != NULL) {
		const char *name = entry->d_name;
		if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
			continue;
		if (unlinkat(dirfd(entries), name, 0) == 0)
			continue;
		fchmodat(dirfd(entries), name, 0700, 0);
		int inner = openat(dirfd(entries), name,
				   O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (inner >= 0)
			empty(inner, depth + 1);
		if (unlinkat(dirfd(entries), name, AT_REMOVEDIR) < 0)
			clean = -1;
	}
	closedir(entries);
	return clean;
}

static int empty_folders(void)
{
	int clean = 0;
	for (int i = 0; WRITABLE[i] != NULL; i++) {
		int folder = open(WRITABLE[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (folder >= 0 && empty(folder, 0) < 0)
			clean = -1;
	}
	return clean;
}

/* The second column of a table in /proc/sysvipc is the identifier. */
static int remove_ipc(const char *table, int (*remove)(int))
{
	int clean = 0;
	FILE *lines = fopen(table, "re");
	if (lines == NULL)
		return 0;
	while (fgets(chunk, sizeof chunk, lines) != NULL) {
		int key, identifier;
		if (sscanf(chunk, "%d %d", &key, &identifier) == 2 && remove(identifier) < 0)
			clean = -1;
	}
	fclose(lines);
	return clean;
}

static int remove_memory(int id) { return shmctl(id, IPC_RMID, NULL); }
static int remove_semaphores(int id) { return semctl(id, 0, IPC_RMID); }
static int remove_queue(int id) { return msgctl(id, IPC_RMID, NULL); }

static int clean_up(void)
{
	int clean = empty_folders();
	clean |= remove_ipc("/proc/sysvipc/shm", remove_memory);
	clean |= remove_ipc("/proc/sysvipc/sem", remove_semaphores);
	clean |= remove_ipc("/proc/sysvipc/msg", remove_queue);
	return clean;
}

/* The size of the result file, open for reading; -1 where there is none to read. */
static int64_t open_result(const struct task *task, int *fd, unsigned char *flags)
{
	struct stat found;
	*fd = open(RESULT, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (*fd < 0) {
		if (errno != ENOENT)
			*flags |= RESULT_UNREADABLE;
		return -1;
	}
	if (fstat(*fd, &found) < 0 || !S_ISREG(found.st_mode))
		*flags |= RESULT_UNREADABLE;
	else if (found.st_size > (off_t)task->result_limit)
		*flags |= RESULT_TOO_LARGE;
	else
		return found.st_size;
	close(*fd);
	*fd = -1;
	return -1;
}

static void write_result(int fd, int64_t size)
{
	while (size > 0) {
		ssize_t n = read(fd, chunk, size < CHUNK ? (size_t)size : CHUNK);
		if (n <= 0)
			leave(72); /* nobody is left to shorten it: the report would lie */
		write_all(1, chunk, (size_t)n);
		size -= n;
	}
}

/*
 * On standard error the mark; on standard output the mark, kind, flags, status, the result's
 * size (-1: none) and the result. Each comes after all that the task wrote to that stream.
 */
static void report(const struct task *task, enum kind kind, int32_t status, long kills_before)
{
	unsigned char header[MARK + 14] = {0};
	unsigned char flags = 0;
	int result;
	munmap(reserve, RESERVE);
	if (count_oom_kills() > kills_before)
		flags |= OUT_OF_MEMORY;
	int64_t size = open_result(task, &result, &flags);
	if (!task->once) {
		/* The open file stays readable when its name is gone. */
		if (clean_up() < 0)
			flags |= NOT_CLEAN;
	}
	memcpy(header, task->mark, MARK);
	header[MARK] = (unsigned char)kind;
	header[MARK + 1] = flags;
	memcpy(header + MARK + 2, &status, 4);
	memcpy(header + MARK + 6, &size, 8);
	write_all(2, task->mark, MARK);
	write_all(1, header, sizeof header);
	if (size >= 0) {
		write_result(result, size);
		close(result);
	}
}

static void set_reserve(void)
{
	reserve = mmap(NULL, RESERVE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE,
		       -1, 0);
	if (reserve == MAP_FAILED)
		leave(71);
}

static void make_blocking(int fd)
{
	int flags = fcntl(fd, F_GETFL);
	if (flags >= 0 && (flags & O_NONBLOCK))
		fcntl(fd, F_SETFL, flags & ~O_NONBLOCK);
}

int main(void)
{
	sigset_t child;
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	sigprocmask(SIG_BLOCK, &child, NULL);
	signal(SIGPIPE, SIG_IGN);
	int children = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
	if (children < 0 || getpid() != 1)
		return 71;
	/* A task has our uid: without this it could read the next task's message out of us. */
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	memset(chunk, 1, sizeof chunk);
	for (;;) {
		struct task task;
		int32_t status = 0;
		set_reserve();
		read_task(&task);
		make_blocking(1);
		make_blocking(2);
		long kills = count_oom_kills();
		enum kind kind;
		if (geteuid() == 0)
			kind = IS_ROOT;
		else if (access("/output", W_OK) < 0 || access("/tmp", W_OK) < 0)
			kind = NOT_WRITABLE;
		else
			kind = run_task(&task, children, &status);
		kill_everything();
		report(&task, kind, status, kills);
		if (task.once)
			return 0;
		forget_task(&task);
	}
}
