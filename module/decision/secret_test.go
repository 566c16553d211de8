// SPDX-License-Identifier: Apache-2.0

package decision

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// A secret says nothing, however it is printed (invariant I3).
func TestSecretIsNeverPrinted(t *testing.T) {
	const marker = "planted-marker"
	secret := NewSecret(marker)
	type holder struct {
		Secret  Secret
		Pointer *Secret
		List    []Secret
	}
	value := holder{Secret: secret, Pointer: &secret, List: []Secret{secret}}
	var printed []string
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T", "%p"} {
		printed = append(printed, fmt.Sprintf(verb, secret), fmt.Sprintf(verb, &secret), fmt.Sprintf(verb, value))
	}
	for _, encode := range []func(any) ([]byte, error){json.Marshal, xml.Marshal} {
		text, err := encode(value)
		if err != nil {
			t.Fatal(err)
		}
		printed = append(printed, string(text))
	}
	encoder := zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig())
	line, err := encoder.EncodeEntry(zapcore.Entry{}, []zap.Field{
		zap.Any("any", secret), zap.Any("pointer", &secret), zap.Reflect("reflect", value),
		zap.Stringer("stringer", secret), zap.Error(fmt.Errorf("wrapped: %v", secret)),
	})
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	slog.New(slog.NewTextHandler(&text, nil)).Info("line", "secret", secret, "value", value)
	printed = append(printed, line.String(), text.String())
	for _, text := range printed {
		if strings.Contains(text, marker) || strings.Contains(text, fmt.Sprintf("%x", marker)) || strings.Contains(text, fmt.Sprintf("%v", []byte(marker))) {
			t.Errorf("the secret is in %q", text)
		}
	}
	if string(secret.Reveal()) != marker || secret.Empty() || !NewSecret("").Empty() {
		t.Error("a secret does not keep what it was made of")
	}
}
