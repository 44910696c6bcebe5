package example;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Properties;

/** How the services are told to sign in, in the words of the Java client. */
final class Security {
    private Security() {}

    static Properties settings() throws IOException {
        Properties settings = new Properties();
        String protocol = env("KAFKA_SECURITY_PROTOCOL");
        if (protocol == null) {
            return settings;
        }
        settings.put("security.protocol", protocol.toUpperCase());
        String ca = env("KAFKA_SSL_CA_LOCATION");
        if (ca != null) {
            settings.put("ssl.truststore.type", "PEM");
            settings.put("ssl.truststore.certificates", Files.readString(Path.of(ca)));
        }
        String certificate = env("KAFKA_SSL_CERTIFICATE_LOCATION");
        if (certificate != null) {
            settings.put("ssl.keystore.type", "PEM");
            settings.put("ssl.keystore.certificate.chain", Files.readString(Path.of(certificate)));
            settings.put("ssl.keystore.key", Files.readString(Path.of(env("KAFKA_SSL_KEY_LOCATION"))));
        }
        String mechanism = env("KAFKA_SASL_MECHANISM");
        if (mechanism != null) {
            String module = mechanism.startsWith("SCRAM-") ? "scram.ScramLoginModule" : "plain.PlainLoginModule";
            settings.put("sasl.mechanism", mechanism);
            settings.put(
                    "sasl.jaas.config",
                    "org.apache.kafka.common.security." + module + " required username=\""
                            + quoted(env("KAFKA_SASL_USERNAME")) + "\" password=\""
                            + quoted(env("KAFKA_SASL_PASSWORD")) + "\";");
        }
        return settings;
    }

    private static String quoted(String text) {
        return text == null ? "" : text.replace("\\", "\\\\").replace("\"", "\\\"");
    }

    private static String env(String name) {
        String value = System.getenv(name);
        return value == null || value.isEmpty() ? null : value;
    }
}
