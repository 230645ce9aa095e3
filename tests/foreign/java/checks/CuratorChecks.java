import java.util.ArrayList;
import java.util.Collection;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.api.transaction.CuratorTransactionResult;
import org.apache.curator.framework.recipes.barriers.DistributedBarrier;
import org.apache.curator.framework.recipes.cache.CuratorCache;
import org.apache.curator.framework.recipes.leader.LeaderLatch;
import org.apache.curator.framework.recipes.locks.InterProcessMutex;
import org.apache.curator.framework.recipes.nodes.PersistentNode;
import org.apache.curator.framework.recipes.nodes.PersistentTtlNode;
import org.apache.curator.framework.recipes.queue.SimpleDistributedQueue;
import org.apache.curator.framework.recipes.shared.SharedCount;
import org.apache.curator.retry.RetryNTimes;
import org.apache.curator.x.discovery.ServiceCache;
import org.apache.curator.x.discovery.ServiceDiscovery;
import org.apache.curator.x.discovery.ServiceDiscoveryBuilder;
import org.apache.curator.x.discovery.ServiceInstance;
import org.apache.zookeeper.CreateMode;

/**
 * Curator: its recipes with two clients, and service discovery, which has no published tests.
 * The recipes' corner cases are in Curator's own suite.
 */
final class CuratorChecks extends Support {
    private CuratorChecks() {
    }

    static void list() {
        Checks.check("curator: mutex", CuratorChecks::mutex);
        Checks.check("curator: leader latch", CuratorChecks::latch);
        Checks.check("curator: cache", CuratorChecks::cache);
        Checks.check("curator: queue, barrier, counter", CuratorChecks::small);
        Checks.check("curator: persistent and TTL nodes survive a crash of the server", CuratorChecks::nodes);
        Checks.check("curator: transaction", CuratorChecks::transaction);
        Checks.check("curator: service discovery", CuratorChecks::discovery);
    }

    private static CuratorFramework framework() throws Exception {
        CuratorFramework client = CuratorFrameworkFactory.builder().connectString(Checks.CONNECT)
                .sessionTimeoutMs(Checks.SESSION_MS).connectionTimeoutMs(Checks.SESSION_MS)
                .retryPolicy(new RetryNTimes(600, 200)).build();
        client.start();
        holds(client.blockUntilConnected((int) Checks.PATIENCE_MS, TimeUnit.MILLISECONDS), "connects");
        return client;
    }

    private static void mutex(String root) throws Exception {
        try (CuratorFramework one = framework(); CuratorFramework two = framework()) {
            InterProcessMutex first = new InterProcessMutex(one, root);
            InterProcessMutex second = new InterProcessMutex(two, root);
            first.acquire();
            holds(!second.acquire(100, TimeUnit.MILLISECONDS), "excluded");
            first.release();
            holds(second.acquire(Checks.PATIENCE_MS, TimeUnit.MILLISECONDS), "free again");
            second.release();
            int[] shared = {0};
            int[] turns = {0};
            AtomicBoolean ending = new AtomicBoolean();
            List<Thread> threads = new ArrayList<>();
            for (CuratorFramework client : List.of(one, two, one, two)) {
                Thread thread = new Thread(() -> {
                    InterProcessMutex lock = new InterProcessMutex(client, root);
                    try {
                        for (int i = 0; i < 20 || !ending.get(); i++) {
                            lock.acquire();
                            int before = shared[0];
                            Thread.yield();
                            shared[0] = before + 1;
                            lock.release();
                            synchronized (turns) {
                                turns[0]++;
                            }
                        }
                    } catch (Exception e) {
                        throw new IllegalStateException(e);
                    }
                });
                thread.start();
                threads.add(thread);
            }
            Checks.crashEach(() -> {
                int before = turns[0];
                Checks.eventually("the lock goes round", () -> turns[0] > before + 4);
            });
            ending.set(true);
            for (Thread thread : threads) {
                thread.join();
            }
            equal(turns[0], shared[0]);
        }
    }

    private static void latch(String root) throws Exception {
        try (CuratorFramework one = framework(); CuratorFramework two = framework();
                LeaderLatch second = new LeaderLatch(two, root, "two")) {
            LeaderLatch first = new LeaderLatch(one, root, "one");
            first.start();
            holds(first.await(Checks.PATIENCE_MS, TimeUnit.MILLISECONDS), "the first leads");
            second.start();
            Checks.eventually("both take part", () -> first.getParticipants().size() == 2);
            holds(!second.hasLeadership(), "one leader");
            first.close();
            holds(second.await(Checks.PATIENCE_MS, TimeUnit.MILLISECONDS), "the second leads");
            equal("two", second.getLeader().getId());
            Checks.crashEach(() -> Checks.eventually("the second leads", second::hasLeadership));
        }
    }

    private static void cache(String root) throws Exception {
        try (CuratorFramework client = framework(); CuratorFramework writer = framework();
                CuratorCache cache = CuratorCache.build(client, root)) {
            writer.create().creatingParentsIfNeeded().forPath(root + "/a/b", bytes("1"));
            cache.start();
            Checks.eventually("the cache has what was there", () -> cache.size() == 3);
            for (int i = 0; i < 100; i++) {
                writer.create().forPath(root + "/a/n" + i);
            }
            writer.setData().forPath(root + "/a/b", bytes("2"));
            writer.delete().forPath(root + "/a/n0");
            Checks.eventually("the cache follows", () -> cache.size() == 102 && holds(cache, root + "/a/b", "2"));
            int[] round = {0};
            Checks.crashEach(() -> {
                String text = "after crash " + round[0]++;
                writer.setData().forPath(root + "/a/b", bytes(text));
                Checks.eventually("the cache follows", () -> holds(cache, root + "/a/b", text));
            });
            equal(102, cache.size());
        }
    }

