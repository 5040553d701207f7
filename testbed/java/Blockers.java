import java.util.LinkedHashMap;
import java.util.Map;
import java.util.concurrent.ArrayBlockingQueue;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.locks.LockSupport;
import java.util.function.IntConsumer;

/**
 * Blockers NAME=COUNT... for Java. The contract is that of the C program (see README.md).
 *
 * <p>A scenario has leakX (or idleX, when it is healthy), a method of its own that makes the blocking
 * call, and spawnX. A JVM has waiting threads of its own beside those: the README says which.
 */
public final class Blockers {
    private static final long HEALTHY_SECONDS = 1000;
    private static final int MAX_COUNT = 20000;
    /** What the kernel keeps of a thread's name; the JVM would cut out the middle. */
    private static final int MAX_NAME = 15;

    private static final AtomicInteger awaited = new AtomicInteger();
    private static final Map<String, IntConsumer> scenarios = new LinkedHashMap<>();

    private Blockers() {}

    private interface Body {
        void run() throws Exception;
    }

    private static void arrive() {
        awaited.decrementAndGet();
    }

    /** Not a wait on a lock: the main thread must not look blocked itself. */
    private static void waitForArrivals() throws InterruptedException {
        while (awaited.get() > 0) {
            Thread.sleep(1);
        }
    }

    private static void sleepForever() throws InterruptedException {
        while (true) {
            TimeUnit.HOURS.sleep(1);
        }
    }

    /** A thread whose body never ends, unless something has gone wrong. */
    private static Thread thread(String name, Body body) {
        Runnable run = () -> {
            try {
                body.run();
                System.err.println("Blockers: " + name + " came back, though nothing should have woken it");
            } catch (Exception e) {
                System.err.println("Blockers: " + name + ": " + e);
            }
            Runtime.getRuntime().halt(3);
        };
        Thread thread = new Thread(run, name.substring(0, Math.min(name.length(), MAX_NAME)));
        thread.start();
        return thread;
    }

    private static void start(String name, int count, Body body) {
        awaited.addAndGet(count);
        for (int i = 0; i < count; i++) {
            thread(name, body);
        }
    }

    // synchronized_enter: a monitor that a helper holds
    private static final Object monitor = new Object();

    private static void holdMonitor() throws InterruptedException {
        synchronized (monitor) {
            arrive();
            sleepForever();
        }
    }

    private static void synchronizedEnterForever() {
        synchronized (monitor) {
            return;
        }
    }

    private static void leakSynchronizedEnter() {
        arrive();
        synchronizedEnterForever();
    }

    private static void spawnSynchronizedEnter(int count) {
        try {
            start("helper", 1, Blockers::holdMonitor);
            waitForArrivals();
        } catch (InterruptedException e) {
            throw new IllegalStateException(e);
        }
        start("synchronized_enter", count, Blockers::leakSynchronizedEnter);
    }

    // object_wait
    private static final Object neverNotified = new Object();

    private static void objectWaitForever() throws InterruptedException {
        synchronized (neverNotified) {
            while (true) {
                neverNotified.wait();
            }
        }
    }

    private static void leakObjectWait() throws InterruptedException {
        arrive();
        objectWaitForever();
    }

    private static void spawnObjectWait(int count) {
        start("object_wait", count, Blockers::leakObjectWait);
    }

    // park
    private static void parkForever() {
        while (true) {
            LockSupport.park();
        }
    }

    private static void leakPark() {
        arrive();
        parkForever();
    }

    private static void spawnPark(int count) {
        start("park", count, Blockers::leakPark);
    }

    // queue_take
    private static final BlockingQueue<Integer> emptyQueue = new ArrayBlockingQueue<>(1);

    private static void queueTakeForever() throws InterruptedException {
        emptyQueue.take();
    }

    private static void leakQueueTake() throws InterruptedException {
        arrive();
        queueTakeForever();
    }

    private static void spawnQueueTake(int count) {
        start("queue_take", count, Blockers::leakQueueTake);
    }

    // countdown_latch
    private static final CountDownLatch latch = new CountDownLatch(1);

    private static void latchAwaitForever() throws InterruptedException {
        latch.await();
    }

    private static void leakCountdownLatch() throws InterruptedException {
        arrive();
        latchAwaitForever();
    }

    private static void spawnCountdownLatch(int count) {
        start("countdown_latch", count, Blockers::leakCountdownLatch);
    }

