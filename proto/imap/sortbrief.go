package imap

import (
	"io"

	"pennypost/maildir"
	"pennypost/proto/mimetree"
)

// brief makes of messages only what they are sorted by: for the first who asks
// that in a folder, and would have to wait for all that an entry holds.
var brief = func() (makers [sortKeyCount]*maildir.Maker) {
	for k := range makers {
		makers[k] = &maildir.Maker{Version: entries.Version, Make: func(file io.ReaderAt, octets int64, level maildir.Level, e *maildir.Entry) error {
			return makeBrief(sortKey(k), file, octets, level, e)
		}}
	}
	return makers
}()

// makeBrief fills in of an entry what one key is made of. A header of unusual
// length is read as always.
func makeBrief(k sortKey, file io.ReaderAt, octets int64, level maildir.Level, e *maildir.Entry) error {
	w := entryWriters.Get().(*entryWriter)
	defer entryWriters.Put(w)
	src := &source{ReaderAt: file, stored: min(octets, int64(cap(w.file)))}
	if err := src.load(&w.file); err != nil {
		return err
	}
	end, found := headerEnd(src.text)
	if !found && octets > int64(len(src.text)) {
		return makeEntry(file, octets, level, e)
	}
	head := mimetree.Header(src.text[:end])
	e.Size = 0 // nobody asks for it
	if k == sortDate {
		setSent(e, firstDate(head))
		return nil
	}
	env := head.Envelope()
	w.b, w.texts = w.b[:0], [len(w.texts)]struct{ from, to int }{}
	switch k {
	case sortSubject:
		w.add(maildir.TextSubject, appendSubject(w.b, env.Subject))
	case sortFrom, sortDisplayFrom:
		w.add(maildir.TextFrom, appendFirst(w.b, mimetree.ParseAddresses(env.From)))
	case sortTo, sortDisplayTo:
		w.add(maildir.TextTo, appendFirst(w.b, mimetree.ParseAddresses(env.To)))
	case sortCc:
		w.add(maildir.TextCc, appendFirst(w.b, mimetree.ParseAddresses(env.Cc)))
	case threadLinks:
		w.add(maildir.TextSubject, appendSubject(w.b, env.Subject))
		w.add(maildir.TextThread, appendThread(w.b, env))
	}
	setSent(e, env.Date)
	w.finish(e)
	return nil
}

// firstDate is what the first Date field says that says something, as it is in
// the envelope.
func firstDate(h mimetree.Header) string {
	for f := range h.All() {
		if f.Is("date") {
			if text := f.Text(); text != "" {
				return text
			}
		}
	}
	return ""
}
