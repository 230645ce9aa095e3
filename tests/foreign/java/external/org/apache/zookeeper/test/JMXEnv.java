package org.apache.zookeeper.test;

import java.io.IOException;
import java.util.Collections;
import java.util.Set;
import javax.management.MBeanServerConnection;
import javax.management.ObjectName;

/**
 * Shadows the class of this name in ZooKeeper's tests, whose set-up looks for the management beans
 * of a server in this process. The server under test is another process, see
 * {@link foreign.ExternalServerFactory}: there are none to find.
 */
public final class JMXEnv {
    private JMXEnv() {
    }

    public static void setUp() {
    }

    public static void tearDown() {
    }

    public static MBeanServerConnection conn() throws IOException {
        throw new UnsupportedOperationException("the server's beans are in another process");
    }

    public static Set<ObjectName> ensureAll(String... names) {
        return Collections.emptySet();
    }

    public static Set<ObjectName> ensureOnly(String... names) {
        return Collections.emptySet();
    }

    public static void ensureNone(String... names) {
    }

    public static Set<ObjectName> ensureParent(String... names) {
        return Collections.emptySet();
    }

    public static void dump() {
    }
}
