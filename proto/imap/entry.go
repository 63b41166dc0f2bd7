package imap

import (
	"bytes"
	"io"
	"strings"
	"sync"
	"time"

	"pennypost/maildir"
	"pennypost/proto/mimetree"
)

// entries makes what the cache of a folder knows of its messages. Its version
// rises whenever one of the texts would be another one.
var entries = &maildir.Maker{Version: 3, Make: makeEntry}

// maxFieldsText is up to how many octets of header fields are kept.
const maxFieldsText = 16 << 10

// usualFields are those that clients ask for to show a list of messages.
var usualFields = func() map[string]bool {
	m := map[string]bool{}
	for name := range strings.FieldsSeq(`
		bcc cc content-type date from importance in-reply-to lines list-id list-post
		message-id newsgroups organization priority references reply-to resent-date
		resent-from sender subject to x-label x-priority x-spam-flag x-spam-status`) {
		m[name] = true
	}
	return m
}()

// An entryWriter is the room in which an entry is made.
type entryWriter struct {
	file  []byte // the message
	b     []byte // the texts, one behind the other
	texts [len(maildir.Entry{}.Texts)]struct{ from, to int }
	lists addressLists
}

var entryWriters = sync.Pool{New: func() any { return &entryWriter{file: make([]byte, 0, 16<<10)} }}

// add takes what was appended to b as a text.
func (w *entryWriter) add(t maildir.Text, b []byte) {
	w.texts[t].from, w.texts[t].to = len(w.b), len(b)
	w.b = b
}

// finish gives the entry its texts.
func (w *entryWriter) finish(e *maildir.Entry) {
	b := bytes.Clone(w.b)
	for i, t := range w.texts {
		if t.to > 0 {
			e.Texts[i] = b[t.from:t.to:t.to]
		}
	}
}

// makeEntry reads of a message what its level asks for.
func makeEntry(file io.ReaderAt, octets int64, level maildir.Level, e *maildir.Entry) error {
	w := entryWriters.Get().(*entryWriter)
	defer func() {
		w.lists.reset()
		if cap(w.b) <= short {
			entryWriters.Put(w)
		}
	}()
	w.b, w.texts = w.b[:0], [len(w.texts)]struct{ from, to int }{}
	src := &source{ReaderAt: file, stored: octets}
	var err error
	if level < maildir.Whole { // mostly the beginning is enough
		src.stored = min(octets, int64(cap(w.file)))
		if err := src.load(&w.file); err != nil {
			return err
		}
		if end, found := headerEnd(src.text); found {
			src.tree = mimetree.ParseText(src.text[:end])
		} else {
			src.ReaderAt, src.stored, src.text = file, octets, nil
		}
	}
	if src.tree == nil {
		if err = src.load(&w.file); err == nil {
			src.tree, err = src.parse()
		}
	}
	if err != nil {
		return err
	}
	head, err := src.slice(src.tree.Header.Start, min(src.tree.Header.End, maxHeader))
	if err != nil {
		return err
	}
	env := src.tree.Envelope
	w.add(maildir.TextEnvelope, appendEnvelope(w.b, env, &w.lists))
	if b := appendUsual(w.b, head); len(b)-len(w.b) <= maxFieldsText {
		w.add(maildir.TextFields, b)
	}
	w.add(maildir.TextSubject, appendSubject(w.b, env.Subject))
	w.add(maildir.TextFrom, appendFirst(w.b, w.lists.read(env.From)))
	w.add(maildir.TextTo, appendFirst(w.b, w.lists.read(env.To)))
	w.add(maildir.TextCc, appendFirst(w.b, w.lists.read(env.Cc)))
	w.add(maildir.TextThread, appendThread(w.b, env))
	setSent(e, env.Date)
	if level == maildir.Whole {
		w.add(maildir.TextStructure, appendStructure(w.b, src.tree, true))
		w.add(maildir.TextParts, appendPartMap(w.b, src.tree))
		text, err := src.preview()
		if err != nil {
			return err
		}
		w.add(maildir.TextPreview, append(w.b, text...))
		e.Size = src.tree.Header.Size + src.tree.Body.Size
		if e.Lacks, err = src.lacks(); err != nil {
			return err
		}
	}
	w.finish(e)
	return nil
}

// setSent fills in what a Date field says.
func setSent(e *maildir.Entry, date string) {
	if t, ok := sentTime(date); ok {
		_, zone := t.Zone()
		e.Sent, e.Zone, e.HasSent = t.Unix(), int16(zone/60), true
	}
}