    private static boolean holds(CuratorCache cache, String path, String text) {
        return new String(cache.get(path).get().getData()).equals(text);
    }

    private static void small(String root) throws Exception {
        try (CuratorFramework one = framework(); CuratorFramework two = framework()) {
            SimpleDistributedQueue queue = new SimpleDistributedQueue(one, root + "/queue");
            for (int i = 0; i < 20; i++) {
                queue.offer(bytes("item" + i));
            }
            SimpleDistributedQueue other = new SimpleDistributedQueue(two, root + "/queue");
            for (int i = 0; i < 20; i++) {
                equal("item" + i, new String(other.poll(Checks.PATIENCE_MS, TimeUnit.MILLISECONDS)));
            }
            DistributedBarrier barrier = new DistributedBarrier(one, root + "/barrier");
            barrier.setBarrier();
            Checks.sync(two.getZookeeperClient().getZooKeeper());
            holds(!new DistributedBarrier(two, root + "/barrier").waitOnBarrier(100, TimeUnit.MILLISECONDS), "closed");
            barrier.removeBarrier();
            Checks.sync(two.getZookeeperClient().getZooKeeper());
            DistributedBarrier open = new DistributedBarrier(two, root + "/barrier");
            holds(open.waitOnBarrier(Checks.PATIENCE_MS, TimeUnit.MILLISECONDS), "open");
            try (SharedCount mine = new SharedCount(one, root + "/count", 0);
                    SharedCount yours = new SharedCount(two, root + "/count", 0)) {
                mine.start();
                yours.start();
                mine.setCount(7);
                Checks.eventually("the count arrives", () -> yours.getCount() == 7);
                holds(yours.trySetCount(yours.getVersionedValue(), 8), "its version is known");
                Checks.eventually("the count arrives", () -> mine.getCount() == 8);
            }
        }
    }

    private static void nodes(String root) throws Exception {
        try (CuratorFramework client = framework(); CuratorFramework other = framework();
                PersistentNode node = new PersistentNode(client, CreateMode.EPHEMERAL, true, root + "/p", bytes("1"));
                PersistentTtlNode ttl = new PersistentTtlNode(client, root + "/t", 60_000, bytes(""))) {
            node.start();
            ttl.start();
            holds(node.waitForInitialCreate(Checks.PATIENCE_MS, TimeUnit.MILLISECONDS), "made");
            holds(ttl.waitForInitialCreate(Checks.PATIENCE_MS, TimeUnit.MILLISECONDS), "made");
            other.delete().forPath(node.getActualPath());
            Checks.eventually("made again", () -> other.checkExists().forPath(node.getActualPath()) != null);
            Checks.crashEach(() -> Checks.eventually("still there", () ->
                    other.checkExists().forPath(node.getActualPath()) != null
                    && other.checkExists().forPath(root + "/t") != null));
        }
    }

    private static void transaction(String root) throws Exception {
        try (CuratorFramework client = framework()) {
            client.create().forPath(root);
            Collection<CuratorTransactionResult> results = client.transaction().forOperations(
                    client.transactionOp().create().forPath(root + "/a", bytes("1")),
                    client.transactionOp().setData().forPath(root + "/a", bytes("2")),
                    client.transactionOp().check().withVersion(1).forPath(root + "/a"));
            equal(3, results.size());
            try {
                client.transaction().forOperations(client.transactionOp().delete().forPath(root + "/a"),
                        client.transactionOp().check().forPath(root + "/none"));
                throw new AssertionError("committed");
            } catch (org.apache.zookeeper.KeeperException.NoNodeException expected) {
                equal("2", new String(client.getData().forPath(root + "/a")));
            }
        }
    }

    private static void discovery(String root) throws Exception {
        try (CuratorFramework one = framework(); CuratorFramework two = framework();
                ServiceDiscovery<Void> server = ServiceDiscoveryBuilder.builder(Void.class).client(one)
                        .basePath(root).build();
                ServiceDiscovery<Void> client = ServiceDiscoveryBuilder.builder(Void.class).client(two)
                        .basePath(root).build()) {
            server.start();
            client.start();
            ServiceInstance<Void> instance = ServiceInstance.<Void>builder().name("web").id("1")
                    .address("127.0.0.1").port(80).build();
            try (ServiceCache<Void> cache = client.serviceCacheBuilder().name("web").build()) {
                cache.start();
                server.registerService(instance);
                Checks.eventually("the cache sees it", () -> cache.getInstances().size() == 1);
                equal(List.of(instance), new ArrayList<>(client.queryForInstances("web")));
                equal(List.of("web"), new ArrayList<>(client.queryForNames()));
                server.unregisterService(instance);
                Checks.eventually("the cache sees it go", () -> cache.getInstances().isEmpty());
                equal(Collections.emptyList(), new ArrayList<>(client.queryForInstances("web")));
            }
        }
    }
}
