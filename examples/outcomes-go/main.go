// Reads what was decided of orders and sales, and prints it: one line of JSON an outcome.
//
// At least once: an offset is marked after its outcome was handled, and what comes again is recognised by its event
// id. Whoever writes to a database keeps the event ids there, under a unique index and in the transaction of what
// they do about an outcome; then nothing has to be remembered here.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// A repetition comes soon after what it repeats: when a process died between publishing and noting it.
const remembered = 100_000

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	brokers := flag.String("brokers", os.Getenv("KAFKA_BROKERS"), "bootstrap servers")
	topic := flag.String("topic", "seckill.order-outcomes.v1", "with the deployment's prefix")
	group := flag.String("group", "outcomes-example", "its members share the partitions")
	directory := flag.String("schemas", "schemas", "directory of the Avro schemas, all versions")
	registry := flag.String("registry", os.Getenv("SCHEMA_REGISTRY_URL"), "asked for schemas by id")
	var ids []string
	flag.Func("schema-id", "ID=FILE: the schema of an id, where there is no registry to ask; may be repeated",
		func(pair string) error { ids = append(ids, pair); return nil })
	flag.Parse()

	schemas, err := loadSchemas(*directory)
	if err != nil {
		return err
	}
	for _, pair := range ids {
		number, file, _ := strings.Cut(pair, "=")
		id, err := strconv.ParseUint(number, 10, 32)
		if err != nil {
			return err
		}
		if schemas.byID[uint32(id)], err = parseFile(file); err != nil {
			return err
		}
	}
	schemas.registry = *registry
	trust, err := trusted("SCHEMA_REGISTRY_SSL_CA_LOCATION")
	if err != nil {
		return err
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trust}}
	schemas.http = &http.Client{Timeout: 10 * time.Second, Transport: transport}

	security, err := security()
	if err != nil {
		return err
	}
	client, err := kgo.NewClient(append(security,
		kgo.SeedBrokers(strings.Split(*brokers, ",")...),
		kgo.ClientID("outcomes-example"),
		kgo.ConsumerGroup(*group),
		kgo.ConsumeTopics(*topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.Balancers(kgo.CooperativeStickyBalancer()),
		// Commits what was marked, every few seconds; marked is what was handled.
		kgo.AutoCommitMarks(),
	)...)
	if err != nil {
		return err
	}
	defer client.Close()
	stop, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	failed := consume(stop, client, schemas)
	// Also what was handled before something failed.
	return errors.Join(failed, client.CommitMarkedOffsets(context.Background()))
}

func consume(stop context.Context, client *kgo.Client, schemas *schemas) error {
	seen := map[string]bool{}
	var order []string
	for {
		fetches := client.PollFetches(stop)
		if stop.Err() != nil {
			return nil
		}
		for _, failed := range fetches.Errors() {
			// The client mends what it can by itself.
			if !kerr.IsRetriable(failed.Err) {
				return failed.Err
			}
			fmt.Fprintln(os.Stderr, "going on after:", failed.Err)
		}
		for _, message := range fetches.Records() {
			outcome, err := schemas.read(message.Value)
			var unknown unreadable
			switch {
			case errors.As(err, &unknown):
				fmt.Fprintf(os.Stderr, "skipped %s-%d@%d: %s\n", message.Topic, message.Partition, message.Offset, unknown.why)
			case err != nil:
				return err
			default:
				id, _ := outcome["event_id"].(string)
				if !seen[id] {
					text, err := line(outcome)
					if err != nil {
						return err
					}
					fmt.Println(text)
					seen[id] = true
					if order = append(order, id); len(order) > remembered {
						delete(seen, order[0])
						order = order[1:]
					}
				}
			}
			client.MarkCommitRecords(message)
		}
	}
}

// security is how the services are told to sign in.
func security() ([]kgo.Opt, error) {
	var options []kgo.Opt
	protocol := strings.ToLower(os.Getenv("KAFKA_SECURITY_PROTOCOL"))
	if strings.HasSuffix(protocol, "ssl") {
		trust, err := trusted("KAFKA_SSL_CA_LOCATION")
		if err != nil {
			return nil, err
		}
		config := &tls.Config{RootCAs: trust}
		if file := os.Getenv("KAFKA_SSL_CERTIFICATE_LOCATION"); file != "" {
			own, err := tls.LoadX509KeyPair(file, os.Getenv("KAFKA_SSL_KEY_LOCATION"))
			if err != nil {
				return nil, err
			}
			config.Certificates = []tls.Certificate{own}
		}
		options = append(options, kgo.DialTLSConfig(config))
	}
	if strings.HasPrefix(protocol, "sasl") {
		user, password := os.Getenv("KAFKA_SASL_USERNAME"), os.Getenv("KAFKA_SASL_PASSWORD")
		mechanisms := map[string]sasl.Mechanism{
			"PLAIN":         plain.Auth{User: user, Pass: password}.AsMechanism(),
			"SCRAM-SHA-256": scram.Auth{User: user, Pass: password}.AsSha256Mechanism(),
			"SCRAM-SHA-512": scram.Auth{User: user, Pass: password}.AsSha512Mechanism(),
		}
		mechanism, known := mechanisms[os.Getenv("KAFKA_SASL_MECHANISM")]
		if !known {
			return nil, errors.New("KAFKA_SASL_MECHANISM is none of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512")
		}
		options = append(options, kgo.SASL(mechanism))
	}
	return options, nil
}

// trusted is whom a file names; the system's where there is none.
func trusted(setting string) (*x509.CertPool, error) {
	file := os.Getenv(setting)
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s has no certificate", file)
	}
	return pool, nil
}
