// SPDX-License-Identifier: Apache-2.0

package module

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"pgregory.net/rapid"

	"github.com/metaguard/metaguard/module/decision"
	"github.com/metaguard/metaguard/module/policy"
)

// An event's input is the one that the policy saw, to the byte.
func TestInputDocumentIsTheInput(t *testing.T) {
	encoder := zapcore.NewJSONEncoder(zapcore.EncoderConfig{SkipLineEnding: true})
	encode := func(t *rapid.T, field zap.Field) string {
		line, err := encoder.Clone().EncodeEntry(zapcore.Entry{}, []zap.Field{field})
		if err != nil {
			t.Fatal(err)
		}
		return line.String()
	}
	rapid.Check(t, func(t *rapid.T) {
		var in decision.Input
		anything(t, reflect.ValueOf(&in).Elem())
		value, err := policy.InputValue(&in)
		if err != nil {
			t.Fatal(err)
		}
		read, err := ast.JSON(value)
		if err != nil {
			t.Fatal(err)
		}
		want, got := encode(t, documentField("input", read)), encode(t, zap.Object("input", (*inputDocument)(&in)))
		if got != want {
			t.Fatalf("got  %s\nwant %s", got, want)
		}
	})
}

// anything fills a value by its type, so that no member of the input is forgotten.
func anything(t *rapid.T, v reflect.Value) {
	word := rapid.SampledFrom([]string{"", "GET", "metadata", "b", "a", "ü\"\\\n", "10.0.0.5"})
	switch v.Interface().(type) {
	case netip.Addr:
		v.Set(reflect.ValueOf(rapid.SampledFrom([]netip.Addr{{}, netip.MustParseAddr("10.0.0.5"), netip.MustParseAddr("fe80::1")}).Draw(t, "address")))
		return
	case map[string]any:
		v.Set(reflect.ValueOf(rapid.SampledFrom([]map[string]any{
			nil, {}, {"b": 1, "a": []string{"x"}, "c": map[string]any{"d": nil, "e": true}, "f": json.Number("1.50"), "g": 1e21, "h": []any{1, "x"}},
		}).Draw(t, "claims")))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			anything(t, v.Field(i))
		}
	case reflect.Pointer:
		if rapid.Bool().Draw(t, "there") {
			v.Set(reflect.New(v.Type().Elem()))
			anything(t, v.Elem())
		}
	case reflect.Slice:
		for range rapid.IntRange(0, 3).Draw(t, "length") {
			item := reflect.New(v.Type().Elem()).Elem()
			anything(t, item)
			v.Set(reflect.Append(v, item))
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range rapid.IntRange(0, 3).Draw(t, "length") {
			item := reflect.New(v.Type().Elem()).Elem()
			anything(t, item)
			v.SetMapIndex(reflect.ValueOf(word.Draw(t, "name")), item)
		}
	case reflect.String:
		v.SetString(word.Draw(t, "text"))
	case reflect.Int:
		v.SetInt(int64(rapid.SampledFrom([]int{0, 1, 12, -1, 1 << 40}).Draw(t, "number")))
	case reflect.Bool:
		v.SetBool(rapid.Bool().Draw(t, "bool"))
	default:
		t.Fatalf("a member is of type %s", v.Type())
	}
}
