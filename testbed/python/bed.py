"""What all scenarios share: the command line, and how threads are started, named, counted in and kept.

Arrivals are counted without a lock: the main thread must not look blocked itself.
"""

import sys
import threading
import time

MAX_COUNT = 20000

arrived = []  # appending is atomic
expected = 0


def name_thread(name):
    """What /proc shows: Python 3.11 gives its threads no names there. The kernel keeps 15 characters."""
    with open(f"/proc/self/task/{threading.get_native_id()}/comm", "w", encoding="ascii") as comm:
        comm.write(name)


def arrive(name):
    name_thread(name)
    arrived.append(name)


def wait_for_arrivals():
    while len(arrived) < expected:
        time.sleep(0.001)


def sleep_forever():
    while True:
        time.sleep(3600)


def expect(count):
    """`ready` is not said before so many more threads have arrived."""
    global expected
    expected += count


def start(entry, count):
    expect(count)
    for _ in range(count):
        threading.Thread(target=entry, daemon=True).start()


def sleep_as_helper():
    name_thread("helper")
    sleep_forever()


def start_helper():
    """A thread that no scenario counts."""
    thread = threading.Thread(target=sleep_as_helper, daemon=True)
    thread.start()
    return thread


def refuse(arg, why):
    print(f"blockers.py: `{arg}`: {why}", file=sys.stderr)
    sys.exit(2)


def parse(args, scenarios):
    counts = {}
    for arg in args:
        name, equals, count = arg.partition("=")
        if not equals:
            refuse(arg, "not of the form NAME=COUNT")
        if name not in scenarios:
            refuse(arg, "no such scenario (without arguments the names are listed)")
        if name in counts:
            refuse(arg, "named twice")
        if not (count.isascii() and count.isdigit() and len(count) <= 5 and 1 <= int(count) <= MAX_COUNT):
            refuse(arg, f"the count is not a number from 1 to {MAX_COUNT}")
        counts[name] = int(count)
    return counts


def run(scenarios):
    """Starts what the command line asks for, says `ready` and sleeps for ever."""
    if len(sys.argv) < 2:
        print("usage: blockers.py NAME=COUNT...", *scenarios, sep="\n  ", file=sys.stderr)
        sys.exit(2)
    for name, count in parse(sys.argv[1:], scenarios).items():
        scenarios[name](count)
    wait_for_arrivals()
    print("ready", flush=True)
    sleep_forever()
