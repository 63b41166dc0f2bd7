package prototest_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/tools/txtar"

	"pennypost/proto/prototest"
)

// parrot repeats what it hears, a line at a time, and hangs up after a minute
// of silence.
func parrot(config *tls.Config) prototest.Serve {
	return func(ctx context.Context, t *testing.T, dir string, c net.Conn) {
		defer context.AfterFunc(ctx, func() { fmt.Fprint(c, "farewell\r\n"); c.Close() })()
		fmt.Fprint(c, "hello\r\n")
		for r := bufio.NewReader(c); ; {
			c.SetReadDeadline(time.Now().Add(time.Minute))
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			switch line {
			case "time\r\n":
				fmt.Fprintf(c, "%s\r\n", time.Now().UTC().Format(time.DateTime))
			case "date a\r\n":
				fi, err := os.Stat(filepath.Join(dir, "new/a"))
				if err != nil {
					t.Error(err)
					return
				}
				fmt.Fprintf(c, "%s\r\n", fi.ModTime().UTC().Format(time.DateTime))
			case "tls\r\n":
				fmt.Fprint(c, line)
				c = tls.Server(c, config)
				r = bufio.NewReader(c)
			default:
				fmt.Fprint(c, line)
			}
		}
	}
}

func TestTranscripts(t *testing.T) {
	prototest.Run(t, "testdata/*.txt", parrot(prototest.Certificate(t)))
}

// What the server did say takes the place of what the script expects.
func TestDisagreement(t *testing.T) {
	ar := txtar.Parse([]byte("S: goodbye\nC: one\nS: two\nS: three\nS~ .*\nC: four\n"))
	got := prototest.Play(t, string(ar.Comment), ar.Files, parrot(nil))
	if want := "S: hello\nC: one\nS: one\nC: four\nS: four\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if strings.Contains(got, "S~") {
		t.Error("a pattern that met nothing stays")
	}
}
