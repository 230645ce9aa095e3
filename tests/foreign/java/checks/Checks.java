import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.Callable;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.WatchedEvent;
import org.apache.zookeeper.Watcher;
import org.apache.zookeeper.ZooKeeper;

/**
 * Runs checks against the servers at FOREIGN_CONNECT, one after the other, each with a directory of
 * its own. Arguments select checks by a part of their names. Last line: "N passed, N failed".
 */
public final class Checks {
    static final String CONNECT = System.getenv("FOREIGN_CONNECT");
    /** Servers under test; of an ensemble, clients are on different members. */
    static final int MEMBERS = Integer.parseInt(System.getenv().getOrDefault("FOREIGN_MEMBERS", "1"));
    /** Only a server that hangs lets a check wait that long; a busy machine must not. */
    static final long PATIENCE_MS = 120_000;
    /** Of sessions that are not meant to expire. */
    static final int SESSION_MS = 120_000;

    private static final List<String> NAMES = new ArrayList<>();
    private static final List<Check> CHECKS = new ArrayList<>();

    interface Check {
        void run(String root) throws Exception;
    }

    interface Action {
        void run() throws Exception;
    }

    static void check(String name, Check check) {
        NAMES.add(name);
        CHECKS.add(check);
    }

    public static void main(String[] selected) throws Exception {
        ClientChecks.list();
        ShellChecks.list();
        CuratorChecks.list();
        int passed = 0;
        int failed = 0;
        for (int i = 0; i < CHECKS.size(); i++) {
            String name = NAMES.get(i);
            if (selected.length > 0 && List.of(selected).stream().noneMatch(name::contains)) {
                continue;
            }
            try {
                CHECKS.get(i).run("/check" + i);
                passed++;
            } catch (Throwable e) {
                failed++;
                System.out.println("FAILED " + name);
                e.printStackTrace(System.out);
            }
        }
        System.out.println(passed + " passed, " + failed + " failed");
        System.exit(failed == 0 ? 0 : 1);
    }

    static void equal(Object expected, Object found) {
        if (!expected.equals(found)) {
            throw new AssertionError("expected " + expected + ", found " + found);
        }
    }

    static void holds(boolean condition, Object context) {
        if (!condition) {
            throw new AssertionError(context);
        }
    }

    static void refused(KeeperException.Code code, Action action) throws Exception {
        try {
            action.run();
        } catch (KeeperException e) {
            equal(code, e.code());
            return;
        }
        throw new AssertionError("succeeded instead of " + code);
    }

    /** Polls until the condition holds. */
    static void eventually(String what, Callable<Boolean> condition) throws Exception {
        long deadline = System.currentTimeMillis() + PATIENCE_MS;
        while (!condition.call()) {
            holds(System.currentTimeMillis() < deadline, "waited in vain: " + what);
            Thread.sleep(10);
        }
    }

    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    /** Ends a server's process at once, and returns when whoever started it has started it again. */
    static void crashServer() throws Exception {
        String pid = victim();
        equal(0, new ProcessBuilder("kill", "-KILL", pid).start().waitFor());
        eventually("a new process", () -> !victim().equals(pid));
    }

    /** As {@link #crashServer}, each server in turn; {@code after} is run after each. */
    static void crashEach(Action after) throws Exception {
        for (int i = 0; i < MEMBERS; i++) {
            crashServer();
            after.run();
        }
    }

    private static String victim() throws Exception {
        return Files.readString(Path.of(System.getenv("FOREIGN_PID"))).trim();
    }

    /** The client then sees what was acknowledged to others, whatever member it is connected to. */
    static void sync(ZooKeeper client) throws Exception {
        BlockingQueue<Integer> done = new LinkedBlockingQueue<>();
        client.sync("/", (rc, path, context) -> done.add(rc), null);
        equal(KeeperException.Code.OK.intValue(), done.poll(PATIENCE_MS, TimeUnit.MILLISECONDS));
    }

    /** Events in the order of their arrival. */
    static final class Events implements Watcher {
        private final BlockingQueue<WatchedEvent> queue = new LinkedBlockingQueue<>();

        @Override
        public void process(WatchedEvent event) {
            queue.add(event);
        }

        /** The next event as "NodeCreated /path", or its state where it concerns no node. */
        String next() throws InterruptedException {
            WatchedEvent event = queue.poll(PATIENCE_MS, TimeUnit.MILLISECONDS);
            holds(event != null, "no event arrived");
            return event.getPath() == null ? event.getState().name() : event.getType() + " " + event.getPath();
        }

        void expect(String... expected) throws InterruptedException {
            for (String one : expected) {
                equal(one, next());
            }
        }

        void expectNothing() {
            equal("[]", queue.toString());
        }

        void skipTo(String expected) throws InterruptedException {
            while (!next().equals(expected)) {
                continue;
            }
        }
    }

    static ZooKeeper connect(Events events) throws Exception {
        return connect(CONNECT, SESSION_MS, events);
    }

    static ZooKeeper connect(String where, int timeoutMs, Events events) throws Exception {
        ZooKeeper client = new ZooKeeper(where, timeoutMs, events);
        events.expect("SyncConnected");
        return client;
    }

    /** What an action printed to standard output. */
    static String printed(Action action) throws Exception {
        PrintStream before = System.out;
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        System.setOut(new PrintStream(bytes, true));
        try {
            action.run();
        } finally {
            System.setOut(before);
        }
        return bytes.toString();
    }
}