// sentTime reads a Date field. When its time of day cannot be read it is that of
// midnight UTC (RFC 5256 §2.2).
func sentTime(date string) (time.Time, bool) {
	if t, ok := mimetree.ParseDate(date); ok {
		return t, true
	}
	words := strings.Fields(date[:min(len(date), 100)])
	for n := min(len(words), 5); n >= 3; n-- {
		if t, ok := mimetree.ParseDate(strings.Join(words[:n], " ") + " 00:00:00 +0000"); ok {
			return t, true
		}
	}
	return time.Time{}, false
}

// lacks is how many octets of its CRLF the last line of the message lacks.
func (src *source) lacks() (uint8, error) {
	if src.stored == 0 {
		return 0, nil
	}
	end, err := src.slice(src.stored-1, src.stored)
	switch {
	case err != nil || len(end) == 0 || end[0] == '\n':
		return 0, err
	case end[0] == '\r':
		return 1, nil
	}
	return 2, nil
}

// appendUsual appends the usual fields as HEADER.FIELDS sends them.
func appendUsual(b, head []byte) []byte {
	for f := range mimetree.Header(head).All() {
		if named(usualFields, f.Name) {
			b = appendField(b, f)
		}
	}
	return b
}

// appendField appends a field as it is sent.
func appendField(b []byte, f mimetree.Field) []byte {
	b, _ = crlf(b, f.Raw, false)
	if !bytes.HasSuffix(b, []byte("\r\n")) {
		b = append(b, "\r\n"...)
	}
	return b
}

// appendSubject appends the base subject of a message, and NUL when it answers or
// forwards another one.
func appendSubject(b []byte, subject string) []byte {
	base, reply := baseSubject(mimetree.DecodeWords(subject))
	b = append(b, strings.ReplaceAll(base, "\x00", "")...)
	if reply {
		b = append(b, 0)
	}
	return b
}

// appendFirst appends what a message is sorted by for its first address: the
// part before the @ (RFC 5256 §3), NUL, and what is shown (RFC 5957 §3).
func appendFirst(b []byte, list []mimetree.Address) []byte {
	for _, a := range list {
		shown := a.Local
		switch {
		case a.Kind == mimetree.GroupEnd:
			continue
		case a.Kind == mimetree.Mailbox:
			if shown = a.Display(); shown == "" {
				shown = a.Local
				if a.Domain != "" {
					shown += "@" + a.Domain
				}
			}
		}
		b = append(b, strings.ReplaceAll(a.Local, "\x00", "")...)
		b = append(b, 0)
		return append(b, strings.ReplaceAll(shown, "\x00", "")...)
	}
	return b
}

// maxThread bounds how many octets of ids are kept. Of more references those in
// the middle are left out: a thread hangs together by the first and the last.
const maxThread = 8 << 10

// appendThread appends the id of a message and those it refers to, from the
// first to the last, each without its angle brackets and with NUL behind it;
// the first is empty when the message has none (RFC 5256 §3).
func appendThread(b []byte, e *mimetree.Envelope) []byte {
	id, _ := cutID(e.MessageID)
	b = append(append(b, id...), 0)
	at := len(b)
	for rest := e.References; ; {
		if id, rest = cutID(rest); id == "" {
			break
		}
		b = append(append(b, id...), 0)
	}
	if refs := b[at:]; len(refs) > maxThread {
		first := bytes.LastIndexByte(refs[:maxThread/2], 0) + 1
		last := len(refs) - maxThread/2
		last += bytes.IndexByte(refs[last:], 0) + 1
		b = append(b[:at+first], refs[last:]...)
	}
	if len(b) > at {
		return b
	}
	if id, _ = cutID(e.InReplyTo); id != "" {
		b = append(append(b, id...), 0)
	}
	return b
}

// cutID takes the first valid message id from a text, without quotes that need
// not be; "" if there is none.
func cutID(s string) (id, rest string) {
	for {
		i := strings.IndexByte(s, '<')
		if i < 0 {
			return "", ""
		}
		s = s[i+1:]
		quoted := strings.HasPrefix(s, `"`)
		end := strings.IndexAny(s, "<>")
		if quoted { // what is quoted may hold brackets
			if q := strings.Index(s[1:], `"@`); q >= 0 && q < 1000 {
				if end = strings.IndexByte(s[q:], '>'); end >= 0 {
					end += q
				}
			}
		}
		if end < 0 {
			return "", ""
		}
		if id, rest = s[:end], s[end:]; rest[0] == '>' && len(id) < 1000 && strings.IndexByte(id, '@') > 0 {
			id = strings.Map(func(r rune) rune {
				if r <= ' ' {
					return -1
				}
				return r
			}, id)
			if quoted {
				if local, host, ok := strings.Cut(id[1:], `"@`); ok && !strings.ContainsAny(local, `"\<>()[]:;,@ `) {
					id = local + "@" + host
				}
			}
			return id, rest
		}
		s = rest
	}
}
