package example;

import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.LinkedHashMap;
import java.util.Map;
import org.apache.kafka.clients.consumer.ConsumerRecord;

/** Prints each outcome once, one message after the other, and says on standard error which it cannot read. */
final class Handler {
    /** A repetition comes soon after what it repeats: when a process died between publishing and noting it. */
    private static final int REMEMBERED = 100_000;

    private static final PrintStream OUT = new PrintStream(System.out, true, StandardCharsets.UTF_8);

    private final Map<String, Boolean> seen = new LinkedHashMap<>();
    private final Schemas schemas;

    Handler(Schemas schemas) {
        this.schemas = schemas;
    }

    void handle(ConsumerRecord<byte[], byte[]> message) throws Exception {
        try {
            Map<String, Object> outcome = schemas.read(message.value());
            String id = (String) outcome.get("event_id");
            if (!seen.containsKey(id)) {
                OUT.println(Schemas.line(outcome));
                seen.put(id, true);
                if (seen.size() > REMEMBERED) {
                    seen.remove(seen.keySet().iterator().next());
                }
            }
        } catch (Unreadable why) {
            System.err.printf(
                    "skipped %s-%d@%d: %s%n", message.topic(), message.partition(), message.offset(), why.getMessage());
        }
    }
}
