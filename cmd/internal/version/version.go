// Package version tells which Pennypost this is.
package version

import "runtime/debug"

// version is set by the build: -ldflags "-X pennypost/cmd/internal/version.version=1.2.3".
var version = "0.1.0-dev"

// String returns the version, as --version prints it: the same for every program
// of one build. A build from a working tree adds the commit, when the Go command
// recorded one, and a "+" when the tree had changes.
func String() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return version
	}
	return compose(version, info.Settings)
}

func compose(version string, settings []debug.BuildSetting) string {
	var revision, modified string
	for _, s := range settings {
		switch s.Key {
		case "vcs.revision":
			revision = s.Value
		case "vcs.modified":
			modified = s.Value
		}
	}
	if revision == "" {
		return version
	}
	version += " (" + revision[:min(len(revision), 12)]
	if modified == "true" {
		version += "+"
	}
	return version + ")"
}
