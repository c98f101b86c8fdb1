import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import java.io.IOException;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.math.BigDecimal;
import java.math.RoundingMode;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.Map;

/**
 * The light job, the same code for Kafka Streams and Flink, and the same as services/tempismo/bench/light.go: it reads an engagement, counts it in the
 * customer's state of 256 bytes, and emits a deviation where today's engagements exceed mean + 2 sd of the active days before. It is not the profile that
 * Tempismo keeps: that costs more, and is measured beside.
 */
final class Job {
    /** What the job reads of an engagement. One is used again and again. */
    static final class Event {
        String id, subject;
        long second;
        boolean engaged, last;
    }

    private static final JsonFactory JSON = new JsonFactory();

    /** Reads a CloudEvent by Jackson's streaming parser, its fastest; unknown members are passed over. */
    static void parse(byte[] document, Event e) throws IOException {
        e.id = e.subject = null;
        e.engaged = e.last = false;
        String time = null;
        try (JsonParser p = JSON.createParser(document)) {
            if (p.nextToken() != JsonToken.START_OBJECT) throw new IOException("not an object");
            for (String name; (name = p.nextFieldName()) != null; ) {
                JsonToken t = p.nextToken();
                switch (name) {
                    case "id": e.id = p.getText(); break;
                    case "subject": e.subject = p.getText(); break;
                    case "time": time = p.getText(); break;
                    case "data":
                        if (t != JsonToken.START_OBJECT) throw new IOException("data is not an object");
                        data(p, e);
                        break;
                    default: p.skipChildren();
                }
            }
        }
        if (e.id == null || e.subject == null || time == null) throw new IOException("id, subject or time is missing");
        e.second = second(time);
    }

    private static void data(JsonParser p, Event e) throws IOException {
        for (String name; (name = p.nextFieldName()) != null; ) {
            p.nextToken();
            switch (name) {
                case "kind": e.engaged = engaged(p.getText()); break;
                case "campaign": e.last = "last".equals(p.getText()); break; // of the event that ends a partition
                default: p.skipChildren();
            }
        }
    }

    private static boolean engaged(String kind) { return kind.equals("open") || kind.equals("click") || kind.equals("reply"); }

    private static int two(String s, int i) { return (s.charAt(i) - '0') * 10 + s.charAt(i + 1) - '0'; }

    /** The Unix second of an RFC 3339 time in UTC, by days from civil; java.time would be slower. */
    private static long second(String s) {
        int y = two(s, 0) * 100 + two(s, 2), m = two(s, 5), d = two(s, 8);
        if (m <= 2) y--;
        int era = y / 400, yoe = y - era * 400, doy = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;
        long days = era * 146097L + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
        return days * 86400 + two(s, 11) * 3600 + two(s, 14) * 60 + two(s, 17);
    }

    private static final VarHandle INT = MethodHandles.byteArrayViewVarHandle(int[].class, ByteOrder.LITTLE_ENDIAN);
    private static final VarHandle LONG = MethodHandles.byteArrayViewVarHandle(long[].class, ByteOrder.LITTLE_ENDIAN);
    private static final VarHandle DOUBLE = MethodHandles.byteArrayViewVarHandle(double[].class, ByteOrder.LITTLE_ENDIAN);

    /** The state: deliveries and engagements by hour of the day, engagements by weekday, the day, today's count, and Welford's n, mean and M2 over active days. */
    static final int SIZE = 256;
    private static final int DELIVERED = 0, ENGAGED = 96, WEEKDAY = 192, DAY = 220, TODAY = 224, FLAG = 228, N = 232, MEAN = 240, M2 = 248;

    private static void add1(byte[] s, int at) { INT.set(s, at, (int) INT.get(s, at) + 1); }

    /** Counts the event in s, in place; true: it makes a deviation. */
    static boolean update(byte[] s, Event e, boolean fresh) {
        int day = (int) (e.second / 86400), hour = (int) (e.second % 86400 / 3600), weekday = (day + 3) % 7;
        if (fresh) {
            INT.set(s, DAY, day);
        } else if (day > (int) INT.get(s, DAY)) {
            int x = (int) INT.get(s, TODAY);
            if (x > 0) {
                long n = (long) LONG.get(s, N) + 1;
                double mean = (double) DOUBLE.get(s, MEAN), delta = x - mean;
                mean += delta / n;
                LONG.set(s, N, n);
                DOUBLE.set(s, MEAN, mean);
                DOUBLE.set(s, M2, (double) DOUBLE.get(s, M2) + delta * (x - mean));
            }
            INT.set(s, DAY, day);
            INT.set(s, TODAY, 0);
            INT.set(s, FLAG, 0);
        }
        if (!e.engaged) {
            add1(s, DELIVERED + 4 * hour);
            return false;
        }
        add1(s, ENGAGED + 4 * hour);
        add1(s, WEEKDAY + 4 * weekday);
        add1(s, TODAY);
        if ((long) LONG.get(s, N) < 5 || (int) INT.get(s, FLAG) != 0) return false;
        double sd = sd(s);
        if (sd <= 0.5 || (int) INT.get(s, TODAY) <= (double) DOUBLE.get(s, MEAN) + 2 * sd) return false;
        INT.set(s, FLAG, 1);
        return true;
    }

    private static double sd(byte[] s) {
        long n = (long) LONG.get(s, N);
        return n < 2 ? 0 : Math.sqrt((double) DOUBLE.get(s, M2) / (n - 1));
    }

    /** The kind of what the event emits: the last of a partition is told in any case. Null: nothing. */
    static String kind(Event e, boolean deviates) { return e.last ? "last" : deviates ? "deviation" : null; }

    static byte[] output(byte[] s, Event e, String kind) {
        return new StringBuilder(160).append("{\"event\":\"").append(e.id).append("\",\"customer\":\"").append(e.subject)
            .append("\",\"kind\":\"").append(kind).append("\",\"count\":").append((int) INT.get(s, TODAY)).append(",\"mean\":")
            .append(six((double) DOUBLE.get(s, MEAN))).append(",\"sd\":").append(six(sd(s))).append('}')
            .toString().getBytes(StandardCharsets.ISO_8859_1);
    }

    /** Six decimals of the exact value, as Go writes them; outputs are rare. */
    private static String six(double x) { return new BigDecimal(x).setScale(6, RoundingMode.HALF_EVEN).toPlainString(); }

    /** The arguments, name=value each. */
    static Map<String, String> settings(String[] args) {
        Map<String, String> m = new HashMap<>();
        for (String a : args) {
            int i = a.indexOf('=');
            if (i < 0) throw new IllegalArgumentException(a + ": write name=value");
            m.put(a.substring(0, i), a.substring(i + 1));
        }
        for (String name : new String[] {"brokers", "in", "out", "app", "dir"})
            if (!m.containsKey(name)) throw new IllegalArgumentException(name + "= is missing");
        return m;
    }
}
