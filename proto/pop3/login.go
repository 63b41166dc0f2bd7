package pop3

import (
	"crypto/tls"
	"encoding/base64"
	"errors"
	"io"
	"strings"
	"time"

	"pennypost/maildir"
	"pennypost/proto/sasl"
	"pennypost/proto/wire"
)

// secure says whether nobody can listen.
func (s *Session) secure() bool {
	_, encrypted := s.Conn.TLS()
	return encrypted
}

// channel is the state of TLS; nil without it.
func (s *Session) channel() *tls.ConnectionState {
	if state, encrypted := s.Conn.TLS(); encrypted {
		return &state
	}
	return nil
}

// mechanisms are those of AUTH.
func (s *Session) mechanisms() []string { return s.SASL.Mechanisms(s.channel()) }

// passwords says whether the client may send one (RFC 5034 §4: not in the
// clear by default).
func (s *Session) passwords() bool { return s.Cleartext || s.secure() }

// inTheClear refuses a password that anybody can read on its way.
func (s *Session) inTheClear() reply { return s.nonsense("[AUTH] not without encryption: STLS first") }

// user takes the name (RFC 1939 §7). It never says whether there is such a
// user.
func (s *Session) user(arg string) reply {
	switch {
	case !s.passwords():
		return s.inTheClear()
	case arg == "":
		return s.nonsense("USER wants a name")
	}
	s.named = arg
	return ok("")
}

// pass takes the password, spaces and all (RFC 1939 §7).
func (s *Session) pass(arg string) reply {
	name := s.named
	s.named = ""
	switch {
	case !s.passwords():
		return s.inTheClear()
	case name == "":
		return s.nonsense("USER first")
	}
	return s.login(sasl.Claim{Mechanism: "USER", Name: name, Secret: arg})
}

// apop cannot be had: the digest needs a password stored in the clear
// (RFC 1939 §7), and the greeting offers no timestamp.
func (s *Session) apop(string) reply { return s.nonsense("APOP is not offered") }

// login answers a claim.
func (s *Session) login(c sasl.Claim) reply {
	store, err := s.admit(c)
	return s.admitted(store, err, c.Name)
}

// admit opens the mail of a user.
func (s *Session) admit(c sasl.Claim) (*maildir.Store, error) {
	if strings.ContainsRune(c.Name+c.Secret, 0) {
		return nil, ErrRefused
	}
	return s.Login(s.ctx, c)
}

// admitted opens the maildrop for name, or says no: the same words after the
// same time for whatever was wrong with the pair. Why somebody may not come in,
// only those hear who have proved who they are (RFC 3206 §5).
func (s *Session) admitted(store *maildir.Store, err error, name string) reply {
	refused := errors.Is(err, ErrRefused)
	if refused || errors.Is(err, sasl.ErrAuthzid) || errors.Is(err, sasl.ErrExpired) || errors.Is(err, sasl.ErrBlocked) {
		s.Log.Warn("login refused", "user", name, "err", err)
	}
	switch {
	case errors.Is(err, sasl.ErrAuthzid):
		return no("[AUTH] that is somebody else")
	case errors.Is(err, sasl.ErrExpired), errors.Is(err, sasl.ErrBlocked):
		return no("[AUTH] %v", err)
	case !refused:
		return s.open(store, err, name)
	}
	if s.wrong++; s.wrong >= wrongLogins {
		s.state = over
	}
	s.Conn.Pause(s.ctx, time.Duration(s.wrong)*wrongPause)
	return no("[AUTH] wrong name or password")
}

// open enters the TRANSACTION state (RFC 1939 §4) with the messages that are in
// the user's INBOX now, unless err is why there is no store.
func (s *Session) open(store *maildir.Store, err error, name string) reply {
	s.named = name
	if err != nil {
		return s.fail("open the maildrop", err)
	}
	store.By = name
	folder, err := store.OpenFolder("INBOX")
	if err == nil {
		if err = s.count(folder); err != nil {
			folder.Close()
		}
	}
	if err != nil {
		store.Close()
		return s.fail("open the maildrop", err)
	}
	s.store, s.folder, s.state, s.bad = store, folder, transaction, 0
	s.Log.Info("login", "user", name, "messages", len(s.drop))
	return ok("user successfully logged on")
}

