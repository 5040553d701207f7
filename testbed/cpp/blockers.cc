// cpp_blockers NAME=COUNT... for C++: the waits of libstdc++. The contract is that of the C program
// (README.md).
//
// A scenario NAME has leak_NAME (or idle_NAME, when it is healthy), a function of its own that makes the
// blocking call, and spawn_NAME. FRAME keeps each of them on the stack; none of these calls is the last thing
// that its function does, for it would become a jump.

#include <atomic>
#include <charconv>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <future>
#include <latch>
#include <mutex>
#include <semaphore>
#include <shared_mutex>
#include <string_view>
#include <sys/prctl.h>
#include <thread>

#define FRAME __attribute__((noipa))

using namespace std::chrono_literals;

static constexpr auto HEALTHY = 1000s;
static constexpr int MAX_COUNT = 20000;

static std::atomic<int> awaited;

static void arrive(const char *name) {
    prctl(PR_SET_NAME, name); // the kernel keeps the first 15 characters
    awaited.fetch_sub(1);
}

static void wait_for_arrivals() {
    while (awaited.load() > 0)
        std::this_thread::sleep_for(1ms);
}

[[noreturn]] FRAME static void sleep_forever() {
    for (;;)
        std::this_thread::sleep_for(1h);
}

[[noreturn]] static void came_back(const char *function) {
    std::fprintf(stderr, "cpp_blockers: %s came back, though nothing should have woken it\n", function);
    std::exit(3);
}

static void name_helper() { prctl(PR_SET_NAME, "helper"); }

// Runs `take` in a helper thread, which then sleeps for ever, so that its locks stay held.
template <typename Take> static void hold(Take take) {
    std::atomic<bool> taken = false;
    std::thread([&taken, take] {
        name_helper();
        take();
        taken.store(true); // the caller's frame is gone from here on
        sleep_forever();
    }).detach();
    while (!taken.load())
        std::this_thread::sleep_for(1ms);
}

// Expanded where it stands, so that the caller is the innermost frame of ours at the creation of the thread.
#define SPAWN(entry, count)                                                                                  \
    do {                                                                                                     \
        awaited.fetch_add(count);                                                                            \
        for (int spawned = 0; spawned < (count); spawned++)                                                  \
            std::thread(entry).detach();                                                                     \
    } while (0)

// An entry function that does nothing but arrive and block.
#define ENTRY(function, name, block)                                                                         \
    FRAME static void function() {                                                                           \
        arrive(name);                                                                                        \
        block();                                                                                             \
        came_back(__func__);                                                                                 \
    }

// thread_mutex: std::thread and std::mutex
static std::mutex mutex;

FRAME static void mutex_lock_forever() {
    mutex.lock();
    came_back(__func__);
}

ENTRY(leak_thread_mutex, "thread_mutex", mutex_lock_forever)

FRAME static void spawn_thread_mutex(int count) {
    hold([] { mutex.lock(); });
    SPAWN(leak_thread_mutex, count);
}

// condition_variable
static std::mutex condition_mutex;
static std::condition_variable condition;

FRAME static void condition_wait_forever() {
    std::unique_lock lock(condition_mutex);
    for (;;)
        condition.wait(lock);
}

ENTRY(leak_condition_variable, "condition_variable", condition_wait_forever)

FRAME static void spawn_condition_variable(int count) { SPAWN(leak_condition_variable, count); }

// future_get: of a promise that nobody keeps
static std::promise<int> unkept;
static std::shared_future<int> never = unkept.get_future().share();

FRAME static void future_get_forever() {
    auto mine = never; // a shared_future is to be used from one thread only
    (void)mine.get();
    came_back(__func__);
}

ENTRY(leak_future_get, "future_get", future_get_forever)

FRAME static void spawn_future_get(int count) { SPAWN(leak_future_get, count); }

// shared_mutex
static std::shared_mutex shared_mutex;

FRAME static void shared_mutex_lock_forever() {
    shared_mutex.lock_shared();
    came_back(__func__);
}

ENTRY(leak_shared_mutex, "shared_mutex", shared_mutex_lock_forever)

FRAME static void spawn_shared_mutex(int count) {
    hold([] { shared_mutex.lock(); });
    SPAWN(leak_shared_mutex, count);
}

// semaphore
static std::counting_semaphore<> semaphore(0);

FRAME static void semaphore_acquire_forever() {
    semaphore.acquire();
    came_back(__func__);
}

ENTRY(leak_semaphore, "semaphore", semaphore_acquire_forever)

FRAME static void spawn_semaphore(int count) { SPAWN(leak_semaphore, count); }

// latch
static std::latch latch(1);

FRAME static void latch_wait_forever() {
    latch.wait();
    came_back(__func__);
}

ENTRY(leak_latch, "latch", latch_wait_forever)

FRAME static void spawn_latch(int count) { SPAWN(leak_latch, count); }

