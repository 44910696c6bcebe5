package example;

import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import org.apache.kafka.clients.consumer.Consumer;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.springframework.beans.factory.annotation.Value;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.boot.autoconfigure.kafka.DefaultKafkaConsumerFactoryCustomizer;
import org.springframework.context.ApplicationContext;
import org.springframework.context.annotation.Bean;
import org.springframework.kafka.annotation.KafkaListener;
import org.springframework.kafka.listener.CommonContainerStoppingErrorHandler;
import org.springframework.kafka.listener.CommonErrorHandler;
import org.springframework.kafka.listener.MessageListenerContainer;

/**
 * Reads what was decided of orders and sales, and prints it: one line of JSON an outcome.
 *
 * <p>At least once: an offset is committed after its outcome was handled, and what comes again is recognised by its
 * event id. Whoever writes to a database keeps the event ids there, under a unique index and in the transaction of what
 * they do about an outcome; then nothing has to be remembered here.
 */
@SpringBootApplication
public class Listener {
    public static void main(String[] arguments) {
        SpringApplication.run(Listener.class, arguments);
    }

    @Bean
    Schemas schemas(@Value("${schemas}") Path directory, @Value("${registry}") String registry) throws Exception {
        return new Schemas(directory, registry);
    }

    /** The TLS and login that the services have. */
    @Bean
    DefaultKafkaConsumerFactoryCustomizer security() throws Exception {
        var settings = new LinkedHashMap<String, Object>();
        Security.settings().forEach((name, value) -> settings.put((String) name, value));
        return factory -> factory.updateConfigs(settings);
    }

    @Bean
    Messages messages(Schemas schemas) {
        return new Messages(new Handler(schemas));
    }

    /**
     * What fails is not passed over: the program ends, and begins with the same message when it is started again.
     */
    @Bean
    CommonErrorHandler endsTheProgram(ApplicationContext context) {
        return new CommonContainerStoppingErrorHandler() {
            @Override
            public void handleRemaining(
                    Exception why,
                    List<ConsumerRecord<?, ?>> rest,
                    Consumer<?, ?> consumer,
                    MessageListenerContainer container) {
                Throwable cause = why.getCause() == null ? why : why.getCause();
                System.err.println(cause);
                new Thread(() -> System.exit(SpringApplication.exit(context, () -> 1))).start();
                super.handleRemaining(why, rest, consumer, container);
            }
        };
    }

    /** Called for one message after the other. */
    record Messages(Handler handler) {
        @KafkaListener(topics = "${topic}")
        void handle(ConsumerRecord<byte[], byte[]> message) throws Exception {
            handler.handle(message);
        }
    }
}
