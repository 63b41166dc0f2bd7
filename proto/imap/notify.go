package imap

import (
	"errors"
	"slices"
	"strings"
)

// An event is something that a client may want to hear of (RFC 5465 §5), a set of
// them what it wants to hear of a mailbox.
type event uint8

const (
	messageNew event = 1 << iota
	messageExpunge
	flagChange
	nameChange
	subscriptionChange
	mailboxMetadata
	serverMetadata

	ofMessages = messageNew | messageExpunge | flagChange
)

// events are the names of those we know, as BADEVENT lists them. There is no
// AnnotationChange without annotations of messages.
var events = []struct {
	name  string
	event event
}{
	{"MessageNew", messageNew},
	{"MessageExpunge", messageExpunge},
	{"FlagChange", flagChange},
	{"MailboxName", nameChange},
	{"SubscriptionChange", subscriptionChange},
	{"MailboxMetadataChange", mailboxMetadata},
	{"ServerMetadataChange", serverMetadata},
}

// An eventGroup says of which mailboxes which events are wanted (RFC 5465 §6).
type eventGroup struct {
	scope
	events event
	items  []fetchItem // what is told of new messages
}

// notify = "NOTIFY" SP ("SET" [SP "STATUS"] SP event-groups / "NONE")   (RFC 5465
// §8)
func (s *Session) notify(p *parser) reply {
	p.sp()
	var groups []*eventGroup
	var tellStatus, strange bool
	if !p.word("NONE") {
		if !p.word("SET") {
			p.want("SET or NONE")
		}
		p.sp()
		if tellStatus = p.word("STATUS"); tellStatus {
			p.sp()
		}
		groups, strange = p.eventGroups()
	}
	if err := p.end(); err != nil {
		return bad(err)
	}
	if strange {
		var names []string
		for _, e := range events {
			names = append(names, e.name)
		}
		return no(codef("BADEVENT (%s)", strings.Join(names, " ")), "no such event")
	}
	return s.attend(groups, tellStatus)
}

// eventGroups = event-group *(SP event-group). strange says that one of the
// events is none that we know.
func (p *parser) eventGroups() (groups []*eventGroup, strange bool) {
	selected := 0
	for {
		if len(groups) == maxScopes {
			p.fail("too many groups of events")
		}
		g, odd := p.eventGroup()
		groups, strange = append(groups, g), strange || odd
		if g.ofSelected() {
			selected++
		}
		if p.err != nil || !p.take(" ") {
			break
		}
	}
	if p.err == nil && selected > 1 {
		p.fail("the selected mailbox twice")
	}
	return groups, strange
}

// eventGroup = "(" filter-mailboxes SP events ")"
func (p *parser) eventGroup() (g *eventGroup, strange bool) {
	if !p.take("(") {
		p.want("(")
	}
	if g = (&eventGroup{scope: p.scope()}); g.kind == "subtree-one" { // RFC 7377 has that
		p.fail("no such mailbox specifier")
	}
	p.sp()
	strange = p.events(g)
	if !p.take(")") {
		p.want(")")
	}
	return g, strange
}

// events = "(" event *(SP event) ")" / "NONE". The examples of RFC 5465 §3.1 go
// without the parentheses, so a client may.
func (p *parser) events(g *eventGroup) (strange bool) {
	if p.word("NONE") {
		return false
	}
	bare := !p.take("(")
	for first := true; p.err == nil; first = false {
		if !first && !p.take(" ") {
			break
		}
		strange = p.event(g) || strange
	}
	if !bare && !p.take(")") {
		p.want(")")
	}
	switch {
	case p.err != nil || strange:
	case g.ofSelected() && g.events&^ofMessages != 0:
		p.fail("only of its messages the selected mailbox tells") // §6.1
	case g.events&messageNew == 0 != (g.events&messageExpunge == 0):
		p.fail("MessageNew and MessageExpunge go together") // §5
	case g.events&flagChange != 0 && g.events&messageNew == 0:
		p.fail("FlagChange goes with MessageNew and MessageExpunge") // §5
	}
	return strange
}

// event = "MessageNew" [SP "(" fetch-att *(SP fetch-att) ")"] / atom
func (p *parser) event(g *eventGroup) (strange bool) {
	name := p.atom()
	i := slices.IndexFunc(events, func(e struct {
		name  string
		event event
	},
	) bool {
		return strings.EqualFold(e.name, name)
	})
	if i < 0 {
		return p.err == nil
	}
	g.events |= events[i].event
	if events[i].event == messageNew && strings.HasPrefix(p.rest, " (") {
		if !g.ofSelected() {
			p.fail("attributes are of messages in the selected mailbox") // §8
		}
		p.sp()
		g.items = p.fetchItems()
		for i := range g.items {
			g.items[i].peek = true // nobody reads them now
		}
	}
	return false
}

// ofSelected says whether the group is of the mailbox that is selected at the
// time (RFC 5465 §6.1).
func (g *eventGroup) ofSelected() bool { return strings.HasPrefix(g.kind, "selected") }

// errTooMany says that somebody wants to hear of more mailboxes than we watch.
var errTooMany = errors.New("too many mailboxes")
