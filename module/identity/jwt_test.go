// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/metaguard/metaguard/module/decision"
)

// attacks are tokens that must be refused, with their codes.
func attacks() map[string]struct{ token, code string } {
	k := testKeys()
	now := time.Now().Unix()
	good := signedBy(k.rsa, goodHeader(), goodPayload())
	parts := strings.Split(good, ".")
	header := func(changes doc) string { return signedBy(k.rsa, goodHeader().but(changes), goodPayload()) }
	payload := func(changes doc) string { return signedBy(k.rsa, goodHeader(), goodPayload().but(changes)) }
	der, err := x509.MarshalPKIXPublicKey(&k.rsa.PublicKey)
	if err != nil {
		panic(err)
	}
	pkix := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	pkcs1 := pem.EncodeToMemory(&pem.Block{Type: "RSA PUBLIC KEY", Bytes: x509.MarshalPKCS1PublicKey(&k.rsa.PublicKey)})
	shared := func(key []byte) string { return signedBy(key, goodHeader().but(doc{"alg": "HS256"}), goodPayload()) }
	double := func(member string) string { return strings.Replace(goodPayload().String(), "{", "{"+member+",", 1) }
	tests := map[string]struct{ token, code string }{
		"empty":                    {"", "jwt_malformed"},
		"a word":                   {"word", "jwt_malformed"},
		"two parts":                {parts[0] + "." + parts[1], "jwt_malformed"},
		"four parts":               {good + "." + parts[2], "jwt_malformed"},
		"five parts, as JWE":       {good + ".." + parts[2], "jwt_malformed"},
		"JSON form":                {`{"payload":"` + parts[1] + `","signatures":[]}`, "jwt_malformed"},
		"a blank inside":           {parts[0] + " ." + parts[1] + "." + parts[2], "jwt_malformed"},
		"a line end inside":        {parts[0] + "\n." + parts[1] + "." + parts[2], "jwt_malformed"},
		"padding":                  {parts[0] + "=." + parts[1] + "." + parts[2], "jwt_malformed"},
		"base64 of the other kind": {parts[0] + "." + parts[1] + "." + "+/+/", "jwt_malformed"},
		"loose last bits":          {looseBits(good), "jwt_malformed"},
		"two tokens":               {good + "," + good, "jwt_malformed"},
		"header no JSON":           {signedText(k.rsa, `alg`, "{}"), "jwt_malformed"},
		"header a list":            {signedText(k.rsa, `[]`, "{}"), "jwt_malformed"},
		"header and more":          {signedText(k.rsa, goodHeader().String()+"{}", goodPayload().String()), "jwt_malformed"},
		"header with two alg":      {signedText(k.rsa, `{"alg":"RS256","kid":"rsa","alg":"RS256"}`, goodPayload().String()), "jwt_malformed"},
		"alg a number":             {header(doc{"alg": 1}), "jwt_malformed"},
		"kid a number":             {header(doc{"kid": 1}), "jwt_malformed"},
		"payload no JSON":          {signedText(k.rsa, goodHeader().String(), "hello"), "jwt_malformed"},
		"payload empty":            {signedText(k.rsa, goodHeader().String(), ""), "jwt_malformed"},
		"payload a token":          {signedText(k.rsa, goodHeader().String(), good), "jwt_malformed"},
		"payload no UTF-8":         {signedText(k.rsa, goodHeader().String(), double(`"x":"`+"\xff"+`"`)), "jwt_malformed"},
		"two sub":                  {signedText(k.rsa, goodHeader().String(), double(`"sub":"root"`)), "jwt_malformed"},
		"two sub, one escaped":     {signedText(k.rsa, goodHeader().String(), double(`"s\u0075b":"root"`)), "jwt_malformed"},
		"doubled deep inside":      {signedText(k.rsa, goodHeader().String(), double(`"x":[{"a":1,"a":2}]`)), "jwt_malformed"},
		"too long":                 {payload(doc{"x": strings.Repeat("x", maxToken)}), "jwt_too_long"},
		"too long junk":            {strings.Repeat(".", maxToken+1), "jwt_too_long"},
		"HS256 with PKIX PEM":      {shared(pkix), "jwt_algorithm"},
		"HS256 with PKCS1 PEM":     {shared(pkcs1), "jwt_algorithm"},
		"HS256 with trimmed PEM":   {shared([]byte(strings.TrimSpace(string(pkix)))), "jwt_algorithm"},
		"HS256 with DER":           {shared(der), "jwt_algorithm"},
		"HS256 with the modulus":   {shared(k.rsa.N.Bytes()), "jwt_algorithm"},
		"HS256 with nothing":       {shared([]byte{}), "jwt_algorithm"},
		"no alg":                   {header(doc{"alg": nil}), "jwt_algorithm"},
		"alg in small letters":     {header(doc{"alg": "rs256"}), "jwt_algorithm"},
		"ES256K":                   {header(doc{"alg": "ES256K"}), "jwt_algorithm"},
		"ES256 with an RSA key":    {header(doc{"alg": "ES256"}), "jwt_algorithm"},
		"EdDSA with an RSA key":    {header(doc{"alg": "EdDSA"}), "jwt_algorithm"},
		"ES384 with a P-256 key":   {signedBy(k.p256, doc{"alg": "ES384", "kid": "p256"}, goodPayload()), "jwt_algorithm"},
		"RS256 with an EC key":     {signedBy(k.p256, doc{"alg": "RS256", "kid": "p256"}, goodPayload()), "jwt_algorithm"},
		"PS256 signed as RS256":    {signedAs(k.rsa, "RS256", goodHeader().but(doc{"alg": "PS256"})), "jwt_signature_wrong"},
		"RS256 signed as PS256":    {signedAs(k.rsa, "PS256", goodHeader()), "jwt_signature_wrong"},
		"RS256 signed as RS512":    {signedAs(k.rsa, "RS512", goodHeader()), "jwt_signature_wrong"},
		"embedded key":             {signedBy(k.other, goodHeader().but(doc{"jwk": jwkOf(k.other, "rsa")}), goodPayload()), "jwt_signature_wrong"},
		"embedded key, its kid":    {signedBy(k.other, goodHeader().but(doc{"kid": "other", "jwk": jwkOf(k.other, "other")}), goodPayload()), "jwt_key_unknown"},
		"embedded key, no kid":     {signedBy(k.other, goodHeader().but(doc{"kid": nil, "jwk": jwkOf(k.other, "")}), goodPayload()), "jwt_signature_wrong"},
		"embedded chain":           {signedBy(k.other, goodHeader().but(doc{"x5c": []string{"MIIB"}}), goodPayload()), "jwt_signature_wrong"},
		"crit":                     {header(doc{"crit": []string{"exp"}, "exp": 1}), "jwt_critical"},
		"crit empty":               {header(doc{"crit": []string{}}), "jwt_critical"},
		"payload not encoded":      {header(doc{"crit": []string{"b64"}, "b64": false}), "jwt_critical"},
		"b64 without crit":         {header(doc{"b64": false}), "jwt_critical"},
		"logout token":             {header(doc{"typ": "logout+jwt"}), "jwt_type"},
		"proof of possession":      {header(doc{"typ": "dpop+jwt"}), "jwt_type"},
		"type with a parameter":    {header(doc{"typ": "JWT; x=y"}), "jwt_type"},
		"type empty":               {header(doc{"typ": ""}), "jwt_type"},
		"token within":             {header(doc{"cty": "JWT"}), "jwt_type"},
		"kid unknown":              {header(doc{"kid": "RSA"}), "jwt_key_unknown"},
		"kid empty":                {header(doc{"kid": ""}), "jwt_key_unknown"},
		"kid a path":               {header(doc{"kid": "../../dev/null"}), "jwt_key_unknown"},
		"someone else's key":       {signedBy(k.other, goodHeader(), goodPayload()), "jwt_signature_wrong"},
		"signature empty":          {parts[0] + "." + parts[1] + ".", "jwt_signature_wrong"},
		"signature cut":            {good[:len(good)-2], "jwt_signature_wrong"},
		"another payload":          {parts[0] + "." + encode(goodPayload().but(doc{"sub": "root"}).String()) + "." + parts[2], "jwt_signature_wrong"},
		"ES256 signature of zeros": {noSignature(doc{"alg": "ES256", "kid": "p256"}, 64), "jwt_signature_wrong"},
		"ES256 signature longer":   {noSignature(doc{"alg": "ES256", "kid": "p256"}, 66), "jwt_signature_wrong"},
		"issuer missing":           {payload(doc{"iss": nil}), "jwt_issuer"},
		"issuer with a slash":      {payload(doc{"iss": testIssuer + "/"}), "jwt_issuer"},
		"issuer a list":            {payload(doc{"iss": []string{testIssuer}}), "jwt_issuer"},
		"audience missing":         {payload(doc{"aud": nil}), "jwt_audience"},
		"audience another":         {payload(doc{"aud": "metaguard2"}), "jwt_audience"},
		"audience others":          {payload(doc{"aud": []string{"a", "b"}}), "jwt_audience"},
		"audience none":            {payload(doc{"aud": []string{}}), "jwt_audience"},
		"audience an object":       {payload(doc{"aud": doc{testAudience: true}}), "jwt_audience"},
		"audience with a number":   {payload(doc{"aud": []any{1, testAudience}}), "jwt_audience"},
		"expired":                  {payload(doc{"exp": now - 31}), "jwt_expired"},
		"expired long ago":         {payload(doc{"exp": 0}), "jwt_expired"},
		"exp missing":              {payload(doc{"exp": nil}), "jwt_claim"},
		"exp a string":             {payload(doc{"exp": fmt.Sprint(now + 600)}), "jwt_claim"},
		"exp too far":              {signedText(k.rsa, goodHeader().String(), strings.Replace(goodPayload().String(), `"exp":`, `"exp":1e300,"x":`, 1)), "jwt_claim"},
		"exp beyond numbers":       {signedText(k.rsa, goodHeader().String(), strings.Replace(goodPayload().String(), `"exp":`, `"exp":1e999,"x":`, 1)), "jwt_claim"},
		"exp negative":             {payload(doc{"exp": -1}), "jwt_claim"},
		"nbf to come":              {payload(doc{"nbf": now + 90}), "jwt_not_yet_valid"},
		"nbf null":                 {signedText(k.rsa, goodHeader().String(), strings.Replace(goodPayload().String(), `"nbf":`, `"nbf":null,"x":`, 1)), "jwt_claim"},
		"iat to come":              {payload(doc{"iat": now + 90}), "jwt_not_yet_valid"},
		"iat a list":               {payload(doc{"iat": []int{1}}), "jwt_claim"},
		"claim beyond numbers":     {payload(doc{"groups": []any{json.Number("1"), json.Number("1e999999999")}}), "jwt_claim"},
		"claim next to nothing":    {payload(doc{"groups": []any{json.Number("1e-600000000")}}), "jwt_claim"},
		"claim of endless nothing": {payload(doc{"groups": json.Number("0e-99999999999999999999")}), "jwt_claim"},
		"subject missing":          {payload(doc{"sub": nil}), "jwt_subject"},
		"subject empty":            {payload(doc{"sub": ""}), "jwt_subject"},
		"subject too long":         {payload(doc{"sub": strings.Repeat("s", 256)}), "jwt_subject"},
		"subject with a line end":  {payload(doc{"sub": "a\nb"}), "jwt_subject"},
		"subject not ASCII":        {payload(doc{"sub": "ä"}), "jwt_subject"},
		"subject a number":         {payload(doc{"sub": 7}), "jwt_subject"},
	}
	for _, none := range []string{"none", "None", "NONE", "nOnE", ""} {
		tests["alg "+none] = struct{ token, code string }{signedBy(nil, goodHeader().but(doc{"alg": none}), goodPayload()), "jwt_algorithm"}
	}
	return tests
}

