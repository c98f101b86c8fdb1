import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.Map;
import java.util.Properties;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.api.common.typeinfo.PrimitiveArrayTypeInfo;
import org.apache.flink.api.common.typeinfo.TypeHint;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.java.functions.KeySelector;
import org.apache.flink.api.java.tuple.Tuple5;
import org.apache.flink.api.java.typeutils.TupleTypeInfo;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.connector.base.DeliveryGuarantee;
import org.apache.flink.connector.kafka.sink.KafkaRecordSerializationSchema;
import org.apache.flink.connector.kafka.sink.KafkaSink;
import org.apache.flink.connector.kafka.source.KafkaSource;
import org.apache.flink.connector.kafka.source.enumerator.initializer.OffsetsInitializer;
import org.apache.flink.connector.kafka.source.reader.deserializer.KafkaRecordDeserializationSchema;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.datastream.DataStreamUtils;
import org.apache.flink.streaming.api.datastream.KeyedStream;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.KeyedProcessFunction;
import org.apache.flink.util.Collector;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.producer.ProducerRecord;

/** The light job on Flink, exactly once from the source to the sink. Arguments: brokers, in, out, app, dir; parallelism, chained (true: no shuffle), checkpoint (ms), buffers (ms). */
public final class FlinkJob {
    /** An engagement: id, subject, second, engaged, last. It is parsed in the source, so that the shuffle carries 40 bytes instead of the document; a tuple is what Flink copies fastest. */
    @SuppressWarnings("unchecked") // Tuple5.copy narrows a generic result
    public static final class Parsed extends Tuple5<String, String, Long, Boolean, Boolean> {
        static final TypeInformation<Parsed> TYPE =
            new TupleTypeInfo<>(Parsed.class, Types.STRING, Types.STRING, Types.LONG, Types.BOOLEAN, Types.BOOLEAN);
    }

    static final class Parse implements KafkaRecordDeserializationSchema<Parsed> {
        private transient Job.Event e;

        @Override public void deserialize(ConsumerRecord<byte[], byte[]> r, Collector<Parsed> out) {
            if (e == null) e = new Job.Event();
            try {
                Job.parse(r.value(), e);
            } catch (Exception x) {
                throw new IllegalStateException("an input that the generator did not write", x);
            }
            Parsed p = new Parsed();
            p.f0 = e.id;
            p.f1 = e.subject;
            p.f2 = e.second;
            p.f3 = e.engaged;
            p.f4 = e.last;
            out.collect(p);
        }

        @Override public TypeInformation<Parsed> getProducedType() { return Parsed.TYPE; }
    }

    static final class Profiles extends KeyedProcessFunction<String, Parsed, byte[][]> {
        private transient ValueState<byte[]> state;
        private transient Job.Event e;

        @Override public void open(OpenContext c) {
            state = getRuntimeContext().getState(new ValueStateDescriptor<>("profile", PrimitiveArrayTypeInfo.BYTE_PRIMITIVE_ARRAY_TYPE_INFO));
            e = new Job.Event();
        }

        @Override public void processElement(Parsed p, Context c, Collector<byte[][]> out) throws Exception {
            e.id = p.f0;
            e.subject = p.f1;
            e.second = p.f2;
            e.engaged = p.f3;
            e.last = p.f4;
            byte[] s = state.value();
            boolean fresh = s == null;
            if (fresh) s = new byte[Job.SIZE];
            String kind = Job.kind(e, Job.update(s, e, fresh)); // in place: the heap backend copies on read while a snapshot is taken
            state.update(s);
            if (kind != null) out.collect(new byte[][] {e.subject.getBytes(StandardCharsets.ISO_8859_1), Job.output(s, e, kind)});
        }
    }

    static final class Write implements KafkaRecordSerializationSchema<byte[][]> {
        private final String topic;

        Write(String topic) { this.topic = topic; }

