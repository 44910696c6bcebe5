package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/hamba/avro/v2"
)

// The records of this topic. One of another name is newer than this program.
var records = map[string]bool{"OrderOutcome": true, "SaleOutcome": true, "RefundDue": true}

var logical = regexp.MustCompile(`\{"type":("[a-z]+"),"logicalType":"[a-z-]+"\}`)

// unreadable is a message that this program does not know, and why. Reading it again would end the same.
type unreadable struct{ why string }

func (u unreadable) Error() string { return u.why }

// schemas that messages may be written under, by both of their names.
type schemas struct {
	byFingerprint map[string]avro.Schema
	byID          map[uint32]avro.Schema
	registry      string
	http          *http.Client
}

// loadSchemas reads every .avsc file under the directory: old versions stand beside new ones in the topic.
func loadSchemas(directory string) (*schemas, error) {
	s := &schemas{byFingerprint: map[string]avro.Schema{}, byID: map[uint32]avro.Schema{}}
	err := filepath.WalkDir(directory, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".avsc" {
			return err
		}
		schema, err := parseFile(path)
		if err != nil {
			return err
		}
		// The library's canonical form keeps logical types, which the specification leaves out.
		plain, err := parse(logical.ReplaceAllString(schema.String(), "$1"))
		if err != nil {
			return err
		}
		fingerprint, err := plain.FingerprintUsing(avro.CRC64AvroLE)
		s.byFingerprint[string(fingerprint)] = schema
		return err
	})
	return s, err
}

func parseFile(path string) (avro.Schema, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return parse(string(text))
}

// Versions of a record have one name: each is parsed by itself.
func parse(text string) (avro.Schema, error) {
	return avro.ParseWithCache(text, "", &avro.SchemaCache{})
}

// read gives an outcome's fields. An error other than unreadable is none of the message's: the registry did not
// answer, say.
func (s *schemas) read(message []byte) (map[string]any, error) {
	switch {
	case len(message) >= 10 && message[0] == 0xC3 && message[1] == 0x01:
		// Avro's single-object encoding: C3 01, the schema's fingerprint, the body.
		fingerprint := message[2:10]
		return readBody(s.byFingerprint[string(fingerprint)], "fingerprint "+hex.EncodeToString(fingerprint), message[10:])
	case len(message) >= 5 && message[0] == 0x00:
		// Confluent's framing: 00, the schema's id in the registry, the body.
		id := uint32(message[1])<<24 | uint32(message[2])<<16 | uint32(message[3])<<8 | uint32(message[4])
		schema, err := s.ofID(id)
		if err != nil {
			return nil, err
		}
		return readBody(schema, fmt.Sprintf("id %d", id), message[5:])
	}
	return nil, unreadable{"neither of the two framings"}
}

func (s *schemas) ofID(id uint32) (avro.Schema, error) {
	if schema := s.byID[id]; schema != nil || s.registry == "" {
		return schema, nil
	}
	url := fmt.Sprintf("%s/schemas/ids/%d", strings.TrimRight(s.registry, "/"), id)
	request, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	if user := os.Getenv("SCHEMA_REGISTRY_USERNAME"); user != "" {
		request.SetBasicAuth(user, os.Getenv("SCHEMA_REGISTRY_PASSWORD"))
	}
	answer, err := s.http.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode == http.StatusNotFound {
		return nil, nil
	}
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", url, answer.Status)
	}
	var body struct{ Schema string }
	if err := json.NewDecoder(answer.Body).Decode(&body); err != nil {
		return nil, fmt.Errorf("%s: %w", url, err)
	}
	schema, err := parse(body.Schema)
	if err == nil {
		s.byID[id] = schema
	}
	return schema, err
}

// readBody reads under the writer's schema: a newer version has fields more, an older one has fields less.
func readBody(schema avro.Schema, wanted string, body []byte) (map[string]any, error) {
	if schema == nil {
		return nil, unreadable{fmt.Sprintf("no schema has the %s: written by a newer version?", wanted)}
	}
	record, ok := schema.(*avro.RecordSchema)
	if !ok || record.Namespace() != "seckill.v1" || !records[record.Name()] {
		return nil, unreadable{fmt.Sprintf("a record %s, which this program does not know", nameOf(schema))}
	}
	reader := avro.NewReader(nil, 0, avro.WithReaderConfig(avro.Config{MaxByteSliceSize: 1 << 20}.Freeze()))
	reader.Reset(body)
	var value any
	reader.ReadVal(schema, &value)
	fields, ok := value.(map[string]any)
	if reader.Error != nil || !ok {
		return nil, unreadable{fmt.Sprintf("%s: %v", record.Name(), reader.Error)}
	}
	rest, one := 0, make([]byte, 1)
	for reader.Read(one); reader.Error == nil; reader.Read(one) {
		rest++
	}
	if rest > 0 {
		return nil, unreadable{fmt.Sprintf("%s: %d bytes too many", record.Name(), rest)}
	}
	for name, field := range fields {
		// Times are microseconds since 1970.
		if at, isTime := field.(time.Time); isTime {
			fields[name] = at.UnixMicro()
		}
	}
	fields["record"] = record.Name()
	return fields, nil
}

func nameOf(schema avro.Schema) string {
	if named, ok := schema.(avro.NamedSchema); ok {
		return named.FullName()
	}
	return string(schema.Type())
}

// line is an outcome as one line of JSON, its members sorted.
func line(fields map[string]any) (string, error) {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(fields)
	return strings.TrimRight(text.String(), "\n"), err
}
