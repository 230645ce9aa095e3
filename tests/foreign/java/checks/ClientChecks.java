import static org.apache.zookeeper.KeeperException.Code.BADVERSION;
import static org.apache.zookeeper.KeeperException.Code.INVALIDACL;
import static org.apache.zookeeper.KeeperException.Code.NOAUTH;
import static org.apache.zookeeper.KeeperException.Code.NOCHILDRENFOREPHEMERALS;
import static org.apache.zookeeper.KeeperException.Code.NODEEXISTS;
import static org.apache.zookeeper.KeeperException.Code.NONODE;
import static org.apache.zookeeper.KeeperException.Code.NOTEMPTY;
import static org.apache.zookeeper.KeeperException.Code.NOWATCHER;
import static org.apache.zookeeper.KeeperException.Code.RECONFIGDISABLED;
import static org.apache.zookeeper.KeeperException.Code.SESSIONEXPIRED;
import static org.apache.zookeeper.KeeperException.Code.UNIMPLEMENTED;
import static org.apache.zookeeper.ZooDefs.Ids.CREATOR_ALL_ACL;
import static org.apache.zookeeper.ZooDefs.Ids.OPEN_ACL_UNSAFE;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.TreeSet;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import org.apache.zookeeper.AddWatchMode;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.Op;
import org.apache.zookeeper.OpResult;
import org.apache.zookeeper.Watcher.WatcherType;
import org.apache.zookeeper.ZooDefs.Perms;
import org.apache.zookeeper.ZooKeeper;
import org.apache.zookeeper.data.ACL;
import org.apache.zookeeper.data.ClientInfo;
import org.apache.zookeeper.data.Id;
import org.apache.zookeeper.data.Stat;
import org.apache.zookeeper.server.auth.DigestAuthenticationProvider;

/** Apache's Java client: its public operations. */
final class ClientChecks extends Support {
    private ClientChecks() {
    }

    static void list() {
        Checks.check("create: every mode", ClientChecks::createModes);
        Checks.check("create: containers and TTL nodes go when they are due", ClientChecks::reaping);
        Checks.check("data: versions and stat", ClientChecks::versionsAndStat);
        Checks.check("data: a megabyte", ClientChecks::bigData);
        Checks.check("errors", ClientChecks::errors);
        Checks.check("multi: all or nothing", ClientChecks::multi);
        Checks.check("multi: reads", ClientChecks::multiRead);
        Checks.check("watches: one-shot", ClientChecks::oneShotWatches);
        Checks.check("watches: persistent", ClientChecks::persistentWatches);
        Checks.check("watches: persistent recursive", ClientChecks::recursiveWatches);
        Checks.check("watches: remove", ClientChecks::removeWatches);
        Checks.check("watches: survive a crash of the server", ClientChecks::watchesAfterCrash);
        Checks.check("sessions: taken over with id and password", ClientChecks::takeOver);
        Checks.check("sessions: wrong password", ClientChecks::wrongPassword);
        Checks.check("sessions: close removes ephemerals", ClientChecks::closeRemovesEphemerals);
        Checks.check("sessions: expiry removes ephemerals", ClientChecks::expiry);
        Checks.check("sessions: survive a crash of the server", ClientChecks::sessionAfterCrash);
        Checks.check("getEphemerals and getAllChildrenNumber", ClientChecks::inventory);
        Checks.check("whoAmI", ClientChecks::whoAmI);
        Checks.check("acl: digest and super user", ClientChecks::digest);
        Checks.check("acl: permissions one by one", ClientChecks::permissions);
        Checks.check("chroot", ClientChecks::chroot);
        Checks.check("order: a thousand requests in flight", ClientChecks::pipelined);
        Checks.check("sync and getConfig", ClientChecks::syncAndConfig);
        Checks.check("reconfig on a standalone server", ClientChecks::reconfig);
    }