        @Override public ProducerRecord<byte[], byte[]> serialize(byte[][] r, KafkaSinkContext c, Long timestamp) {
            return new ProducerRecord<>(topic, r[0], r[1]);
        }
    }

    public static void main(String[] args) throws Exception {
        Map<String, String> a = Job.settings(args);
        int parallelism = Integer.parseInt(a.getOrDefault("parallelism", "1"));
        boolean chained = "true".equals(a.get("chained"));
        if (chained && parallelism != 1) throw new IllegalArgumentException("chained=true needs parallelism=1");

        Map<String, String> options = new HashMap<>();
        // State on the heap, the fastest backend; a full snapshot to the disk each second, which is also when what was emitted is committed.
        options.put("state.backend.type", "hashmap");
        options.put("execution.checkpointing.storage", "filesystem");
        options.put("execution.checkpointing.dir", "file://" + a.get("dir"));
        options.put("execution.checkpointing.interval", a.getOrDefault("checkpoint", "1000") + " ms");
        options.put("execution.checkpointing.min-pause", "0 ms");
        options.put("execution.checkpointing.mode", "EXACTLY_ONCE");
        options.put("state.checkpoints.num-retained", "1");
        // Operators of one chain hand objects on instead of copying them.
        options.put("pipeline.object-reuse", "true");
        options.put("execution.buffer-timeout.interval", a.getOrDefault("buffers", "5") + " ms");
        // What the job does not need: managed memory, watermarks, latency markers, restarts.
        options.put("taskmanager.memory.managed.size", "16m");
        options.put("pipeline.auto-watermark-interval", "0 ms");
        options.put("metrics.latency.interval", "0");
        options.put("restart-strategy.type", "none");
        options.put("taskmanager.memory.network.min", "64m");
        options.put("taskmanager.memory.network.max", "64m");
        options.put("taskmanager.numberOfTaskSlots", "" + parallelism);
        Configuration c = new Configuration();
        options.forEach(c::setString);
        StreamExecutionEnvironment env = StreamExecutionEnvironment.createLocalEnvironment(parallelism, c);

        Properties consumer = new Properties();
        consumer.put("max.poll.records", "5000");
        consumer.put("max.partition.fetch.bytes", "" + (4 << 20));
        consumer.put("receive.buffer.bytes", "" + (1 << 20));
        consumer.put("partition.discovery.interval.ms", "-1");
        Properties producer = new Properties();
        producer.put("transaction.timeout.ms", "600000");
        producer.put("linger.ms", "5");
        producer.put("batch.size", "" + (128 << 10));
        KafkaSource<Parsed> source = KafkaSource.<Parsed>builder().setBootstrapServers(a.get("brokers")).setGroupId(a.get("app")).setTopics(a.get("in"))
            .setStartingOffsets(OffsetsInitializer.earliest()).setDeserializer(new Parse()).setProperties(consumer).build();
        KafkaSink<byte[][]> sink = KafkaSink.<byte[][]>builder().setBootstrapServers(a.get("brokers")).setRecordSerializer(new Write(a.get("out")))
            .setDeliveryGuarantee(DeliveryGuarantee.EXACTLY_ONCE).setTransactionalIdPrefix(a.get("app")).setKafkaProducerConfig(producer).build();

        KeySelector<Parsed, String> key = p -> p.f1;
        DataStream<Parsed> in = env.fromSource(source, WatermarkStrategy.noWatermarks(), "in");
        // With one task there is nothing to shuffle: the stream is declared to be keyed already, and source, function and sink run as one chain.
        KeyedStream<Parsed, String> keyed = chained ? DataStreamUtils.reinterpretAsKeyedStream(in, key, Types.STRING) : in.keyBy(key, Types.STRING);
        keyed.process(new Profiles()).returns(TypeInformation.of(new TypeHint<byte[][]>() {})).sinkTo(sink);
        env.execute(a.get("app"));
    }
}
