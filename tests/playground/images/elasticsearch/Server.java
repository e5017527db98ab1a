import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import org.elasticsearch.common.settings.Settings;
import org.elasticsearch.env.Environment;
import org.elasticsearch.node.InternalSettingsPreparer;
import org.elasticsearch.node.Node;
import org.elasticsearch.plugins.Plugin;
import org.elasticsearch.transport.Netty4Plugin;

/** One Elasticsearch node with HTTP, until the process is told to end. */
public final class Server extends Node {
    private Server(Environment environment, List<Class<? extends Plugin>> plugins) {
        super(environment, plugins, true);
    }

    public static void main(String[] args) throws Exception {
        Settings settings = Settings.builder()
            .put("path.home", "/usr/share/elasticsearch")
            .put("path.data", "/usr/share/elasticsearch/data")
            .put("cluster.name", "docker-cluster")
            .put("node.name", "elasticsearch")
            .put("discovery.type", System.getenv().getOrDefault("discovery.type", "single-node"))
            .put("network.host", "0.0.0.0")
            .put("http.port", 9200)
            .build();
        Environment environment = InternalSettingsPreparer.prepareEnvironment(settings, Map.of(), null, () -> "elasticsearch");
        Server server = new Server(environment, Collections.singletonList(Netty4Plugin.class));
        CountDownLatch ended = new CountDownLatch(1);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            try {
                server.close();
            } catch (java.io.IOException err) {
                System.err.println(err);
            }
            ended.countDown();
        }));
        server.start();
        ended.await();
    }
}
