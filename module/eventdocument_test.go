// SPDX-License-Identifier: Apache-2.0

package module

import (
	"encoding/json"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// eventInput is a document as a policy sees it.
const eventInput = `{"caller":{"address":"10.0.0.5","claims":{},"id":"instance:1","process":null,"roles":["a","b"]},` +
	`"request":{"body":{"size":344},"headers":{"accept":"*/*","user-agent":"x"},"segments":["openstack","latest"]},` +
	`"resource":{"kind":"metadata","sensitive":false},"session":{"age_seconds":12},"version":1}`

// A document is written as encoding/json writes it.
func TestDocumentField(t *testing.T) {
	encoder := zapcore.NewJSONEncoder(zapcore.EncoderConfig{SkipLineEnding: true})
	for _, text := range []string{
		eventInput, `{}`, `[]`, `null`, `true`, `"x"`, `7`, `1.5`, `{"a":null}`, `[null,true,"x",[{}],{"b":[1]},1e300,-1,12345678901234567890123]`,
		`{"b":1,"a":2,"c":{"e":1.0,"d":-0}}`, `{"quote\"":"<&>\\ \u0001 ä"}`, `{"n":1e2,"m":9223372036854775807,"o":9223372036854775808}`,
	} {
		decoder := json.NewDecoder(strings.NewReader(text))
		decoder.UseNumber()
		var value any
		if err := decoder.Decode(&value); err != nil {
			t.Fatal(err)
		}
		line, err := encoder.Clone().EncodeEntry(zapcore.Entry{}, []zap.Field{documentField("x", value)})
		if err != nil {
			t.Fatal(err)
		}
		want, err := encoder.Clone().EncodeEntry(zapcore.Entry{}, []zap.Field{zap.Reflect("x", value)})
		if err != nil {
			t.Fatal(err)
		}
		if line.String() != want.String() {
			t.Errorf("%s is written as %s, want %s", text, line, want)
		}
	}
}

func BenchmarkDocumentField(b *testing.B) {
	var value any
	if err := json.Unmarshal([]byte(eventInput), &value); err != nil {
		b.Fatal(err)
	}
	encoder := zapcore.NewJSONEncoder(zapcore.EncoderConfig{SkipLineEnding: true})
	for name, field := range map[string]zap.Field{"ours": documentField("x", value), "by reflection": zap.Reflect("x", value)} {
		b.Run(name, func(b *testing.B) {
			fields := []zap.Field{field}
			b.ReportAllocs()
			for b.Loop() {
				line, err := encoder.Clone().EncodeEntry(zapcore.Entry{}, fields)
				if err != nil {
					b.Fatal(err)
				}
				line.Free()
			}
		})
	}
}
