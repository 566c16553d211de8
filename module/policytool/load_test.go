// SPDX-License-Identifier: Apache-2.0

package policytool

import (
	"context"
	"errors"
	"testing"
)

func TestServerTakesThePathOfItsSocket(t *testing.T) {
	for given, want := range map[string]string{
		"/run/metaguard/admin.sock":      "unix//run/metaguard/admin.sock",
		"unix//run/metaguard/admin.sock": "unix//run/metaguard/admin.sock",
		"unix/@metaguard":                "unix/@metaguard",
		"127.0.0.1:2019":                 "127.0.0.1:2019",
	} {
		var asked string
		from := loader{server: given, fetch: func(_ context.Context, address, _ string) ([]byte, error) {
			asked = address
			return nil, errors.New("enough")
		}}
		if _, err := from.load(t.Context()); err == nil || asked != want {
			t.Errorf("%s: asked %s, %v", given, asked, err)
		}
	}
}
