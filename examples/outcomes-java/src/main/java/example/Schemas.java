package example;

import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Base64;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.stream.Stream;
import org.apache.avro.Schema;
import org.apache.avro.SchemaNormalization;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.io.BinaryDecoder;
import org.apache.avro.io.DecoderFactory;

/** The schemas that messages may be written under, by both of their names. */
final class Schemas {
    /** The records of this topic. One of another name is newer than this program. */
    private static final Set<String> RECORDS =
            Set.of("seckill.v1.OrderOutcome", "seckill.v1.SaleOutcome", "seckill.v1.RefundDue");

    private static final ObjectMapper JSON = new ObjectMapper();

    private final Map<Long, Schema> byFingerprint = new HashMap<>();
    private final Map<Integer, Schema> byId = new HashMap<>();
    private final String registry;
    private final HttpClient http = HttpClient.newHttpClient();

    /** Loads every .avsc file under the directory: old versions stand beside new ones in the topic. */
    Schemas(Path directory, String registry) throws IOException {
        this.registry = registry;
        List<Path> files;
        try (Stream<Path> all = Files.walk(directory)) {
            files = all.filter(file -> file.toString().endsWith(".avsc")).toList();
        }
        for (Path file : files) {
            Schema schema = parse(Files.readString(file));
            byFingerprint.put(SchemaNormalization.parsingFingerprint64(schema), schema);
        }
    }

    void put(int id, Path file) throws IOException {
        byId.put(id, parse(Files.readString(file)));
    }

    // Versions of a record have one name: each is parsed by itself.
    private static Schema parse(String text) {
        return new Schema.Parser().parse(text);
    }

    /** An outcome's fields. Another exception than Unreadable is none of the message's: the registry, say. */
    Map<String, Object> read(byte[] message) throws Unreadable, IOException, InterruptedException {
        ByteBuffer rest = ByteBuffer.wrap(message == null ? new byte[0] : message);
        Schema schema;
        String wanted;
        if (rest.remaining() >= 10 && rest.getShort(0) == (short) 0xC301) {
            // Avro's single-object encoding: C3 01, the schema's fingerprint, the body.
            wanted = "fingerprint " + HexFormat.of().formatHex(message, 2, 10);
            schema = byFingerprint.get(rest.order(ByteOrder.LITTLE_ENDIAN).getLong(2));
            rest.position(10);
        } else if (rest.remaining() >= 5 && rest.get(0) == 0) {
            // Confluent's framing: 00, the schema's id in the registry, the body.
            int id = rest.getInt(1);
            wanted = "id " + Integer.toUnsignedString(id);
            schema = ofId(id);
            rest.position(5);
        } else {
            throw new Unreadable("neither of the two framings");
        }
        if (schema == null) {
            throw new Unreadable("no schema has the " + wanted + ": written by a newer version?");
        }
        return readBody(schema, rest);
    }

    private Schema ofId(int id) throws IOException, InterruptedException {
        if (byId.containsKey(id) || registry == null || registry.isEmpty()) {
            return byId.get(id);
        }
        String url = registry.replaceAll("/+$", "") + "/schemas/ids/" + Integer.toUnsignedString(id);
        HttpRequest.Builder request = HttpRequest.newBuilder(URI.create(url)).timeout(Duration.ofSeconds(10));
        String user = System.getenv("SCHEMA_REGISTRY_USERNAME");
        if (user != null && !user.isEmpty()) {
            String login = user + ":" + System.getenv("SCHEMA_REGISTRY_PASSWORD");
            request.header("Authorization", "Basic " + Base64.getEncoder().encodeToString(login.getBytes()));
        }
        HttpResponse<String> answer = http.send(request.build(), HttpResponse.BodyHandlers.ofString());
        if (answer.statusCode() == 404) {
            return null;
        }
        if (answer.statusCode() != 200) {
            throw new IOException(url + ": status " + answer.statusCode());
        }
        Schema schema = parse(JSON.readTree(answer.body()).get("schema").asText());
        byId.put(id, schema);
        return schema;
    }

    /** Under the writer's schema: a newer version has fields more, an older one has fields less. */
    private static Map<String, Object> readBody(Schema schema, ByteBuffer body) throws Unreadable {
        if (!RECORDS.contains(schema.getFullName())) {
            throw new Unreadable("a record " + schema.getFullName() + ", which this program does not know");
        }
        BinaryDecoder decoder = DecoderFactory.get()
                .binaryDecoder(body.array(), body.position(), body.remaining(), null);
        GenericRecord record;
        int rest = 0;
        try {
            record = new GenericDatumReader<GenericRecord>(schema).read(null, decoder);
            while (!decoder.isEnd()) {
                decoder.skipFixed(1);
                rest++;
            }
        } catch (IOException | RuntimeException error) {
            // Whatever the bytes make the library throw.
            throw new Unreadable(schema.getName() + ": " + error);
        }
        if (rest > 0) {
            throw new Unreadable(schema.getName() + ": " + rest + " bytes too many");
        }
        Map<String, Object> fields = new TreeMap<>();
        for (Schema.Field field : schema.getFields()) {
            Object value = record.get(field.pos());
            // Times are microseconds since 1970.
            fields.put(field.name(), value instanceof CharSequence ? value.toString() : value);
        }
        fields.put("record", schema.getName());
        return fields;
    }

    /** An outcome as one line of JSON, its members sorted. */
    static String line(Map<String, Object> fields) {
        try {
            return JSON.writeValueAsString(fields);
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }
}
