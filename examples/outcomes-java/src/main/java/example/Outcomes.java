package example;

import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.WakeupException;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * Reads what was decided of orders and sales, and prints it: one line of JSON an outcome.
 *
 * <p>At least once: an offset is committed after its outcome was handled, and what comes again is recognised by its
 * event id. Whoever writes to a database keeps the event ids there, under a unique index and in the transaction of what
 * they do about an outcome; then nothing has to be remembered here.
 */
public final class Outcomes {
    public static void main(String[] arguments) throws Exception {
        Map<String, List<String>> options = options(arguments);
        String registry = last(options, "registry", System.getenv("SCHEMA_REGISTRY_URL"));
        Schemas schemas = new Schemas(Path.of(last(options, "schemas", "schemas")), registry);
        for (String pair : options.getOrDefault("schema-id", List.of())) {
            String[] halves = pair.split("=", 2);
            schemas.put(Integer.parseUnsignedInt(halves[0]), Path.of(halves[1]));
        }
        Properties settings = Security.settings();
        settings.put("bootstrap.servers", last(options, "brokers", System.getenv("KAFKA_BROKERS")));
        settings.put("client.id", "outcomes-example");
        settings.put("group.id", last(options, "group", "outcomes-example"));
        settings.put("auto.offset.reset", "earliest");
        settings.put("enable.auto.commit", "false");
        settings.put("allow.auto.create.topics", "false");
        settings.put(
                "partition.assignment.strategy", "org.apache.kafka.clients.consumer.CooperativeStickyAssignor");
        var bytes = new ByteArrayDeserializer();
        try (var consumer = new KafkaConsumer<>(settings, bytes, bytes)) {
            Thread main = Thread.currentThread();
            Runtime.getRuntime().addShutdownHook(new Thread(() -> {
                consumer.wakeup();
                try {
                    main.join();
                } catch (InterruptedException ended) {
                    Thread.currentThread().interrupt();
                }
            }));
            consumer.subscribe(List.of(last(options, "topic", "seckill.order-outcomes.v1")));
            consume(consumer, new Handler(schemas));
        } catch (WakeupException stopped) {
            // SIGTERM or SIGINT.
            Runtime.getRuntime().halt(0);
        }
    }

    private static void consume(KafkaConsumer<byte[], byte[]> consumer, Handler handler) throws Exception {
        while (true) {
            Map<TopicPartition, OffsetAndMetadata> handled = new LinkedHashMap<>();
            try {
                for (ConsumerRecord<byte[], byte[]> message : consumer.poll(Duration.ofMillis(200))) {
                    handler.handle(message);
                    handled.put(
                            new TopicPartition(message.topic(), message.partition()),
                            new OffsetAndMetadata(message.offset() + 1));
                }
            } finally {
                // Also what was handled before something failed.
                if (!handled.isEmpty()) {
                    consumer.commitSync(handled);
                }
            }
        }
    }

    /** `--name value` or `--name=value`, each as often as it is given. */
    private static Map<String, List<String>> options(String[] arguments) {
        Map<String, List<String>> options = new LinkedHashMap<>();
        for (int n = 0; n < arguments.length; n++) {
            String[] halves = arguments[n].replaceFirst("^--", "").split("=", 2);
            String value = halves.length == 2 ? halves[1] : arguments[++n];
            options.computeIfAbsent(halves[0], name -> new ArrayList<>()).add(value);
        }
        return options;
    }

    private static String last(Map<String, List<String>> options, String name, String otherwise) {
        List<String> given = options.getOrDefault(name, List.of());
        return given.isEmpty() ? otherwise : given.get(given.size() - 1);
    }
}
