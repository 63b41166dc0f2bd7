package account

import (
	"errors"
	"os/exec"
	"strings"
	"testing"
)

// The password is "hungry"; the hashes were made by other programs: doveadm pw,
// openssl passwd, and crypt(3) through perl.
var made = []struct{ by, stored string }{
	{"doveadm", `{ARGON2ID}$argon2id$v=19$m=65536,t=3,p=1$pzb7tpkB47I+U77D9o1XIw$JimYRljRQAdz0L6dqO7Mlh+B5LbVh2sIO92W3aIy8LI`},
	{"doveadm", `{ARGON2I}$argon2i$v=19$m=32768,t=4,p=1$vppHVzIIXaNSIVZ6RmWSpg$DIUubg4hv4xwMA1QO4JHtkTxejbrF77pCMWXmJlSMWk`},
	{"doveadm", `{SSHA}ZO3qtyL5xgKTGzrDn+ktqtxgAC0tYBeM`},
	{"doveadm", `{SSHA256}iblJ3hsMidClGYbtAe72b1lc9gKwtyr96qn1AOe7yC5Iv9IX`},
	{"doveadm", `{SSHA256.HEX}353a6fb1095da102e502ba55fafd0147a95a4de4c69faf5225b7126e8d46d84166eaae57`},
	{"doveadm", `{SSHA512}HV1O3hHVh+BSQNtJDWMaZp/THJrdNR+8cop2w+8Uq1BG7vZK2EOdHE0enIhjDYkVFNCOCyxYCGIA96uG1XYljo9Txh4=`},
	{"doveadm", `{SHA512-CRYPT}$6$A3PG8MEqIL6.727q$ew9hXAnInNp2AisMpe1kf6xoMHXfGVFLKFU1zreu5O8w7rPHwwvBNFF2Ak2oteIefAt9aw8IX36rITiupPhoQ1`},
	{"doveadm", `{SHA256-CRYPT}$5$kPzLBiYaf.0wf7tl$COMc6CxeKR4ttS6j7q9QBy9i0SH9kWyCFioBgYeely0`},
	{"doveadm", `{BLF-CRYPT}$2y$05$p8T60KKD1jZdb.QjNFhdo.F9mfMaHKWhVawf8LwsQJ0qPiU7GWzhq`},
	{"doveadm", `{CRYPT}$2y$05$Ws7PNYHzDYPrqxDNJZ.tH.MeIvsWXO.GFOTAy6w8QiJT.A.lEbsoy`},
	{"doveadm", `{PLAIN}hungry`},
	{"doveadm", `{CLEARTEXT}hungry`},
	{"openssl", `{CRYPT}$6$saltsalt$haE2t7guDu7iwP//8KEUjRiu9iI04jlgtbC.D/9Mvau3KFk59R3CyLvBG6eRpAeGAQSeQu21inrD.HNrmgG401`},
	{"openssl", `$5$saltsalt$Vd1N5NufqNkyAtsfcsnH/P2C8.pW38Rel1.Aj1259f2`},
	{"crypt", `{CRYPT}$y$j9T$F5Jx5fExrKuPp53xLKQ..1$4942hJ.vJ8KMJIGDLbcXZMnLFGceHPWBnoiwzvvQj1/`},
	{"crypt", `$y$j75$F5Jx5fExrKuPp53xLKQ..1$I2pD3EQ6yFYkThrvR3CZBG2idr/b5JFo3sXr6MElP12`},
	{"crypt", `{SHA512-CRYPT}$6$rounds=6000$abcdefghijkl$oDxQcn2QhPwr9NydkT4kiFzLxZq5wSnzGJZm9h/CJoGEARkYquSzw1cBeIj1usaPLGTRUULZVVwBa7sZOY.pI0`},
	{"crypt", `{CRYPT}$2b$05$abcdefghijklmnopqrstuu0BZPuyqIAQU7ABAGEDc4hOzReCligO.`},
	{"doveadm, in lower case", `{ssha}ZO3qtyL5xgKTGzrDn+ktqtxgAC0tYBeM`},
}

func TestHashesOfOtherPrograms(t *testing.T) {
	for _, m := range made {
		check, err := verifier(m.stored)
		if err != nil {
			t.Errorf("%s: %s: %v", m.by, m.stored, err)
			continue
		}
		for password, want := range map[string]bool{"hungry": true, "Hungry": false, "": false, "hungry ": false, "hungr": false} {
			if ok, err := check(password); ok != want {
				t.Errorf("%s: %s: %q: %v, %v", m.by, m.stored, password, ok, err)
			}
		}
	}
}

// crypt(3) looks at 72 octets of a password for bcrypt, and so do we.
func TestBcryptLooksAt72Octets(t *testing.T) {
	check, err := verifier(`$2b$05$abcdefghijklmnopqrstuujf8SX2ahXLwp9w/B.Y5XdysS6yR576q`)
	if err != nil {
		t.Fatal(err)
	}
	for n, want := range map[int]bool{80: true, 72: true, 71: false} {
		if ok, err := check(strings.Repeat("x", n)); ok != want || err != nil {
			t.Errorf("%d octets: %v, %v", n, ok, err)
		}
	}
}

func TestWhatWeHashWeKnow(t *testing.T) {
	const password = `hüngry # "pie"`
	for _, s := range Schemes() {
		stored, err := Hash(s, password)
		if err != nil {
			t.Fatal(s, err)
		}
		again, _ := Hash(s, password)
		if s != "PLAIN" && stored == again {
			t.Errorf("%s: no salt: %s", s, stored)
		}
		if !usable(stored) {
			t.Errorf("%s is not usable", stored)
		}
		u, err := parseUser("bob:"+stored+"::::::", "hamburger.edu")
		if err != nil || u.password != stored {
			t.Errorf("%s: %v, %+v", s, err, u)
		}
		check, err := verifier(stored)
		if err != nil {
			t.Fatal(s, err)
		}
		if ok, err := check(password); !ok || err != nil {
			t.Errorf("%s: %v, %v", stored, ok, err)
		}
	}
}

