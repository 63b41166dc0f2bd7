"A mailbox as its clients see it, to be compared between two servers."
import imaplib
import poplib


def imap(port, user):
    m = imaplib.IMAP4("127.0.0.1", port)
    m.login(user, "hungry")
    return m


def letter(n):
    return f"From: alice@crepes.fr\r\nSubject: letter {n}\r\n\r\nThis is letter {n}.\r\n{'x' * n}\r\n".encode()


def picture(port, pop, user):
    "all a client remembers of a mailbox"
    m = imap(port, user)
    seen = {}
    for line in sorted(set(m.list()[1])):
        name = line.decode().split(" \".\" ", 1)[1].strip("\"")
        typ, data = m.select(f'"{name}"', readonly=True)
        assert typ == "OK", (name, data)
        rows = []
        if int(data[0]):
            for r in m.uid("FETCH", "1:*", "(UID FLAGS RFC822.SIZE INTERNALDATE)")[1]:
                text = r.decode()
                flags = sorted(f for f in text.split("FLAGS (")[1].split(")")[0].split() if f != "\\Recent")
                num = lambda k: text.split(k + " ")[1].split()[0].rstrip(")")
                rows.append((num("UID"), num("RFC822.SIZE"), text.split('INTERNALDATE "')[1].split('"')[0], flags))
        seen[name] = (m.response("UIDVALIDITY")[1], m.status(f'"{name}"', "(UIDNEXT)")[1][0].split(b"(")[1], rows)
    seen["subscribed"] = sorted(l.decode().split(' "." ', 1)[1].strip('"') for l in m.lsub()[1] if l)
    m.logout()
    p = poplib.POP3("127.0.0.1", pop); p.user(user); p.pass_("hungry")
    seen["uidl"] = p.uidl()[1]; seen["list"] = p.list()[1]
    p.quit()
    return seen
