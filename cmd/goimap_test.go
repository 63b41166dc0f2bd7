package cmd_test

import (
	"net"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
)

// TestGoIMAP drives imapd by a client library of others: whatever it asks for
// by itself, because a capability is announced, has to be answered as it reads
// the RFCs.
func TestGoIMAP(t *testing.T) {
	o := newOffice(t, "bob")
	d := o.start("imapd")
	arrived := make(chan uint32, 10)
	c := imapClient(t, d.port, &imapclient.Options{UnilateralDataHandler: &imapclient.UnilateralDataHandler{
		Mailbox: func(m *imapclient.UnilateralDataMailbox) {
			if m.NumMessages != nil {
				arrived <- *m.NumMessages
			}
		},
	}})
	for _, name := range []string{"Work", "Play"} {
		must(t, c.Create(name, nil).Wait())
		must(t, c.Subscribe(name).Wait())
	}
	texts := []string{
		"From: Ann <ann@hamburger.edu>\r\nSubject: ketchup\r\nDate: Mon, 23 Nov 2026 10:00:00 +0000\r\nMessage-ID: <1@x>\r\n\r\nDo you like ketchup?\r\n",
		"From: Bob <bob@hamburger.edu>\r\nSubject: Re: ketchup\r\nDate: Mon, 23 Nov 2026 09:00:00 +0000\r\nMessage-ID: <2@x>\r\nIn-Reply-To: <1@x>\r\n\r\nna\xc3\xafve\r\n",
		"Subject: parts\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\ntext\r\n--b\r\nContent-Type: image/gif\r\nContent-Transfer-Encoding: base64\r\n\r\nAAEC\r\n--b--\r\n",
	}
	for i, text := range texts {
		a := c.Append("INBOX", int64(len(text)), &imap.AppendOptions{Flags: []imap.Flag{imap.FlagSeen, "$Label1"}, Time: time.Unix(1700000000, 0)})
		a.Write([]byte(text))
		must(t, a.Close())
		data, err := a.Wait()
		if err != nil || data.UID != imap.UID(i+1) {
			t.Fatalf("append %d: %+v, %v", i, data, err)
		}
	}
	box, err := c.Select("INBOX", &imap.SelectOptions{CondStore: c.Caps().Has(imap.CapCondStore)}).Wait()
	must(t, err)
	if box.NumMessages != 3 || box.UIDNext != 4 || c.Caps().Has(imap.CapCondStore) && box.HighestModSeq == 0 {
		t.Errorf("select: %+v", box)
	}

	list, err := c.List("", "*", &imap.ListOptions{ReturnSubscribed: true, ReturnStatus: &imap.StatusOptions{NumMessages: true, Size: true}}).Collect()
	must(t, err)
	for _, name := range []string{"INBOX", "Work", "Play"} {
		if !slices.ContainsFunc(list, func(l *imap.ListData) bool { return l.Mailbox == name && l.Status != nil }) {
			t.Errorf("%s is not listed with its status: %+v", name, list)
		}
	}

	messages, err := c.Fetch(imap.UIDSetNum(1, 2, 3), &imap.FetchOptions{
		Flags: true, Envelope: true, InternalDate: true, RFC822Size: true, UID: true,
		BodyStructure: &imap.FetchItemBodyStructure{Extended: true},
		BodySection:   []*imap.FetchItemBodySection{{Peek: true}, {Specifier: imap.PartSpecifierHeader, HeaderFields: []string{"Subject"}, Peek: true}},
		BinarySection: binaryOf(c, 2),
		ModSeq:        c.Caps().Has(imap.CapCondStore),
	}).Collect()
	must(t, err)
	if len(messages) != 3 {
		t.Fatalf("%d messages fetched", len(messages))
	}
	for i, m := range messages {
		if m.RFC822Size != int64(len(texts[i])) || string(m.FindBodySection(&imap.FetchItemBodySection{Peek: true})) != texts[i] {
			t.Errorf("message %d: %d octets, %q", i, m.RFC822Size, m.FindBodySection(&imap.FetchItemBodySection{}))
		}
		if !slices.Contains(m.Flags, "$Label1") || !m.InternalDate.Equal(time.Unix(1700000000, 0)) {
			t.Errorf("message %d: %v, %v", i, m.Flags, m.InternalDate)
		}
	}
	if e := messages[1].Envelope; e.Subject != "Re: ketchup" || e.InReplyTo[0] != "1@x" || e.From[0].Addr() != "bob@hamburger.edu" {
		t.Errorf("envelope: %+v", e)
	}
	if mp, ok := messages[2].BodyStructure.(*imap.BodyStructureMultiPart); !ok || len(mp.Children) != 2 {
		t.Errorf("structure: %+v", messages[2].BodyStructure)
	}

	found, err := c.UIDSearch(&imap.SearchCriteria{Header: []imap.SearchCriteriaHeaderField{{Key: "SUBJECT", Value: "KETCHUP"}}}, &imap.SearchOptions{ReturnAll: true, ReturnCount: true}).Wait()
	must(t, err)
	if len(found.AllUIDs()) != 2 || found.Count != 2 {
		t.Errorf("search: %+v", found)
	}
	if c.Caps().Has(imap.CapSort) {
		sorted, err := c.UIDSort(&imapclient.SortOptions{SearchCriteria: &imap.SearchCriteria{}, SortCriteria: []imapclient.SortCriterion{{Key: imapclient.SortKeyDate}}}).Wait()
		must(t, err)
		if len(sorted) != 3 || sorted[0] != 2 && sorted[0] != 3 {
			t.Errorf("sort: %v", sorted)
		}
	}
	if c.Caps().Has("THREAD=REFERENCES") {
		threads, err := c.UIDThread(&imapclient.ThreadOptions{Algorithm: imap.ThreadReferences, SearchCriteria: &imap.SearchCriteria{}}).Wait()
		must(t, err)
		if len(threads) != 2 {
			t.Errorf("threads: %+v", threads)
		}
	}
	if c.Caps().Has(imap.CapQuota) {
		_, err := c.GetQuotaRoot("INBOX").Wait()
		must(t, err)
	}
	if c.Caps().Has(imap.CapMetadata) {
		comment := []byte("three messages")
		must(t, c.SetMetadata("INBOX", map[string]*[]byte{"/private/comment": &comment}).Wait())
		data, err := c.GetMetadata("INBOX", []string{"/private/comment"}, nil).Wait()
		must(t, err)
		if got := data.Entries["/private/comment"]; got == nil || string(*got) != "three messages" {
			t.Errorf("metadata: %+v", data)
		}
	}

	copied, err := c.Copy(imap.UIDSetNum(1, 2), "Play").Wait()
	must(t, err)
	if copied.SourceUIDs.String() != "1:2" || copied.DestUIDs.String() != "1:2" {
		t.Errorf("copy: %+v", copied)
	}
	_, err = c.Move(imap.UIDSetNum(2), "Work").Wait()
	must(t, err)
	changed, err := c.Store(imap.UIDSetNum(1), &imap.StoreFlags{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagDeleted}}, nil).Collect()
	if err != nil || len(changed) != 1 || !slices.Contains(changed[0].Flags, imap.FlagDeleted) {
		t.Errorf("store: %+v, %v", changed, err)
	}
	gone, err := c.UIDExpunge(imap.UIDSetNum(1, 3)).Collect()
	if err != nil || len(gone) != 1 {
		t.Errorf("expunge: %v, %v", gone, err)
	}

	for len(arrived) > 0 {
		<-arrived
	}
	idle, err := c.Idle()
	must(t, err)
	o.run("Subject: new\n\nhello\n", "sendmail", "-i", "-f", "bob@hamburger.edu", "bob@hamburger.edu")
	select {
	case n := <-arrived:
		if n != 2 {
			t.Errorf("%d messages are announced, not 2", n)
		}
	case <-time.After(time.Minute):
		t.Error("new mail is not announced in IDLE")
	}
	must(t, idle.Close())
	must(t, idle.Wait())
	must(t, c.Rename("Work", "Toys", nil).Wait())
	must(t, c.Delete("Toys").Wait())
	must(t, c.Logout().Wait())
}

