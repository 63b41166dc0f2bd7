package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"pennypost/cmd/internal/getopt"
	"pennypost/proto/mimetree"
)

// pack makes a message of a command line.
func pack(argv ...string) (string, error) {
	args, err := getopt.Parse(flags, nil, argv)
	if err != nil {
		return "", err
	}
	p := &packer{}
	defer p.close()
	if err := p.readArgs(args); err != nil {
		return "", err
	}
	root, err := p.tree()
	if err != nil {
		return "", err
	}
	if err := p.makeHeader(); err != nil {
		return "", err
	}
	var b strings.Builder
	err = p.write(&b, root, false)
	return b.String(), err
}

// Whatever the files and names: what is packed is unpacked again with the same names, types and
// octets, and the message is fit for every relay.
func TestRoundTrip(t *testing.T) {
	dir := t.TempDir()
	content := rapid.OneOf(
		rapid.SliceOfN(rapid.Byte(), 0, 300),
		rapid.Map(rapid.StringN(0, 300, -1), func(s string) []byte { return []byte(s) }),
		rapid.Map(rapid.SliceOfN(rapid.SampledFrom([]string{
			"text\n", "From here\n", ".\n", "..\n", "--\n", "--=_x\n", "ä\n", "\xe4\n", "\r\n", "\r", "\n", " \n", "=\n", "=3D", "end", strings.Repeat("long ", 300), strings.Repeat("ü", 40) + ".",
		}), 0, 12), func(s []string) []byte { return []byte(strings.Join(s, "")) }),
	)
	name := rapid.Custom(func(t *rapid.T) string {
		return rapid.StringOfN(rapid.RuneFrom([]rune("ab. -_'\"%;=\\äß日🥞()[]?*")), 1, 40, 80).Draw(t, "name") + rapid.SampledFrom([]string{"", ".txt", ".jpg", ".html", ".pdf"}).Draw(t, "ext")
	})
	rapid.Check(t, func(t *rapid.T) {
		type want struct {
			name, media string
			content     []byte
		}
		var wants []want
		var argv []string
		if rapid.Bool().Draw(t, "text") {
			argv = append(argv, "-B", "Hello")
		}
		for i := range rapid.IntRange(1, 5).Draw(t, "files") {
			w := want{name: name.Draw(t, "name"), content: content.Draw(t, "content")}
			path := filepath.Join(dir, fmt.Sprint(i))
			if err := os.WriteFile(path, w.content, 0o600); err != nil {
				t.Fatal(err)
			}
			argv = append(argv, "-n", w.name)
			if rapid.Bool().Draw(t, "typed") {
				w.media = rapid.SampledFrom([]string{"text/plain", "text/html", "image/jpeg", "image/gif", "audio/basic", "audio/32kadpcm", "video/mpeg", "video/quicktime", "application/msword", "application/octet-stream"}).Draw(t, "media")
				argv = append(argv, "-T", w.media)
			}
			argv = append(argv, path)
			wants = append(wants, w)
		}
		subject := strings.Trim(rapid.StringOf(rapid.RuneFrom([]rune("ab =?_äß日🥞,.\t"))).Draw(t, "subject"), " \t")
		msg, err := pack(append(argv, "-s", subject, "-t", "bob@hamburger.edu")...)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(msg) {
			if len(line) > 999 || strings.HasPrefix(line, "From ") || line == ".\n" || strings.IndexFunc(line, func(r rune) bool { return r >= 0x7f || r == 0 || r == '\r' }) >= 0 {
				t.Fatalf("not fit for transport: %q", line)
			}
		}
		contents := map[*mimetree.Part]*bytes.Buffer{}
		decoders := map[*mimetree.Part]*mimetree.Decoder{}
		var leaves []*mimetree.Part
		root, err := mimetree.Parse(strings.NewReader(msg), &mimetree.Options{
			Begin: func(_ string, p *mimetree.Part, h mimetree.Header) io.Writer {
				if p.Envelope != nil && h.Decoded("Subject") != subject {
					t.Fatalf("subject %q", h.Decoded("Subject"))
				}
				if p.IsMultipart() {
					return nil
				}
				leaves = append(leaves, p)
				contents[p] = new(bytes.Buffer)
				decoders[p], _ = mimetree.NewDecoder(contents[p], p.Encoding)
				return decoders[p]
			},
			End: func(p *mimetree.Part, w io.Writer) error {
				if w == nil {
					return nil
				}
				return w.(*mimetree.Decoder).Close()
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range root.All() {
			if len(p.Problems) > 0 {
				t.Fatalf("%v in\n%s", p.Problems, msg)
			}
		}
		if argv[0] == "-B" {
			if got := contents[leaves[0]].String(); got != "Hello\n" {
				t.Fatalf("text %q", got)
			}
			leaves = leaves[1:]
		}
		if len(leaves) != len(wants) {
			t.Fatalf("%d parts of %d files:\n%s", len(leaves), len(wants), msg)
		}
		for i, w := range wants {
			p := leaves[i]
			if got := contents[p].Bytes(); !bytes.Equal(got, w.content) {
				t.Fatalf("%q became %q by\n%s", w.content, got, msg)
			}
			if p.Filename() != w.name {
				t.Fatalf("name %q became %q by\n%s", w.name, p.Filename(), msg)
			}
			if w.media != "" && p.MediaType() != w.media {
				t.Fatalf("type %s became %s", w.media, p.MediaType())
			}
		}
	})
}

func TestCharsets(t *testing.T) {
	for content, want := range map[string]string{
		"ascii\n": "us-ascii", "": "us-ascii", "ümlaut\n": "utf-8", "\xfcmlaut\n": "windows-1252", "\xff\xfea\x00": "utf-16", "\x81\n": "unknown-8bit",
		strings.Repeat("x", 200_000) + "ü": "utf-8", strings.Repeat("ü", 100_000): "utf-8", "a\x00\xff": "unknown-8bit",
	} {
		q := &part{wish: wish{media: "text/plain"}}
		if err := q.look(strings.NewReader(content)); err != nil {
			t.Fatal(err)
		}
		if err := q.settle(false, true); err != nil {
			t.Fatal(err)
		}
		if q.charset != want {
			t.Errorf("%.20q: %s, want %s", content, q.charset, want)
		}
	}
}

func TestTypes(t *testing.T) {
	for name, want := range map[string]string{
		"a.txt": "text/plain", "a.html": "text/html", "a.jpg": "image/jpeg", "a.JPEG": "image/jpeg", "a.gif": "image/gif", "a.au": "audio/basic", "a.726": "audio/32kadpcm",
		"a.mpeg": "video/mpeg", "a.mov": "video/quicktime", "a.doc": "application/msword", "a.bin": "application/octet-stream",
	} {
		q := &part{wish: wish{name: name}}
		if err := q.look(strings.NewReader("x")); err != nil || q.media != want {
			t.Errorf("%s: %s, %v; want %s", name, q.media, err, want)
		}
	}
	for content, want := range map[string]string{"GIF89a..": "image/gif", "%PDF-1.4\n": "application/pdf", "just text\n": "text/plain", "\x00\x01\x02": "application/octet-stream", "": "text/plain"} {
		q := &part{wish: wish{name: "noext"}}
		if err := q.look(strings.NewReader(content)); err != nil || q.media != want {
			t.Errorf("%q: %s, %v; want %s", content, q.media, err, want)
		}
	}
}

// Without time and chance the same input makes the same message.
func TestReproducible(t *testing.T) {
	made := map[string]bool{}
	for range 3 {
		p := &packer{reproducible: true}
		p.fields = []field{{"To", "bob"}}
		p.text = &part{wish: wish{media: "text/plain"}, body: true}
		p.html = &part{wish: wish{media: "text/html"}, body: true}
		for _, q := range []*part{p.text, p.html} {
			if err := q.look(strings.NewReader("x\n")); err != nil {
				t.Fatal(err)
			}
		}
		root, err := p.tree()
		if err != nil {
			t.Fatal(err)
		}
		if err := p.makeHeader(); err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		if err := p.write(&b, root, false); err != nil {
			t.Fatal(err)
		}
		made[b.String()] = true
	}
	if len(made) != 1 {
		t.Errorf("%d different messages", len(made))
	}
}