// auth = "AUTH" SP sasl-mech [SP initial-response] *(CRLF [base64])   (RFC 5034 §5)
//
// Without a mechanism it lists them, as clients older than CAPA ask.
func (s *Session) auth(arg string) reply {
	if arg == "" {
		return ok("mechanisms follow").with(func(w io.Writer) error {
			if s.passwords() {
				io.WriteString(w, strings.Join(s.mechanisms(), "\r\n")+"\r\n")
			}
			return nil
		})
	}
	if !s.passwords() {
		return s.inTheClear()
	}
	mechanism, initial, given := strings.Cut(arg, " ")
	var store *maildir.Store
	var name string
	exchange, known := s.SASL.Server(mechanism, s.channel(), func(c sasl.Claim) (err error) {
		name = c.Name
		store, err = s.admit(c)
		return err
	})
	if !known {
		return s.nonsense("no such mechanism")
	}
	var response []byte
	if given {
		var err error
		if response, err = decode(initial); err != nil {
			return s.nonsense("%v", err)
		}
	}
	s.Conn.SetLimit(authLimit)
	defer s.Conn.SetLimit(lineLimit)
	err := sasl.Exchange(exchange, response, s.ask)
	switch {
	case s.lost != nil:
		return no("authentication ended")
	case errors.Is(err, errCancelled):
		return no("%v", err)
	case errors.Is(err, errBase64), errors.Is(err, wire.ErrTooLong), errors.Is(err, wire.ErrLineEnd), errors.Is(err, sasl.ErrMalformed):
		return s.nonsense("%v", err)
	}
	return s.admitted(store, err, name)
}

var (
	errCancelled = errors.New("authentication cancelled")
	errBase64    = errors.New("not base64")
)

// ask sends a challenge and waits for the response to it. "*" calls the
// exchange off (RFC 5034 §4).
func (s *Session) ask(challenge []byte) ([]byte, error) {
	s.Conn.Printf("+ %s", base64.StdEncoding.EncodeToString(challenge))
	line, err := s.readLine()
	switch {
	case errors.Is(err, wire.ErrTooLong), errors.Is(err, wire.ErrLineEnd):
		return nil, err
	case err != nil:
		s.lost = err
		return nil, err
	case line == "*":
		return nil, errCancelled
	}
	return decode(line)
}

// decode = base64 / "="   (RFC 5034 §5), never nil when there is no error.
func decode(text string) ([]byte, error) {
	if text == "=" || text == "" {
		return []byte{}, nil
	}
	b, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || strings.ContainsAny(text, "\r\n") {
		return nil, errBase64
	}
	return b, nil
}

// stls goes over to TLS (RFC 2595 §4). Whatever the client said before counts
// no more, and octets that came with the command end the session.
func (s *Session) stls(string) reply {
	switch {
	case s.secure():
		return s.nonsense("TLS is active already")
	case s.TLS == nil:
		return s.nonsense("TLS is not to be had")
	}
	r := ok("begin TLS negotiation")
	r.then = func() error {
		s.named = ""
		return s.Conn.StartTLS(s.TLS)
	}
	return r
}

// capa tells what is on offer, truly for the state of the session (RFC 2449
// §5, §6).
func (s *Session) capa(string) reply {
	list := []string{"TOP", "UIDL"}
	if s.passwords() || s.Open != nil {
		list = append(list, "USER")
	}
	if s.passwords() && s.Open == nil {
		list = append(list, "SASL "+strings.Join(s.mechanisms(), " "))
	}
	if s.TLS != nil && !s.secure() && s.state == authorization {
		list = append(list, "STLS")
	}
	list = append(list,
		"PIPELINING",
		"RESP-CODES",
		"AUTH-RESP-CODE", // RFC 3206 §6
		"EXPIRE NEVER",
		"IMPLEMENTATION Pennypost",
	)
	return ok("capability list follows").with(func(w io.Writer) error {
		_, err := io.WriteString(w, strings.Join(list, "\r\n")+"\r\n")
		return err
	})
}
