/* Checks through the ZooKeeper C client against the server at FOREIGN_CONNECT.
 * Last line: "N passed, N failed". */
#define THREADED
#include <assert.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <zookeeper/zookeeper.h>

static const char *connect_string;
static int failures; /* of the running check */

#define EQUAL(expected, found) equal(__LINE__, #found, (expected), (found))
#define HOLDS(condition) equal(__LINE__, #condition, 1, (condition) != 0)

static void equal(int line, const char *what, long long expected, long long found)
{
    if (expected != found) {
        failures++;
        printf("checks.c:%d: %s is %lld, not %lld\n", line, what, found, expected);
    }
}

/* What a watcher saw: the last event of each type, and how many. */
struct events {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int session_state;
    int losses; /* how often the connection was lost */
    int count;
    int type;
    char path[256];
};

#define NO_EVENTS {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, 0, 0, 0, ""}

static void watcher(zhandle_t *zh, int type, int state, const char *path, void *context)
{
    struct events *events = context;
    (void)zh;
    pthread_mutex_lock(&events->lock);
    if (events->session_state == ZOO_CONNECTED_STATE && state != ZOO_CONNECTED_STATE)
        events->losses++;
    events->session_state = state;
    if (type != ZOO_SESSION_EVENT) {
        events->count++;
        events->type = type;
        snprintf(events->path, sizeof events->path, "%s", path);
    }
    pthread_cond_broadcast(&events->changed);
    pthread_mutex_unlock(&events->lock);
}

static int saw(const struct events *events, int count, int state, int losses)
{
    if (count >= 0)
        return events->count >= count;
    return events->session_state == state && events->losses >= losses;
}

/* Waits until the watcher saw `count` node events, or, if count is -1, a state that lasts, after so
 * many losses of the connection: what comes between may be over before this looks. */
static int await_events(struct events *events, int count, int state, int losses)
{
    struct timespec deadline;
    clock_gettime(CLOCK_REALTIME, &deadline);
    deadline.tv_sec += 120;
    int late = 0;
    pthread_mutex_lock(&events->lock);
    while (!late && !saw(events, count, state, losses))
        late = pthread_cond_timedwait(&events->changed, &events->lock, &deadline);
    late = !saw(events, count, state, losses);
    pthread_mutex_unlock(&events->lock);
    return !late;
}

static zhandle_t *open_session(struct events *events, const clientid_t *id)
{
    zhandle_t *zh = zookeeper_init(connect_string, watcher, 120000, id, events, 0);
    if (!zh || !await_events(events, -1, ZOO_CONNECTED_STATE, 0)) {
        printf("no connection\n");
        exit(1);
    }
    return zh;
}

static int make(zhandle_t *zh, const char *path, const char *value, int mode)
{
    return zoo_create(zh, path, value, (int)strlen(value), &ZOO_OPEN_ACL_UNSAFE, mode, NULL, 0);
}

static void nothing(int rc, const char *value, const void *data)
{
    (void)rc, (void)value, (void)data;
}

/* Requests that follow see what was acknowledged to others, whatever server they are connected to. */
static void sync_client(zhandle_t *zh)
{
    EQUAL(ZOK, zoo_async(zh, "/", nothing, NULL));
}

static void nodes(zhandle_t *zh)
{
    char name[256], data[64];
    struct Stat stat;
    int length = sizeof data;
    EQUAL(ZOK, make(zh, "/c1", "one", ZOO_PERSISTENT));
    EQUAL(ZNODEEXISTS, make(zh, "/c1", "one", ZOO_PERSISTENT));
    EQUAL(ZNONODE, make(zh, "/none/x", "", ZOO_PERSISTENT));
    EQUAL(ZOK, zoo_get(zh, "/c1", 0, data, &length, &stat));
    EQUAL(3, length);
    EQUAL(0, memcmp(data, "one", 3));
    EQUAL(ZOK, zoo_set2(zh, "/c1", "three", 5, 0, &stat));
    EQUAL(1, stat.version);
    EQUAL(5, stat.dataLength);
    EQUAL(ZBADVERSION, zoo_set(zh, "/c1", "x", 1, 0));
    EQUAL(ZOK, zoo_set(zh, "/c1", NULL, -1, -1));
    length = sizeof data;
    EQUAL(ZOK, zoo_get(zh, "/c1", 0, data, &length, &stat));
    EQUAL(-1, length);
    EQUAL(ZOK, zoo_create(zh, "/c1/s", "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_PERSISTENT_SEQUENTIAL, name,
                          sizeof name));
    EQUAL(0, strcmp(name, "/c1/s0000000000"));
    EQUAL(ZOK, zoo_create2(zh, "/c1/e", "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_EPHEMERAL, name,
                           sizeof name, &stat));
    EQUAL(zoo_client_id(zh)->client_id, stat.ephemeralOwner);
    EQUAL(ZNOCHILDRENFOREPHEMERALS, make(zh, "/c1/e/x", "", ZOO_PERSISTENT));
    EQUAL(ZOK, make(zh, "/c1/box", "", ZOO_CONTAINER));
    EQUAL(ZOK, zoo_create_ttl(zh, "/c1/ttl", "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_PERSISTENT_WITH_TTL,
                              600000, name, sizeof name));
    struct String_vector children;
    EQUAL(ZOK, zoo_get_children2(zh, "/c1", 0, &children, &stat));
    EQUAL(4, children.count);
    EQUAL(4, stat.numChildren);
    for (int i = 0; i < children.count; i++) {
        snprintf(name, sizeof name, "/c1/%s", children.data[i]);
        EQUAL(ZOK, zoo_delete(zh, name, -1));
    }
    deallocate_String_vector(&children);
    EQUAL(ZNONODE, zoo_exists(zh, "/c1/e", 0, &stat));
    EQUAL(ZOK, zoo_delete(zh, "/c1", 2));
    EQUAL(ZBADARGUMENTS, make(zh, "relative", "", ZOO_PERSISTENT));
}