// looseBits changes bits of the last character that no byte comes from.
func looseBits(token string) string {
	last := token[len(token)-1]
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return token[:len(token)-1] + string(alphabet[strings.IndexByte(alphabet, last)|1])
}

// signedAs signs with another algorithm than the header says.
func signedAs(key any, algorithm string, header doc) string {
	input := encode(header.String()) + "." + encode(goodPayload().String())
	return input + "." + encode(string(signatureBy(key, algorithm, []byte(input))))
}

func noSignature(header doc, size int) string {
	return encode(header.String()) + "." + encode(goodPayload().String()) + "." + encode(strings.Repeat("\x00", size))
}

func TestJWTAttacks(t *testing.T) {
	j := newJWT(t, allKeys(), nil)
	for name, test := range attacks() {
		t.Run(name, func(t *testing.T) {
			caller, refusal := j.Identify(withBearer(test.token), stranger)
			if caller != nil || refusal == nil || refusal.Code != test.code || refusal.Reason != decision.IdentityInvalid {
				t.Errorf("caller %+v, refusal %v, want %s", caller, refusal, test.code)
			}
			showsNothing(t, test.token, fmt.Sprintf("%v %+v %q", refusal, refusal, refusal))
		})
	}
}

// showsNothing fails where a part of the token can be read.
func showsNothing(tb testing.TB, token, text string) {
	tb.Helper()
	for part := range strings.SplitSeq(token, ".") {
		if len(part) > 8 && strings.Contains(text, part[:8]) {
			tb.Errorf("%q shows a part of the token", text)
		}
	}
	for _, marker := range []string{"user-1", testIssuer} {
		if strings.Contains(text, marker) {
			tb.Errorf("%q shows a claim", text)
		}
	}
}

