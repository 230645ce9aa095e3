package foreign;

import java.io.File;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.TimeUnit;
import javax.security.auth.login.AppConfigurationEntry;
import javax.security.auth.login.Configuration;
import org.apache.zookeeper.client.FourLetterWordMain;
import org.apache.zookeeper.server.ServerCnxn;
import org.apache.zookeeper.server.ServerCnxnFactory;
import org.apache.zookeeper.server.SyncRequestProcessor;
import org.apache.zookeeper.server.ZooKeeperServer;

/**
 * Puts the server under test where a Java test suite starts Apache's own server in its process.
 *
 * <p>It stands in for both of Apache's connection factories (the two classes beside it shadow them
 * in the class path): a suite that makes a ZooKeeperServer and gives it to its connection factory
 * gets a server process on the same directory and port; the object in this process never loads
 * data and never serves. The suites' own classes run unmodified. What looks into the server object
 * cannot work, and mostly says so by an UnsupportedOperationException.
 *
 * <p>{@code foreign.server} names the launcher, {@code foreign.logs} a directory for its output.
 */
public class ExternalServerFactory extends ServerCnxnFactory {
    private static final long PATIENCE_MS = 120_000;
    /** Apache's default of {@code snapCount}. */
    private static final int SNAP_COUNT = 100_000;

    private InetSocketAddress address;
    private int connectionsMax;
    private int backlog;
    private volatile Process process;

    @Override
    public void configure(InetSocketAddress address, int connectionsMax, int backlog, boolean secure)
            throws IOException {
        if (secure) {
            throw new UnsupportedOperationException("no TLS port in the external server");
        }
        this.connectionsMax = connectionsMax;
        this.backlog = backlog;
        int port = address.getPort();
        if (port == 0) {
            try (ServerSocket socket = new ServerSocket(0, 1, InetAddress.getLoopbackAddress())) {
                port = socket.getLocalPort();
            }
        }
        // Every address is more than a test needs, and more than a machine should open for one.
        boolean isOne = address.getAddress() != null && !address.getAddress().isAnyLocalAddress();
        InetAddress one = isOne ? address.getAddress() : InetAddress.getLoopbackAddress();
        // Of the interfaces' addresses Java writes ::1 as ::1%lo, which the C library does not read.
        InetAddress without = InetAddress.getByAddress(one.getAddress());
        this.address = new InetSocketAddress(one.isLinkLocalAddress() ? one : without, port);
    }

    @Override
    public void startup(ZooKeeperServer server, boolean start) throws IOException, InterruptedException {
        setZooKeeperServer(server);
        server.setServerCnxnFactory(this);
        // As Apache does: the factory can be shut down and started again with another server.
        launch(server);
    }

    private void launch(ZooKeeperServer server) throws IOException, InterruptedException {
        Path home = Files.createTempDirectory("external-server");
        List<String> config = new ArrayList<>();
        config.add("tickTime=" + server.getTickTime());
        config.add("minSessionTimeout=" + server.getMinSessionTimeout());
        config.add("maxSessionTimeout=" + server.getMaxSessionTimeout());
        config.add("dataDir=" + server.getTxnLogFactory().getSnapDir().getParent());
        config.add("dataLogDir=" + server.getTxnLogFactory().getDataLogDir().getParent());
        config.add("clientPort=" + address.getPort());
        config.add("clientPortAddress=" + address.getAddress().getHostAddress());
        config.add("maxClientCnxns=" + connectionsMax);
        config.add("admin.enableServer=false");
        // What a test set in static fields of Apache's classes; what it set as a property follows.
        config.add("reconfigEnabled=" + server.isReconfigEnabled());
        if (SyncRequestProcessor.getSnapCount() != SNAP_COUNT) {
            config.add("snapCount=" + SyncRequestProcessor.getSnapCount());
        }
        if (backlog > 0) {
            config.add("clientPortListenBacklog=" + backlog);
        }
        if (System.getProperty("zookeeper.4lw.commands.whitelist") == null) {
            config.add("4lw.commands.whitelist=*");
        }
        Path file = home.resolve("zoo.cfg");
        Files.write(file, config, StandardCharsets.UTF_8);

        List<String> command = new ArrayList<>();
        command.add(System.getProperty("foreign.server"));
        // What a test set for "its" server by system property.
        for (Map.Entry<Object, Object> property : new TreeMap<>(System.getProperties()).entrySet()) {
            String name = property.getKey().toString();
            boolean own = name.startsWith("zookeeper.admin.") || name.startsWith("zookeeper.client")
                    || name.startsWith("zookeeper.junit.") || name.equals(ZOOKEEPER_SERVER_CNXN_FACTORY);
            boolean servers = name.startsWith("zookeeper.") || name.startsWith("znode.")
                    || name.startsWith("jute.") || name.equals("readonlymode.enabled");
            if (servers && !own) {
                command.add("-D" + name + "=" + property.getValue());
            }
        }
        Path jaas = home.resolve("jaas.conf");
        Files.write(jaas, serverLogin().getBytes(StandardCharsets.UTF_8));
        command.add("-Djava.security.auth.login.config=" + jaas);
        command.add(file.toString());
        File log = new File(System.getProperty("foreign.logs"), "external-server.log");
        process = new ProcessBuilder(command).redirectErrorStream(true)
                .redirectOutput(ProcessBuilder.Redirect.appendTo(log)).start();
        Runtime.getRuntime().addShutdownHook(new Thread(process::destroyForcibly));
        long deadline = System.currentTimeMillis() + PATIENCE_MS;
        while (!serves()) {
            if (!process.isAlive() || System.currentTimeMillis() > deadline) {
                process.destroyForcibly();
                throw new IOException("the external server does not start, see " + log);
            }
            Thread.sleep(5);
        }
    }

