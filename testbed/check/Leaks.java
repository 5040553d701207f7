import java.util.concurrent.BlockingQueue;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.LinkedBlockingQueue;

/** A program that ends by itself: `Leaks LEFT` leaves so many threads behind that wait for a queue. */
public class Leaks {
    static void takeForever(BlockingQueue<String> queue) {
        try {
            queue.take();
        } catch (InterruptedException e) {
            throw new IllegalStateException(e);
        }
    }

    public static void main(String[] args) throws Exception {
        for (int i = 0; i < Integer.parseInt(args[0]); i++) {
            Thread thread = new Thread(() -> takeForever(new LinkedBlockingQueue<>()), "taker");
            thread.setDaemon(true);
            thread.start();
        }
        ExecutorService pool = Executors.newFixedThreadPool(2);
        System.out.println(pool.submit(() -> 42).get());
        pool.shutdown();
        System.exit(0);
    }
}
