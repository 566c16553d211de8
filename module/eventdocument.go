// SPDX-License-Identifier: Apache-2.0

package module

import (
	"encoding/json"
	"slices"
	"strconv"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// appendDocument adds a JSON document, of which there may be none, to the fields of
// a log line.
func appendDocument(fields []zap.Field, key string, value *any) []zap.Field {
	if value == nil {
		return fields
	}
	return append(fields, documentField(key, *value))
}

// documentField is a JSON document as a field. Zap would find out by reflection what
// it consists of, which takes four times as long.
func documentField(key string, value any) zap.Field {
	switch value := value.(type) {
	case map[string]any:
		return zap.Object(key, document(value))
	case []any:
		return zap.Array(key, documents(value))
	default:
		return zap.Reflect(key, value)
	}
}

// document is a JSON object.
type document map[string]any

// MarshalLogObject writes the members in the order of their names, as encoding/json
// does.
func (d document) MarshalLogObject(to zapcore.ObjectEncoder) error {
	var room [16]string
	names := room[:0]
	for name := range d {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if err := addValue(to, name, d[name]); err != nil {
			return err
		}
	}
	return nil
}

func addValue(to zapcore.ObjectEncoder, name string, value any) error {
	switch value := value.(type) {
	case string:
		to.AddString(name, value)
	case bool:
		to.AddBool(name, value)
	case int64:
		to.AddInt64(name, value)
	case map[string]any:
		return to.AddObject(name, document(value))
	case []any:
		return to.AddArray(name, documents(value))
	case json.Number:
		if number, ok := integer(value); ok {
			to.AddInt64(name, number)
			return nil
		}
		return to.AddReflected(name, value)
	default: // null among them
		return to.AddReflected(name, value)
	}
	return nil
}

// documents is a JSON array.
type documents []any

// MarshalLogArray writes the elements.
func (d documents) MarshalLogArray(to zapcore.ArrayEncoder) error {
	for _, value := range d {
		if err := appendValue(to, value); err != nil {
			return err
		}
	}
	return nil
}

func appendValue(to zapcore.ArrayEncoder, value any) error {
	switch value := value.(type) {
	case string:
		to.AppendString(value)
	case bool:
		to.AppendBool(value)
	case map[string]any:
		return to.AppendObject(document(value))
	case []any:
		return to.AppendArray(documents(value))
	case json.Number:
		if number, ok := integer(value); ok {
			to.AppendInt64(number)
			return nil
		}
		return to.AppendReflected(value)
	default:
		return to.AppendReflected(value)
	}
	return nil
}

// integer is a number that is written the same way as an integer.
func integer(number json.Number) (int64, bool) {
	parsed, err := strconv.ParseInt(string(number), 10, 64)
	return parsed, err == nil && strconv.FormatInt(parsed, 10) == string(number)
}
