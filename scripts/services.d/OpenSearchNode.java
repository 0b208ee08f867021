import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.opensearch.analysis.common.CommonAnalysisPlugin;
import org.opensearch.common.settings.Settings;
import org.opensearch.index.mapper.MapperExtrasPlugin;
import org.opensearch.index.reindex.ReindexPlugin;
import org.opensearch.node.InternalSettingsPreparer;
import org.opensearch.node.Node;
import org.opensearch.painless.PainlessPlugin;
import org.opensearch.transport.Netty4Plugin;

/** One OpenSearch node on loopback: OpenSearchNode FOLDER HTTP_PORT NODES_PORT. */
public final class OpenSearchNode extends Node {
    private static final long CLOSE_SECONDS = 20;

    private OpenSearchNode(Settings settings) {
        super(
                InternalSettingsPreparer.prepareEnvironment(settings, Map.of(), (Path) null, () -> "sira"),
                List.of(
                        Netty4Plugin.class,
                        CommonAnalysisPlugin.class,
                        ReindexPlugin.class,
                        MapperExtrasPlugin.class,
                        PainlessPlugin.class),
                true);
    }

    public static void main(String[] arguments) throws Exception {
        String folder = arguments[0];
        Settings settings = Settings.builder()
                .put("cluster.name", "sira")
                .put("node.name", "sira")
                .put("discovery.type", "single-node")
                .put("path.home", folder)
                .put("path.data", folder + "/data")
                .put("path.logs", folder + "/logs")
                .put("network.host", "127.0.0.1")
                .put("http.type", "netty4")
                .put("http.port", arguments[1])
                .put("transport.type", "netty4")
                .put("transport.port", arguments[2])
                // A full disk must not turn indices read-only under a test.
                .put("cluster.routing.allocation.disk.threshold_enabled", false)
                .build();
        OpenSearchNode node = new OpenSearchNode(settings);
        CountDownLatch closed = new CountDownLatch(1);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            try {
                node.close();
                node.awaitClose(CLOSE_SECONDS, TimeUnit.SECONDS);
            } catch (Exception e) {
                e.printStackTrace();
            } finally {
                closed.countDown();
            }
        }));
        node.start();
        closed.await();
    }
}
