package maildir

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Durable delivery by many at once, beside a program that does nothing but write, fsync, rename and fsync the directory. The
// two take turns, each of them first as often as second; the figure to look at is "%", the median of ours against the other's turn.
func BenchmarkDurable(b *testing.B) {
	for _, writers := range []int{1, 10, 50} {
		b.Run(fmt.Sprint(writers), func(b *testing.B) {
			s := newStore(b)
			body := slices.Repeat([]byte("a line of some sixty octets, as they are in most of the mail\n"), 66)
			n := 0
			bare := func(b testing.TB, writer, i int) {
				n := fmt.Sprintf("%d.%d.%d", writer, i, time.Now().UnixNano())
				bareDelivery(b, s.Path(), n, body)
			}
			ours := func(b testing.TB, _, _ int) {
				d, err := s.Deliver(DeliverOptions{})
				if err != nil {
					b.Error(err)
					return
				}
				d.Write(body)
				if _, err := d.Commit(); err != nil {
					b.Error(err)
				}
			}
			var rates [2][]float64
			var ratios []float64
			for b.Loop() {
				n++
				for i := range 2 {
					k := (i + n) % 2
					rates[k] = append(rates[k], perSecond(b, writers, []func(testing.TB, int, int){bare, ours}[k]))
				}
				ratios = append(ratios, 100*rates[1][n-1]/rates[0][n-1])
			}
			b.ReportMetric(median(ratios), "%")
			b.ReportMetric(median(rates[0]), "bare/s")
			b.ReportMetric(median(rates[1]), "ours/s")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// perSecond lets writers deliver for a while.
func perSecond(b testing.TB, writers int, one func(b testing.TB, writer, i int)) float64 {
	each := max(4, 60/writers)
	var wg sync.WaitGroup
	begun := time.Now()
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				one(b, w, i)
			}
		})
	}
	wg.Wait()
	return float64(writers*each) / time.Since(begun).Seconds()
}

func bareDelivery(b testing.TB, path, name string, body []byte) {
	check := func(err error) {
		if err != nil {
			b.Error(err)
		}
	}
	tmp, to := filepath.Join(path, "tmp", name), filepath.Join(path, "new", name)
	fd, err := unix.Open(tmp, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o600)
	check(err)
	_, err = unix.Write(fd, body)
	check(err)
	check(unix.Fsync(fd))
	check(unix.Close(fd))
	check(os.Rename(tmp, to))
	dir, err := unix.Open(filepath.Dir(to), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	check(err)
	check(unix.Fsync(dir))
	check(unix.Close(dir))
}

func median(list []float64) float64 {
	list = slices.Sorted(slices.Values(list))
	return list[len(list)/2]
}
