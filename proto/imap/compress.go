package imap

import (
	"errors"
	"strings"
)

// compress = "COMPRESS" SP algorithm   (RFC 4978 §5). What was sent behind the
// command before its answer nobody can tell to be compressed or not (§3): then
// nothing begins.
func (s *Session) compress(p *parser) reply {
	p.sp()
	algorithm := p.atom()
	if err := p.end(); err != nil {
		return bad(err)
	}
	switch {
	case !strings.EqualFold(algorithm, "DEFLATE"):
		return bad(errors.New("no such compression"))
	case s.Conn.Compressed():
		return reply{"BAD", "COMPRESSIONACTIVE", "compressed already"} // BAD by §3
	case s.Conn.Buffered() > 0:
		return bad(errors.New("wait for the answer"))
	}
	return reply{"OK", compressNow, "compression begins"}
}