    // future_get
    private static final CompletableFuture<Integer> unfinished = new CompletableFuture<>();

    private static void futureGetForever() throws Exception {
        unfinished.get();
    }

    private static void leakFutureGet() throws Exception {
        arrive();
        futureGetForever();
    }

    private static void spawnFutureGet(int count) {
        start("future_get", count, Blockers::leakFutureGet);
    }

    // thread_join: each on a helper of its own
    private static void joinForever(Thread target) throws InterruptedException {
        target.join();
    }

    private static void leakThreadJoin() throws InterruptedException {
        Thread target = thread("helper", Blockers::sleepForever);
        arrive();
        joinForever(target);
    }

    private static void spawnThreadJoin(int count) {
        start("thread_join", count, Blockers::leakThreadJoin);
    }

    // timed_wait, timed_park, timed_poll, sleep: healthy
    private static void idleTimedWait() throws InterruptedException {
        arrive();
        synchronized (neverNotified) {
            while (true) {
                neverNotified.wait(TimeUnit.SECONDS.toMillis(HEALTHY_SECONDS));
            }
        }
    }

    private static void spawnTimedWait(int count) {
        start("timed_wait", count, Blockers::idleTimedWait);
    }

    private static void idleTimedPark() {
        arrive();
        while (true) {
            LockSupport.parkNanos(TimeUnit.SECONDS.toNanos(HEALTHY_SECONDS));
        }
    }

    private static void spawnTimedPark(int count) {
        start("timed_park", count, Blockers::idleTimedPark);
    }

    private static void idleTimedPoll() throws InterruptedException {
        arrive();
        while (true) {
            emptyQueue.poll(HEALTHY_SECONDS, TimeUnit.SECONDS);
        }
    }

    private static void spawnTimedPoll(int count) {
        start("timed_poll", count, Blockers::idleTimedPoll);
    }

    private static void idleSleep() throws InterruptedException {
        arrive();
        sleepForever();
    }

    private static void spawnSleep(int count) {
        start("sleep", count, Blockers::idleSleep);
    }

    static {
        scenarios.put("synchronized_enter", Blockers::spawnSynchronizedEnter);
        scenarios.put("object_wait", Blockers::spawnObjectWait);
        scenarios.put("park", Blockers::spawnPark);
        scenarios.put("queue_take", Blockers::spawnQueueTake);
        scenarios.put("countdown_latch", Blockers::spawnCountdownLatch);
        scenarios.put("future_get", Blockers::spawnFutureGet);
        scenarios.put("thread_join", Blockers::spawnThreadJoin);
        scenarios.put("timed_wait", Blockers::spawnTimedWait);
        scenarios.put("timed_park", Blockers::spawnTimedPark);
        scenarios.put("timed_poll", Blockers::spawnTimedPoll);
        scenarios.put("sleep", Blockers::spawnSleep);
    }

    private static void refuse(String arg, String why) {
        System.err.println("Blockers: `" + arg + "`: " + why);
        System.exit(2);
    }

    private static Map<String, Integer> parse(String[] args) {
        Map<String, Integer> counts = new LinkedHashMap<>();
        for (String arg : args) {
            int equals = arg.indexOf('=');
            String name = arg.substring(0, Math.max(equals, 0));
            String digits = arg.substring(equals + 1);
            int count = digits.matches("[0-9]{1,5}") ? Integer.parseInt(digits) : 0;
            if (equals < 0) {
                refuse(arg, "not of the form NAME=COUNT");
            } else if (!scenarios.containsKey(name)) {
                refuse(arg, "no such scenario (without arguments the names are listed)");
            } else if (count < 1 || count > MAX_COUNT) {
                refuse(arg, "the count is not a number from 1 to " + MAX_COUNT);
            } else if (counts.put(name, count) != null) {
                refuse(arg, "named twice");
            }
        }
        return counts;
    }

    public static void main(String[] args) throws InterruptedException {
        if (args.length == 0) {
            System.err.println("usage: Blockers NAME=COUNT...");
            scenarios.keySet().forEach(name -> System.err.println("  " + name));
            System.exit(2);
        }
        parse(args).forEach((name, count) -> scenarios.get(name).accept(count));
        waitForArrivals();
        System.out.println("ready");
        System.out.flush();
        sleepForever();
    }
}