// atomic_wait
static std::atomic<int> never_changed;

FRAME static void atomic_wait_forever() {
    never_changed.wait(0);
    came_back(__func__);
}

ENTRY(leak_atomic_wait, "atomic_wait", atomic_wait_forever)

FRAME static void spawn_atomic_wait(int count) { SPAWN(leak_atomic_wait, count); }

// join: each on a helper of its own
FRAME static void join_forever(std::thread &target) {
    target.join();
    came_back(__func__);
}

FRAME static void leak_join() {
    std::thread target([] {
        name_helper();
        sleep_forever();
    });
    arrive("join");
    join_forever(target);
    came_back(__func__);
}

FRAME static void spawn_join(int count) { SPAWN(leak_join, count); }

// deadlock_pair: two mutexes, each taken by a scoped_lock of its own, in opposite orders
struct Pair {
    std::mutex mutexes[2];
    std::atomic<int> taken = 0;
};

FRAME static void scoped_lock_forever(std::mutex &theirs) {
    std::scoped_lock lock(theirs);
    came_back(__func__);
}

FRAME static void leak_deadlock_pair(Pair *pair, int me) {
    std::scoped_lock lock(pair->mutexes[me]);
    pair->taken.fetch_add(1);
    while (pair->taken.load() < 2)
        std::this_thread::sleep_for(1ms);
    arrive("deadlock_pair");
    scoped_lock_forever(pair->mutexes[1 - me]);
    came_back(__func__);
}

FRAME static void spawn_deadlock_pair(int count) {
    awaited.fetch_add(2 * count);
    for (int i = 0; i < count; i++) {
        auto pair = new Pair;
        for (int me = 0; me < 2; me++)
            std::thread(leak_deadlock_pair, pair, me).detach();
    }
}

// timed_cv, timed_future, sleep: healthy
FRAME static void timed_condition_wait() {
    std::unique_lock lock(condition_mutex);
    for (;;)
        condition.wait_for(lock, HEALTHY);
}

ENTRY(idle_timed_cv, "timed_cv", timed_condition_wait)

FRAME static void spawn_timed_cv(int count) { SPAWN(idle_timed_cv, count); }

FRAME static void timed_future_wait() {
    auto mine = never;
    for (;;)
        mine.wait_for(HEALTHY);
}

ENTRY(idle_timed_future, "timed_future", timed_future_wait)

FRAME static void spawn_timed_future(int count) { SPAWN(idle_timed_future, count); }

ENTRY(idle_sleep, "sleep", sleep_forever)

FRAME static void spawn_sleep(int count) { SPAWN(idle_sleep, count); }

struct Scenario {
    std::string_view name;
    void (*spawn)(int count);
    int count = 0;
};

static Scenario scenarios[] = {
    {"thread_mutex", spawn_thread_mutex},
    {"condition_variable", spawn_condition_variable},
    {"future_get", spawn_future_get},
    {"shared_mutex", spawn_shared_mutex},
    {"semaphore", spawn_semaphore},
    {"latch", spawn_latch},
    {"atomic_wait", spawn_atomic_wait},
    {"join", spawn_join},
    {"deadlock_pair", spawn_deadlock_pair},
    {"timed_cv", spawn_timed_cv},
    {"timed_future", spawn_timed_future},
    {"sleep", spawn_sleep},
};

[[noreturn]] static void usage() {
    std::fprintf(stderr, "usage: cpp_blockers NAME=COUNT...\n");
    for (const auto &scenario : scenarios)
        std::fprintf(stderr, "  %s\n", scenario.name.data());
    std::exit(2);
}

[[noreturn]] static void refuse(const char *arg, const char *why) {
    std::fprintf(stderr, "cpp_blockers: `%s`: %s\n", arg, why);
    std::exit(2);
}

static void parse(const char *arg) {
    std::string_view text(arg);
    auto equals = text.find('=');
    if (equals == text.npos)
        refuse(arg, "not of the form NAME=COUNT");
    int count = 0;
    auto [end, error] = std::from_chars(arg + equals + 1, arg + text.size(), count);
    for (auto &scenario : scenarios) {
        if (scenario.name != text.substr(0, equals))
            continue;
        if (error != std::errc() || *end != '\0' || count < 1 || count > MAX_COUNT)
            refuse(arg, "the count is not a number from 1 to 20000");
        if (scenario.count != 0)
            refuse(arg, "named twice");
        scenario.count = count;
        return;
    }
    refuse(arg, "no such scenario (without arguments the names are listed)");
}

int main(int argc, char **argv) {
    if (argc < 2)
        usage();
    for (int i = 1; i < argc; i++)
        parse(argv[i]);
    for (const auto &scenario : scenarios)
        if (scenario.count > 0)
            scenario.spawn(scenario.count);
    wait_for_arrivals();
    std::puts("ready");
    std::fflush(stdout);
    sleep_forever();
}
