// cpp_spawner: says `ready`, waits for SIGUSR1, and then makes threads of every kind of callable, each from a function of
// its own: 2 by a function with arguments, 3 by a lambda, 4 by a member function, 5 by an object, all of which stay, and 6
// by a lambda that end at once.
#include <csignal>
#include <cstdio>
#include <string>
#include <thread>
#include <unistd.h>

#define FRAME __attribute__((noipa))

FRAME static void wait_for_ever() {
    for (;;)
        pause();
}

FRAME static void run_job(int number, const std::string &name) {
    if (number >= 0 && !name.empty())
        wait_for_ever();
}

struct Server {
    FRAME void serve() { wait_for_ever(); }
};

struct Worker {
    FRAME void operator()() const { wait_for_ever(); }
};

static Server server;

FRAME static void spawn_by_function() {
    for (int i = 0; i < 2; i++)
        std::thread(run_job, i, std::string("job")).detach();
}

FRAME static void spawn_by_lambda() {
    for (int i = 0; i < 3; i++)
        std::thread([] { wait_for_ever(); }).detach();
}

FRAME static void spawn_by_member() {
    for (int i = 0; i < 4; i++)
        std::thread(&Server::serve, &server).detach();
}

FRAME static void spawn_by_object() {
    for (int i = 0; i < 5; i++)
        std::thread(Worker()).detach();
}

FRAME static void spawn_short() {
    for (int i = 0; i < 6; i++)
        std::thread([i] { std::fprintf(stderr, i < 0 ? "never" : ""); }).join();
}

int main() {
    sigset_t wanted;
    int signal;
    sigemptyset(&wanted);
    sigaddset(&wanted, SIGUSR1);
    sigprocmask(SIG_BLOCK, &wanted, nullptr);
    std::puts("ready");
    std::fflush(stdout);
    sigwait(&wanted, &signal);
    spawn_by_function();
    spawn_by_lambda();
    spawn_by_member();
    spawn_by_object();
    spawn_short();
    wait_for_ever();
}