    private static void createModes(String root) throws Exception {
        try (ZooKeeper client = client(root)) {
            equal(root + "/p", client.create(root + "/p", bytes("x"), OPEN_ACL_UNSAFE, CreateMode.PERSISTENT));
            Stat stat = new Stat();
            client.create(root + "/e", null, OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL, stat);
            equal(client.getSessionId(), stat.getEphemeralOwner());
            equal(root + "/s0000000002", client.create(root + "/s", bytes(""), OPEN_ACL_UNSAFE,
                    CreateMode.PERSISTENT_SEQUENTIAL));
            equal(root + "/s0000000003", client.create(root + "/s", bytes(""), OPEN_ACL_UNSAFE,
                    CreateMode.EPHEMERAL_SEQUENTIAL));
            client.create(root + "/c", bytes(""), OPEN_ACL_UNSAFE, CreateMode.CONTAINER, stat);
            equal(0L, stat.getEphemeralOwner());
            client.create(root + "/t", bytes(""), OPEN_ACL_UNSAFE, CreateMode.PERSISTENT_WITH_TTL, stat, 3_600_000);
            equal(0L, stat.getEphemeralOwner());
            equal(root + "/ts0000000006", client.create(root + "/ts", bytes(""), OPEN_ACL_UNSAFE,
                    CreateMode.PERSISTENT_SEQUENTIAL_WITH_TTL, stat, 3_600_000));
            refused(NOCHILDRENFOREPHEMERALS, () -> node(client, root + "/e/child"));
            equal(7, client.exists(root, false).getNumChildren());
        }
    }

    private static void reaping(String root) throws Exception {
        try (ZooKeeper client = client(root)) {
            client.create(root + "/c", bytes(""), OPEN_ACL_UNSAFE, CreateMode.CONTAINER);
            node(client, root + "/c/child");
            client.delete(root + "/c/child", -1);
            client.create(root + "/t", bytes(""), OPEN_ACL_UNSAFE, CreateMode.PERSISTENT_WITH_TTL, new Stat(), 50);
            client.create(root + "/never", bytes(""), OPEN_ACL_UNSAFE, CreateMode.CONTAINER);
            Checks.eventually("the container goes", () -> client.exists(root + "/c", false) == null);
            Checks.eventually("the TTL node goes", () -> client.exists(root + "/t", false) == null);
            holds(client.exists(root + "/never", false) != null, "a container that never had a child stays");
        }
    }

    private static void versionsAndStat(String root) throws Exception {
        try (ZooKeeper client = client(root)) {
            Stat made = new Stat();
            client.create(root + "/a", bytes("one"), OPEN_ACL_UNSAFE, CreateMode.PERSISTENT, made);
            equal(3, made.getDataLength());
            Stat set = client.setData(root + "/a", bytes("three"), 0);
            equal(1, set.getVersion());
            equal(made.getCzxid(), set.getCzxid());
            holds(set.getMzxid() > made.getMzxid() && set.getMtime() >= made.getMtime(), set);
            refused(BADVERSION, () -> client.setData(root + "/a", bytes(""), 0));
            refused(BADVERSION, () -> client.delete(root + "/a", 0));
            node(client, root + "/a/b");
            Stat read = new Stat();
            equal("three", new String(client.getData(root + "/a", false, read)));
            equal(1, read.getNumChildren());
            equal(1, read.getCversion());
            equal(client.exists(root + "/a/b", false).getCzxid(), read.getPzxid());
            refused(NOTEMPTY, () -> client.delete(root + "/a", 1));
            client.delete(root + "/a/b", 0);
            equal(2, client.exists(root + "/a", false).getCversion());
            client.delete(root + "/a", 1);
        }
    }

