import java.time.Duration;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.StoreBuilder;
import org.apache.kafka.streams.state.Stores;

/** The light job on Kafka Streams, exactly_once_v2. Arguments: brokers, in, out, app, dir; threads, commit (ms), cache (MiB), linger (ms), rocks. */
public final class StreamsJob {
    /** The Processor API on bytes: no DSL, no serde but the identity. */
    static final class Profiles implements Processor<byte[], byte[], byte[], byte[]> {
        private ProcessorContext<byte[], byte[]> context;
        private KeyValueStore<byte[], byte[]> store;
        private final Job.Event e = new Job.Event();

        @Override public void init(ProcessorContext<byte[], byte[]> c) {
            context = c;
            store = c.getStateStore("profiles");
        }

        @Override public void process(Record<byte[], byte[]> r) {
            try {
                Job.parse(r.value(), e);
            } catch (Exception x) {
                throw new IllegalStateException("an input that the generator did not write", x);
            }
            byte[] old = store.get(r.key());
            byte[] s = old == null ? new byte[Job.SIZE] : old.clone();
            String kind = Job.kind(e, Job.update(s, e, old == null));
            store.put(r.key(), s);
            if (kind != null) context.forward(r.withValue(Job.output(s, e, kind)));
        }
    }

    public static void main(String[] args) {
        Map<String, String> a = Job.settings(args);
        Properties p = new Properties();
        p.put(StreamsConfig.APPLICATION_ID_CONFIG, a.get("app"));
        p.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, a.get("brokers"));
        p.put(StreamsConfig.STATE_DIR_CONFIG, a.get("dir"));
        p.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        p.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, a.getOrDefault("threads", "1"));
        // What is emitted is seen after a commit: the default of 100 ms is what it costs to be seen within a tenth of a second.
        p.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, a.getOrDefault("commit", "100"));
        long cache = Long.parseLong(a.getOrDefault("cache", "0")) << 20;
        p.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, cache);
        p.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 1); // of the changelog; the topics of this comparison have one replica, too
        // Large fetches, and enough of them at hand that a thread does not wait for the next.
        p.put(StreamsConfig.consumerPrefix("max.poll.records"), 5000);
        p.put(StreamsConfig.consumerPrefix("max.partition.fetch.bytes"), 4 << 20);
        p.put(StreamsConfig.consumerPrefix("receive.buffer.bytes"), 1 << 20);
        p.put(StreamsConfig.consumerPrefix("auto.offset.reset"), "earliest");
        p.put(StreamsConfig.BUFFERED_RECORDS_PER_PARTITION_CONFIG, 10000);
        // The changelog is written in large batches. A commit flushes, so lingering delays nothing.
        p.put(StreamsConfig.producerPrefix("batch.size"), 256 << 10);
        p.put(StreamsConfig.producerPrefix("buffer.memory"), 128 << 20);
        p.put(StreamsConfig.producerPrefix("send.buffer.bytes"), 1 << 20);
        p.put(StreamsConfig.producerPrefix("linger.ms"), a.getOrDefault("linger", "100"));

        boolean rocks = "true".equals(a.get("rocks")); // the default store of Kafka Streams; the one in memory is faster
        StoreBuilder<KeyValueStore<byte[], byte[]>> store = Stores.keyValueStoreBuilder(
            rocks ? Stores.persistentKeyValueStore("profiles") : Stores.inMemoryKeyValueStore("profiles"), Serdes.ByteArray(), Serdes.ByteArray()).withLoggingEnabled(Map.of());
        Topology t = new Topology();
        t.addSource("in", Serdes.ByteArray().deserializer(), Serdes.ByteArray().deserializer(), a.get("in"))
            .addProcessor("profiles", Profiles::new, "in")
            .addStateStore(cache > 0 ? store.withCachingEnabled() : store.withCachingDisabled(), "profiles")
            .addSink("out", a.get("out"), Serdes.ByteArray().serializer(), Serdes.ByteArray().serializer(), "profiles");
        KafkaStreams streams = new KafkaStreams(t, p);
        streams.setUncaughtExceptionHandler(x -> {
            x.printStackTrace();
            return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
        });
        streams.setStateListener((now, before) -> {
            if (now == KafkaStreams.State.ERROR) Runtime.getRuntime().halt(3);
        });
        Runtime.getRuntime().addShutdownHook(new Thread(() -> streams.close(Duration.ofSeconds(5))));
        streams.start();
    }
}
