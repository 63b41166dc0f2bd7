package imap_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"pennypost/maildir"
)

// Who sorts first is answered in haste, and nothing is kept of that but the wish;
// the next finds what is missing, and it is kept.
func TestSortInHaste(t *testing.T) {
	dir := letters(t, 300)
	noted := func() int {
		var b strings.Builder
		if err := maildir.DumpCache(&b, dir); err != nil {
			t.Fatal(err)
		}
		return strings.Count(b.String(), " entry uid ")
	}
	var heard []string
	for _, want := range []int{0, 300, 300} {
		told := string(play(t, dir, []byte("1 SELECT INBOX\r\n2 SORT (SUBJECT) UTF-8 ALL\r\n")))
		_, told, _ = strings.Cut(told, "* SORT")
		heard = append(heard, told)
		if n := noted(); n != want {
			t.Errorf("%d entries, want %d", n, want)
		}
	}
	if heard[0] != heard[1] || heard[0] != heard[2] {
		t.Errorf("%.300q", heard)
	}
}

// What SORT and THREAD take the first time, in a session that finds a cache, and
// again.
func BenchmarkSort(b *testing.B) {
	for _, n := range []int{1000, 10000} {
		dir := letters(b, n)
		for _, c := range []struct{ name, command string }{
			{"date", "SORT (REVERSE DATE) UTF-8 ALL"},
			{"subject", "SORT (SUBJECT) UTF-8 ALL"},
			{"references", "THREAD REFERENCES UTF-8 ALL"},
		} {
			for _, when := range []string{"first", "found", "again"} {
				b.Run(c.name+"/"+when+"/"+strconv.Itoa(n), func(b *testing.B) {
					b.ReportAllocs()
					d := talk(b, dir)
					for b.Loop() {
						b.StopTimer()
						if when != "again" {
							d.say("2 SELECT INBOX")
						}
						if when == "first" {
							os.Remove(filepath.Join(dir, "pennypost-cache"))
						}
						b.StartTimer()
						if octets := d.say("3 " + c.command); octets < 2*n {
							b.Fatalf("%d octets", octets)
						}
					}
				})
			}
		}
	}
}
