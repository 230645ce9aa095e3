import static org.apache.zookeeper.ZooDefs.Ids.OPEN_ACL_UNSAFE;

import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.ZooKeeper;

/** Short names for what most checks use. */
class Support {
    static void equal(Object expected, Object found) {
        Checks.equal(expected, found);
    }

    static void holds(boolean condition, Object context) {
        Checks.holds(condition, context);
    }

    static void refused(KeeperException.Code code, Checks.Action action) throws Exception {
        Checks.refused(code, action);
    }

    static byte[] bytes(String text) {
        return Checks.bytes(text);
    }

    /** A connected client that has made the node {@code root}, unless that is null. */
    static ZooKeeper client(String root) throws Exception {
        ZooKeeper client = Checks.connect(new Checks.Events());
        if (root != null) {
            node(client, root);
        }
        return client;
    }

    static void node(ZooKeeper client, String path) throws Exception {
        client.create(path, bytes(""), OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
    }
}
