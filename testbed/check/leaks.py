"""A test script that ends by itself: `leaks.py LEFT CODE` leaves so many threads behind that wait for a lock."""

import sys
import threading

never = threading.Lock()
never.acquire()


def wait_for_nobody():
    never.acquire()


def work(done):
    done.set()


left, code = int(sys.argv[1]), int(sys.argv[2])
for _ in range(left):
    threading.Thread(target=wait_for_nobody, daemon=True).start()
done = threading.Event()
worker = threading.Thread(target=work, args=(done,))
worker.start()
done.wait()
worker.join()
print("done")
sys.exit(code)
