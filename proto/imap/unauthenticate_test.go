package imap

import (
	"log/slog"
	"net"
	"reflect"
	"testing"
	"time"

	"pennypost/proto/sasl"
	"pennypost/proto/wire"
)

// What is set before Serve is the same after UNAUTHENTICATE, all else is as it
// was before login.
func TestUnauthenticate(t *testing.T) {
	client, server := net.Pipe()
	defer client.Close()
	s := &Session{
		Conn: wire.New(server, 8192, time.Minute), Login: func(sasl.Claim) (*User, error) { return nil, ErrRefused },
		Log: slog.New(slog.DiscardHandler), refused: 2,
	}
	v := reflect.ValueOf(s).Elem()
	fields := reflect.VisibleFields(v.Type())
	for _, f := range fields {
		field := v.FieldByIndex(f.Index)
		if !f.IsExported() || f.Name == "Preauth" || !field.IsZero() {
			continue
		}
		switch field.Kind() {
		case reflect.Pointer:
			field.Set(reflect.New(field.Type().Elem()))
		case reflect.String:
			field.SetString("x")
		case reflect.Bool:
			field.SetBool(true)
		case reflect.Int, reflect.Int64:
			field.SetInt(7)
		case reflect.Struct:
			for _, sub := range field.Fields() {
				if sub.Kind() == reflect.Func {
					sub.Set(reflect.MakeFunc(sub.Type(), nil))
				}
			}
		}
	}
	s.Tag = ""
	s.state, s.enabled, s.bad, s.heard, s.modSeqDue = authenticated, qresync, 3, 9, true
	before := *s
	if r := s.unauthenticate(parse("")); r.status != "OK" {
		t.Fatal(r)
	}
	was := reflect.ValueOf(&before).Elem()
	for _, f := range fields {
		field := v.FieldByIndex(f.Index)
		switch {
		case f.Name == "Preauth" || f.Name == "Tag":
		case f.IsExported() && (field.IsZero() || was.FieldByIndex(f.Index).IsZero()):
			t.Errorf("%s is lost, or the test does not set it", f.Name)
		}
	}
	if s.state != notAuthenticated || s.enabled != 0 || s.bad+s.heard > 0 || s.modSeqDue || s.refused != 2 {
		t.Errorf("%+v", s)
	}
}