func TestHashesThatAreRefused(t *testing.T) {
	for _, stored := range []string{
		"{NONE}x", "{", "{PLAIN", "{MD5}kUs1", "{CRYPT}$1$salt$qJH7.N4xYta3aEG/dfqo/0", "{CRYPT}AbCdEfGhIjKlM",
		"{SHA512-CRYPT}$5$saltsalt$Vd1N5NufqNkyAtsfcsnH/P2C8.pW38Rel1.Aj1259f2",
		"{CRYPT}$2x$05$abcdefghijklmnopqrstuu0BZPuyqIAQU7ABAGEDc4hOzReCligO.",
		"{CRYPT}$2b$31$abcdefghijklmnopqrstuu0BZPuyqIAQU7ABAGEDc4hOzReCligO.",
		"{CRYPT}$2b$", "{CRYPT}$2b$05", "{CRYPT}$2b$05$", "{CRYPT}$6$", "{CRYPT}$6$salt$short", "{CRYPT}$y$", "{CRYPT}$y$j$$",
		"{CRYPT}$y$jFT$F5Jx5fExrKuPp53xLKQ..1$4942hJ.vJ8KMJIGDLbcXZMnLFGceHPWBnoiwzvvQj1/!",
		"{CRYPT}$y$jHT$F5Jx5fExrKuPp53xLKQ..1$4942hJ.vJ8KMJIGDLbcXZMnLFGceHPWBnoiwzvvQj1/",
		"{CRYPT}$6$rounds=999999999$abc$" + strings.Repeat("a", 86),
		"{CRYPT}$6$rounds=10$abc$" + strings.Repeat("a", 86),
		"{ARGON2ID}$argon2id$v=19$m=4294967295,t=3,p=1$pzb7tpkB47I+U77D9o1XIw$JimYRljRQAdz0L6dqO7Mlh+B5LbVh2sIO92W3aIy8LI",
		"{ARGON2ID}$argon2id$v=19$m=65536,t=3,p=0$pzb7tpkB47I+U77D9o1XIw$JimYRljRQAdz0L6dqO7Mlh+B5LbVh2sIO92W3aIy8LI",
		"{ARGON2ID}$argon2id$v=19$m=65536,t=3$pzb7tpkB47I+U77D9o1XIw$JimYRljRQAdz0L6dqO7Mlh+B5LbVh2sIO92W3aIy8LI",
		"{ARGON2ID}$argon2id$v=16$m=65536,t=3,p=1$pzb7tpkB47I+U77D9o1XIw$JimYRljRQAdz0L6dqO7Mlh+B5LbVh2sIO92W3aIy8LI",
		"{ARGON2ID}$argon2d$v=19$m=65536,t=3,p=1$pzb7tpkB47I+U77D9o1XIw$JimYRljRQAdz0L6dqO7Mlh+B5LbVh2sIO92W3aIy8LI",
		"{SSHA}short", "{SSHA}", "{SSHA256.ZIP}iblJ", "{SSHA512}!!!!",
	} {
		if err := checkPassword(stored); err == nil {
			t.Errorf("%s is taken", stored)
		}
	}
}

func TestLockedPasswords(t *testing.T) {
	for _, stored := range []string{"*", "!", "!!", "x", "{CRYPT}*", "{CRYPT}", "{SHA512-CRYPT}!$6$saltsalt$abc", "{PLAIN}"} {
		check, err := verifier(stored)
		if err != nil {
			t.Errorf("%q: %v", stored, err)
			continue
		}
		for _, password := range []string{"", "*", "!", "x"} {
			if ok, _ := check(password); ok {
				t.Errorf("%q lets %q in", stored, password)
			}
		}
		if usable(stored) {
			t.Errorf("%q is usable", stored)
		}
	}
}

func TestPasswordsThatCannotBe(t *testing.T) {
	for _, password := range []string{"", "a\x00b", "a\nb", "\x7f", strings.Repeat("x", 1025)} {
		for _, s := range Schemes() {
			if _, err := Hash(s, password); !errors.Is(err, ErrPassword) {
				t.Errorf("%s of %.9q: %v", s, password, err)
			}
		}
	}
	if _, err := Hash("PLAIN", "a:b"); !errors.Is(err, ErrPassword) {
		t.Error("a colon in {PLAIN}:", err)
	}
	if _, err := Hash("BLF-CRYPT", strings.Repeat("x", 73)); !errors.Is(err, ErrPassword) {
		t.Error("73 octets for bcrypt:", err)
	}
	if _, err := Hash("ROT13", "hungry"); err == nil {
		t.Error("ROT13 is a scheme")
	}
}

func BenchmarkHash(b *testing.B) {
	for _, s := range Schemes() {
		stored, err := Hash(s, "hungry")
		if err != nil {
			b.Fatal(err)
		}
		check, _ := verifier(stored)
		b.Run(s, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				check("hungry")
			}
		})
	}
}

// Dovecot lets in whom we let in.
func TestDovecotKnowsOurHashes(t *testing.T) {
	doveadm, err := exec.LookPath("doveadm")
	if err != nil {
		t.Skip("no doveadm")
	}
	for _, s := range Schemes() {
		stored, err := Hash(s, "hungry")
		if err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(doveadm, "pw", "-t", stored, "-p", "hungry").CombinedOutput(); err != nil || !strings.Contains(string(out), "(verified)") {
			t.Errorf("%s: %v: %s", stored, err, out)
		}
	}
}