func TestJWTGood(t *testing.T) {
	k := testKeys()
	now := time.Now().Unix()
	j := newJWT(t, allKeys(), nil)
	tests := map[string]string{
		"no type":             signedBy(k.rsa, goodHeader().but(doc{"typ": nil}), goodPayload()),
		"small letters":       signedBy(k.rsa, goodHeader().but(doc{"typ": "jwt"}), goodPayload()),
		"access token":        signedBy(k.rsa, goodHeader().but(doc{"typ": "at+jwt"}), goodPayload()),
		"access token, long":  signedBy(k.rsa, goodHeader().but(doc{"typ": "application/AT+JWT"}), goodPayload()),
		"thumbprint":          signedBy(k.rsa, goodHeader().but(doc{"x5t": "abc", "jku": "http://evil.example"}), goodPayload()),
		"the only RSA key":    signedBy(k.rsa, goodHeader().but(doc{"kid": nil}), goodPayload()),
		"among audiences":     signedBy(k.rsa, goodHeader(), goodPayload().but(doc{"aud": []string{"other", testAudience}})),
		"no iat, no nbf":      signedBy(k.rsa, goodHeader(), goodPayload().but(doc{"iat": nil, "nbf": nil})),
		"within the skew":     signedBy(k.rsa, goodHeader(), goodPayload().but(doc{"exp": now - 20, "nbf": now + 20, "iat": now + 20})),
		"times with fraction": signedBy(k.rsa, goodHeader(), goodPayload().but(doc{"exp": float64(now) + 60.5, "iat": float64(now) - 1.25})),
		"escapes":             signedText(k.rsa, goodHeader().String(), strings.Replace(goodPayload().String(), `"sub":"user-1"`, `"s\u0075b":"user\u002d1"`, 1)),
		"blanks":              signedText(k.rsa, " "+goodHeader().String()+"\n", "\t"+goodPayload().String()+" "),
	}
	for algorithm, key := range map[string]any{
		"RS256": k.rsa, "RS384": k.rsa, "RS512": k.rsa, "PS256": k.rsa, "PS384": k.rsa, "PS512": k.rsa,
		"ES256": k.p256, "ES384": k.p384, "ES512": k.p521, "EdDSA": k.ed,
	} {
		id := map[any]string{k.rsa: "rsa", k.p256: "p256", k.p384: "p384", k.p521: "p521"}
		kid := "ed"
		if algorithm != "EdDSA" {
			kid = id[key]
		}
		tests[algorithm] = signedBy(key, doc{"alg": algorithm, "kid": kid}, goodPayload())
		tests[algorithm+" without kid"] = signedBy(key, doc{"alg": algorithm}, goodPayload())
	}
	for name, token := range tests {
		t.Run(name, func(t *testing.T) {
			caller, refusal := j.Identify(withBearer(token), netip.MustParseAddr("::ffff:192.0.2.7"))
			if refusal != nil {
				t.Fatal(refusal)
			}
			if caller.Source != "jwt" || caller.ID != "jwt:"+testIssuer+"#user-1" || caller.Address != stranger || caller.InstanceID != "" {
				t.Errorf("%+v", caller)
			}
		})
	}
}

