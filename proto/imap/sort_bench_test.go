package imap_test

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

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