static void watches(zhandle_t *zh)
{
    struct events data = NO_EVENTS, exists = NO_EVENTS, children = NO_EVENTS;
    struct Stat stat;
    struct String_vector names;
    char buffer[8];
    int length = sizeof buffer;
    EQUAL(ZNONODE, zoo_wexists(zh, "/c2", watcher, &exists, &stat));
    EQUAL(ZOK, make(zh, "/c2", "", ZOO_PERSISTENT));
    HOLDS(await_events(&exists, 1, 0, 0));
    EQUAL(ZOO_CREATED_EVENT, exists.type);
    EQUAL(0, strcmp(exists.path, "/c2"));
    EQUAL(ZOK, zoo_wget(zh, "/c2", watcher, &data, buffer, &length, &stat));
    EQUAL(ZOK, zoo_wget_children(zh, "/c2", watcher, &children, &names));
    deallocate_String_vector(&names);
    EQUAL(ZOK, zoo_set(zh, "/c2", "x", 1, -1));
    EQUAL(ZOK, zoo_set(zh, "/c2", "y", 1, -1));
    EQUAL(ZOK, make(zh, "/c2/a", "", ZOO_PERSISTENT));
    HOLDS(await_events(&data, 1, 0, 0));
    HOLDS(await_events(&children, 1, 0, 0));
    EQUAL(ZOO_CHANGED_EVENT, data.type);
    EQUAL(ZOO_CHILD_EVENT, children.type);
    length = sizeof buffer;
    EQUAL(ZOK, zoo_wget(zh, "/c2/a", watcher, &data, buffer, &length, &stat));
    EQUAL(ZOK, zoo_remove_watches(zh, "/c2/a", ZWATCHTYPE_DATA, watcher, &data, 0));
    EQUAL(ZNOWATCHER, zoo_remove_watches(zh, "/c2/a", ZWATCHTYPE_DATA, watcher, &data, 0));
    EQUAL(ZOK, zoo_wexists(zh, "/c2/a", watcher, &exists, &stat));
    EQUAL(ZOK, zoo_delete(zh, "/c2/a", -1));
    HOLDS(await_events(&exists, 2, 0, 0));
    EQUAL(ZOO_DELETED_EVENT, exists.type);
    EQUAL(1, data.count);
    EQUAL(ZOK, zoo_delete(zh, "/c2", -1));
}