    /** The server's section of the login configuration in this process, as a JAAS file. */
    private static String serverLogin() {
        String section = System.getProperty("zookeeper.sasl.serverconfig", "Server");
        AppConfigurationEntry[] entries = null;
        try {
            entries = Configuration.getConfiguration().getAppConfigurationEntry(section);
        } catch (SecurityException e) {
            // No configuration at all.
        }
        StringBuilder text = new StringBuilder();
        if (entries != null) {
            text.append(section).append(" {\n");
            for (AppConfigurationEntry entry : entries) {
                text.append(entry.getLoginModuleName()).append(" required");
                entry.getOptions().forEach((name, value) ->
                        text.append(' ').append(name).append("=\"").append(value).append('"'));
                text.append(";\n");
            }
            text.append("};\n");
        }
        return text.toString();
    }

    private boolean serves() {
        try {
            return FourLetterWordMain.send4LetterWord(
                    address.getAddress().getHostAddress(), address.getPort(), "srvr", false, 1000)
                    .contains("Mode:");
        } catch (Exception e) {
            return false;
        }
    }

    @Override
    public void shutdown() {
        Process current = process;
        if (current == null) {
            return;
        }
        current.destroy();
        try {
            if (!current.waitFor(PATIENCE_MS, TimeUnit.MILLISECONDS)) {
                current.destroyForcibly().waitFor();
            }
        } catch (InterruptedException e) {
            current.destroyForcibly();
            Thread.currentThread().interrupt();
        }
        process = null;
    }

    @Override
    public void join() throws InterruptedException {
        Process current = process;
        if (current != null) {
            current.waitFor();
        }
    }

    @Override
    public int getLocalPort() {
        return address.getPort();
    }

    @Override
    public InetSocketAddress getLocalAddress() {
        return address;
    }

    @Override
    public void start() {
    }

    @Override
    public int getMaxClientCnxnsPerHost() {
        return connectionsMax;
    }

    @Override
    public int getSocketListenBacklog() {
        return -1;
    }

    @Override
    public Iterable<ServerCnxn> getConnections() {
        throw inside("getConnections");
    }

    @Override
    public void closeAll(ServerCnxn.DisconnectReason reason) {
        throw inside("closeAll");
    }

    @Override
    public void reconfigure(InetSocketAddress address) {
        throw inside("reconfigure");
    }

    @Override
    public void setMaxClientCnxnsPerHost(int max) {
        throw inside("setMaxClientCnxnsPerHost");
    }

    @Override
    public void resetAllConnectionStats() {
        throw inside("resetAllConnectionStats");
    }

    @Override
    public Iterable<Map<String, Object>> getAllConnectionInfo(boolean brief) {
        return Collections.emptyList();
    }

    private static UnsupportedOperationException inside(String what) {
        return new UnsupportedOperationException(what + " looks into the server's process");
    }
}
