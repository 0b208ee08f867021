import de.bwaldvogel.mongo.MongoServer;
import de.bwaldvogel.mongo.MongoVersion;
import de.bwaldvogel.mongo.backend.h2.H2Backend;
import java.util.List;
import java.util.concurrent.CountDownLatch;

/** MongoDB's protocol over an H2 file: MongoNode HOST PORT FILE. */
public final class MongoNode {
    private MongoNode() {}

    public static void main(String[] arguments) throws Exception {
        MongoServer server = new MongoServer(new H2Backend(arguments[2]).version(new Claimed()));
        CountDownLatch closed = new CountDownLatch(1);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            server.shutdownNow();
            closed.countDown();
        }));
        server.bind(arguments[0], Integer.parseInt(arguments[1]));
        System.out.println("listening");
        closed.await();
    }

    /** The least that drivers of today accept; the library's own highest is below it. */
    private static final class Claimed implements MongoVersion {
        @Override
        public List<Integer> getVersionArray() {
            return List.of(5, 0, 0);
        }

        @Override
        public int getWireVersion() {
            return 13;
        }
    }
}