static void multi(zhandle_t *zh)
{
    char one[64], two[64];
    struct Stat stat;
    zoo_op_t ops[5];
    zoo_op_result_t results[5];
    zoo_create_op_init(&ops[0], "/c3", "1", 1, &ZOO_OPEN_ACL_UNSAFE, 0, one, sizeof one);
    zoo_create_op_init(&ops[1], "/c3/s", "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_SEQUENCE, two, sizeof two);
    zoo_check_op_init(&ops[2], "/c3", 0);
    zoo_set_op_init(&ops[3], "/c3", "22", 2, 0, &stat);
    zoo_delete_op_init(&ops[4], "/c3/s0000000000", 0);
    EQUAL(ZOK, zoo_multi(zh, 5, ops, results));
    EQUAL(0, strcmp(two, "/c3/s0000000000"));
    EQUAL(1, stat.version);
    zoo_set_op_init(&ops[0], "/c3", "lost", 4, -1, &stat);
    zoo_delete_op_init(&ops[1], "/c3/none", -1);
    zoo_delete_op_init(&ops[2], "/c3", -1);
    EQUAL(ZNONODE, zoo_multi(zh, 3, ops, results));
    EQUAL(ZOK, results[0].err);
    EQUAL(ZNONODE, results[1].err);
    EQUAL(ZRUNTIMEINCONSISTENCY, results[2].err);
    EQUAL(ZOK, zoo_exists(zh, "/c3", 0, &stat));
    EQUAL(1, stat.version);
    EQUAL(ZOK, zoo_delete(zh, "/c3", -1));
}

static void authenticated(int rc, const void *data)
{
    assert(rc == ZOK);
    pthread_mutex_unlock((pthread_mutex_t *)data);
}

static void authenticate(zhandle_t *zh, const char *who)
{
    pthread_mutex_t done = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&done);
    EQUAL(ZOK, zoo_add_auth(zh, "digest", who, (int)strlen(who), authenticated, &done));
    pthread_mutex_lock(&done);
}

static void acl(zhandle_t *zh)
{
    struct events events = NO_EVENTS;
    struct ACL_vector list;
    struct Stat stat;
    char buffer[8];
    int length = sizeof buffer;
    zhandle_t *bob = open_session(&events, NULL);
    authenticate(bob, "bob:secret");
    EQUAL(ZOK, zoo_create(bob, "/c4", "", 0, &ZOO_CREATOR_ALL_ACL, 0, NULL, 0));
    sync_client(zh);
    EQUAL(ZNOAUTH, zoo_get(zh, "/c4", 0, buffer, &length, &stat));
    EQUAL(ZNOAUTH, zoo_set(zh, "/c4", "", 0, -1));
    EQUAL(ZOK, zoo_get_acl(bob, "/c4", &list, &stat));
    EQUAL(1, list.count);
    EQUAL(ZOO_PERM_ALL, list.data[0].perms);
    EQUAL(0, strcmp(list.data[0].id.scheme, "digest"));
    EQUAL(0, strncmp(list.data[0].id.id, "bob:", 4));
    deallocate_ACL_vector(&list);
    EQUAL(ZINVALIDACL, zoo_create(zh, "/c5", "", 0, &ZOO_CREATOR_ALL_ACL, 0, NULL, 0));
    EQUAL(ZOK, zoo_set_acl(bob, "/c4", 0, &ZOO_READ_ACL_UNSAFE));
    sync_client(zh);
    EQUAL(ZOK, zoo_get(zh, "/c4", 0, buffer, &length, &stat));
    EQUAL(1, stat.aversion);
    EQUAL(ZNOAUTH, zoo_set_acl(zh, "/c4", -1, &ZOO_OPEN_ACL_UNSAFE));
    EQUAL(ZOK, zoo_delete(zh, "/c4", -1));
    EQUAL(ZOK, zookeeper_close(bob));
}

/* Makes a session with a node and tells its id; ends well when the session turns out expired. */
static void owner(int told)
{
    struct events events = NO_EVENTS;
    zhandle_t *zh = open_session(&events, NULL);
    EQUAL(ZOK, make(zh, "/c6", "", ZOO_EPHEMERAL));
    clientid_t id = *zoo_client_id(zh);
    EQUAL(sizeof id, write(told, &id, sizeof id));
    HOLDS(await_events(&events, -1, ZOO_EXPIRED_SESSION_STATE, 0));
    fflush(stdout);
    _exit(failures != 0);
}

/* A second handle with the same id and password takes the session over. The first belongs to a
 * process that is stopped meanwhile: its connection lives, but it can't take the session back. */
static void take_over(zhandle_t *zh)
{
    struct events events = NO_EVENTS, gone = NO_EVENTS;
    struct Stat stat;
    clientid_t id;
    int told[2], ended = -1;
    EQUAL(0, pipe(told));
    fflush(stdout);
    pid_t old = fork();
    if (old == 0) {
        /* A program of its own: of a process with threads, a fork has only the one that called it,
         * and may wait for ever for locks that the client's other threads held. */
        char fd[16];
        snprintf(fd, sizeof fd, "%d", told[1]);
        execl("/proc/self/exe", "checks", "owner", fd, (char *)NULL);
        _exit(1);
    }
    close(told[1]);
    EQUAL(sizeof id, read(told[0], &id, sizeof id));
    close(told[0]);
    EQUAL(0, kill(old, SIGSTOP));
    zhandle_t *young = open_session(&events, &id);
    EQUAL(id.client_id, zoo_client_id(young)->client_id);
    sync_client(young);
    EQUAL(ZOK, zoo_exists(young, "/c6", 0, &stat));
    EQUAL(id.client_id, stat.ephemeralOwner);
    /* The close does not wait for its answer. */
    sync_client(zh);
    EQUAL(ZOK, zoo_wexists(zh, "/c6", watcher, &gone, &stat));
    EQUAL(ZOK, zookeeper_close(young));
    HOLDS(await_events(&gone, 1, 0, 0));
    EQUAL(ZOO_DELETED_EVENT, gone.type);
    EQUAL(ZNONODE, zoo_exists(zh, "/c6", 0, &stat));
    EQUAL(0, kill(old, SIGCONT));
    EQUAL(old, waitpid(old, &ended, 0));
    EQUAL(0, ended);
}

