package imap_test

import (
	"strconv"
	"testing"
)

// Searches, each for words that were not asked for before.
func BenchmarkSearch(b *testing.B) {
	for _, n := range []int{1000, 10000} {
		dir := letters(b, n)
		d := talk(b, dir)
		d.say("2 SEARCH SUBJECT nothing SENTSINCE 1-Jan-2020 LARGER 10")
		for _, c := range []struct{ name, keys string }{
			{"unseen", "UNSEEN"},
			{"since", "SINCE 1-Jan-2020"},
			{"subject", "SUBJECT \"number 77"},
			{"from", "FROM alice.77"},
			{"text", "TEXT pickles-and-ketchup-"},
			{"body", "BODY pickles-and-ketchup-"},
		} {
			b.Run(c.name+"/"+strconv.Itoa(n), func(b *testing.B) {
				i := 0
				for b.Loop() {
					i++
					command := "2 SEARCH " + c.keys
					if c.name != "unseen" && c.name != "since" {
						command += strconv.Itoa(i)
					}
					if c.name == "subject" {
						command += "\""
					}
					d.say(command)
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/msg")
			})
		}
	}
}
