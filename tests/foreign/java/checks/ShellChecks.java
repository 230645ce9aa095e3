import java.io.File;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;

/** Apache's command-line client, zkCli, as a process of its own. */
final class ShellChecks extends Support {
    private ShellChecks() {
    }

    static void list() {
        Checks.check("zkCli: nodes", ShellChecks::nodes);
        Checks.check("zkCli: quota", ShellChecks::quota);
        Checks.check("zkCli: acl and auth", ShellChecks::acl);
        Checks.check("zkCli: watches, whoami, version", ShellChecks::others);
    }

    /** What a session prints for these lines of input, one command after the other. */
    private static String shell(String... lines) throws Exception {
        List<String> command = new ArrayList<>(List.of("java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
                "-Dlogback.configurationFile=" + System.getProperty("logback.configurationFile"),
                "-cp", System.getProperty("java.class.path"), "org.apache.zookeeper.ZooKeeperMain",
                "-server", Checks.CONNECT, "-timeout", String.valueOf(Checks.SESSION_MS)));
        File input = File.createTempFile("shell", ".in");
        File output = File.createTempFile("shell", ".out");
        try {
            java.nio.file.Files.writeString(input.toPath(), String.join("\n", lines) + "\nquit\n");
            Process process = new ProcessBuilder(command).redirectErrorStream(true)
                    .redirectInput(input).redirectOutput(output).start();
            if (!process.waitFor(2 * Checks.PATIENCE_MS, TimeUnit.MILLISECONDS)) {
                process.destroyForcibly();
                throw new AssertionError("the shell does not end");
            }
            return new String(java.nio.file.Files.readAllBytes(output.toPath()), StandardCharsets.UTF_8);
        } finally {
            input.delete();
            output.delete();
        }
    }

    /** The parts occur in the text in this order. */
    private static void inOrder(String text, String... parts) {
        int from = 0;
        for (String part : parts) {
            int found = text.indexOf(part, from);
            holds(found >= 0, "no \"" + part + "\" after offset " + from + " in:\n" + text);
            from = found + part.length();
        }
    }

    private static void nodes(String root) throws Exception {
        String text = shell("create " + root + " hello", "create -e " + root + "/e mine",
                "create -s " + root + "/s x", "create -c " + root + "/c", "create -t 100000 " + root + "/t x",
                "ls " + root, "ls -R " + root, "get -s " + root, "set -v 0 " + root + " world", "get " + root,
                "set -v 0 " + root + " again", "stat " + root + "/e", "getAllChildrenNumber " + root,
                "getEphemerals " + root, "delete " + root, "deleteall " + root, "stat " + root);
        inOrder(text, "Created " + root, "Created " + root + "/e", "Created " + root + "/s0000000001",
                "Created " + root + "/c", "Created " + root + "/t", "[c, e, s0000000001, t]",
                root + "/c", root + "/e", "hello", "cZxid = 0x", "dataVersion = 0", "numChildren = 4", "world",
                "version No is not valid : " + root, "ephemeralOwner = 0x", root + "/e",
                "Node not empty: " + root, "Node does not exist: " + root);
    }

    private static void quota(String root) throws Exception {
        String text = shell("create " + root + " data", "setquota -n 2 " + root, "setquota -B 5 " + root,
                "create " + root + "/a", "create " + root + "/b", "create " + root + "/c", "listquota " + root,
                "set " + root + " toolong", "delquota " + root, "listquota " + root, "set " + root + " toolong",
                "deleteall " + root);
        inOrder(text, "Created " + root, "Created " + root + "/a", "absolute path is /zookeeper/quota" + root,
                "Output quota for " + root + " count=2,bytes=-1=;byteHardLimit=5;countHardLimit=-1",
                "Output stat for " + root, "count=4,bytes=4", "Quota has exceeded : " + root,
                "quota for " + root + " does not exist");
    }

    private static void acl(String root) throws Exception {
        String text = shell("create " + root, "addauth digest bob:secret", "setAcl " + root + " auth::cdrwa",
                "getAcl -s " + root);
        inOrder(text, "Created " + root, "'digest,'bob:", ": cdrwa", "aclVersion = 1");
        inOrder(shell("sync " + root, "getAcl " + root, "get " + root), "Insufficient permission : " + root,
                "Insufficient permission : " + root);
        inOrder(shell("addauth digest super:test", "sync " + root, "get -s " + root, "delete " + root, "stat " + root),
                "aclVersion = 1", "Node does not exist: " + root);
    }

    private static void others(String root) throws Exception {
        String text = shell("create " + root, "addWatch -m PERSISTENT " + root, "set " + root + " x",
                "removewatches " + root, "whoami", "sync " + root, "version", "config", "history", "delete " + root);
        inOrder(text, "Created " + root, "ip: 127.0.0.1", "Sync is OK", "ZooKeeper CLI version");
        // Another thread prints events, maybe later than this one goes on.
        inOrder(text, "type:NodeDataChanged path:" + root, "type:PersistentWatchRemoved path:" + root);
    }
}