    private static void bigData(String root) throws Exception {
        try (ZooKeeper client = client(root)) {
            byte[] data = new byte[1_000_000];
            Arrays.fill(data, (byte) 7);
            client.create(root + "/big", data, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
            holds(Arrays.equals(data, client.getData(root + "/big", false, null)), "data differs");
            try {
                client.setData(root + "/big", new byte[1_100_000], -1);
                throw new AssertionError("a request over the limit was served");
            } catch (KeeperException.ConnectionLossException expected) {
                equal(1_000_000, afterReconnect(client, root + "/big").getDataLength());
            }
        }
    }

    private static void errors(String root) throws Exception {
        try (ZooKeeper client = client(root)) {
            node(client, root + "/a");
            refused(NODEEXISTS, () -> node(client, root + "/a"));
            refused(NONODE, () -> node(client, root + "/x/y"));
            refused(NONODE, () -> client.delete(root + "/x", -1));
            refused(NONODE, () -> client.setData(root + "/x", bytes(""), -1));
            refused(NONODE, () -> client.getData(root + "/x", false, null));
            refused(NONODE, () -> client.getChildren(root + "/x", false));
            refused(NONODE, () -> client.getACL(root + "/x", null));
            holds(client.exists(root + "/x", false) == null, "exists");
            refused(INVALIDACL, () -> client.create(root + "/b", bytes(""), Collections.emptyList(),
                    CreateMode.PERSISTENT));
            refused(INVALIDACL, () -> client.create(root + "/b", bytes(""), CREATOR_ALL_ACL, CreateMode.PERSISTENT));
            refused(KeeperException.Code.BADARGUMENTS, () -> client.delete("/zookeeper", -1));
        }
    }

    private static void multi(String root) throws Exception {
        try (ZooKeeper client = client(root)) {
            List<OpResult> results = client.multi(List.of(
                    Op.create(root + "/a", bytes("1"), OPEN_ACL_UNSAFE, CreateMode.PERSISTENT),
                    Op.check(root + "/a", 0),
                    Op.setData(root + "/a", bytes("22"), 0),
                    Op.create(root + "/a/s", bytes(""), OPEN_ACL_UNSAFE, CreateMode.PERSISTENT_SEQUENTIAL),
                    Op.create(root + "/b", bytes(""), OPEN_ACL_UNSAFE, CreateMode.CONTAINER),
                    Op.delete(root + "/a/s0000000000", 0)));
            equal(root + "/a", ((OpResult.CreateResult) results.get(0)).getPath());
            equal(1, ((OpResult.SetDataResult) results.get(2)).getStat().getVersion());
            equal(root + "/a/s0000000000", ((OpResult.CreateResult) results.get(3)).getPath());
            equal(0, client.exists(root + "/a", false).getNumChildren());
            try {
                client.multi(List.of(
                        Op.setData(root + "/a", bytes("lost"), -1),
                        Op.delete(root + "/x", -1),
                        Op.delete(root + "/a", -1)));
                throw new AssertionError("committed");
            } catch (KeeperException e) {
                equal(NONODE, e.code());
                equal("[0, -101, -2]", e.getResults().stream()
                        .map(r -> ((OpResult.ErrorResult) r).getErr()).collect(Collectors.toList()).toString());
            }
            equal("22", new String(client.getData(root + "/a", false, null)));
        }
    }

    private static void multiRead(String root) throws Exception {
        try (ZooKeeper client = client(root)) {
            node(client, root + "/a");
            List<OpResult> results = client.multi(List.of(
                    Op.getChildren(root), Op.getData(root + "/a"), Op.getData(root + "/x")));
            equal(List.of("a"), ((OpResult.GetChildrenResult) results.get(0)).getChildren());
            equal(0, ((OpResult.GetDataResult) results.get(1)).getStat().getVersion());
            equal(NONODE.intValue(), ((OpResult.ErrorResult) results.get(2)).getErr());
        }
    }

    private static void oneShotWatches(String root) throws Exception {
        Checks.Events data = new Checks.Events();
        Checks.Events exists = new Checks.Events();
        Checks.Events children = new Checks.Events();
        try (ZooKeeper client = client(root); ZooKeeper writer = client(null)) {
            client.exists(root + "/a", exists);
            client.getChildren(root, children);
            node(writer, root + "/a");
            exists.expect("NodeCreated " + root + "/a");
            children.expect("NodeChildrenChanged " + root);
            client.getData(root + "/a", data, null);
            client.exists(root + "/a", data);
            client.getChildren(root + "/a", children);
            writer.setData(root + "/a", bytes("1"), -1);
            data.expect("NodeDataChanged " + root + "/a");
            writer.setData(root + "/a", bytes("2"), -1);
            client.getData(root + "/a", data, null);
            writer.delete(root + "/a", -1);
            data.expect("NodeDeleted " + root + "/a");
            children.expect("NodeDeleted " + root + "/a");
            client.exists(root, false);
            data.expectNothing();
            exists.expectNothing();
            children.expectNothing();
        }
    }

    private static void persistentWatches(String root) throws Exception {
        Checks.Events events = new Checks.Events();
        try (ZooKeeper client = client(root); ZooKeeper writer = client(null)) {
            client.addWatch(root + "/a", events, AddWatchMode.PERSISTENT);
            node(writer, root + "/a");
            writer.setData(root + "/a", bytes("1"), -1);
            node(writer, root + "/a/b");
            writer.setData(root + "/a/b", bytes("1"), -1);
            writer.delete(root + "/a/b", -1);
            writer.delete(root + "/a", -1);
            node(writer, root + "/a");
            events.expect("NodeCreated " + root + "/a", "NodeDataChanged " + root + "/a",
                    "NodeChildrenChanged " + root + "/a", "NodeChildrenChanged " + root + "/a",
                    "NodeDeleted " + root + "/a", "NodeCreated " + root + "/a");
        }
    }

    private static void recursiveWatches(String root) throws Exception {
        Checks.Events events = new Checks.Events();
        try (ZooKeeper client = client(root); ZooKeeper writer = client(null)) {
            client.addWatch(root, events, AddWatchMode.PERSISTENT_RECURSIVE);
            node(writer, root + "/a");
            node(writer, root + "/a/b");
            writer.setData(root + "/a/b", bytes("1"), -1);
            writer.delete(root + "/a/b", -1);
            writer.delete(root + "/a", -1);
            events.expect("NodeCreated " + root + "/a", "NodeCreated " + root + "/a/b",
                    "NodeDataChanged " + root + "/a/b", "NodeDeleted " + root + "/a/b", "NodeDeleted " + root + "/a");
        }
    }

    private static void removeWatches(String root) throws Exception {
        Checks.Events one = new Checks.Events();
        Checks.Events all = new Checks.Events();
        try (ZooKeeper client = client(root)) {
            client.getData(root, one, null);
            client.getChildren(root, one);
            client.addWatch(root, all, AddWatchMode.PERSISTENT_RECURSIVE);
            client.removeWatches(root, one, WatcherType.Data, false);
            one.expect("DataWatchRemoved " + root);
            client.removeAllWatches(root, WatcherType.Any, false);
            one.expect("ChildWatchRemoved " + root);
            all.expect("PersistentWatchRemoved " + root);
            client.setData(root, bytes("1"), -1);
            node(client, root + "/a");
            client.exists(root, false);
            one.expectNothing();
            all.expectNothing();
            refused(NOWATCHER, () -> client.removeWatches(root, one, WatcherType.Any, false));
        }
    }

    private static void watchesAfterCrash(String root) throws Exception {
        Checks.Events session = new Checks.Events();
        Checks.Events once = new Checks.Events();
        Checks.Events lasting = new Checks.Events();
        try (ZooKeeper client = Checks.connect(session)) {
            node(client, root);
            client.getData(root, once, null);
            client.addWatch(root, lasting, AddWatchMode.PERSISTENT_RECURSIVE);
            Checks.crashEach(() -> {
                // The client sets its watches again after it says that it is connected; a persistent
                // one hears of nothing that was before.
                afterReconnect(client, root);
                try (ZooKeeper writer = client(null)) {
                    writer.setData(root, bytes("1"), -1);
                }
                once.skipTo("NodeDataChanged " + root);
                lasting.skipTo("NodeDataChanged " + root);
                client.getData(root, once, null);
            });
        }
    }

    private static void takeOver(String root) throws Exception {
        Checks.Events first = new Checks.Events();
        Checks.Events second = new Checks.Events();
        ZooKeeper old = Checks.connect(first);
        node(old, root);
        old.create(root + "/e", bytes(""), OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL);
        try (ZooKeeper client = new ZooKeeper(Checks.CONNECT, Checks.SESSION_MS, second, old.getSessionId(),
                old.getSessionPasswd())) {
            second.expect("SyncConnected");
            if (Checks.MEMBERS == 1) {
                // Another member would notice when the old client writes.
                first.expect("Disconnected");
            }
            // The old one takes the session back within a second, and so on.
            equal(old.getSessionId(), afterReconnect(client, root + "/e").getEphemeralOwner());
        }
        old.close(1);
    }

    private static void wrongPassword(String root) throws Exception {
        Checks.Events events = new Checks.Events();
        try (ZooKeeper owner = client(root)) {
            ZooKeeper thief = new ZooKeeper(Checks.CONNECT, Checks.SESSION_MS, events, owner.getSessionId(),
                    new byte[16]);
            events.skipTo("Expired");
            thief.close();
            // Apache closes the owner's connection before it looks at the password.
            holds(afterReconnect(owner, root) != null, "the owner goes on");
        }
    }

    /** sync and exists, on a client whose connection was just lost or is about to be. */
    private static Stat afterReconnect(ZooKeeper client, String path) throws Exception {
        Stat[] found = {null};
        Checks.eventually("connected again", () -> {
            try {
                client.sync(path, null, null);
                found[0] = client.exists(path, false);
                return true;
            } catch (KeeperException.ConnectionLossException e) {
                return false;
            }
        });
        return found[0];
    }

    private static void closeRemovesEphemerals(String root) throws Exception {
        Checks.Events events = new Checks.Events();
        try (ZooKeeper watcher = client(root)) {
            ZooKeeper client = client(null);
            client.create(root + "/e", bytes(""), OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL);
            Checks.sync(watcher);
            watcher.exists(root + "/e", events);
            client.close();
            Checks.sync(watcher);
            holds(watcher.exists(root + "/e", false) == null, "gone when close returns");
            events.expect("NodeDeleted " + root + "/e");
            refused(SESSIONEXPIRED, () -> client.exists(root, false));
        }
    }

    private static void expiry(String root) throws Exception {
        try (ZooKeeper watcher = client(root)) {
            Checks.Events deleted = new Checks.Events();
            Silent client = shortSession(root + "/e");
            Checks.sync(watcher);
            if (watcher.exists(root + "/e", deleted) != null) {
                client.vanish();
                deleted.expect("NodeDeleted " + root + "/e");
            }
            Checks.Events events = new Checks.Events();
            ZooKeeper late = new ZooKeeper(Checks.CONNECT, Checks.SESSION_MS, events, client.getSessionId(),
                    client.getSessionPasswd());
            events.skipTo("Expired");
            late.close();
        }
    }

    /** A session of one second with this node; where the machine is busy, one may end before it has it. */
    private static Silent shortSession(String node) throws Exception {
        Silent[] made = {null};
        Checks.eventually("a short session with a node", () -> {
            Checks.Events events = new Checks.Events();
            Silent client = new Silent(events);
            try {
                events.expect("SyncConnected");
                client.create(node, bytes(""), OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL);
                made[0] = client;
                return true;
            } catch (KeeperException.ConnectionLossException | KeeperException.SessionExpiredException
                    | KeeperException.NodeExistsException e) {
                client.vanish();
                return false;
            }
        });
        return made[0];
    }

    /** A client that can leave without closing its session. */
    private static final class Silent extends ZooKeeper {
        Silent(Checks.Events events) throws Exception {
            super(Checks.CONNECT, 1_000, events);
        }

        void vanish() {
            cnxn.disconnect();
        }
    }

    private static void sessionAfterCrash(String root) throws Exception {
        Checks.Events events = new Checks.Events();
        try (ZooKeeper client = Checks.connect(events)) {
            node(client, root);
            client.create(root + "/e", bytes("kept"), OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL);
            long id = client.getSessionId();
            Checks.crashEach(() -> {
                equal(id, afterReconnect(client, root + "/e").getEphemeralOwner());
                equal(id, client.getSessionId());
                equal("kept", new String(client.getData(root + "/e", false, null)));
            });
        }
    }

    private static void inventory(String root) throws Exception {
        try (ZooKeeper client = client(root); ZooKeeper other = client(null)) {
            node(client, root + "/a");
            client.create(root + "/a/e", bytes(""), OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL);
            client.create(root + "/f", bytes(""), OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL);
            other.create(root + "/g", bytes(""), OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL);
            equal(new TreeSet<>(List.of(root + "/a/e", root + "/f")), new TreeSet<>(client.getEphemerals()));
            equal(List.of(root + "/a/e"), client.getEphemerals(root + "/a"));
            Checks.sync(client);
            equal(4, client.getAllChildrenNumber(root));
            equal(0, client.getAllChildrenNumber(root + "/f"));
            refused(NONODE, () -> client.getAllChildrenNumber(root + "/x"));
        }
    }

    private static void whoAmI(String root) throws Exception {
        try (ZooKeeper client = client(root)) {
            client.addAuthInfo("digest", bytes("bob:secret"));
            List<String> found = new ArrayList<>();
            for (ClientInfo info : client.whoAmI()) {
                found.add(info.getAuthScheme() + ":" + info.getUser());
            }
            equal(List.of("digest:bob", "ip:127.0.0.1"), found.stream().sorted().collect(Collectors.toList()));
        }
    }

    private static void digest(String root) throws Exception {
        try (ZooKeeper owner = client(root); ZooKeeper other = client(null); ZooKeeper boss = client(null)) {
            owner.addAuthInfo("digest", bytes("bob:secret"));
            owner.create(root + "/mine", bytes("1"), CREATOR_ALL_ACL, CreateMode.PERSISTENT);
            Stat stat = new Stat();
            equal(List.of(new ACL(Perms.ALL, new Id("digest",
                    DigestAuthenticationProvider.generateDigest("bob:secret")))), owner.getACL(root + "/mine", stat));
            equal(0, stat.getAversion());
            Checks.sync(other);
            refused(NOAUTH, () -> other.getData(root + "/mine", false, null));
            refused(NOAUTH, () -> other.getACL(root + "/mine", null));
            other.addAuthInfo("digest", bytes("bob:wrong"));
            refused(NOAUTH, () -> other.setData(root + "/mine", bytes("2"), -1));
            boss.addAuthInfo("digest", bytes("super:test"));
            Checks.sync(boss);
            equal("1", new String(boss.getData(root + "/mine", false, null)));
            boss.setACL(root + "/mine", OPEN_ACL_UNSAFE, 0);
            other.setData(root + "/mine", bytes("2"), -1);
            refused(BADVERSION, () -> boss.setACL(root + "/mine", OPEN_ACL_UNSAFE, 0));
        }
    }

    private static void permissions(String root) throws Exception {
        try (ZooKeeper client = client(root)) {
            for (int perms : new int[] {Perms.READ, Perms.WRITE, Perms.CREATE, Perms.DELETE, Perms.ADMIN}) {
                String path = root + "/p" + perms;
                client.create(path, bytes(""), Collections.singletonList(new ACL(perms, new Id("world", "anyone"))),
                        CreateMode.PERSISTENT);
                allowed(perms == Perms.READ, () -> client.getData(path, false, null));
                allowed(perms == Perms.READ, () -> client.getChildren(path, false));
                allowed(perms == Perms.WRITE, () -> client.setData(path, bytes(""), -1));
                allowed(perms == Perms.CREATE, () -> node(client, path + "/c"));
                allowed(perms == Perms.READ || perms == Perms.ADMIN, () -> client.getACL(path, null));
                allowed(perms == Perms.READ, () -> client.exists(path, false));
                if (perms == Perms.CREATE) {
                    refused(NOAUTH, () -> client.delete(path + "/c", -1));
                }
                allowed(perms == Perms.ADMIN, () -> client.setACL(path, OPEN_ACL_UNSAFE, -1));
            }
        }
    }

    private static void allowed(boolean expected, Checks.Action action) throws Exception {
        if (expected) {
            action.run();
        } else {
            refused(NOAUTH, action);
        }
    }

    private static void chroot(String root) throws Exception {
        Checks.Events events = new Checks.Events();
        try (ZooKeeper outside = client(root);
                ZooKeeper inside = Checks.connect(Checks.CONNECT + root, Checks.SESSION_MS, new Checks.Events())) {
            equal("/s0000000000", inside.create("/s", bytes(""), OPEN_ACL_UNSAFE, CreateMode.PERSISTENT_SEQUENTIAL));
            inside.exists("/a", events);
            node(outside, root + "/a");
            events.expect("NodeCreated /a");
            equal(2, inside.getAllChildrenNumber("/"));
        }
    }

    private static void pipelined(String root) throws Exception {
        try (ZooKeeper client = client(root)) {
            int count = 1_000;
            CountDownLatch done = new CountDownLatch(count);
            List<Integer> order = Collections.synchronizedList(new ArrayList<>());
            for (int i = 0; i < count; i++) {
                if (i % 3 == 0) {
                    client.getData(root, false, (rc, path, ctx, data, stat) -> {
                        order.add((Integer) ctx);
                        done.countDown();
                    }, i);
                } else {
                    client.create(root + "/n" + i, bytes(""), OPEN_ACL_UNSAFE, CreateMode.PERSISTENT,
                            (rc, path, ctx, name) -> {
                                order.add((Integer) ctx);
                                done.countDown();
                            }, i);
                }
            }
            holds(done.await(Checks.PATIENCE_MS, TimeUnit.MILLISECONDS), "all are answered");
            for (int i = 0; i < count; i++) {
                equal(i, order.get(i));
            }
            equal(666, client.getAllChildrenNumber(root));
        }
    }

    private static void syncAndConfig(String root) throws Exception {
        try (ZooKeeper client = client(root)) {
            CountDownLatch done = new CountDownLatch(1);
            client.sync(root, (rc, path, ctx) -> {
                if (rc == 0 && path.equals(root)) {
                    done.countDown();
                }
            }, null);
            holds(done.await(Checks.PATIENCE_MS, TimeUnit.MILLISECONDS), "sync is answered");
            String config = new String(client.getConfig(false, new Stat()));
            equal(Checks.MEMBERS == 1 ? 0 : Checks.MEMBERS, config.split("server\\.", -1).length - 1);
        }
    }

    private static void reconfig(String root) throws Exception {
        try (org.apache.zookeeper.admin.ZooKeeperAdmin admin =
                new org.apache.zookeeper.admin.ZooKeeperAdmin(Checks.CONNECT, Checks.SESSION_MS, new Checks.Events())) {
            admin.addAuthInfo("digest", bytes("super:test"));
            // A lone server is asked to, and members are not.
            refused(Checks.MEMBERS == 1 ? UNIMPLEMENTED : RECONFIGDISABLED,
                    () -> admin.reconfigure("server.2=127.0.0.1:1:2;3", null, null, -1, new Stat()));
        }
    }
}
