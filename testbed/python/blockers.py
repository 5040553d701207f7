#!/usr/bin/python3
"""blockers.py NAME=COUNT... for Python's standard library. The contract is the C program's (README.md).

A scenario NAME has leak_NAME (or idle_NAME, when it is healthy), a function of its own that makes the
blocking call, and spawn_NAME.
"""

import queue
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

from bed import arrive, name_thread, run, sleep_forever, start, start_helper

HEALTHY_SECONDS = 1000


# lock: held by the main thread
held_lock = threading.Lock()


def lock_acquire_forever():
    held_lock.acquire()


def leak_lock():
    arrive("lock")
    lock_acquire_forever()


def spawn_lock(count):
    held_lock.acquire(blocking=False)
    start(leak_lock, count)


# queue_get
empty_queue = queue.Queue()


def queue_get_forever():
    empty_queue.get()


def leak_queue_get():
    arrive("queue_get")
    queue_get_forever()


def spawn_queue_get(count):
    start(leak_queue_get, count)


# event_wait
unset_event = threading.Event()


def event_wait_forever():
    unset_event.wait()


def leak_event_wait():
    arrive("event_wait")
    event_wait_forever()


def spawn_event_wait(count):
    start(leak_event_wait, count)


# condition
condition = threading.Condition()


def condition_wait_forever():
    with condition:
        condition.wait()


def leak_condition():
    arrive("condition")
    condition_wait_forever()


def spawn_condition(count):
    start(leak_condition, count)


# thread_join: each on a helper of its own
def join_forever(target):
    target.join()


def leak_thread_join():
    target = start_helper()
    arrive("thread_join")
    join_forever(target)


def spawn_thread_join(count):
    start(leak_thread_join, count)


# semaphore
semaphore = threading.Semaphore(0)


def semaphore_acquire_forever():
    semaphore.acquire()


def leak_semaphore():
    arrive("semaphore")
    semaphore_acquire_forever()


def spawn_semaphore(count):
    start(leak_semaphore, count)


# barrier: of more threads than there ever are
barriers = []


def barrier_wait_forever():
    barriers[0].wait()


def leak_barrier():
    arrive("barrier")
    barrier_wait_forever()


def spawn_barrier(count):
    barriers.append(threading.Barrier(count + 1))
    start(leak_barrier, count)


# executor_idle: an idle pool, which looks like a leak. Each of its workers has run one short job.
executors = []


def spawn_executor_idle(count):
    running = []

    def short_job():
        name_thread("executor_idle")
        running.append(1)
        while len(running) < count:  # so that each job needs a worker of its own
            time.sleep(0.001)

    executor = ThreadPoolExecutor(max_workers=count)
    executors.append(executor)
    jobs = [executor.submit(short_job) for _ in range(count)]
    while not all(job.done() for job in jobs):
        time.sleep(0.001)


# future_result
unfinished = Future()


def future_result_forever():
    unfinished.result()


def leak_future_result():
    arrive("future_result")
    future_result_forever()


def spawn_future_result(count):
    start(leak_future_result, count)


# timed_lock, timed_queue, timed_event, sleep: healthy
def timed_lock_acquire():
    while True:
        held_lock.acquire(timeout=HEALTHY_SECONDS)


def idle_timed_lock():
    arrive("timed_lock")
    timed_lock_acquire()


def spawn_timed_lock(count):
    held_lock.acquire(blocking=False)
    start(idle_timed_lock, count)


def timed_queue_get():
    while True:
        try:
            empty_queue.get(timeout=HEALTHY_SECONDS)
        except queue.Empty:
            pass


def idle_timed_queue():
    arrive("timed_queue")
    timed_queue_get()


def spawn_timed_queue(count):
    start(idle_timed_queue, count)


def timed_event_wait():
    while True:
        unset_event.wait(HEALTHY_SECONDS)


def idle_timed_event():
    arrive("timed_event")
    timed_event_wait()


def spawn_timed_event(count):
    start(idle_timed_event, count)


def idle_sleep():
    arrive("sleep")
    sleep_forever()


def spawn_sleep(count):
    start(idle_sleep, count)


SCENARIOS = {
    "lock": spawn_lock,
    "queue_get": spawn_queue_get,
    "event_wait": spawn_event_wait,
    "condition": spawn_condition,
    "thread_join": spawn_thread_join,
    "semaphore": spawn_semaphore,
    "barrier": spawn_barrier,
    "executor_idle": spawn_executor_idle,
    "future_result": spawn_future_result,
    "timed_lock": spawn_timed_lock,
    "timed_queue": spawn_timed_queue,
    "timed_event": spawn_timed_event,
    "sleep": spawn_sleep,
}

run(SCENARIOS)
