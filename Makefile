# make                    build the programs into bin/ (needs Go alone)
# make demo [STAY=1]      watch a message travel from Alice to Bob
# make test               all tests
# make check              all a change has to pass; installs what it needs
# make fuzz [FUZZTIME=1m] every fuzz target for a while
# make soak [SOAKTIME=10m SEED=n]  many processes on one Maildir, some killed; a seed replays
# make interop            against the real curl, mutt, mbsync, Dovecot, Postfix, …
# make bench              imapd beside Dovecot, then the packages' benchmarks
# make install DESTDIR= PREFIX=/usr/local

PREFIX   = /usr/local
GO       = go
TAGS     = urfave_cli_no_docs,urfave_cli_no_suggest
VERSION := $(if $(wildcard .git),$(shell git describe --tags --always 2>/dev/null))
LDFLAGS  = -s -w $(if $(VERSION),-X pennypost/cmd/internal/version.version=$(VERSION))
FUZZTIME = 1m
SOAKTIME = 10m
SEED     = 0
BENCHSIZES = 1000,10000,100000
TOOL     = $(GO) tool -modfile scripts/tools/go.mod

# The caller's own flags stay. VERSION says which tree it is; Go need not ask
# git, which refuses to tell about the tree of somebody else.
override GOFLAGS := $(or $(GOFLAGS),$(shell $(GO) env GOFLAGS 2>/dev/null)) -buildvcs=false -tags=$(TAGS)
export GOFLAGS

all:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./cmd/...
	ln -sf sendmail bin/mailq
	ln -sf sendmail bin/newaliases

demo: all
	scripts/demo

test:
	$(GO) test ./...

check: prepare all lint race
	scripts/fuzz 3s

# What the checks need beside Go.
prepare:
	scripts/prepare

lint:
	test -z "$$(gofmt -l cmd maildir proto scripts)"
	$(TOOL) gofumpt -l cmd maildir proto | scripts/nothing "gofumpt would change"
	$(GO) vet ./...
	$(GO) fix -diff ./... | scripts/nothing "go fix would change"
	$(TOOL) staticcheck ./...
	$(TOOL) deadcode -test ./... | scripts/nothing "never called"
	mandoc -Tlint -W warning,stop man/*.[1-8]
	for s in demo interop; do bash -n scripts/$$s || exit 1; done
	for s in fuzz nothing prepare; do sh -n scripts/$$s || exit 1; done

# make test, under the race detector and in any order.
race:
	CGO_ENABLED=1 $(GO) test -race -shuffle=on -timeout 15m ./...

fuzz:
	scripts/fuzz $(FUZZTIME)

# Each soak test for SOAKTIME, then many more power cuts and failing calls than make test has. What fails says its seed,
# and a soak leaves its Maildir and its logs in TMPDIR.
soak:
	$(GO) test ./maildir -run '^TestSoak' -count 1 -v -timeout 0 -soak $(SOAKTIME) -seed $(SEED)
	$(GO) test ./maildir ./maildir/queue -run 'PowerCut|Faults' -count 1 -timeout 0 -powercut-states 250

bench: all
	$(GO) run ./scripts/bench -sizes $(BENCHSIZES)
	$(GO) test -run '^$$' -bench . -benchmem ./...

interop: all
	scripts/interop

# Where there is no Go, as in root's PATH under sudo, what was built before.
install: $(if $(shell command -v $(GO)),all)
	install -d $(DESTDIR)$(PREFIX)/bin
	install -m 755 bin/imapd bin/maildircheck bin/mailuser bin/mimepack bin/mimeunpack bin/pop3d bin/sendmail bin/smtpd $(DESTDIR)$(PREFIX)/bin
	ln -sf sendmail $(DESTDIR)$(PREFIX)/bin/mailq
	ln -sf sendmail $(DESTDIR)$(PREFIX)/bin/newaliases
	for s in 1 5 7 8; do \
		install -d $(DESTDIR)$(PREFIX)/share/man/man$$s && \
		install -m 644 man/*.$$s $(DESTDIR)$(PREFIX)/share/man/man$$s || exit 1; \
	done

clean:
	rm -rf bin

.PHONY: all demo test check prepare lint race fuzz soak bench interop install clean