func TestJWTClaimed(t *testing.T) {
	good := signedBy(testKeys().rsa, goodHeader(), goodPayload())
	tests := map[string]struct {
		header string // setting
		given  http.Header
		want   string // "", "caller" or a code
	}{
		"none":                {"", http.Header{"User-Agent": {"curl"}}, ""},
		"no values":           {"", http.Header{"Authorization": nil}, ""},
		"empty":               {"", http.Header{"Authorization": {""}}, ""},
		"Basic":               {"", http.Header{"Authorization": {"Basic dTpw"}}, ""},
		"begins alike":        {"", http.Header{"Authorization": {"Bearerx " + good}}, ""},
		"two others":          {"", http.Header{"Authorization": {"Basic a", "Basic b"}}, ""},
		"Bearer":              {"", http.Header{"Authorization": {"Bearer " + good}}, "caller"},
		"small letters":       {"", http.Header{"Authorization": {"bearer " + good}}, "caller"},
		"more blanks":         {"", http.Header{"Authorization": {" BEARER   " + good}}, "caller"},
		"scheme alone":        {"", http.Header{"Authorization": {"Bearer"}}, "jwt_malformed"},
		"scheme and blank":    {"", http.Header{"Authorization": {"Bearer "}}, "jwt_malformed"},
		"scheme and tab":      {"", http.Header{"Authorization": {"Bearer\t" + good}}, "jwt_malformed"},
		"two":                 {"", http.Header{"Authorization": {"Bearer " + good, "Bearer " + good}}, "jwt_doubled"},
		"and another scheme":  {"", http.Header{"Authorization": {"Basic dTpw", "Bearer " + good}}, "jwt_doubled"},
		"joined":              {"", http.Header{"Authorization": {"Bearer " + good + ", Basic dTpw"}}, "jwt_malformed"},
		"own header":          {"x-my-token", http.Header{"X-My-Token": {good}}, "caller"},
		"own header, scheme":  {"X-My-Token", http.Header{"X-My-Token": {"Bearer " + good}}, "jwt_malformed"},
		"own header, empty":   {"X-My-Token", http.Header{"X-My-Token": {""}}, "jwt_malformed"},
		"own header, two":     {"X-My-Token", http.Header{"X-My-Token": {"", good}}, "jwt_doubled"},
		"own header, another": {"X-My-Token", http.Header{"Authorization": {"Bearer " + good}}, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			j := newJWT(t, allKeys(), func(j *JWT) { j.Header = test.header })
			caller, refusal := j.Identify(request(test.given), stranger)
			got := ""
			switch {
			case refusal != nil:
				got = refusal.Code
			case caller != nil:
				got = "caller"
			}
			if got != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
			if headers := j.Headers(); test.header != "" && headers[0] != "X-My-Token" || test.header == "" && headers[0] != "Authorization" {
				t.Errorf("headers %q", headers)
			}
		})
	}
}