/* The process that may be killed; after a crash it is another one once the server is back. */
static int victim(void)
{
    int pid = 0;
    FILE *file = fopen(getenv("FOREIGN_PID"), "r");
    if (!file || fscanf(file, "%d", &pid) != 1 || pid <= 1) {
        printf("nothing to kill\n");
        exit(1);
    }
    fclose(file);
    return pid;
}

/* The connection has not been lost, or there is another one. */
static void reconnected(zhandle_t *zh)
{
    struct Stat stat;
    while (zoo_exists(zh, "/", 0, &stat) != ZOK)
        poll(NULL, 0, 5);
}

/* The session, its ephemeral nodes and its watches survive the end of a server's process, and that
 * of every member of an ensemble. */
static void crash(zhandle_t *zh)
{
    struct events session = NO_EVENTS;
    struct Stat stat;
    const char *count = getenv("FOREIGN_MEMBERS");
    int members = count ? atoi(count) : 1;
    zhandle_t *client = open_session(&session, NULL);
    EQUAL(ZOK, make(client, "/c7", "kept", ZOO_EPHEMERAL));
    for (int i = 0; i < members; i++) {
        struct events data = NO_EVENTS;
        char buffer[8];
        int length = sizeof buffer, pid = victim();
        EQUAL(ZOK, zoo_wget(client, "/c7", watcher, &data, buffer, &length, &stat));
        EQUAL(zoo_client_id(client)->client_id, stat.ephemeralOwner);
        EQUAL(0, kill(pid, SIGKILL));
        while (victim() == pid)
            poll(NULL, 0, 5);
        if (members == 1)
            HOLDS(await_events(&session, -1, ZOO_CONNECTED_STATE, 1));
        reconnected(client);
        EQUAL(ZOK, zoo_set(client, "/c7", "new", 3, i));
        HOLDS(await_events(&data, 1, 0, 0));
        EQUAL(ZOO_CHANGED_EVENT, data.type);
    }
    EQUAL(ZOK, zookeeper_close(client));
    /* The other one has noticed, too, or its close would fail. */
    reconnected(zh);
}

static int answered;

static void got(int rc, const char *value, int length, const struct Stat *stat, const void *data)
{
    (void)value, (void)length, (void)stat;
    EQUAL(ZOK, rc);
    EQUAL(answered, (long)data);
    __atomic_add_fetch(&answered, 1, __ATOMIC_SEQ_CST);
}

/* The C client insists on replies in the order of requests. */
static void pipelined(zhandle_t *zh)
{
    enum { COUNT = 5000 };
    for (long i = 0; i < COUNT; i++)
        EQUAL(ZOK, zoo_aget(zh, "/zookeeper", 0, got, (void *)i));
    for (int waited = 0; waited < 120000 && __atomic_load_n(&answered, __ATOMIC_SEQ_CST) < COUNT;
         waited += 5)
        poll(NULL, 0, 5);
    EQUAL(COUNT, answered);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(zhandle_t *);
    } checks[] = {{"nodes", nodes}, {"watches", watches},     {"multi", multi},
                  {"acl", acl},     {"take over", take_over}, {"pipelined", pipelined},
                  {"crash", crash}};
    int passed = 0, failed = 0;
    setvbuf(stdout, NULL, _IOLBF, 0);
    alarm(900); /* a check that hangs ends the program, and the suite with it */
    connect_string = getenv("FOREIGN_CONNECT");
    zoo_set_debug_level(ZOO_LOG_LEVEL_ERROR);
    if (argc == 3 && strcmp(argv[1], "owner") == 0)
        owner(atoi(argv[2]));
    for (size_t i = 0; i < sizeof checks / sizeof *checks; i++) {
        struct events events = NO_EVENTS;
        zhandle_t *zh = open_session(&events, NULL);
        failures = 0;
        checks[i].run(zh);
        EQUAL(ZOK, zookeeper_close(zh));
        if (failures)
            printf("FAILED %s\n", checks[i].name), failed++;
        else
            passed++;
    }
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
