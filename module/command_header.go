// SPDX-License-Identifier: Apache-2.0

package module

import (
	"fmt"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// expectsCommand refuses a site whose server would never show it the header that
// says what is asked for: Caddy drops every header with an underscore in its name
// that the server does not expect (caddyhttp.Server.ServeHTTP).
func expectsCommand(ctx caddy.Context, command string) error {
	server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if !ok || !strings.Contains(command, "_") {
		return nil
	}
	for _, expected := range server.ExpectedUnderscoreHeaders {
		prefix, isPrefix := strings.CutSuffix(expected, "*")
		if strings.EqualFold(expected, command) ||
			(isPrefix && len(prefix) <= len(command) && strings.EqualFold(command[:len(prefix)], prefix)) {
			return nil
		}
	}
	return fmt.Errorf("the server of this site drops the header %s, which says what is asked for; write in the global options:\n"+
		"\tservers {\n\t\texpected_underscore_headers %s\n\t}", command, command)
}