// TestGoIMAPRev2 is the same library speaking IMAP4rev2, where we have it.
func TestGoIMAPRev2(t *testing.T) {
	o := newOffice(t, "bob")
	c := imapClient(t, o.start("imapd").port, nil)
	if !c.Caps().Has(imap.CapIMAP4rev2) {
		t.Skip("not announced")
	}
	_, err := c.Enable(imap.CapIMAP4rev2).Wait()
	must(t, err)
	must(t, c.Create("Tränen", nil).Wait())
	a := c.Append("Tränen", 14, nil)
	a.Write([]byte("Subject: x\r\n\r\n"))
	must(t, a.Close())
	_, err = a.Wait()
	must(t, err)
	box, err := c.Select("Tränen", nil).Wait()
	if err != nil || box.NumMessages != 1 {
		t.Fatalf("select: %+v, %v", box, err)
	}
	found, err := c.Search(&imap.SearchCriteria{NotFlag: []imap.Flag{imap.FlagSeen}}, nil).Wait()
	if err != nil || len(found.AllSeqNums()) != 1 {
		t.Errorf("search: %+v, %v", found, err)
	}
	st, err := c.Status("Tränen", &imap.StatusOptions{NumMessages: true, NumDeleted: true, Size: true}).Wait()
	if err != nil || *st.NumMessages != 1 || *st.NumDeleted != 0 || *st.Size != 14 {
		t.Errorf("status: %+v, %v", st, err)
	}
	must(t, c.Logout().Wait())
}

func imapClient(t *testing.T, port int, o *imapclient.Options) *imapclient.Client {
	t.Helper()
	conn, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	must(t, err)
	c := imapclient.New(conn, o)
	t.Cleanup(func() { c.Close() })
	must(t, c.Login("bob@hamburger.edu", "hungry").Wait())
	return c
}

// binaryOf asks for a part decoded, if the server does that.
func binaryOf(c *imapclient.Client, part int) []*imap.FetchItemBinarySection {
	if !c.Caps().Has(imap.CapBinary) {
		return nil
	}
	return []*imap.FetchItemBinarySection{{Part: []int{part}, Peek: true}}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
